package apps

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unicode/utf8"

	"osv/kernel/rest/machine"
)

func TestFields(t *testing.T) {
	for line, want := range map[string][]string{
		"":                             nil,
		"  a  b\tc ":                   {"a", "b", "c"},
		`say "two words" 'a "b"' c\ d`: {"say", "two words", `a "b"`, "c d"},
		`x""y ''`:                      {"xy", ""},
		`'a\b'`:                        {`a\b`},
	} {
		got, err := Fields(line)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %q, %v, want %q", line, got, err, want)
		}
	}
	for _, line := range []string{`"a`, `a\`, `'`} {
		if _, err := Fields(line); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("%q: %v", line, err)
		}
	}
}

func FuzzFields(f *testing.F) {
	f.Add(`a "b c" 'd' e\ f`)
	f.Fuzz(func(t *testing.T, line string) {
		words, err := Fields(line)
		if err == nil && utf8.ValidString(line) && !strings.ContainsAny(line, `"'\`) && !slices.Equal(words, strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '\t' || r == '\n' })) {
			t.Errorf("%q: %q", line, words)
		}
	})
}

func TestRunBuiltIn(t *testing.T) {
	var out bytes.Buffer
	gate := make(chan struct{})
	r := &Runner{Out: &out, Commands: map[string]Command{
		"echo": func(_ context.Context, args []string, out io.Writer) error {
			_, err := io.WriteString(out, strings.Join(args[1:], " "))
			return err
		},
		"hang": func(ctx context.Context, _ []string, _ io.Writer) error {
			<-gate
			return errors.New("a failure that is logged")
		},
	}}
	ctx, cancel := context.WithCancel(t.Context())
	id, err := r.Run(ctx, "hang & hang")
	if err != nil || id != "1 2" {
		t.Fatalf("%q, %v", id, err)
	}
	cancel() // the request's end is not the program's
	if r.Finished("1") || r.Finished("2") || !r.Finished("3") {
		t.Error("finished is wrong while they run")
	}
	close(gate)
	r.Wait()
	if !r.Finished("1") {
		t.Error("1 has ended")
	}
	if _, err := r.Run(t.Context(), "echo 'hello world'"); err != nil {
		t.Fatal(err)
	}
	r.Wait()
	if out.String() != "hello world" {
		t.Errorf("printed %q", out.String())
	}
	out.Reset()
	if id, err := r.Run(t.Context(), "echo 'rock & roll'"); err != nil || strings.Contains(id, " ") {
		t.Fatalf("a quoted & parts programs: %q, %v", id, err)
	}
	r.Wait()
	if out.String() != "rock & roll" {
		t.Errorf("printed %q", out.String())
	}
	for command, want := range map[string]error{"": syscall.EINVAL, " & ": syscall.EINVAL, `"`: syscall.EINVAL, "hang & ls": machine.ErrUnavailable} {
		if _, err := r.Run(t.Context(), command); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", command, err, want)
		}
	}
}

func TestRunLinux(t *testing.T) {
	fail := errors.New("no such file")
	r := &Runner{Linux: func(_ context.Context, args []string, _ io.Writer) (func() error, error) {
		if args[0] == "/bin/none" {
			return nil, fail
		}
		return func() error { return nil }, nil
	}}
	if id, err := r.Run(t.Context(), "/bin/true -x"); err != nil || id != "1" {
		t.Errorf("%q, %v", id, err)
	}
	if _, err := r.Run(t.Context(), "/bin/none"); !errors.Is(err, fail) {
		t.Errorf("%v", err)
	}
	r.Wait()
}

func TestTooMany(t *testing.T) {
	gate := make(chan struct{})
	r := &Runner{Commands: map[string]Command{"hang": func(context.Context, []string, io.Writer) error { <-gate; return nil }}}
	for range maxRunning {
		if _, err := r.Run(t.Context(), "hang"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Run(t.Context(), "hang"); !errors.Is(err, machine.ErrUnavailable) {
		t.Errorf("one more: %v", err)
	}
	close(gate)
	r.Wait()
}

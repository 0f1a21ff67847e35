package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

func TestMain(m *testing.M) {
	if os.Getenv("OSV_CLI_TEST") != "" {
		Main(func(ctx context.Context, args []string, stdout, _ io.Writer) int {
			fmt.Fprintln(stdout, "up", args)
			<-ctx.Done()
			return 5
		})
	}
	os.Exit(m.Run())
}

type flags struct {
	Name  string `arg:""`
	Count int    `default:"3"`
	Text  string
}

func TestParse(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
		done bool
		out  string // in one of the outputs
	}{
		{[]string{"x", "--text", "--dashes"}, 0, false, ""},
		{[]string{"--help"}, 0, true, "Usage: tool"},
		{[]string{}, Usage, true, "tool: expected"},
		{[]string{"x", "--frob"}, Usage, true, "unknown flag --frob"},
	} {
		var f flags
		var b bytes.Buffer
		code, done := Parse("tool", "A tool.", &f, c.args, &b, &b)
		if code != c.code || done != c.done || !strings.Contains(b.String(), c.out) {
			t.Errorf("%v: %d %v %q", c.args, code, done, b.String())
		}
		if !done && (f.Name != "x" || f.Count != 3 || f.Text != "--dashes") {
			t.Errorf("%+v", f)
		}
	}
	if code, done := Parse("tool", "", flags{}, nil, io.Discard, io.Discard); code != Usage || !done {
		t.Error("not a pointer: accepted")
	}
}

func TestIsTerminal(t *testing.T) {
	if IsTerminal(new(bytes.Buffer)) {
		t.Error("a buffer is a terminal")
	}
	f, err := os.Create(t.TempDir() + "/f")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if IsTerminal(f) {
		t.Error("a file is a terminal")
	}
}

// A signal ends the context, and the command's status is the process's.
func TestMainEndsWithASignal(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "a", "b")
	cmd.Env = append(os.Environ(), "OSV_CLI_TEST=1", "GORACE=atexit_sleep_ms=0")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 64)
	n, err := out.Read(b)
	if err != nil || string(b[:n]) != "up [a b]\n" {
		t.Errorf("%q %v", b[:n], err)
	}
	cmd.Process.Signal(syscall.SIGTERM)
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 5 {
		t.Errorf("status %d", code)
	}
}

package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// output is what the program prints, for a test to wait on.
type output struct {
	mu   sync.Mutex
	b    bytes.Buffer
	line chan string // complete lines
}

func newOutput() *output { return &output{line: make(chan string, 100)} }

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.b.Write(p)
	for {
		s, err := o.b.ReadString('\n')
		if err != nil {
			o.b.WriteString(s)
			return len(p), nil
		}
		o.line <- s
	}
}

var serverLine = regexp.MustCompile(`osv: (https?://[^ \n]+)/\n`)

// start runs the program hosted and returns where it serves.
func start(t *testing.T, args ...string) (url string, out *output, exit chan int, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out, exit = newOutput(), make(chan int, 1)
	go func() { exit <- process(ctx, append([]string{"--rest=127.0.0.1:0"}, args...), out, out) }()
	select {
	case l := <-out.line:
		m := serverLine.FindStringSubmatch(l)
		if m == nil {
			t.Fatalf("printed %q", l)
		}
		return m[1], out, exit, cancel
	case <-time.After(20 * time.Second):
		t.Fatal("does not say where it serves")
	}
	panic("unreachable")
}

func TestHosted(t *testing.T) {
	url, out, exit, stop := start(t, "--rest-open", "--rest-root="+t.TempDir())
	r, err := http.Get(url + "/os/name")
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(r.Body)
	r.Body.Close()
	if string(b) != `"OSv"` {
		t.Errorf("%s", b)
	}
	put, _ := http.NewRequest("PUT", url+"/app?command=echo+it+runs", nil)
	if r, err = http.DefaultClient.Do(put); err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if l := <-out.line; l != "it runs\n" {
		t.Errorf("printed %q", l)
	}
	stop()
	if code := <-exit; code != exitOK {
		t.Errorf("exit status %d", code)
	}
}

// The API's own end is the program's.
func TestStopAPI(t *testing.T) {
	url, _, exit, stop := start(t, "--rest-open")
	defer stop()
	r, err := http.Post(url+"/api/stop", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if code := <-exit; r.StatusCode != 200 || code != exitOK {
		t.Errorf("status %d, exit status %d", r.StatusCode, code)
	}
}

func TestArguments(t *testing.T) {
	for _, test := range []struct {
		args string
		code int
		want string
	}{
		{"--help", exitOK, "--rest-token=TOKEN"},
		{"--version", exitOK, "OSv v0"},
		{"--unknown", exitUsage, "--unknown"},
		{"--rest-token=x", exitUsage, "--rest-token"},
		{"--rest=127.0.0.1:0 --rest-root=/no/such/folder", exitFail, "--rest-root"},
		{"--rest=127.0.0.1:0 --rest-tls=/no/such,/file", exitFail, "--rest-tls"},
		{"--rest=192.0.2.1:1", exitFail, "--rest"},
	} {
		var out bytes.Buffer
		if code := process(t.Context(), strings.Fields(test.args), &out, &out); code != test.code || !strings.Contains(out.String(), test.want) {
			t.Errorf("%s: exit status %d, want %d: %s", test.args, code, test.code, out.String())
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if code := process(ctx, []string{"--rest=off"}, io.Discard, io.Discard); code != exitOK {
		t.Errorf("--rest=off: %d", code)
	}
}

func TestCommands(t *testing.T) {
	var out bytes.Buffer
	for line, fails := range map[string]bool{"echo a b": false, "sleep 0.001": false, "spin 0.001": false, "sleep": true, "sleep x": true, "spin -1": true, "sleep 99999999": true} {
		args := strings.Fields(line)
		if err := commands[args[0]](t.Context(), args, &out); (err != nil) != fails {
			t.Errorf("%s: %v", line, err)
		}
	}
	if out.String() != "a b\n" {
		t.Errorf("printed %q", out.String())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, name := range []string{"sleep", "spin"} {
		if err := commands[name](ctx, []string{name, "1000"}, io.Discard); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

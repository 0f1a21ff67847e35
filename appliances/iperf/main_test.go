package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"osv/appliances/iperf/host"
	"osv/appliances/iperf/options"
	"osv/kernel/ktest/netns"
)

func TestMain(m *testing.M) { netns.Main(m) }

// tool skips where Debian's client, or server, is not installed.
func tool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed (Debian: apt-get install %s)", name, name)
	}
	return path
}

// output is a Writer that tests may read while others write.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

func (o *output) wait(t testing.TB, text string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !strings.Contains(o.String(), text); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%q was not printed, but\n%s", text, o.String())
		}
	}
}

// withConsole is a host whose console is another.
type withConsole struct {
	host.Host
	out io.Writer
}

func (w withConsole) Console() io.Writer { return w.out }

// freePort is a port that nobody uses.
func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// server runs our server on h with a command line until the test ends.
func server(t *testing.T, h host.Host, args ...string) *output {
	t.Helper()
	o, err := options.Parse(args)
	if err != nil {
		t.Fatal(err)
	}
	out := new(output)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- serve(ctx, withConsole{h, out}, o) }()
	t.Cleanup(func() {
		stop()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("server: %v", err)
			}
		case <-time.After(30 * time.Second):
			t.Error("the server does not end")
		}
		if t.Failed() && testing.Verbose() {
			t.Log(out.String())
		}
	})
	out.wait(t, "Server listening on "+strconv.Itoa(int(o.Port)))
	if o.Iperf2Port != 0 {
		out.wait(t, "(iperf 2)")
	}
	return out
}

// tap is our own stack on a TAP device of the network 10.0.n.0; Linux's side has
// the address linux.
func tap(t *testing.T, n byte) (h host.Host, ours, linux netip.Addr) {
	t.Helper()
	netns.Require(t)
	name := fmt.Sprintf("osv%d", n)
	linux, ours = netip.AddrFrom4([4]byte{10, 0, n, 1}), netip.AddrFrom4([4]byte{10, 0, n, 2})
	o, err := options.Parse([]string{"--tap", name, "--tap-addr", ours.String() + "/24"})
	if err != nil {
		t.Fatal(err)
	}
	h, stop, err := newHost(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	netns.Up(t, name, netip.PrefixFrom(linux, 24))
	return h, ours, linux
}

// runModes runs Debian's clients against ours at addr.
func runModes(t *testing.T, ms []mode, addr, port3, port2 string, run func(ctx context.Context, args ...string) ([]byte, error)) {
	for _, m := range ms {
		t.Run(strings.ReplaceAll(m.name, "/", " "), func(t *testing.T) {
			port := port3
			if m.tool == "iperf" {
				port = port2
			}
			tool(t, m.tool)
			ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
			defer cancel()
			out, err := run(ctx, append([]string{m.tool, "-c", addr, "-p", port}, strings.Fields(m.args)...)...)
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			m.check(t, string(out))
		})
	}
}

func command(ctx context.Context, args ...string) ([]byte, error) {
	return exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
}

// quick skips what takes more than a minute.
func quick(t *testing.T) {
	if testing.Short() {
		t.Skip("all modes take a minute: not with -short")
	}
	t.Parallel()
}

func TestDebianClientsHosted(t *testing.T) {
	quick(t)
	p3, p2 := freePort(t), freePort(t)
	server(t, host.Hosted{}, "-s", "-p", p3, "--iperf2-port", p2)
	runModes(t, modes(1, 5009), "127.0.0.1", p3, p2, command)
}

func TestDebianClientsTap(t *testing.T) {
	quick(t)
	h, ours, _ := tap(t, 1)
	server(t, h, "-s", "-V")
	runModes(t, modes(1, 5010), ours.String(), "5201", "5001", command)
}

// debianServer starts iperf3 -s.
func debianServer(t *testing.T, addr string) (port string) {
	t.Helper()
	path := tool(t, "iperf3")
	port = freePort(t)
	cmd := exec.Command(path, "-s", "-B", addr, "-p", port, "--forceflush")
	out := new(output)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	out.wait(t, "Server listening")
	return port
}

// between matches what a client is told that comes while a server ends the test
// before.
var between = regexp.MustCompile(`busy|refused|reset by peer`)

func ourClient(t *testing.T, h host.Host, addr, port string) {
	for _, m := range clientModes {
		t.Run(m.name, func(t *testing.T) {
			o, err := options.Parse(append([]string{"-J", "-c", addr, "-p", port}, strings.Fields(m.args)...))
			if err != nil {
				t.Fatal(err)
			}
			for end := time.Now().Add(10 * time.Second); ; {
				out := new(output)
				err = client(context.Background(), withConsole{h, out}, o)
				// Debian's server closes its port between two tests.
				if err != nil && between.MatchString(err.Error()) && time.Now().Before(end) {
					time.Sleep(10 * time.Millisecond)
					continue
				}
				if err != nil {
					t.Fatalf("%v\n%s", err, out.String())
				}
				m.e.check(t, out.String())
				return
			}
		})
	}
}

func TestDebianServerHosted(t *testing.T) {
	quick(t)
	ourClient(t, host.Hosted{}, "127.0.0.1", debianServer(t, "127.0.0.1"))
}

func TestDebianServerTap(t *testing.T) {
	quick(t)
	h, _, linux := tap(t, 2)
	ourClient(t, h, linux.String(), debianServer(t, linux.String()))
}

// A second client is told so, as Debian's client understands it.
func TestDebianClientsBusy(t *testing.T) {
	t.Parallel()
	tool(t, "iperf3")
	p3 := freePort(t)
	out := server(t, host.Hosted{}, "-s", "-p", p3, "--iperf2-port", "0")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		command(ctx, "iperf3", "-c", "127.0.0.1", "-p", p3, "-t", "60")
	}()
	out.wait(t, "Gbits/sec")
	text, err := command(context.Background(), "iperf3", "-c", "127.0.0.1", "-p", p3, "-t", "1")
	if err == nil || !strings.Contains(string(text), "the server is busy running a test") {
		t.Errorf("%v\n%s", err, text)
	}
	cancel() // the first client is killed: the server must see that
	<-done
	out.wait(t, "(test #2)")
	if text, err := command(context.Background(), "iperf3", "-c", "127.0.0.1", "-p", p3, "-n", "1M"); err != nil {
		t.Errorf("%v\n%s", err, text)
	}
}

// The command itself: exit statuses, and both ends as processes would run them.
func TestRun(t *testing.T) {
	stdout := os.Stdout
	defer func() { os.Stdout = stdout }()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	os.Stdout = null
	port := freePort(t)
	for _, c := range []struct {
		args string
		want int
	}{
		{"--help", 0}, {"--version", 0}, {"--bogus", options.ExitUsage}, {"-c 127.0.0.1 -p " + port, 1},
		{"--tap osv0 --tap-addr nonsense", 1}, {"-s -B 192.0.2.1", 1}, {"-s -I /nonexistent/file", 1},
	} {
		if got := run(strings.Fields(c.args)); got != c.want {
			t.Errorf("%q: status %d, want %d", c.args, got, c.want)
		}
	}
	pidfile := filepath.Join(t.TempDir(), "pid")
	done := make(chan int)
	go func() {
		done <- run(strings.Fields(fmt.Sprintf("-s -1 -4 -i 0.1 -p %s --iperf2-port %s -I %s", port, freePort(t), pidfile)))
	}()
	for run(strings.Fields("-c 127.0.0.1 -4 -t 0.2 -i 0.1 -p "+port)) != 0 {
		time.Sleep(10 * time.Millisecond)
	}
	if got := <-done; got != 0 {
		t.Errorf("server: status %d", got)
	}
	if _, err := os.Stat(pidfile); err == nil {
		t.Error("the PID file stays")
	}
}

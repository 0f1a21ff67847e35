package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"osv/appliances/memcached/options"
	"osv/appliances/memcached/server"
	"osv/kernel/ktest/netns"
)

// The tests run in a network namespace of their own, for TestTap.
func TestMain(m *testing.M) { netns.Main(m) }

// quiet runs f with standard output and error in a file and returns them.
func quiet(t *testing.T, f func()) string {
	t.Helper()
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	stdout, stderr := os.Stdout, os.Stderr
	os.Stdout, os.Stderr = out, out
	defer func() { os.Stdout, os.Stderr = stdout, stderr }()
	f()
	b, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestCommandLine(t *testing.T) {
	for _, c := range []struct {
		args   []string
		status int
		out    string
	}{
		{[]string{"--version"}, 0, "memcached 1.6.18\n"},
		{[]string{"-h"}, 0, "--memory-limit=<num>"},
		{[]string{"-i"}, 0, "licence"},
		{[]string{"--bogus"}, options.ExitUsage, "unrecognized option '--bogus'"},
		{[]string{"-p", "0", "-engine=channel"}, 1, "memcached: -engine channel needs our own network stack"},
		{[]string{"-tap=osv9", "-tap-addr=nonsense"}, 1, "memcached: -tap-addr nonsense"},
		{[]string{"-tap=a-name-that-is-much-too-long"}, 1, "memcached: -tap "},
	} {
		var got int
		out := quiet(t, func() { got = run(c.args) })
		if got != c.status || !strings.Contains(out, c.out) {
			t.Errorf("%v: status %d and %.200q, want %d and %q", c.args, got, out, c.status, c.out)
		}
	}
}

// TestServeUntilSignal: the program as a whole, from its arguments to a signal.
func TestServeUntilSignal(t *testing.T) {
	dir := t.TempDir()
	sock, pid := filepath.Join(dir, "s"), filepath.Join(dir, "pid")
	done := make(chan int, 1)
	out := quiet(t, func() {
		go func() { done <- run([]string{"-s", sock, "-P", pid, "-v", "-A"}) }()
		var nc net.Conn
		var err error
		for range 500 {
			if nc, err = net.Dial("unix", sock); err == nil {
				break
			}
			time.Sleep(10 * time.Millisecond) // the process's only sign is the socket
		}
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(nc, "version\r\nshutdown\r\n")
		if b, _ := io.ReadAll(nc); string(b) != "VERSION 1.6.18\r\n" {
			t.Errorf("%q", b)
		}
		nc.Close()
		if s := <-done; s != 0 {
			t.Errorf("status %d", s)
		}
		// And again, by a signal.
		go func() { done <- run([]string{"-s", sock, "-P", pid}) }()
		for range 500 {
			if _, err = os.Stat(pid); err == nil {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		syscall.Kill(os.Getpid(), syscall.SIGTERM)
		if s := <-done; s != 0 {
			t.Errorf("status %d", s)
		}
	})
	if !strings.Contains(out, "engine socket") {
		t.Errorf("banner: %q", out)
	}
	if _, err := os.Stat(pid); err == nil {
		t.Error("the pid file is still there")
	}
}

// TestTap serves over our own stack and a TAP device, on each engine, to Linux
// clients: libmemcached's conformance test over TCP, and a datagram.
func TestTap(t *testing.T) {
	netns.Require(t)
	capable, lookErr := exec.LookPath("memccapable")
	for i, engine := range []string{"socket", "batch", "channel"} {
		t.Run(engine, func(t *testing.T) {
			addr := netip.AddrFrom4([4]byte{10, 0, byte(i), 2})
			dev := fmt.Sprint("mctap", i)
			o, err := options.Parse([]string{"-tap=" + dev, "-tap-addr=" + addr.String() + "/24", "-engine=" + engine, "-p", "11211", "-U", "11211", "-t", "2"}, func(string) string { return "" })
			if err != nil {
				t.Fatal(err)
			}
			h, closeHost, err := newHost(o)
			if err != nil {
				t.Fatal(err)
			}
			netns.Up(t, dev, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i), 1}), 24))
			s, err := server.New(o, h)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
				if err := closeHost(); err != nil {
					t.Error(err)
				}
			}()
			uc, err := net.Dial("udp", netip.AddrPortFrom(addr, 11211).String())
			if err != nil {
				t.Fatal(err)
			}
			defer uc.Close()
			uc.SetDeadline(time.Now().Add(20 * time.Second))
			b := make([]byte, 2000)
			for id, x := range []struct{ req, want string }{{"set a 0 0 3\r\nabc\r\n", "STORED\r\n"}, {"get a\r\n", "VALUE a 0 3\r\nabc\r\nEND\r\n"}} {
				if _, err := uc.Write(append([]byte{0, byte(id), 0, 0, 0, 1, 0, 0}, x.req...)); err != nil {
					t.Fatal(err)
				}
				n, err := uc.Read(b)
				if err != nil || n < 8 || int(binary.BigEndian.Uint16(b)) != id || string(b[8:n]) != x.want {
					t.Errorf("UDP %q: %q %v", x.req, b[:n], err)
				}
			}
			if lookErr != nil {
				t.Skip("skipped: no memccapable in the path (Debian package libmemcached-tools)")
			}
			out, err := exec.Command(capable, "-h", addr.String(), "-p", "11211", "-t", "10").CombinedOutput()
			if pass := strings.Count(string(out), "[pass]"); err != nil || pass != 54 {
				t.Errorf("%d of 54 pass, %v:\n%s", pass, err, out)
			}
		})
	}
}

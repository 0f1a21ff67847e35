package taplink_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"osv/kernel/hw/dma"
	"osv/kernel/ktest/netns"
	"osv/kernel/net/stack"
	"osv/kernel/net/taplink"
	"osv/kernel/pkt"
)

func TestMain(m *testing.M) { netns.Main(m) }

// open joins a stack at 10.0.0.1 to Linux at 10.0.0.2.
func open(t *testing.T, o taplink.Options) (*stack.Stack, *taplink.Link) {
	t.Helper()
	netns.Require(t)
	mem := &dma.Host{}
	o.Mem = mem
	l, err := taplink.Open("osv0", o)
	if err != nil {
		t.Fatal(err)
	}
	netns.Up(t, "osv0", netip.MustParsePrefix("10.0.0.2/24"), netip.MustParsePrefix("fd00::2/64"))
	s, err := stack.New(stack.Config{Mem: mem, Log: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.AddLink(l, stack.IfConfig{Addrs: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24"), netip.MustParsePrefix("fd00::1/64")}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, ifc := range s.Interfaces() {
				t.Logf("%s: %+v %+v", ifc.Name(), ifc.Counters(), ifc.Link().Stats())
			}
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := l.Release(); err != nil {
			t.Error(err)
		}
		if n := mem.Live(); n != 0 {
			t.Errorf("%d regions of memory left", n)
		}
	})
	return s, l
}

func modes(t *testing.T, f func(t *testing.T, o taplink.Options)) {
	for _, offload := range []bool{false, true} {
		t.Run(fmt.Sprintf("offload=%v", offload), func(t *testing.T) { f(t, taplink.Options{Offload: offload}) })
	}
}

// ping runs the system's ping against the stack.
func ping(t *testing.T, args ...string) {
	t.Helper()
	path, err := exec.LookPath("ping")
	if err != nil {
		t.Skip("needs ping (package iputils-ping)")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, args...).CombinedOutput()
	if err != nil || !strings.Contains(string(out), " 0% packet loss") {
		t.Errorf("ping %v: %v\n%s", args, err, out)
	}
}

func TestPing(t *testing.T) {
	modes(t, func(t *testing.T, o taplink.Options) {
		open(t, o)
		ping(t, "-n", "-c", "3", "-i", "0.01", "10.0.0.1")
		ping(t, "-n", "-c", "2", "-i", "0.01", "-s", "5000", "10.0.0.1") // fragments both ways
		ping(t, "-n", "-c", "200", "-i", "0.001", "-s", "1400", "10.0.0.1")
		ping(t, "-n", "-c", "3", "-i", "0.01", "fd00::1")
		ping(t, "-n", "-c", "2", "-i", "0.01", "-s", "5000", "fd00::1")
	})
}

// A Linux UDP client against a handler in the receive loop.
func TestUDPHandler(t *testing.T) {
	modes(t, func(t *testing.T, o taplink.Options) {
		s, _ := open(t, o)
		_, err := s.HandleUDP(netip.AddrPortFrom(netip.Addr{}, 7), func(c *stack.RxContext, b *pkt.Buf, p []byte) {
			r := c.Room()
			c.ReplyInPlace(b, copy(r, bytes.ToUpper(p)))
		})
		if err != nil {
			t.Fatal(err)
		}
		var c net.Conn
		buf := make([]byte, 2000)
		for i := range 1400 {
			if i%700 == 0 {
				addr := []string{"10.0.0.1:7", "[fd00::1]:7"}[i/700]
				var err error
				if c != nil {
					c.Close()
				}
				if c, err = net.Dial("udp", addr); err != nil {
					t.Fatal(err)
				}
				c.SetDeadline(time.Now().Add(10 * time.Second))
			}
			req := fmt.Sprintf("request %d %s", i, strings.Repeat("x", i))
			if _, err := c.Write([]byte(req)); err != nil {
				t.Fatal(err)
			}
			n, err := c.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			if got := string(buf[:n]); got != strings.ToUpper(req) {
				t.Fatalf("request %d: %q", i, got)
			}
		}
		c.Close()
		// A closed port says so (ICMP port unreachable).
		c2, err := net.Dial("udp4", "10.0.0.1:9")
		if err != nil {
			t.Fatal(err)
		}
		defer c2.Close()
		c2.SetDeadline(time.Now().Add(10 * time.Second))
		c2.Write([]byte("anyone?"))
		if _, err := c2.Read(buf); err == nil || !strings.Contains(err.Error(), "refused") {
			t.Errorf("closed port: %v", err)
		}
	})
}

func TestWakeAndClose(t *testing.T) {
	netns.Require(t)
	l, err := taplink.Open("osv1", taplink.Options{Bufs: 8})
	if err != nil {
		t.Fatal(err)
	}
	woken := make(chan error)
	go func() {
		for {
			err := l.RxWait(0)
			woken <- err
			if err != nil {
				return
			}
		}
	}()
	for range 100 {
		l.RxWake(0)
		if err := <-woken; err != nil {
			t.Fatal(err)
		}
		select { // a late deadline may wake once more
		case <-woken:
		default:
		}
	}
	done := make(chan error)
	go func() {
		for err := range woken {
			if err != nil {
				done <- err
				return
			}
		}
	}()
	if !l.LinkUp() {
		t.Error("down before Close")
	}
	l.Close()
	l.Close()
	if err := <-done; !errors.Is(err, os.ErrClosed) {
		t.Errorf("RxWait after Close: %v", err)
	}
	if err := l.Release(); err != nil {
		t.Error(err)
	}
}

func TestOpenErrors(t *testing.T) {
	netns.Require(t)
	if l, err := taplink.Open("a-name-that-is-too-long", taplink.Options{}); err == nil {
		l.Close()
		t.Error("name of 23 bytes accepted")
	}
	if l, err := taplink.Open("osv2", taplink.Options{Bufs: -1}); err == nil {
		l.Close()
		t.Error("-1 buffers accepted")
	}
}

package tcpsock

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"osv/kernel/net/tcp"
)

// A flow that closed first leaves its tuple in TIME-WAIT; a new SYN of the tuple
// (RFC 6191) opens a new flow, whatever address the listener has.
func TestFlowTimeWaitReuse(t *testing.T) {
	for name, local := range map[string]netip.AddrPort{
		"one address":     addr(1, 7),
		"any IPv4":        netip.AddrPortFrom(netip.IPv4Unspecified(), 7),
		"any of both":     netip.AddrPortFrom(netip.IPv6Unspecified(), 7),
		"no address: any": netip.AddrPortFrom(netip.Addr{}, 7),
	} {
		t.Run(name, func(t *testing.T) { flowTimeWaitReuse(t, local) })
	}
}

func flowTimeWaitReuse(t *testing.T, local netip.AddrPort) {
	w := newWorld(t, worldConfig{manual: true})
	h := &probe{data: func(f *Flow, p []byte) int { f.Write(p); f.Close(); return len(p) }}
	if _, err := w.host[1].Serve(local, ListenConfig{}, func(*Flow) Handler { return h }); err != nil {
		t.Fatal(err)
	}
	_, path, _ := w.host[0].stack.Route(netip.Addr{}, hostAddr[1])
	for i := range 3 {
		c, err := w.host[0].open(tcp.Tuple{Local: addr(0, 5000), Remote: addr(1, 7)}, path, &DialConfig{Options: tcp.Options{NoDelay: true}})
		if err != nil {
			t.Fatal(err)
		}
		w.advance(10 * time.Millisecond)
		if n, err := c.TryWrite([]byte("question")); n != 8 || err != nil {
			t.Fatalf("connection %d of the tuple: wrote %d, %v", i+1, n, err)
		}
		w.advance(10 * time.Millisecond)
		if got := w.recv(c); string(got) != "question" {
			t.Fatalf("connection %d of the tuple: got %q", i+1, got)
		}
		c.Close()
		w.advance(20 * time.Millisecond)
		if n := w.host[1].TimeWaits(); n != 1 {
			t.Errorf("%d in TIME-WAIT", n)
		}
	}
	if n := w.host[1].Stats.TimeWaitReused.Load(); n != 2 {
		t.Errorf("%d reused, want 2", n)
	}
}

// A SYN for a tuple in TIME-WAIT, on a port where nobody listens any more, is
// challenged; that ends the wait, and the SYN that is sent again is refused.
func TestTimeWaitWithoutListener(t *testing.T) {
	w := newWorld(t, worldConfig{manual: true})
	h := &probe{data: func(f *Flow, p []byte) int { f.Close(); return len(p) }}
	l, err := w.host[1].Serve(addr(1, 7), ListenConfig{}, func(*Flow) Handler { return h })
	if err != nil {
		t.Fatal(err)
	}
	_, path, _ := w.host[0].stack.Route(netip.Addr{}, hostAddr[1])
	open := func() *Conn {
		c, err := w.host[0].open(tcp.Tuple{Local: addr(0, 5000), Remote: addr(1, 7)}, path, &DialConfig{Options: tcp.Options{NoDelay: true}})
		if err != nil {
			t.Fatal(err)
		}
		w.advance(10 * time.Millisecond)
		return c
	}
	c := open()
	c.TryWrite([]byte("x"))
	w.advance(10 * time.Millisecond)
	c.Close()
	w.advance(20 * time.Millisecond)
	l.Close()
	if n := w.host[1].TimeWaits(); n != 1 {
		t.Fatalf("%d in TIME-WAIT", n)
	}
	c = open()
	if n := w.host[1].TimeWaits(); n != 0 {
		t.Errorf("%d in TIME-WAIT after a SYN", n)
	}
	w.advance(3 * time.Second)
	if _, err := c.TryWrite([]byte("x")); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("wrote: %v, want %v", err, syscall.ECONNREFUSED)
	}
	c.Close()
}

// A SYN that was on its way to the tuple's old connection, or to its TIME-WAIT, when
// that ended is not refused: the listener takes it when it is sent again.
func TestSYNMeetsEnd(t *testing.T) {
	theirs := tcp.Tuple{Local: addr(1, 7), Remote: addr(0, 5000)}
	for name, end := range map[string]func(w *world, old *Conn) tcp.Endpoint{
		"TIME-WAIT": func(w *world, old *Conn) tcp.Endpoint {
			tw := &w.host[1].tw
			tw.mu.Lock()
			defer tw.mu.Unlock()
			e := tw.head
			tw.end(e)
			return e
		},
		"connection": func(w *world, old *Conn) tcp.Endpoint {
			w.host[1].tw.mu.Lock()
			defer w.host[1].tw.mu.Unlock()
			w.host[1].tw.end(w.host[1].tw.head)
			return old
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, worldConfig{manual: true})
			h := &probe{data: func(f *Flow, p []byte) int { f.Close(); return len(p) }}
			if _, err := w.host[1].Serve(addr(1, 7), ListenConfig{}, func(*Flow) Handler { return h }); err != nil {
				t.Fatal(err)
			}
			_, path, _ := w.host[0].stack.Route(netip.Addr{}, hostAddr[1])
			open := func() *Conn {
				c, err := w.host[0].open(tcp.Tuple{Local: addr(0, 5000), Remote: addr(1, 7)}, path, &DialConfig{Options: tcp.Options{NoDelay: true}})
				if err != nil {
					t.Fatal(err)
				}
				w.advance(10 * time.Millisecond)
				return c
			}
			c := open()
			old := w.host[1].lookup(&theirs)
			c.TryWrite([]byte("x"))
			w.advance(10 * time.Millisecond)
			c.Close()
			w.advance(20 * time.Millisecond)
			if n := w.host[1].TimeWaits(); n != 1 || !old.detached {
				t.Fatalf("%d in TIME-WAIT, detached %v", n, old.detached)
			}
			// The stack has looked, and finds what is no more.
			if err := w.host[1].stack.InsertFlow(&theirs, tcp.Flow{Slow: end(w, old)}); err != nil {
				t.Fatal(err)
			}
			c = open()
			w.host[1].stack.RemoveFlow(&theirs)
			w.advance(3 * time.Second)
			if n, err := c.TryWrite([]byte("x")); n != 1 || err != nil {
				t.Errorf("wrote %d, %v", n, err)
			}
			if n := w.host[1].Stats.Refused.Load(); n != 0 {
				t.Errorf("%d refused", n)
			}
			c.Close()
			w.advance(20 * time.Millisecond)
		})
	}
}

// A peer that ends a connection by a RST and begins the next with the same port at once
// is not refused, though both segments are processed together.
func TestSYNRightAfterReset(t *testing.T) {
	for _, flow := range []bool{false, true} {
		t.Run(fmt.Sprintf("flow=%v", flow), func(t *testing.T) {
			w := newWorld(t, worldConfig{manual: true})
			var err error
			if flow {
				_, err = w.host[1].Serve(addr(1, 7), ListenConfig{}, func(*Flow) Handler { return &probe{data: func(f *Flow, p []byte) int { return len(p) }} })
			} else {
				_, err = w.host[1].Listen(addr(1, 7), ListenConfig{})
			}
			if err != nil {
				t.Fatal(err)
			}
			_, path, _ := w.host[0].stack.Route(netip.Addr{}, hostAddr[1])
			open := func() *Conn {
				c, err := w.host[0].open(tcp.Tuple{Local: addr(0, 5000), Remote: addr(1, 7)}, path, &DialConfig{Options: tcp.Options{NoDelay: true}})
				if err != nil {
					t.Fatal(err)
				}
				return c
			}
			c := open()
			w.advance(10 * time.Millisecond)
			c.TryWrite([]byte("x"))
			w.advance(10 * time.Millisecond)
			c.abort()
			c = open()
			w.advance(3 * time.Second)
			if n, err := c.TryWrite([]byte("x")); n != 1 || err != nil {
				t.Errorf("wrote %d, %v", n, err)
			}
			c.Close()
			w.advance(20 * time.Millisecond)
		})
	}
}

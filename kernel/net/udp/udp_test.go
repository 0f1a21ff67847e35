package udp

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"osv/kernel/hw/dma"
	"osv/kernel/ktest/simnet"
	"osv/kernel/net/stack"
	"osv/kernel/pkt"
)

var (
	ap  = netip.MustParseAddrPort
	pfx = netip.MustParsePrefix
)

// pair runs f in a bubble of fake time with two stacks, 10.0.0.1 and 10.0.0.2,
// and checks that every buffer and goroutine is gone afterwards.
func pair(t *testing.T, cfg simnet.Config, f func(t *testing.T, a, b *stack.Stack)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n, err := simnet.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		var mem dma.Host
		var ss []*stack.Stack
		for i, l := range n.Links {
			s, err := stack.New(stack.Config{Mem: &mem, Log: t.Logf})
			if err != nil {
				t.Fatal(err)
			}
			ss = append(ss, s)
			if _, err := s.AddLink(l, stack.IfConfig{NoIPv6: true, Addrs: []netip.Prefix{pfx(fmt.Sprintf("10.0.0.%d/24", i+1)), pfx(fmt.Sprintf("fd00::%d/64", i+1))}}); err != nil {
				t.Fatal(err)
			}
		}
		f(t, ss[0], ss[1])
		synctest.Wait()
		for _, s := range ss {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		if mem.Live() != 0 {
			t.Errorf("%d regions of memory left", mem.Live())
		}
	})
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestEchoBetweenStacks(t *testing.T) {
	for name, caps := range map[string]pkt.Caps{"plain": {}, "offload": {TxCsum: true, RxCsum: true}} {
		t.Run(name, func(t *testing.T) {
			pair(t, simnet.Config{Caps: caps}, func(t *testing.T, a, b *stack.Stack) {
				srv := must(Listen(b, ap("0.0.0.0:7"), Options{}))
				go func() {
					buf := make([]byte, 70000)
					for {
						n, from, err := srv.ReadFrom(buf)
						if err != nil {
							return
						}
						if _, err := srv.WriteTo(buf[:n], from); err != nil {
							t.Error(err)
						}
					}
				}()
				c := must(Dial(a, netip.AddrPort{}, ap("10.0.0.2:7"), Options{TOS: 0x10, TTL: 9}))
				if c.RemoteAddr().String() != "10.0.0.2:7" || c.LocalAddrPort().Addr() != netip.MustParseAddr("10.0.0.1") || c.LocalAddrPort().Port() < 49152 || srv.RemoteAddr() != nil || srv.LocalAddr().String() != "0.0.0.0:7" {
					t.Errorf("%v, %v", c, srv)
				}
				buf := make([]byte, 70000)
				// 1472 is the most in one packet; beyond that, fragments.
				for _, n := range []int{0, 1, 32, 1471, 1472, 1473, 5000, 20000, 65507} {
					want := bytes.Repeat([]byte{byte(n), 2, 3}, n)[:n]
					if _, err := c.Write(want); err != nil {
						t.Fatalf("%d bytes: %v", n, err)
					}
					c.SetReadDeadline(time.Now().Add(10 * time.Second))
					got, err := c.Read(buf)
					if err != nil || !bytes.Equal(buf[:got], want) {
						t.Fatalf("%d bytes: got %d, %v", n, got, err)
					}
				}
				if _, err := c.Write(make([]byte, 65508)); !errors.Is(err, syscall.EMSGSIZE) {
					t.Errorf("65508 bytes: %v", err)
				}
				// A short buffer loses the rest.
				c.Write([]byte("0123456789"))
				if n, err := c.Read(buf[:4]); n != 4 || err != nil || string(buf[:4]) != "0123" {
					t.Errorf("%q %v", buf[:n], err)
				}
				c.Close()
				srv.Close()
			})
		})
	}
}

func TestLoopback(t *testing.T) {
	pair(t, simnet.Config{}, func(t *testing.T, a, _ *stack.Stack) {
		srv := must(Listen(a, netip.AddrPortFrom(netip.Addr{}, 7), Options{}))
		defer srv.Close()
		for _, addr := range []string{"127.0.0.1:7", "127.9.9.9:7", "10.0.0.1:7"} {
			c := must(Dial(a, netip.AddrPort{}, ap(addr), Options{}))
			c.Write([]byte("hello"))
			buf := make([]byte, 10)
			n, from, err := srv.ReadFromUDPAddrPort(buf)
			if err != nil || string(buf[:n]) != "hello" || from != c.LocalAddrPort() {
				t.Errorf("%s: %q from %v, %v", addr, buf[:n], from, err)
			}
			c.Close()
		}
	})
}

// RFC 1122 §4.1.3.3: port unreachable reaches a connected socket, once.
func TestPortUnreachable(t *testing.T) {
	pair(t, simnet.Config{}, func(t *testing.T, a, b *stack.Stack) {
		c := must(Dial(a, netip.AddrPort{}, ap("10.0.0.2:9"), Options{}))
		defer c.Close()
		c.Write([]byte("anyone?"))
		if _, err := c.Read(make([]byte, 10)); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("read: %v", err)
		}
		c.SetReadDeadline(time.Now().Add(time.Second))
		if _, err := c.Read(make([]byte, 10)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("second read: %v", err)
		}
		c.Write([]byte("anyone?"))
		synctest.Wait()
		if !c.Readable() {
			t.Error("an error waits, but the socket is not readable")
		}
		if _, err := c.TryReadBatch(make([]Message, 1)); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("TryReadBatch: %v", err)
		}
	})
}

// Nobody answers ARP: the sender learns that the host is unreachable.
func TestHostUnreachable(t *testing.T) {
	pair(t, simnet.Config{}, func(t *testing.T, a, _ *stack.Stack) {
		c := must(Dial(a, netip.AddrPort{}, ap("10.0.0.77:9"), Options{}))
		defer c.Close()
		start := time.Now()
		c.Write([]byte("anyone?"))
		if _, err := c.Read(make([]byte, 10)); !errors.Is(err, syscall.EHOSTUNREACH) {
			t.Errorf("%v", err)
		}
		if d := time.Since(start); d < 3*time.Second || d > 5*time.Second {
			t.Errorf("after %v, want three requests of 1 s", d)
		}
	})
}

func TestDeadlines(t *testing.T) {
	pair(t, simnet.Config{}, func(t *testing.T, a, _ *stack.Stack) {
		c := must(Listen(a, ap("10.0.0.1:7"), Options{}))
		buf := make([]byte, 10)
		read := func(want time.Duration) {
			t.Helper()
			start := time.Now()
			_, err := c.Read(buf)
			var ne net.Error
			if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &ne) || !ne.Timeout() || time.Since(start) != want {
				t.Errorf("%v after %v, want %v", err, time.Since(start), want)
			}
		}
		c.SetDeadline(time.Now().Add(time.Second))
		read(time.Second)
		read(0)
		c.SetReadDeadline(time.Now().Add(-time.Second))
		read(0)
		c.SetReadDeadline(time.Now().Add(time.Hour))
		time.AfterFunc(time.Second, func() { c.SetReadDeadline(time.Now().Add(time.Second)) })
		read(2 * time.Second)
		if _, err := c.WriteTo(buf, net.UDPAddrFromAddrPort(ap("10.0.0.2:1"))); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("write: %v", err)
		}
		c.SetDeadline(time.Time{})
		time.AfterFunc(time.Second, func() { c.Close() })
		if _, err := c.Read(buf); !errors.Is(err, net.ErrClosed) {
			t.Errorf("read of a closed socket: %v", err)
		}
		for what, err := range map[string]error{
			"close": c.Close(), "deadline": c.SetDeadline(time.Now()), "write deadline": c.SetWriteDeadline(time.Now()),
			"write": second(c.WriteToUDPAddrPort(buf, ap("10.0.0.2:1"))), "batch": second(c.ReadBatch(make([]Message, 1))), "try": second(c.TryReadBatch(make([]Message, 1))), "bufs": second(c.ReadBufs(make([]*pkt.Buf, 1))),
		} {
			if !errors.Is(err, net.ErrClosed) {
				t.Errorf("%s after Close: %v", what, err)
			}
		}
	})
}

func second[T any](_ T, err error) error { return err }

func TestBatches(t *testing.T) {
	pair(t, simnet.Config{}, func(t *testing.T, a, b *stack.Stack) {
		srv := must(Listen(b, ap("10.0.0.2:7"), Options{}))
		c := must(Listen(a, ap("10.0.0.1:0"), Options{}))
		defer srv.Close()
		defer c.Close()
		in := make([]Message, 64)
		for i := range in {
			in[i].Data = make([]byte, 4)
		}
		// The first waits for ARP.
		if _, err := c.WriteToUDPAddrPort([]byte("first"), ap("10.0.0.2:7")); err != nil {
			t.Fatal(err)
		}
		if n, err := srv.ReadBatch(in); n != 1 || err != nil || in[0].N != 5 || string(in[0].Data) != "firs" {
			t.Fatalf("%d %v: %+v", n, err, in[0])
		}
		var out []Message
		for i := range 50 {
			out = append(out, Message{Data: []byte{byte(i)}, Addr: ap("10.0.0.2:7"), Local: netip.MustParseAddr("10.0.0.1")})
		}
		if n, err := c.WriteBatch(out); n != 50 || err != nil {
			t.Fatal(n, err)
		}
		synctest.Wait()
		n, err := srv.ReadBatch(in)
		if n != 50 || err != nil {
			t.Fatalf("%d of 50: %v", n, err)
		}
		for i, m := range in[:n] {
			if m.N != 1 || m.Data[0] != byte(i) || m.Addr != c.LocalAddrPort() || m.Local != netip.MustParseAddr("10.0.0.2") {
				t.Fatalf("%d: %+v", i, m)
			}
		}
		if n, err := srv.TryReadBatch(in); n != 0 || err != nil {
			t.Errorf("empty: %d %v", n, err)
		}
		if n, err := srv.ReadBatch(nil); n != 0 || err != nil {
			t.Error(n, err)
		}
		if n, err := srv.ReadBufs(nil); n != 0 || err != nil {
			t.Error(n, err)
		}
		c.WriteBatch(out[:3])
		var bufs [8]*pkt.Buf
		synctest.Wait()
		n, err = srv.ReadBufs(bufs[:])
		if n != 3 || err != nil {
			t.Fatalf("ReadBufs: %d %v", n, err)
		}
		for i, b := range bufs[:n] {
			if p, from := Payload(b); !bytes.Equal(p, []byte{byte(i)}) || from != c.LocalAddrPort() {
				t.Errorf("% x from %v", p, from)
			}
			b.Put()
		}
		// Errors in a batch: what came before is sent.
		for _, bad := range []Message{{Addr: ap("10.0.0.2:0")}, {}, {Data: make([]byte, 70000), Addr: ap("10.0.0.2:7")}, {Addr: ap("192.168.0.1:7")}} {
			if n, err := c.WriteBatch([]Message{out[0], bad, out[1]}); n != 1 || err == nil {
				t.Errorf("%v: %d %v", bad.Addr, n, err)
			}
		}
	})
}

// A queue that nobody reads drops the latest, counted, and nothing leaks.
func TestQueueFull(t *testing.T) {
	pair(t, simnet.Config{}, func(t *testing.T, a, b *stack.Stack) {
		srv := must(Listen(b, ap("10.0.0.2:7"), Options{Queue: 4}))
		c := must(Dial(a, netip.AddrPort{}, ap("10.0.0.2:7"), Options{}))
		c.Write([]byte("x"))
		synctest.Wait()
		for range 10 {
			c.Write([]byte("y"))
			synctest.Wait()
		}
		if full, bad := srv.Drops(); full != 7 || bad != 0 {
			t.Errorf("%d dropped (%d bad), want 7", full, bad)
		}
		if b.Interface("sim1").Counters().Reasons["socket-full"] != 7 {
			t.Errorf("%+v", b.Interface("sim1").Counters())
		}
		c.Close()
		srv.Close()
	})
}

func TestReadiness(t *testing.T) {
	pair(t, simnet.Config{}, func(t *testing.T, a, b *stack.Stack) {
		srv := must(Listen(b, ap("10.0.0.2:7"), Options{}))
		c := must(Dial(a, netip.AddrPort{}, ap("10.0.0.2:7"), Options{}))
		defer c.Close()
		ready := 0
		var mu sync.Mutex
		srv.Notify(func() { mu.Lock(); ready++; mu.Unlock() })
		if srv.Readable() || !srv.Arm() {
			t.Fatal("empty socket is readable")
		}
		c.Write([]byte("x"))
		c.Write([]byte("y"))
		synctest.Wait()
		if mu.Lock(); ready != 1 {
			t.Errorf("told %d times, want 1", ready)
		}
		mu.Unlock()
		if !srv.Readable() || srv.Arm() {
			t.Error("not readable with two datagrams")
		}
		ms := []Message{{}, {}}
		if n, _ := srv.TryReadBatch(ms[:1]); n != 1 || srv.Arm() {
			t.Error("one is left")
		}
		srv.TryReadBatch(ms)
		if !srv.Arm() {
			t.Error("not empty")
		}
		srv.Notify(nil)
		srv.Close()
		if !srv.Readable() {
			t.Error("a closed socket must read as ready")
		}
	})
}

func TestOpenErrors(t *testing.T) {
	pair(t, simnet.Config{}, func(t *testing.T, a, _ *stack.Stack) {
		first := must(Listen(a, ap("10.0.0.1:7"), Options{}))
		defer first.Close()
		for what, err := range map[string]error{
			"in use":            second(Listen(a, ap("10.0.0.1:7"), Options{})),
			"not ours":          second(Listen(a, ap("10.0.0.9:7"), Options{})),
			"no route":          second(Dial(a, netip.AddrPort{}, ap("8.8.8.8:7"), Options{})),
			"port 0":            second(Dial(a, netip.AddrPort{}, ap("10.0.0.2:0"), Options{})),
			"multicast":         second(Dial(a, netip.AddrPort{}, ap("224.0.0.1:7"), Options{})),
			"write without":     second(first.Write(nil)),
			"not a UDP address": second(first.WriteTo(nil, &net.TCPAddr{})),
		} {
			var op *net.OpError
			if err == nil || !errors.As(err, &op) || op.Net != "udp" {
				t.Errorf("%s: %v", what, err)
			}
		}
		c := must(Dial(a, ap("10.0.0.1:99"), ap("10.0.0.2:7"), Options{}))
		if _, err := Dial(a, ap("10.0.0.1:99"), ap("10.0.0.2:7"), Options{}); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("same tuple: %v", err)
		}
		if _, err := c.WriteToUDPAddrPort(nil, ap("10.0.0.3:7")); !errors.Is(err, syscall.EISCONN) {
			t.Errorf("connected socket to another: %v", err)
		}
		c.Close()
		c = must(Dial(a, ap("10.0.0.1:99"), ap("10.0.0.2:7"), Options{}))
		c.Close()
		if c.String() != "udp 10.0.0.1:99<-10.0.0.2:7" {
			t.Error(c)
		}
	})
}

// Many writers, readers and closes at once, over a bad wire: for the race
// detector and for leaks.
func TestChaos(t *testing.T) {
	pair(t, simnet.Config{Queues: 2, Loss: 0.1, Dup: 0.1, Corrupt: 0.05, Reorder: 0.2, Seed: 42}, func(t *testing.T, a, b *stack.Stack) {
		var wg sync.WaitGroup
		for g := range 4 {
			wg.Go(func() {
				for round := range 20 {
					srv, err := Listen(b, netip.AddrPortFrom(netip.Addr{}, uint16(100+g)), Options{Queue: 8})
					if err != nil {
						t.Error(err)
						return
					}
					c, err := Dial(a, netip.AddrPort{}, netip.AddrPortFrom(netip.MustParseAddr("10.0.0.2"), uint16(100+g)), Options{})
					if err != nil {
						t.Error(err)
						return
					}
					var inner sync.WaitGroup
					inner.Go(func() {
						ms := []Message{{Data: make([]byte, 3000)}, {Data: make([]byte, 3000)}}
						for {
							n, err := srv.ReadBatch(ms)
							if err != nil {
								return
							}
							for _, m := range ms[:n] {
								for _, x := range m.Data[:m.N] {
									if x != byte(m.N) {
										t.Errorf("damaged datagram of %d bytes got through", m.N)
										return
									}
								}
							}
						}
					})
					for i := range 50 {
						n := (round*50 + i) * 7 % 3000
						c.Write(bytes.Repeat([]byte{byte(n)}, n))
					}
					c.Close()
					srv.Close()
					inner.Wait()
				}
			})
		}
		wg.Wait()
	})
}

func TestNoAllocs(t *testing.T) {
	n := must(simnet.New(simnet.Config{Ports: 1}))
	s := must(stack.New(stack.Config{Manual: true, Mem: &dma.Host{}}))
	must(s.AddLink(n.Links[0], stack.IfConfig{NoIPv6: true, Addrs: []netip.Prefix{pfx("10.0.0.1/24")}}))
	srv := must(Listen(s, ap("0.0.0.0:7"), Options{}))
	c := must(Dial(s, netip.AddrPort{}, ap("10.0.0.1:7"), Options{}))
	buf := make([]byte, 100)
	ms := make([]Message, 8)
	for i := range ms {
		ms[i].Data = make([]byte, 64)
	}
	if n := testing.AllocsPerRun(200, func() {
		if _, err := c.Write(buf); err != nil {
			t.Fatal(err)
		}
		s.Poll()
		_, from, err := srv.ReadFromUDPAddrPort(buf)
		if err != nil {
			t.Fatal(err)
		}
		srv.WriteToUDPAddrPort(buf, from)
		s.Poll()
		if n, err := c.ReadBatch(ms); n != 1 || err != nil {
			t.Fatal(n, err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	srv.Close()
	c.Close()
	s.Close()
	n.Close()
}

func BenchmarkEcho(b *testing.B) {
	n := must(simnet.New(simnet.Config{Ports: 1}))
	s := must(stack.New(stack.Config{Manual: true, Mem: &dma.Host{}}))
	must(s.AddLink(n.Links[0], stack.IfConfig{NoIPv6: true, Addrs: []netip.Prefix{pfx("10.0.0.1/24")}}))
	srv := must(Listen(s, ap("0.0.0.0:7"), Options{}))
	c := must(Dial(s, netip.AddrPort{}, ap("10.0.0.1:7"), Options{}))
	in, out := make([]Message, 32), make([]Message, 32)
	for i := range in {
		in[i].Data, out[i].Data = make([]byte, 64), make([]byte, 32)
	}
	b.ReportAllocs()
	for left := b.N; left > 0; left -= 32 {
		c.WriteBatch(out)
		s.Poll()
		if n, err := srv.ReadBatch(in); n != 32 || err != nil {
			b.Fatal(n, err)
		}
	}
}

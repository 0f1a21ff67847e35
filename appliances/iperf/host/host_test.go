package host

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"osv/kernel/hw/dma"
	"osv/kernel/ktest/simnet"
	"osv/kernel/net/sock"
	"osv/kernel/net/stack"
	"osv/kernel/pkt"
)

// pair is two hosts, or one twice, and the address of the second.
type pair struct {
	a, b Host
	addr netip.Addr
}

// each runs f on every kind of host.
func each(t *testing.T, f func(t *testing.T, p pair)) {
	t.Run("hosted", func(t *testing.T) {
		h := Hosted{Out: io.Discard}
		f(t, pair{h, h, netip.MustParseAddr("127.0.0.1")})
	})
	t.Run("stack", func(t *testing.T) { f(t, stacks(t)) })
}

// stacks are two of ours, joined in memory.
func stacks(t *testing.T) pair {
	t.Helper()
	n, err := simnet.New(simnet.Config{Bufs: 4096, Ring: 1024, Caps: pkt.Caps{TSO4: true, TxCsum: true, RxCsum: true, GSOMax: 65535, LRO: true, TxScatter: 64}})
	if err != nil {
		t.Fatal(err)
	}
	addrs := [2]netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")}
	var hs [2]*Stack
	var closers []func() error
	for i, l := range n.Links {
		mem := &dma.Host{}
		s, err := stack.New(stack.Config{Mem: mem})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.AddLink(l, stack.IfConfig{NoIPv6: true, Addrs: []netip.Prefix{netip.PrefixFrom(addrs[i], 24)}}); err != nil {
			t.Fatal(err)
		}
		k, err := sock.New(s, sock.Config{Mem: mem})
		if err != nil {
			t.Fatal(err)
		}
		hs[i] = NewStack(k, io.Discard, "test")
		closers = append(closers, k.Close, s.Close)
	}
	t.Cleanup(func() {
		for _, f := range append(closers, n.Close) {
			if err := f(); err != nil {
				t.Error(err)
			}
		}
	})
	return pair{hs[0], hs[1], addrs[1]}
}

func (p pair) connect(t *testing.T, o Socket) (Conn, Conn) {
	t.Helper()
	l, err := p.b.Listen(netip.AddrPortFrom(p.addr, 0), o)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	a, err := p.a.Dial(ctx, netip.AddrPort{}, l.Addr(), o)
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func TestSink(t *testing.T) {
	each(t, func(t *testing.T, p pair) {
		a, b := p.connect(t, Socket{Window: 256 << 10, TOS: 8, NoDelay: true})
		if err := b.Configure(Socket{Window: 128 << 10, NoDelay: true, MSS: 1000}); err != nil {
			t.Fatal(err)
		}
		if err := b.SetKeepAlive(true); err != nil {
			t.Fatal(err)
		}
		const size = 3 << 20
		go func() {
			if n, err := a.Write(make([]byte, size)); n != size || err != nil {
				t.Errorf("wrote %d: %v", n, err)
			}
			a.CloseWrite()
		}()
		var n atomic.Uint64
		if err := b.Sink(&n); err != nil || n.Load() != size {
			t.Errorf("%d octets, %v", n.Load(), err)
		}
		i, ok := a.Info()
		if !ok || i.MSS < 500 || i.Cwnd < i.MSS || i.Retransmits < 0 {
			t.Errorf("info: %+v %v", i, ok)
		}
		// The other way, ended by a deadline.
		n.Store(0)
		b.Write([]byte("hello"))
		done := make(chan error)
		go func() { done <- a.Sink(&n) }()
		for n.Load() < 5 {
			time.Sleep(time.Millisecond)
		}
		a.SetDeadline(time.Now())
		if err := <-done; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("at the deadline: %v", err)
		}
	})
}

func TestListenAnyAddress(t *testing.T) {
	each(t, func(t *testing.T, p pair) {
		for _, local := range []netip.Addr{{}, netip.IPv4Unspecified()} {
			l, err := p.b.Listen(netip.AddrPortFrom(local, 0), Socket{})
			if err != nil {
				t.Fatal(err)
			}
			c, err := p.a.Dial(context.Background(), netip.AddrPort{}, netip.AddrPortFrom(p.addr, l.Addr().Port()), Socket{})
			if err != nil {
				t.Fatal(err)
			}
			c.Close()
			if s, err := l.Accept(); err != nil {
				t.Error(err)
			} else {
				s.Close()
			}
			l.Close()
			if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("accept after close: %v", err)
			}
		}
	})
}

func TestRefused(t *testing.T) {
	each(t, func(t *testing.T, p pair) {
		if c, err := p.a.Dial(context.Background(), netip.AddrPort{}, netip.AddrPortFrom(p.addr, 9), Socket{}); err == nil || c != nil {
			t.Errorf("%v %v", c, err)
		}
		if l, err := p.b.Listen(netip.AddrPortFrom(netip.MustParseAddr("192.0.2.7"), 80), Socket{}); err == nil && l != nil {
			l.Close() // our stack listens to addresses that it may get later
		}
	})
}

var errEnough = errors.New("enough")

// collect receives n datagrams.
func collect(t *testing.T, c PacketConn, n int) (out [][]byte, last Datagram) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	err := c.Receive(func(d *Datagram) error {
		if d.Len < len(d.Data) {
			t.Errorf("%d octets in a datagram of %d", len(d.Data), d.Len)
		}
		out = append(out, bytes.Clone(d.Data))
		if last = *d; len(out) == n {
			return errEnough
		}
		return nil
	})
	if err != errEnough {
		t.Fatalf("after %d datagrams: %v", len(out), err)
	}
	return out, last
}

func TestDatagrams(t *testing.T) {
	each(t, func(t *testing.T, p pair) {
		l, err := p.b.ListenPacket(netip.AddrPort{}, Socket{})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if l.Local().Port() == 0 || l.Remote().IsValid() {
			t.Errorf("%v %v", l.Local(), l.Remote())
		}
		c, err := p.a.DialPacket(netip.AddrPort{}, netip.AddrPortFrom(p.addr, l.Local().Port()), Socket{})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write([]byte("first")); err != nil {
			t.Fatal(err)
		}
		got, d := collect(t, l, 1)
		if string(got[0]) != "first" || d.Len != 5 || d.From != c.Local() && d.From.Port() != c.Local().Port() {
			t.Errorf("%q, %+v", got, d)
		}
		s, err := l.Connect(&d, Socket{})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if s.Remote() != d.From || s.Local().Port() != l.Local().Port() {
			t.Errorf("%v to %v", s.Local(), s.Remote())
		}
		// From now on, the sender's datagrams go to s.
		batch := [][]byte{[]byte("a"), []byte("bb"), bytes.Repeat([]byte("c"), 1400)}
		for i := range 40 {
			batch = append(batch, bytes.Repeat([]byte{byte(i)}, 100))
		}
		for rest := batch; len(rest) > 0; {
			n, err := c.WriteBatch(rest)
			if err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		got, d = collect(t, s, len(batch))
		if !slices.EqualFunc(got, batch, bytes.Equal) {
			t.Errorf("%d datagrams, not the same", len(got))
		}
		first := d.Time
		// And back.
		s.Write([]byte("answer"))
		if got, _ := collect(t, c, 1); string(got[0]) != "answer" {
			t.Errorf("%q", got)
		}
		c.Write([]byte("late"))
		if _, d = collect(t, s, 1); d.Time < first {
			t.Errorf("time went back: %d %d", first, d.Time)
		}
		s.SetReadDeadline(time.Now())
		if err := s.Receive(func(*Datagram) error { return nil }); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("at the deadline: %v", err)
		}
		s.Close()
		if err := s.Receive(func(*Datagram) error { return nil }); !errors.Is(err, net.ErrClosed) {
			t.Errorf("closed: %v", err)
		}
		if _, err := s.WriteBatch(batch[:1]); err == nil {
			t.Error("a closed socket sends")
		}
		if s.Drops() != 0 {
			t.Errorf("%d drops", s.Drops())
		}
	})
}

// A large datagram comes in pieces; its length is that of the whole.
func TestLargeDatagram(t *testing.T) {
	each(t, func(t *testing.T, p pair) {
		l, err := p.b.ListenPacket(netip.AddrPortFrom(p.addr, 0), Socket{})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		c, err := p.a.DialPacket(netip.AddrPort{}, l.Local(), Socket{})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.Write(make([]byte, 30000))
		got, d := collect(t, l, 1)
		if d.Len != 30000 || len(got[0]) < 512 {
			t.Errorf("%d octets of %d", len(got[0]), d.Len)
		}
	})
}

func TestLookup(t *testing.T) {
	each(t, func(t *testing.T, p pair) {
		for _, name := range []string{"127.0.0.1", "localhost"} {
			as, err := p.a.Lookup(context.Background(), name)
			if err != nil || !slices.ContainsFunc(as, netip.Addr.IsLoopback) {
				t.Errorf("%s: %v %v", name, as, err)
			}
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if as, err := p.a.Lookup(ctx, "no-such-host.invalid"); err == nil {
			t.Errorf("%v", as)
		}
	})
}

func TestFacts(t *testing.T) {
	each(t, func(t *testing.T, p pair) {
		u1, s1 := p.a.CPUTime()
		for x, end := 0, time.Now().Add(50*time.Millisecond); time.Now().Before(end); x++ {
		}
		u2, s2 := p.a.CPUTime()
		if u2+s2 <= u1+s1 {
			t.Errorf("no time used: %v %v", u2+s2, u1+s1)
		}
		if p.a.NumCPU() < 1 || p.a.System() == "" || p.a.Congestion() == "" || p.a.Console() != io.Discard {
			t.Errorf("%d %q %q", p.a.NumCPU(), p.a.System(), p.a.Congestion())
		}
	})
}

func TestCounters(t *testing.T) {
	p := stacks(t)
	a, b := p.connect(t, Socket{})
	a.Write([]byte("x"))
	b.Read(make([]byte, 1))
	n := map[string]uint64{}
	for _, c := range p.a.Counters() {
		n[c.Name] = c.N
	}
	found := false
	for name, v := range n {
		found = found || v > 0 && len(name) > 10 && name[len(name)-10:] == ".tx.frames"
	}
	if !found {
		t.Errorf("no frames: %v", n)
	}
	if got := p.a.Missing(Socket{MSS: 1000, Congestion: "bbr"}); got != "the segment size, congestion control bbr" {
		t.Errorf("missing: %q", got)
	}
	if got := p.a.Missing(Socket{Window: 1, NoDelay: true, TOS: 1, Congestion: "cubic"}) + (Hosted{}).Missing(Socket{MSS: 1}); got != "" {
		t.Errorf("missing: %q", got)
	}
	if (Hosted{}).Counters() != nil {
		t.Error("a process counts frames")
	}
}

// Blocks of data and datagrams cost no allocation on our stack.
func TestHotPathsAllocateNothing(t *testing.T) {
	p := stacks(t)
	a, b := p.connect(t, Socket{})
	var n atomic.Uint64
	done := make(chan error)
	go func() { done <- b.Sink(&n) }()
	block := make([]byte, 64<<10)
	sent := uint64(0)
	write := func() {
		a.Write(block)
		sent += uint64(len(block))
		for n.Load() < sent {
			time.Sleep(50 * time.Microsecond)
		}
	}
	for range 50 {
		write()
	}
	if got := testing.AllocsPerRun(200, write); got > 0 {
		t.Errorf("TCP: %v allocations a block", got)
	}
	a.Close()
	<-done
}

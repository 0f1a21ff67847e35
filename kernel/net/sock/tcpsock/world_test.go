package tcpsock

import (
	"context"
	"math"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"osv/kernel/hw/dma"
	kclock "osv/kernel/ktest/clock"
	"osv/kernel/ktest/simnet"
	"osv/kernel/net/clock"
	"osv/kernel/net/stack"
	"osv/kernel/net/tcp"
	"osv/kernel/net/tcpstack"
	"osv/kernel/pkt"
)

// world is two hosts joined in memory, with everything that a real one has.
type world struct {
	t     testing.TB
	net   *simnet.Net
	stack [2]*stack.Stack
	host  [2]*Host
	clock *kclock.Fake // nil: time is real and the stacks run by themselves
	mem   [2]*dma.Host
}

var hostAddr = [2]netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")}

type worldConfig struct {
	net    simnet.Config
	host   Config
	manual bool // fake clock, no goroutines
	bubble bool // in a synctest bubble: its time, and it looks for goroutines itself
}

func newWorld(t testing.TB, cfg worldConfig) *world {
	t.Helper()
	before := runtime.NumGoroutine()
	w := &world{t: t}
	sc := stack.Config{}
	if cfg.manual {
		w.clock = &kclock.Fake{}
		w.clock.Advance(time.Hour)
		sc.Manual, sc.Clock = true, w.clock
		cfg.net.Clock = w.clock
	}
	if cfg.bubble {
		before = math.MaxInt
		sc.Clock = bubbleClock{start: time.Now()}
		cfg.net.Clock = sc.Clock
	}
	if cfg.net.Bufs == 0 {
		cfg.net.Bufs = 4096
	}
	if cfg.net.Ring == 0 {
		cfg.net.Ring = 1024
	}
	var err error
	if w.net, err = simnet.New(cfg.net); err != nil {
		t.Fatal(err)
	}
	for i, l := range w.net.Links[:2] {
		w.mem[i] = new(dma.Host)
		sc := sc
		sc.Mem = w.mem[i]
		if w.stack[i], err = stack.New(sc); err != nil {
			t.Fatal(err)
		}
		ic := stack.IfConfig{NoIPv6: true, Addrs: []netip.Prefix{netip.PrefixFrom(hostAddr[i], 24)}}
		if _, err := w.stack[i].AddLink(l, ic); err != nil {
			t.Fatal(err)
		}
		ts := tcpstack.New(w.stack[i])
		hc := cfg.host
		hc.Mem = w.mem[i]
		if w.host[i], err = New(ts, hc); err != nil {
			t.Fatal(err)
		}
		ts.SetNoFlow(w.host[i])
	}
	t.Cleanup(func() { w.close(before) })
	return w
}

// bubbleClock is clock.System with an origin in the bubble.
type bubbleClock struct {
	clock.System
	start time.Time
}

func (c bubbleClock) Now() int64 { return int64(time.Since(c.start)) + 1e12 }

// close ends everything and looks for what is left behind: buffers, regions of
// memory, goroutines.
func (w *world) close(goroutines int) {
	for _, h := range w.host {
		if err := h.Close(); err != nil {
			w.t.Error(err)
		}
		if n := h.Conns(); n != 0 {
			w.t.Errorf("%d connections left", n)
		}
	}
	if w.clock != nil {
		w.poll()
	}
	for i, s := range w.stack {
		if err := s.Close(); err != nil {
			w.t.Error(err)
		}
		if n := w.mem[i].Live(); n != 0 {
			w.t.Errorf("%d regions of memory left", n)
		}
	}
	if err := w.net.Close(); err != nil {
		w.t.Error(err)
	}
	// Goroutines that have returned may not be gone yet.
	if runtime.NumGoroutine() <= goroutines || within(patience, func() bool { return runtime.NumGoroutine() <= goroutines }) {
		return
	}
	buf := make([]byte, 1<<16)
	w.t.Errorf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), goroutines, buf[:runtime.Stack(buf, true)])
}

// poll runs both stacks until nothing moves.
func (w *world) poll() {
	for w.stack[0].Poll()+w.stack[1].Poll() > 0 {
	}
}

// advance moves the fake clock, timer by timer.
func (w *world) advance(d time.Duration) {
	for d > 0 {
		w.poll()
		step := d
		if next, ok := w.clock.Next(); ok && next < d {
			step = max(next, 1)
		}
		w.clock.Advance(step)
		d -= step
	}
	w.poll()
}

func addr(host int, port uint16) netip.AddrPort { return netip.AddrPortFrom(hostAddr[host], port) }

func (w *world) listen(port uint16) *Listener {
	w.t.Helper()
	l, err := w.host[1].Listen(addr(1, port), ListenConfig{})
	if err != nil {
		w.t.Fatal(err)
	}
	return l
}

func (w *world) dial(port uint16) *Conn {
	w.t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), 20*time.Second)
	defer stop()
	c, err := w.host[0].Dial(ctx, netip.AddrPort{}, addr(1, port))
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// pair is a connection from host 0 to host 1, both ends. With a fake clock the
// dialling goroutine needs the test to poll.
func (w *world) pair(port uint16) (*Conn, *Conn) {
	w.t.Helper()
	l := w.listen(port)
	defer l.Close()
	if w.clock == nil {
		a := w.dial(port)
		b, err := l.AcceptTCP()
		if err != nil {
			w.t.Fatal(err)
		}
		return a, b
	}
	a := w.openFake(port)
	b, err := l.TryAccept()
	if err != nil {
		w.t.Fatal(err)
	}
	return a, b
}

// openFake is Dial without a goroutine that sleeps.
func (w *world) openFake(port uint16) *Conn {
	w.t.Helper()
	src, path, err := w.host[0].stack.Route(netip.Addr{}, hostAddr[1])
	if err != nil {
		w.t.Fatal(err)
	}
	c, err := w.host[0].open(tcp.Tuple{Local: netip.AddrPortFrom(src, 0), Remote: addr(1, port)}, path, &DialConfig{Options: tcp.Options{NoDelay: true}})
	if err != nil {
		w.t.Fatal(err)
	}
	w.poll()
	c.drain()
	w.poll()
	if s := c.Info().State; s != tcp.StateEstablished {
		w.t.Fatalf("state %v", s)
	}
	return c
}

// offloads are what a virtio link does.
var offloads = pkt.Caps{TxCsum: true, RxCsum: true, TSO4: true, TSO6: true, GSOMax: 65536, TxScatter: 64}

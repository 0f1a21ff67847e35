package neigh

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"osv/kernel/hw/dma"
	kclock "osv/kernel/ktest/clock"
	"osv/kernel/net/wire"
	"osv/kernel/pkt"
)

var (
	a1   = netip.MustParseAddr("10.0.0.1")
	mac1 = wire.MAC{2, 0, 0, 0, 0, 1}
	mac2 = wire.MAC{2, 0, 0, 0, 0, 2}
)

type rig struct {
	t    *testing.T
	clk  kclock.Fake
	c    *Cache
	pool *pkt.Pool
	log  []string
}

func newRig(t *testing.T, cfg Config) *rig {
	r := &rig{t: t}
	var mem dma.Host
	var err error
	if r.pool, err = pkt.NewPool(&mem, 64, 256); err != nil {
		t.Fatal(err)
	}
	cfg.Clock = &r.clk
	cfg.Solicit = func(a netip.Addr, m wire.MAC) {
		if m == (wire.MAC{}) {
			r.log = append(r.log, fmt.Sprintf("ask %v", a))
		} else {
			r.log = append(r.log, fmt.Sprintf("ask %v at %v", a, m))
		}
	}
	cfg.Send = func(m wire.MAC, bs []*pkt.Buf) {
		for _, b := range bs {
			r.log = append(r.log, fmt.Sprintf("send %d to %v", b.RxTime, m))
			b.Put()
		}
	}
	cfg.Fail = func(a netip.Addr, b *pkt.Buf) {
		r.log = append(r.log, fmt.Sprintf("fail %d to %v", b.RxTime, a))
		b.Put()
	}
	r.c = New(cfg)
	t.Cleanup(func() {
		r.c.Close()
		if n := r.pool.InUse(); n != 0 {
			t.Errorf("%d packets in use at the end", n)
		}
		if r.clk.Pending() != 0 {
			t.Error("a timer is left")
		}
		if err := r.pool.Close(&mem); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *rig) pkt(n int) *pkt.Buf {
	b := r.pool.Get()
	if b == nil {
		r.t.Fatal("pool empty")
	}
	b.RxTime = int64(n)
	return b
}

func (r *rig) want(lines ...string) {
	r.t.Helper()
	if !slices.Equal(r.log, lines) {
		r.t.Errorf("got %q, want %q", r.log, lines)
	}
	r.log = nil
}

func (r *rig) state(e *Entry, want State) {
	r.t.Helper()
	if _, s := e.MAC(); s != want {
		r.t.Errorf("state %v, want %v", s, want)
	}
}

// RFC 4861 §7.2.2: ask, keep the packet, send it when the answer comes.
func TestResolve(t *testing.T) {
	r := newRig(t, Config{})
	e := r.c.Get(a1)
	r.state(e, Incomplete)
	r.c.Resolve(e, r.pkt(1))
	r.c.Resolve(e, r.pkt(2))
	r.want("ask 10.0.0.1")
	if !r.c.Solicited(a1) {
		t.Error("no answer expected")
	}
	r.c.Learn(News{Addr: a1, MAC: mac1, Solicited: true, Override: true})
	r.want("send 1 to 02:00:00:00:00:01", "send 2 to 02:00:00:00:00:01")
	r.state(e, Reachable)
	if m, _ := e.MAC(); m != mac1 || e.Addr() != a1 || r.c.Solicited(a1) {
		t.Error(m)
	}
	r.c.Resolve(e, r.pkt(3))
	r.want("send 3 to 02:00:00:00:00:01")
}

// RFC 1122 §2.3.2.1: one question per second; after three, the packets fail.
func TestNoAnswer(t *testing.T) {
	r := newRig(t, Config{})
	e := r.c.Get(a1)
	r.c.Resolve(e, r.pkt(1))
	for range 3 {
		r.want("ask 10.0.0.1")
		r.clk.Advance(time.Second)
	}
	r.want("fail 1 to 10.0.0.1")
	r.state(e, Gone)
	if s := r.c.Stats(); s.Solicits != 3 || s.Failures != 1 {
		t.Errorf("%+v", s)
	}
	// A packet for the entry that went starts anew.
	r.c.Resolve(e, r.pkt(2))
	r.want("ask 10.0.0.1")
	r.c.Learn(News{Addr: a1, MAC: mac1, Solicited: true})
	r.want("send 2 to 02:00:00:00:00:01")
}

// RFC 4861 §7.3.3: reachable, stale, delay, probe, gone.
func TestAgeing(t *testing.T) {
	r := newRig(t, Config{})
	e := r.c.Get(a1)
	r.c.Resolve(e, r.pkt(1))
	r.c.Learn(News{Addr: a1, MAC: mac1, Solicited: true})
	r.log = nil
	r.clk.Advance(31 * time.Second)
	r.state(e, Stale)
	r.clk.Advance(time.Minute)
	r.state(e, Stale) // unused: nothing happens
	r.c.Used(e)
	r.state(e, Delay)
	r.clk.Advance(4 * time.Second)
	r.want()
	r.clk.Advance(time.Second)
	r.state(e, Probe)
	r.want("ask 10.0.0.1 at 02:00:00:00:00:01")
	r.c.Learn(News{Addr: a1, MAC: mac1, Solicited: true})
	r.state(e, Reachable)
	r.clk.Advance(31 * time.Second)
	r.c.Used(e)
	r.c.Confirm(e) // a protocol above heard from it
	r.state(e, Reachable)
	r.clk.Advance(31 * time.Second)
	r.c.Used(e)
	r.clk.Advance(9 * time.Second)
	r.want("ask 10.0.0.1 at 02:00:00:00:00:01", "ask 10.0.0.1 at 02:00:00:00:00:01", "ask 10.0.0.1 at 02:00:00:00:00:01")
	r.state(e, Gone)
}

func TestStaleAndUnusedEntriesGo(t *testing.T) {
	r := newRig(t, Config{})
	r.c.Learn(News{Addr: a1, MAC: mac1, Create: true})
	unused := r.c.Get(netip.MustParseAddr("10.0.0.9"))
	r.c.Resolve(r.c.Get(netip.MustParseAddr("10.0.0.8")), r.pkt(1)) // keeps the timer going
	r.clk.Advance(staleLife + 5*time.Second)
	if n := len(r.c.Snapshot()); n != 0 {
		t.Errorf("%d entries left", n)
	}
	r.state(unused, Gone)
}

// RFC 4861 §7.2.5 and RFC 826: what news may change.
func TestNews(t *testing.T) {
	r := newRig(t, Config{})
	r.c.Learn(News{Addr: a1, MAC: mac1, Override: true})
	if len(r.c.Snapshot()) != 0 || r.c.Stats().Unsolicited != 1 {
		t.Error("unsolicited news made an entry")
	}
	r.c.Learn(News{Addr: a1, MAC: wire.BroadcastMAC, Create: true})
	r.c.Learn(News{Addr: a1, Create: true})
	if len(r.c.Snapshot()) != 0 {
		t.Error("learnt a group address or none")
	}
	r.c.Learn(News{Addr: a1, MAC: mac1, Create: true})
	e := r.c.Get(a1)
	r.state(e, Stale)
	r.c.Learn(News{Addr: a1, MAC: mac1, Solicited: true})
	r.state(e, Reachable)
	r.c.Learn(News{Addr: a1, MAC: mac2}) // another MAC without override: doubt
	if m, s := e.MAC(); m != mac1 || s != Stale {
		t.Error(m, s)
	}
	r.c.Learn(News{Addr: a1, MAC: mac2, Override: true})
	if m, s := e.MAC(); m != mac2 || s != Stale || r.c.Stats().Changes != 1 {
		t.Error(m, s)
	}
	r.c.Learn(News{Addr: a1, MAC: mac1, Override: true, Solicited: true})
	if m, s := e.MAC(); m != mac1 || s != Reachable {
		t.Error(m, s)
	}
	r.c.AddPermanent(a1, mac2)
	r.c.Learn(News{Addr: a1, MAC: mac1, Override: true, Solicited: true})
	if m, s := e.MAC(); m != mac2 || s != Permanent || s.String() != "permanent" {
		t.Error(m, s)
	}
	r.clk.Advance(time.Hour)
	r.state(e, Permanent)
	// An unsolicited answer to packets that wait: sent, and then checked.
	a2 := netip.MustParseAddr("10.0.0.2")
	e2 := r.c.Get(a2)
	r.c.Resolve(e2, r.pkt(1))
	r.c.Learn(News{Addr: a2, MAC: mac2})
	r.want("ask 10.0.0.2", "send 1 to 02:00:00:00:00:02")
	r.state(e2, Delay)
	a3 := netip.MustParseAddr("10.0.0.3")
	r.c.Resolve(r.c.Get(a3), r.pkt(2))
	r.c.AddPermanent(a3, mac1)
	r.want("ask 10.0.0.3", "send 2 to 02:00:00:00:00:01")
}

func TestBounds(t *testing.T) {
	r := newRig(t, Config{Max: 4, MaxPending: 2})
	at := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}) }
	e := r.c.Get(at(1))
	for i := range 4 {
		r.c.Resolve(e, r.pkt(i))
	}
	r.log = nil
	r.c.Learn(News{Addr: at(1), MAC: mac1, Solicited: true})
	r.want("send 2 to 02:00:00:00:00:01", "send 3 to 02:00:00:00:00:01") // the latest
	for i := 2; i <= 4; i++ {
		r.c.Resolve(r.c.Get(at(i)), r.pkt(i))
	}
	if r.c.Get(at(5)) != nil {
		t.Error("fifth entry of four, none of which can go")
	}
	r.c.Learn(News{Addr: at(5), MAC: mac1, Create: true})
	gone := &Entry{addr: at(5)}
	gone.set(wire.MAC{}, Gone)
	r.c.Resolve(gone, r.pkt(5))
	if s := r.c.Stats(); s.FullDrops != 2 || s.QueueDrops != 2 || s.Evicted != 0 {
		t.Errorf("%+v", s)
	}
	r.clk.Advance(31 * time.Second) // 1 is stale, the others are gone
	for i := 2; i <= 4; i++ {
		r.c.Learn(News{Addr: at(i), MAC: mac2, Create: true})
	}
	r.clk.Advance(time.Second)
	r.c.Learn(News{Addr: at(6), MAC: mac1, Create: true})
	r.state(e, Gone) // used longest ago
	if s := r.c.Stats(); s.Evicted != 1 {
		t.Errorf("%+v", s)
	}
}

func TestPendingInAllIsBounded(t *testing.T) {
	r := newRig(t, Config{MaxPending: 1})
	for i := range pendingFactor + 3 {
		r.c.Resolve(r.c.Get(netip.AddrFrom4([4]byte{10, 0, 1, byte(i)})), r.pkt(i))
	}
	if s := r.c.Stats(); s.QueueDrops != 3 || r.pool.InUse() != pendingFactor {
		t.Errorf("%+v, %d in use", s, r.pool.InUse())
	}
}

func TestClosed(t *testing.T) {
	r := newRig(t, Config{})
	e := r.c.Get(a1)
	r.c.Resolve(e, r.pkt(1))
	r.c.Close()
	r.state(e, Gone)
	if r.c.Get(a1) != nil {
		t.Error("entry of a closed cache")
	}
	r.c.Resolve(e, r.pkt(2))
	r.c.Confirm(e)
	r.c.AddPermanent(a1, mac1)
}

package dhcp

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	kclock "osv/kernel/ktest/clock"
	"osv/kernel/net/wire"
)

var (
	mac    = wire.MAC{2, 0, 0, 0, 0, 1}
	server = netip.MustParseAddr("10.0.0.254")
)

type sent struct {
	src, dst netip.Addr
	b        []byte
}

// rig is a client with a server played by the test.
type rig struct {
	t      *testing.T
	clk    kclock.Fake
	c      *Client
	out    []sent
	events []string
	leases []Lease
}

func newRig(t *testing.T, check func(netip.Prefix, func(bool))) *rig {
	r := &rig{t: t}
	seq := uint64(0)
	r.c = New(Config{
		Clock: &r.clk, MAC: mac, Hostname: "guest", Check: check, Log: t.Logf,
		Random: func() uint64 { seq += 0x9e3779b97f4a7c15; return seq },
		Send:   func(s, d netip.Addr, p []byte) { r.out = append(r.out, sent{s, d, p}) },
		Bound: func(l Lease) {
			r.events, r.leases = append(r.events, "bound "+l.Addr.String()), append(r.leases, l)
		},
		Lost: func(l Lease) { r.events = append(r.events, "lost "+l.Addr.String()) },
	})
	return r
}

func opt(b []byte, code byte) []byte {
	for o := b[offOpts:]; len(o) > 1 && o[0] != optEnd; {
		if o[0] == optPad {
			o = o[1:]
			continue
		}
		if o[0] == code {
			return o[2 : 2+o[1]]
		}
		o = o[2+o[1]:]
	}
	return nil
}

// next is the next message that the client sent.
func (r *rig) next(kind byte) sent {
	r.t.Helper()
	if len(r.out) == 0 {
		r.t.Fatalf("nothing sent, want message type %d", kind)
	}
	m := r.out[0]
	r.out = r.out[1:]
	if len(m.b) < minLen || m.b[0] != opRequest || !bytes.Equal(m.b[offChaddr:offChaddr+6], mac[:]) || be.Uint32(m.b[offMagic:]) != magic {
		r.t.Fatalf("malformed message % x", m.b)
	}
	if got := opt(m.b, optMessageType); len(got) != 1 || got[0] != kind {
		r.t.Fatalf("message type %v, want %d", got, kind)
	}
	return m
}

func (r *rig) quiet() {
	r.t.Helper()
	if len(r.out) != 0 {
		r.t.Fatalf("%d messages sent, want none", len(r.out))
	}
}

func (r *rig) want(events ...string) {
	r.t.Helper()
	if !slices.Equal(r.events, events) {
		r.t.Fatalf("events %v, want %v", r.events, events)
	}
	r.events = nil
}

// reply builds a server's message in answer to a client's.
func reply(to []byte, kind byte, yi string, opts ...[]byte) []byte {
	b := make([]byte, offOpts)
	b[0], b[1], b[2] = opReply, 1, 6
	copy(b[offXID:], to[offXID:offXID+4])
	a := netip.MustParseAddr(yi).As4()
	copy(b[offYIAddr:], a[:])
	copy(b[offChaddr:], mac[:])
	be.PutUint32(b[offMagic:], magic)
	b = append(b, optMessageType, 1, kind, optServerID, 4, 10, 0, 0, 254)
	for _, o := range opts {
		b = append(b, o...)
	}
	return append(b, optEnd)
}

var (
	mask24  = []byte{optMask, 4, 255, 255, 255, 0}
	router1 = []byte{optRouter, 4, 10, 0, 0, 254}
	dns2    = []byte{optDNS, 8, 10, 0, 0, 53, 8, 8, 8, 8}
	hour    = []byte{optLeaseTime, 4, 0, 0, 0x0e, 0x10}
)

func (r *rig) bind() {
	r.t.Helper()
	r.c.Start()
	r.clk.Advance(0)
	d := r.next(msgDiscover)
	r.c.Input(reply(d.b, msgOffer, "10.0.0.7", mask24, hour))
	q := r.next(msgRequest)
	r.c.Input(reply(q.b, msgACK, "10.0.0.7", mask24, router1, dns2, hour, []byte{optMTU, 2, 5, 0xdc, optDomain, 4, 'l', 'a', 'n', 0}))
	r.want("bound 10.0.0.7/24")
}

// RFC 2131 §4.4.1: discover, offer, request, ack.
func TestObtain(t *testing.T) {
	r := newRig(t, nil)
	r.c.Start()
	r.clk.Advance(0)
	d := r.next(msgDiscover)
	if d.src != any4 || d.dst != broadcast4 || be.Uint16(d.b[offFlags:]) != flagBroadcast || string(opt(d.b, optHostname)) != "guest" || !bytes.Equal(opt(d.b, optClientID), append([]byte{1}, mac[:]...)) {
		t.Errorf("discover % x", d.b)
	}
	// what is not for us
	other := reply(d.b, msgOffer, "10.0.0.9", mask24, hour)
	other[offXID]++
	r.c.Input(other)
	other = reply(d.b, msgOffer, "10.0.0.9", mask24, hour)
	other[offChaddr]++
	r.c.Input(other)
	r.c.Input(reply(d.b, msgOffer, "0.0.0.0", mask24, hour))
	r.c.Input(reply(d.b, msgACK, "10.0.0.9", mask24, hour)) // out of turn
	r.c.Input(nil)
	r.quiet()
	if s := r.c.Stats(); s.Ignored != 5 {
		t.Errorf("%d ignored, want 5", s.Ignored)
	}
	r.c.Input(reply(d.b, msgOffer, "10.0.0.7", mask24, hour))
	q := r.next(msgRequest)
	if q.dst != broadcast4 || !bytes.Equal(opt(q.b, optRequestedIP), []byte{10, 0, 0, 7}) || !bytes.Equal(opt(q.b, optServerID), []byte{10, 0, 0, 254}) || !bytes.Equal(q.b[offXID:offXID+4], d.b[offXID:offXID+4]) {
		t.Errorf("request % x", q.b)
	}
	r.c.Input(reply(q.b, msgACK, "10.0.0.7", mask24, router1, dns2, hour))
	r.want("bound 10.0.0.7/24")
	l := r.leases[0]
	if l.Server != server || len(l.Routers) != 1 || l.Routers[0] != server || len(l.DNS) != 2 || l.Time != time.Hour || l.Renew != 30*time.Minute || l.Rebind != 52*time.Minute+30*time.Second {
		t.Errorf("lease %v, T1 %v T2 %v", l, l.Renew, l.Rebind)
	}
	if s, _, held := r.c.State(); s != Bound || !held || s.String() != "bound" {
		t.Error(s, held)
	}
}

// RFC 2131 §4.1: retransmission backs off, up to about 64 s, and does not stop.
func TestDiscoverBacksOff(t *testing.T) {
	r := newRig(t, nil)
	r.c.Start()
	var at []time.Duration
	for range 400 {
		r.clk.Advance(time.Second)
		for range r.out {
			at = append(at, time.Duration(r.clk.Now()))
		}
		r.out = nil
	}
	if len(at) < 9 || len(at) > 14 {
		t.Errorf("%d messages in 400 s: %v", len(at), at)
	}
	if last := at[len(at)-1] - at[len(at)-2]; last < 60*time.Second || last > 68*time.Second {
		t.Errorf("last interval %v", last)
	}
}

func TestRequestGivesUp(t *testing.T) {
	r := newRig(t, nil)
	r.c.Start()
	r.clk.Advance(0)
	r.c.Input(reply(r.next(msgDiscover).b, msgOffer, "10.0.0.7", mask24, hour))
	for range maxRequests {
		r.next(msgRequest)
		r.quiet()
		for len(r.out) == 0 {
			r.clk.Advance(time.Second)
		}
	}
	r.next(msgDiscover)
}

// RFC 2131 §4.4.5: T1 unicast to the server, T2 broadcast, then the end.
func TestRenewRebindExpire(t *testing.T) {
	r := newRig(t, nil)
	r.bind()
	r.clk.Advance(30*time.Minute - time.Second)
	r.quiet()
	r.clk.Advance(time.Second)
	q := r.next(msgRequest)
	if q.src != r.leases[0].Addr.Addr() || q.dst != server || !bytes.Equal(q.b[offCIAddr:offCIAddr+4], []byte{10, 0, 0, 7}) || opt(q.b, optRequestedIP) != nil || opt(q.b, optServerID) != nil || be.Uint16(q.b[offFlags:]) != 0 {
		t.Errorf("renewal % x", q.b)
	}
	r.c.Input(reply(q.b, msgACK, "10.0.0.7", mask24, hour))
	r.want("bound 10.0.0.7/24")
	if s := r.c.Stats(); s.Renewals != 1 {
		t.Error(s)
	}
	// Nobody answers any more.
	r.clk.Advance(52*time.Minute + 29*time.Second)
	if len(r.out) < 2 {
		t.Errorf("%d renewals before T2", len(r.out))
	}
	for _, m := range r.out {
		if m.dst != server {
			t.Errorf("to %v before T2", m.dst)
		}
	}
	r.out = nil
	r.clk.Advance(7 * time.Minute)
	if len(r.out) < 2 || r.out[0].dst != broadcast4 || r.out[0].src == any4 {
		t.Errorf("%d requests after T2", len(r.out))
	}
	r.out = nil
	r.want()
	r.clk.Advance(time.Minute)
	r.want("lost 10.0.0.7/24")
	r.next(msgDiscover)
}

func TestNAK(t *testing.T) {
	r := newRig(t, nil)
	r.c.Start()
	r.clk.Advance(0)
	r.c.Input(reply(r.next(msgDiscover).b, msgOffer, "10.0.0.7", mask24, hour))
	r.c.Input(reply(r.next(msgRequest).b, msgNAK, "0.0.0.0", []byte{56, 2, 'n', 'o'}))
	r.want()
	r.clk.Advance(afterNAK)
	r.c.Input(reply(r.next(msgDiscover).b, msgOffer, "10.0.0.8", mask24, hour))
	r.c.Input(reply(r.next(msgRequest).b, msgACK, "10.0.0.8", mask24, hour))
	r.want("bound 10.0.0.8/24")
	r.clk.Advance(30 * time.Minute)
	r.c.Input(reply(r.next(msgRequest).b, msgNAK, "0.0.0.0"))
	r.want("lost 10.0.0.8/24")
	if s := r.c.Stats(); s.NAKs != 2 {
		t.Error(s)
	}
}

func TestDeclineWhenInUse(t *testing.T) {
	var done []func(bool)
	r := newRig(t, func(_ netip.Prefix, f func(bool)) { done = append(done, f) })
	r.c.Start()
	r.clk.Advance(0)
	r.c.Input(reply(r.next(msgDiscover).b, msgOffer, "10.0.0.7", mask24, hour))
	r.c.Input(reply(r.next(msgRequest).b, msgACK, "10.0.0.7", mask24, hour))
	r.want()
	done[0](false)
	d := r.next(msgDecline)
	if !bytes.Equal(opt(d.b, optRequestedIP), []byte{10, 0, 0, 7}) || !bytes.Equal(opt(d.b, optServerID), []byte{10, 0, 0, 254}) {
		t.Errorf("decline % x", d.b)
	}
	r.clk.Advance(afterInUse - time.Second)
	r.quiet()
	r.clk.Advance(time.Second)
	r.c.Input(reply(r.next(msgDiscover).b, msgOffer, "10.0.0.8", mask24, hour))
	r.c.Input(reply(r.next(msgRequest).b, msgACK, "10.0.0.8", mask24, hour))
	done[1](true)
	done[1](false) // a second answer means nothing
	r.want("bound 10.0.0.8/24")
}

func TestStopReleases(t *testing.T) {
	r := newRig(t, nil)
	r.bind()
	r.c.Stop()
	r.c.Stop()
	m := r.next(msgRelease)
	if m.dst != server || !bytes.Equal(m.b[offCIAddr:offCIAddr+4], []byte{10, 0, 0, 7}) {
		t.Errorf("release % x", m.b)
	}
	r.want("lost 10.0.0.7/24")
	r.clk.Advance(24 * time.Hour)
	r.quiet()
	r.c.Input(reply(m.b, msgACK, "10.0.0.7", hour))
	r.want()
	if r.clk.Pending() != 0 {
		t.Error("a timer is left")
	}
}

func TestInfiniteLease(t *testing.T) {
	r := newRig(t, nil)
	r.c.Start()
	r.clk.Advance(0)
	forever := []byte{optLeaseTime, 4, 255, 255, 255, 255}
	r.c.Input(reply(r.next(msgDiscover).b, msgOffer, "10.0.0.7", mask24, forever))
	r.c.Input(reply(r.next(msgRequest).b, msgACK, "10.0.0.7", mask24, forever))
	r.clk.Advance(1000 * 24 * time.Hour)
	r.quiet()
}

func TestParseOptions(t *testing.T) {
	base := make([]byte, offOpts)
	be.PutUint32(base[offXID:], 1)
	p := func(opts ...[]byte) (Lease, bool) {
		m, ok := parse(reply(base, msgACK, "172.16.0.9", opts...))
		return m.lease, ok
	}
	l, ok := p([]byte{optRoutes, 5 + 8 + 7, 0, 10, 0, 0, 1, 24, 10, 1, 2, 0, 0, 0, 0, 12, 172, 16, 10, 0, 0, 2}, []byte{optPad})
	want := []Route{
		{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr("10.0.0.1")},
		{netip.MustParsePrefix("10.1.2.0/24"), netip.Addr{}},
		{netip.MustParsePrefix("172.16.0.0/12"), netip.MustParseAddr("10.0.0.2")},
	}
	if !ok || !slices.Equal(l.Routes, want) || l.Addr.String() != "172.16.0.9/16" {
		t.Errorf("%v %v", l.Routes, l.Addr)
	}
	if l, ok := p([]byte{optDNS, 3, 1, 2, 3, optDNS, 5, 4, 5, 6, 7, 8}); !ok || len(l.DNS) != 2 || l.DNS[1].String() != "5.6.7.8" {
		t.Errorf("split option: %v", l.DNS) // RFC 3396
	}
	if l, ok := p([]byte{optMask, 4, 255, 255, 255, 255}, []byte{optT1, 4, 0, 0, 0, 200, optT2, 4, 0, 0, 0, 100, optLeaseTime, 4, 0, 0, 0, 160}); !ok || l.Addr.Bits() != 32 || l.Rebind != 100*time.Second || l.Renew != 50*time.Second {
		t.Errorf("%v %v %v", l.Addr, l.Renew, l.Rebind)
	}
	for _, bad := range [][]byte{{optMask, 4, 255, 0, 255, 0}, {optMask, 3, 255, 0, 0}, {optRoutes, 1, 33}, {optRoutes, 5, 24, 1, 2, 3, 0}, {optMessageType, 2, 1, 1}} {
		if _, ok := p(bad); ok {
			t.Errorf("% x accepted", bad)
		}
	}
	over := reply(base, msgACK, "10.0.0.1", []byte{optOverload, 1, 3})
	copy(over[offFile:], []byte{optHostname, 2, 'h', '1', optEnd})
	copy(over[offSname:], mask24)
	if m, ok := parse(over); !ok || m.lease.Hostname != "h1" || m.lease.Addr.Bits() != 24 {
		t.Errorf("overload: %+v", m.lease)
	}
	copy(over[offSname:], strings.Repeat("\x01\xff", 30))
	if _, ok := parse(over); ok {
		t.Error("overloaded options that run out accepted")
	}
	if classBits(netip.MustParseAddr("200.1.1.1")) != 24 || classBits(netip.MustParseAddr("9.1.1.1")) != 8 {
		t.Error("class masks")
	}
	if s := l.String(); !strings.Contains(s, "172.16.0.9/16") {
		t.Error(s)
	}
}

// FuzzInput: nothing a server says may panic, and a lease it grants is usable.
func FuzzInput(f *testing.F) {
	base := make([]byte, offOpts)
	f.Add(reply(base, msgACK, "10.0.0.7", mask24, router1, dns2, hour)[offYIAddr:])
	f.Add(reply(base, msgOffer, "10.0.0.7", []byte{optRoutes, 5, 0, 10, 0, 0, 1})[offYIAddr:])
	f.Fuzz(func(t *testing.T, b []byte) {
		parse(b)
		r := newRig(t, nil)
		r.c.cfg.Log = func(string, ...any) {}
		r.c.Start()
		r.clk.Advance(0)
		head := make([]byte, offYIAddr)
		head[0], head[1], head[2] = opReply, 1, 6
		be.PutUint32(head[offXID:], r.c.xid)
		p := append(head, b...)
		if len(p) >= offChaddr+6 {
			copy(p[offChaddr:], mac[:])
		}
		r.c.Input(p)
		r.c.Input(p)
		for _, l := range r.leases {
			if !l.Addr.IsValid() || l.Time <= 0 || l.Renew > l.Rebind || l.Rebind > l.Time {
				t.Fatalf("lease %v T1 %v T2 %v", l, l.Renew, l.Rebind)
			}
		}
		r.clk.Advance(2 * time.Hour)
		r.c.Stop()
	})
}

// An option may be up to 255 octets long, and may come in parts.
func TestLongOptions(t *testing.T) {
	for _, n := range []int{1, 253, 254, 255} {
		name := bytes.Repeat([]byte("x"), n)
		o := append([]byte{optHostname, byte(n)}, name...)
		m, ok := parse(reply(make([]byte, offOpts), msgACK, "10.0.0.7", mask24, o, hour))
		if !ok || m.lease.Hostname != string(name) {
			t.Errorf("option of %d octets: %v, %d octets of a name", n, ok, len(m.lease.Hostname))
		}
		m, ok = parse(reply(make([]byte, offOpts), msgACK, "10.0.0.7", mask24, o, o, hour))
		if !ok || m.lease.Hostname != string(name)+string(name) {
			t.Errorf("two options of %d octets: %v, %d octets of a name", n, ok, len(m.lease.Hostname))
		}
	}
}

package stack

import (
	"errors"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"osv/kernel/hw/dma"
	"osv/kernel/ktest/simnet"
	"osv/kernel/net/demux"
	"osv/kernel/net/netchan"
	"osv/kernel/net/route"
	"osv/kernel/net/wire"
	"osv/kernel/pkt"
)

// bubble runs f with the stack's goroutines on fake time and checks that they,
// and all buffers, are gone afterwards.
func bubble(t *testing.T, sim simnet.Config, f func(t *testing.T, ss []*Stack, n *simnet.Net)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n, err := simnet.New(sim)
		if err != nil {
			t.Fatal(err)
		}
		var mem dma.Host
		var ss []*Stack
		for range n.Links {
			s, err := New(Config{Mem: &mem, Log: t.Logf})
			if err != nil {
				t.Fatal(err)
			}
			ss = append(ss, s)
		}
		f(t, ss, n)
		synctest.Wait()
		for _, s := range ss {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			if err := s.Close(); err != nil {
				t.Errorf("second Close: %v", err)
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

// The loops with their goroutines, two queues: a handler on one host answers a
// flood from the other; the flood comes from Inject, the answers are counted.
func TestLoopsUnderLoad(t *testing.T) {
	bubble(t, simnet.Config{Queues: 2, Ring: 64, Bufs: 1024}, func(t *testing.T, ss []*Stack, n *simnet.Net) {
		ifc, err := ss[0].AddLink(n.Links[0], IfConfig{NoIPv6: true, Addrs: []netip.Prefix{pfx("10.0.0.1/24")}})
		if err != nil {
			t.Fatal(err)
		}
		var calls, onQueue [2]atomic.Int64
		if _, err := ss[0].HandleUDP(ap("10.0.0.1:7"), func(c *RxContext, b *pkt.Buf, p []byte) {
			calls[0].Add(1)
			onQueue[c.Queue()].Add(1)
			c.ReplyInPlace(b, len(p))
		}); err != nil {
			t.Fatal(err)
		}
		sent := 0
		for i := range 5000 {
			n.Links[1].Inject(eth(wire.MAC{2, 0, 0, 0, 0, 1}, peerMAC, wire.EtherIPv4, udp4(netip.AddrPortFrom(addr("10.0.0.2"), uint16(1000+i%7)), ap("10.0.0.1:7"), []byte("x"))))
			sent++
			if i%64 == 0 {
				synctest.Wait()
			}
		}
		synctest.Wait()
		st := n.Links[0].Stats()
		if got := int(calls[0].Load()); got+int(st.RxNoBuf) != sent || got < sent/2 {
			t.Errorf("%d calls and %d lost before the stack, of %d", got, st.RxNoBuf, sent)
		}
		if onQueue[0].Load() == 0 || onQueue[1].Load() == 0 {
			t.Error("one queue got all")
		}
		if c := ifc.Counters(); int64(c.Fast) != calls[0].Load() {
			t.Errorf("%d counted as fast, %d calls", c.Fast, calls[0].Load())
		}
		var b [64]*pkt.Buf
		for q := range 2 {
			for k := 1; k > 0; {
				k = n.Links[1].RxBatch(q, b[:])
				for _, b := range b[:k] {
					b.Put()
				}
			}
		}
	})
}

// Wake-ups are counted by the frames that they found.
func TestWakes(t *testing.T) {
	var c counters
	for _, n := range []int{0, 1, 8, 9, 16, 17, 32, 33, 64, 65, 128, 129, 256, 1 << 30} {
		c.woke(n)
	}
	for i, want := range []uint64{2, 2, 2, 2, 2, 3} {
		if got := c.wakes[i].Load(); got != want {
			t.Errorf("class %d: %d, want %d", i, got, want)
		}
	}
	bubble(t, simnet.Config{}, func(t *testing.T, ss []*Stack, n *simnet.Net) {
		ifc, err := ss[0].AddLink(n.Links[0], IfConfig{NoIPv6: true, Addrs: []netip.Prefix{pfx("10.0.0.1/24")}})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		before := ifc.Counters().Wakes
		for range 10 {
			n.Links[1].Inject(eth(wire.MAC{2, 0, 0, 0, 0, 1}, peerMAC, wire.EtherIPv4, udp4(ap("10.0.0.2:999"), ap("10.0.0.1:7"), nil)))
			synctest.Wait()
		}
		after := ifc.Counters().Wakes
		if after[0] != before[0]+10 || after[1] != 0 {
			t.Errorf("ten frames, each after the other: %v, before %v", after, before)
		}
	})
}

// The slow path's channel overflows; what does not fit is counted, not lost.
func TestSlowPathOverflow(t *testing.T) {
	h := quiet(t, pkt.Caps{})
	loop := h.ifc.loops[0]
	l := loop.slow.Cap()
	for range l + 10 {
		h.peer.Inject(h.toUs(udp4(ap("10.0.0.2:999"), ap("10.0.0.1:9"), nil)))
		loop.pass() // without its slow path
	}
	if c := h.ifc.Counters(); c.Reasons["slow-full"] != 10 {
		t.Errorf("%+v", c.Reasons)
	}
}

// In order, whatever happens: from the first frame that does not fit until the
// transport has seen it, everything goes the slow way.
func TestFallbackKeepsOrder(t *testing.T) {
	h := quiet(t, pkt.Caps{})
	k := &Sink{Chan: netchan.New(4)}
	tu := demux.Tuple{Proto: wire.ProtoTCP, Local: ap("10.0.0.1:80"), Remote: ap("10.0.0.2:1000")}
	if err := h.stack.Insert(tu, k); err != nil {
		t.Fatal(err)
	}
	var seen []uint32
	take := func(b *pkt.Buf) {
		seen = append(seen, be.Uint32(b.Bytes()[b.L4+4:]))
		b.Put()
	}
	var bufs [8]*pkt.Buf
	drain := func() {
		for n := k.Chan.Pop(bufs[:]); n > 0; n = k.Chan.Pop(bufs[:]) {
			for _, b := range bufs[:n] {
				take(b)
			}
		}
	}
	h.stack.Register(wire.ProtoTCP, transportFunc(func(b *pkt.Buf) { drain(); take(b) }))
	seg := func(n uint32) []byte {
		b := make([]byte, 20)
		be.PutUint16(b, 1000)
		be.PutUint16(b[2:], 80)
		be.PutUint32(b[4:], n)
		b[12] = 5 << 4
		return h.toUs(ip4(wire.IPv4Fields{Proto: wire.ProtoTCP, Src: 0x0a000002, Dst: 0x0a000001}, b))
	}
	loop := h.ifc.loops[0]
	for i := range uint32(6) {
		h.peer.Inject(seg(i))
	}
	loop.pass() // 0..3 in the channel, 4 and 5 on the slow path
	drain()     // the reader makes room
	h.peer.Inject(seg(6))
	loop.pass() // must not overtake 4 and 5
	if len(seen) != 4 {
		t.Fatalf("seen %v before the slow path ran", seen)
	}
	for loop.passSlow() > 0 {
	}
	h.peer.Inject(seg(7))
	loop.pass() // the fast path again
	drain()
	for i, n := range seen {
		if n != uint32(i) {
			t.Fatalf("order %v", seen)
		}
	}
	if c := h.ifc.Counters(); len(seen) != 8 || c.Reasons["chan-full"] != 3 || c.Fast != 5 {
		t.Errorf("%d seen, %+v", len(seen), c)
	}
	// Closed: the frame is looked up again, and nobody is there.
	k.Chan.Close()
	h.peer.Inject(seg(8))
	loop.pass()
	h.stack.Remove(tu, k)
	h.frames()
	if c := h.ifc.Counters(); c.Reasons["late"] != 1 {
		t.Errorf("%+v", c)
	}
}

type transportFunc func(b *pkt.Buf)

func (f transportFunc) Segment(_ *Interface, b *pkt.Buf, _ *demux.Meta, _ *Sink) { f(b) }
func (f transportFunc) ICMP(*ICMPError, *Sink)                                   {}

// A full transmit ring: replies wait for the next pass, then are given up.
func TestTxFull(t *testing.T) {
	s, l := newBench(t, true, handlerFrame())
	full := &fullLink{benchLink: l}
	ifc := s.Interfaces()[0]
	ifc.link = full
	if _, err := s.HandleUDP(ap("10.0.0.1:11211"), echoHandler); err != nil {
		t.Fatal(err)
	}
	loop := ifc.loops[0]
	l.credit, full.room = 10, 4
	l.replies = 0
	loop.pass()
	if l.replies != 4 || len(loop.ctx.tx) != 6 {
		t.Fatalf("%d sent, %d wait", l.replies, len(loop.ctx.tx))
	}
	full.room = 3
	loop.pass()
	if l.replies != 7 || len(loop.ctx.tx) != 3 {
		t.Fatalf("%d sent, %d wait", l.replies, len(loop.ctx.tx))
	}
	l.credit = 64
	loop.pass() // 64 more than the batch holds with those 3
	loop.ctx.dropTx()
	if n := ifc.Counters().Reasons["tx-full"]; n != 67 || l.pool.InUse() != 0 {
		t.Errorf("%d counted, %d buffers out", n, l.pool.InUse())
	}
	// Route.Send gives back what the ring does not take, as it was.
	r, err := s.Route(netip.Addr{}, addr("10.0.0.2"))
	if err != nil {
		t.Fatal(err)
	}
	ifc.AddNeighbour(addr("10.0.0.2"), peerMAC)
	full.room = 2
	var bufs []*pkt.Buf
	for range 4 {
		b := r.Alloc()
		wire.PutUDP(b.Append(wire.UDPLen+4), 1, 2, wire.UDPLen+4, 0)
		bufs = append(bufs, b)
	}
	before := append([]byte(nil), bufs[2].Bytes()...)
	if n := r.Send(wire.ProtoUDP, 6, bufs); n != 2 {
		t.Fatalf("%d taken, want 2", n)
	}
	for _, b := range bufs[2:] {
		if string(b.Bytes()) != string(before) || b.Flags != 0 || b.CsumStart != 0 {
			t.Errorf("given back changed: % x flags %d", b.Bytes(), b.Flags)
		}
	}
	full.room = 2
	if n := r.Send(wire.ProtoUDP, 6, bufs[2:]); n != 2 || l.pool.InUse() != 0 {
		t.Errorf("%d taken, %d out", n, l.pool.InUse())
	}
	if b := r.Alloc(); r.SendOne(wire.ProtoUDP, -1, b) {
		t.Error("SendOne into a full ring")
	}
}

type fullLink struct {
	*benchLink
	room int
}

func (l *fullLink) TxBatch(q int, fs []*pkt.Buf) int {
	n := l.benchLink.TxBatch(q, fs[:min(l.room, len(fs))])
	l.room -= n
	return n
}

func TestAddLinkErrors(t *testing.T) {
	h := quiet(t, pkt.Caps{})
	_, l := newBench(t, false, nil)
	for what, f := range map[string]func() error{
		"same name":   func() error { _, err := h.stack.AddLink(h.net.Links[0], IfConfig{}); return err },
		"MTU":         func() error { _, err := h.stack.AddLink(l, IfConfig{MTU: 9000}); return err },
		"no queues":   func() error { c := *l; c.caps.RxQueues = 0; _, err := h.stack.AddLink(&c, IfConfig{}); return err },
		"bad address": func() error { return h.ifc.AddAddr(pfx("224.0.0.1/24")) },
		"link with a bad address": func() error {
			_, err := h.stack.AddLink(l, IfConfig{Addrs: []netip.Prefix{pfx("0.0.0.0/8")}})
			return err
		},
		"bad gateway": func() error { _, err := h.stack.AddLink(l, IfConfig{Gateway: addr("fd00::1")}); return err },
		"no prefix":   func() error { return h.ifc.AddAddr(netip.Prefix{}) },
		"handler on another's address": func() error {
			_, err := h.stack.HandleUDP(ap("10.9.9.9:7"), nil)
			return err
		},
		"handler on a port in use": func() error {
			if _, err := h.stack.HandleUDP(ap("10.0.0.1:70"), nil); err != nil {
				return nil
			}
			_, err := h.stack.HandleUDP(ap("10.0.0.1:70"), nil)
			return err
		},
	} {
		if f() == nil {
			t.Errorf("%s: accepted", what)
		}
	}
	if h.ifc.RemoveAddr(addr("10.9.9.9")) {
		t.Error("removed an address that is not there")
	}
	if !h.ifc.RemoveAddr(addr("10.0.0.1")) || h.stack.IsLocal(addr("10.0.0.1")) {
		t.Error("RemoveAddr")
	}
	if _, err := h.stack.Route(netip.Addr{}, addr("10.0.0.2")); err == nil {
		t.Error("route without an address")
	}
	h.stack.Close()
	if _, err := h.stack.AddLink(l, IfConfig{}); !errors.Is(err, ErrClosed) {
		t.Errorf("AddLink after Close: %v", err)
	}
}

func TestRoutes(t *testing.T) {
	h := newHost(t, pkt.Caps{}, IfConfig{NoIPv6: true, MTU: 1400, Gateway: addr("10.0.0.254"), Addrs: []netip.Prefix{pfx("10.0.0.1/24"), pfx("10.5.0.1/32")}})
	via := func(dst string) string {
		r, err := h.stack.Route(netip.Addr{}, addr(dst))
		if err != nil {
			return err.Error()
		}
		st := r.current()
		next := "fixed " + wire.MACOf(st.mac).String()
		if st.entry != nil {
			next = st.entry.Addr().String()
		}
		return st.ifc.name + " " + r.Local().String() + " " + next
	}
	for dst, want := range map[string]string{
		"10.0.0.9":        "sim0 10.0.0.1 10.0.0.9",
		"8.8.8.8":         "sim0 10.0.0.1 10.0.0.254",
		"127.0.0.5":       "lo 127.0.0.5 fixed 00:00:00:00:00:00",
		"10.0.0.1":        "lo 10.0.0.1 fixed 00:00:00:00:00:00",
		"10.0.0.255":      "sim0 10.0.0.1 fixed ff:ff:ff:ff:ff:ff",
		"255.255.255.255": "sim0 10.0.0.1 fixed ff:ff:ff:ff:ff:ff",
		"224.0.0.251":     "sim0 10.0.0.1 fixed 01:00:5e:00:00:fb",
		"::ffff:8.8.8.8":  "sim0 10.0.0.1 10.0.0.254",
	} {
		if got := via(dst); got != want {
			t.Errorf("%s: %s, want %s", dst, got, want)
		}
	}
	for dst, want := range map[string]string{"0.0.0.0": "no route", "fd00::1": "no route", "fe80::1%eth9": "no such interface", "fe80::1": "no address"} {
		if got := via(dst); !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", dst, got, want)
		}
	}
	if _, err := h.stack.Route(addr("fd00::1"), addr("8.8.8.8")); !errors.Is(err, ErrNoSource) {
		t.Errorf("IPv6 to IPv4: %v", err)
	}
	if h.stack.Loopback().Name() != "lo" || !h.stack.Loopback().IsLoopback() || h.ifc.Stack() != h.stack || h.ifc.Link() != pkt.Link(h.net.Links[0]) || h.stack.Interface("nope") != nil || h.stack.Clock() != h.clk || h.stack.Random() == 0 {
		t.Error("accessors")
	}
	// A route kept for long follows changes.
	r, err := h.stack.Route(netip.Addr{}, addr("8.8.8.8"))
	if err != nil || r.MTU() != 1400 {
		t.Fatal(err)
	}
	if err := h.stack.AddRoute(route.Route[*Interface]{Prefix: pfx("8.8.8.0/24"), Gateway: addr("10.0.0.7"), Iface: h.ifc}); err != nil {
		t.Fatal(err)
	}
	if got := r.current().entry.Addr(); got != addr("10.0.0.7") {
		t.Errorf("by way of %v", got)
	}
	if n := h.stack.RemoveRoutes(func(row route.Route[*Interface]) bool { return !row.Iface.loopback }); n == 0 || len(h.stack.Routes()) == 0 {
		t.Errorf("%d removed, %d left", n, len(h.stack.Routes()))
	}
	if r.Err() == nil || r.Interface() != nil || r.Alloc() != nil || r.Caps().MTU != 0 || r.Send(wire.ProtoUDP, -1, nil) != 0 {
		t.Error("a route that is gone")
	}
	if err := h.ifc.SetGateway(addr("192.168.7.1")); err != nil { // a cloud's /32: made reachable
		t.Fatal(err)
	}
	if got := via("9.9.9.9"); got != "sim0 10.0.0.1 192.168.7.1" {
		t.Error(got)
	}
}

// A handler may keep the frame, reply more than once, or not at all.
func TestHandlerContext(t *testing.T) {
	h := quiet(t, pkt.Caps{TxCsum: true, RxCsum: true})
	var kept *pkt.Buf
	var ends int
	mode := 0
	h.stack.HandleUDP(ap("10.0.0.1:7"), func(c *RxContext, b *pkt.Buf, p []byte) {
		if c.MaxReply() != 1472 || c.Now() != h.clk.Now() || len(c.Room()) != 1472 {
			t.Errorf("MaxReply %d, Room %d", c.MaxReply(), len(c.Room()))
		}
		switch mode {
		case 0:
			if c.ReplyInPlace(b, 1473) {
				t.Error("reply beyond the MTU")
			}
			kept = c.Take()
			if o := c.Alloc(); c.Reply(o) {
				t.Error("Reply after Take")
			}
		case 1:
			for i := range 3 {
				o := c.Alloc()
				copy(o.Append(1000+i), p)
				if !c.Reply(o) {
					t.Error("Reply")
				}
			}
			o := c.Alloc()
			o.Append(1473)
			if c.Reply(o) {
				t.Error("Reply beyond the MTU")
			}
			c.AtEnd(endFunc(&ends))
			c.AtEnd(endFunc(&ends))
		}
	})
	req := h.toUs(udp4(ap("10.0.0.2:999"), ap("10.0.0.1:7"), []byte("question")))
	if fs := h.ask(req); len(fs) != 0 || kept == nil {
		t.Errorf("%d replies", len(fs))
	}
	if !ChecksumOK(kept) {
		t.Error("checksum of the frame that was kept")
	}
	kept.Bytes()[45]++
	if ChecksumOK(kept) {
		t.Error("damage not seen")
	}
	kept.Put()
	mode = 1
	fs := h.ask(req)
	if len(fs) != 3 || ends != 1 {
		t.Fatalf("%d replies, %d ends", len(fs), ends)
	}
	for i, f := range fs {
		u, ok := wire.ParseUDP(h.checkIP(f, wire.ProtoUDP).Payload())
		if !ok || len(u.Payload()) != 1000+i {
			t.Errorf("reply %d has %d bytes", i, len(u.Payload()))
		}
	}
	mode = 2
	if fs := h.ask(req); len(fs) != 0 {
		t.Error("reply out of nothing")
	}
}

// Answers that many flows send by themselves at the end of a batch share a
// doorbell; what the ring does not take then waits for the next pass.
func TestPlug(t *testing.T) {
	s, l := newBench(t, true, handlerFrame())
	full := &fullLink{benchLink: l, room: 1 << 20}
	ifc := s.Interfaces()[0]
	ifc.link = full
	ifc.AddNeighbour(addr("10.0.0.2"), peerMAC)
	r, err := s.Route(netip.Addr{}, addr("10.0.0.2"))
	if err != nil {
		t.Fatal(err)
	}
	sent := 0
	end := &flowEnd{func() {
		for range 3 {
			b := r.Alloc()
			wire.PutUDP(b.Append(wire.UDPLen), 1, 2, wire.UDPLen, 0)
			if r.SendOne(wire.ProtoUDP, 6, b) {
				sent++
			}
		}
	}}
	other := &flowEnd{end.f}
	s.HandleUDP(ap("10.0.0.1:11211"), func(c *RxContext, b *pkt.Buf, p []byte) {
		c.AtEnd(end)
		c.AtEnd(end)
		c.AtEnd(other)
		c.ReplyInPlace(b, 1)
	})
	loop := ifc.loops[0]
	l.credit, l.bells, l.replies = 1, 0, 0
	loop.pass()
	if l.bells != 1 || l.replies != 7 || sent != 6 {
		t.Errorf("%d frames with %d doorbells, %d sent, want 7, 1, 6", l.replies, l.bells, sent)
	}
	end.f()
	if l.replies != 10 {
		t.Errorf("%d frames: held back without a batch", l.replies)
	}
	l.credit, full.room = 1, 2
	loop.pass()
	full.room = 100
	loop.pass()
	if l.replies != 17 || l.pool.InUse() != 0 {
		t.Errorf("%d frames, %d buffers out", l.replies, l.pool.InUse())
	}
}

type flowEnd struct{ f func() }

func (e *flowEnd) EndBatch(*RxContext) { e.f() }

type ender struct{ n *int }

func (e ender) EndBatch(*RxContext) { *e.n++ }
func endFunc(n *int) Ender          { return ender{n} }

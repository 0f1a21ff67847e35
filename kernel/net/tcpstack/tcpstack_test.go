package tcpstack

import (
	"errors"
	"net/netip"
	"syscall"
	"testing"

	"osv/kernel/hw/dma"
	kclock "osv/kernel/ktest/clock"
	"osv/kernel/ktest/simnet"
	"osv/kernel/net/stack"
	"osv/kernel/net/tcp"
	"osv/kernel/net/wire"
	"osv/kernel/pkt"
)

var ap = netip.MustParseAddrPort

// record is an Endpoint and an Inline that writes down what it is given.
type record struct {
	t      *testing.T
	segs   []uint32 // sequence numbers
	tuples []tcp.Tuple
	flush  int
	icmp   []tcp.ICMPError
}

func (r *record) take(b *pkt.Buf) {
	if int(b.L4) >= b.Len() || !stack.ChecksumOK(b) {
		r.t.Errorf("segment with L4 %d of %d bytes, checksum ok %v", b.L4, b.Len(), stack.ChecksumOK(b))
	}
	h, ok := wire.ParseTCP(b.Bytes()[b.L4:])
	if !ok {
		r.t.Error("not a TCP segment")
	}
	r.segs = append(r.segs, h.Seq())
	b.Put()
}

func (r *record) Segment(t *tcp.Tuple, b *pkt.Buf)   { r.tuples = append(r.tuples, *t); r.take(b) }
func (r *record) ICMP(_ *tcp.Tuple, e tcp.ICMPError) { r.icmp = append(r.icmp, e) }
func (r *record) Deliver(b *pkt.Buf)                 { r.take(b) }
func (r *record) Flush(int64)                        { r.flush++ }

type world struct {
	t    *testing.T
	s    [2]*stack.Stack
	tcp  [2]*Stack
	path tcp.Path
}

func newWorld(t *testing.T, caps pkt.Caps) *world {
	n, err := simnet.New(simnet.Config{Caps: caps, Bufs: 2048, Ring: 2048})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t}
	var mem dma.Host
	for i, l := range n.Links {
		s, err := stack.New(stack.Config{Manual: true, Clock: &kclock.Fake{}, Mem: &mem})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.AddLink(l, stack.IfConfig{NoIPv6: true, Addrs: []netip.Prefix{netip.MustParsePrefix([]string{"10.0.0.1/24", "10.0.0.2/24"}[i])}}); err != nil {
			t.Fatal(err)
		}
		w.s[i], w.tcp[i] = s, New(s)
	}
	t.Cleanup(func() {
		w.poll()
		for _, s := range w.s {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *world) poll() {
	for w.s[0].Poll()+w.s[1].Poll() > 0 {
	}
}

// send sends segments from host 0 to host 1, numbered from seq.
func (w *world) send(t *tcp.Tuple, seq uint32, n int) {
	w.t.Helper()
	_, p, err := w.tcp[0].Route(t.Local.Addr(), t.Remote.Addr())
	if err != nil {
		w.t.Fatal(err)
	}
	w.path = p
	var segs []*pkt.Buf
	for i := range n {
		b := w.tcp[0].TxBuf(&p)
		h := wire.TCP(b.Append(24))
		copy(h[20:], "data")
		f := wire.TCPFields{SrcPort: t.Local.Port(), DstPort: t.Remote.Port(), Seq: seq + uint32(i), Flags: wire.TCPAck}
		h.Put(&f, 20)
		segs = append(segs, b)
	}
	if k := w.tcp[0].Output(t, &p, segs); k != n {
		w.t.Fatalf("Output took %d of %d", k, n)
	}
	w.poll()
}

func want(t *testing.T, what string, got []uint32, first uint32, n int) {
	t.Helper()
	if len(got) != n {
		t.Fatalf("%s: %d segments, want %d", what, len(got), n)
	}
	for i, s := range got {
		if s != first+uint32(i) {
			t.Fatalf("%s: segment %d has number %d, want %d", what, i, s, first+uint32(i))
		}
	}
}

func TestDelivery(t *testing.T) {
	w := newWorld(t, pkt.Caps{TxCsum: true, RxCsum: true, TSO4: true, GSOMax: 65000, TxScatter: 3})
	out := tcp.Tuple{Local: ap("10.0.0.1:1000"), Remote: ap("10.0.0.2:80")}
	in := tcp.Tuple{Local: out.Remote, Remote: out.Local}
	host := w.tcp[1]

	// Nobody there.
	w.send(&out, 1, 1)
	if w.path.GSOMax != 65000 || w.path.Pieces != 3 || w.path.MTU != 1500 {
		t.Errorf("path %+v", w.path)
	}
	none := &record{t: t}
	host.SetNoFlow(none)
	w.send(&out, 2, 1)
	want(t, "no flow", none.segs, 2, 1)
	if none.tuples[0] != in {
		t.Errorf("tuple %v, want %v", none.tuples[0], in)
	}

	// A listener.
	lis := &record{t: t}
	if err := host.Listen(ap("0.0.0.0:80"), true, lis); err != nil {
		t.Fatal(err)
	}
	if err := host.Listen(ap("0.0.0.0:80"), true, lis); err == nil {
		t.Error("second listener on the port")
	}
	if err := host.Listen(ap("10.9.9.9:80"), false, lis); err == nil {
		t.Error("listener on another's address")
	}
	w.send(&out, 3, 2)
	want(t, "listener", lis.segs, 3, 2)

	// A flow with a channel; what does not fit goes to Slow.
	slow := &record{t: t}
	wakes := 0
	ch := host.NewChannel(func() { wakes++ })
	if err := host.InsertFlow(&in, tcp.Flow{Chan: ch, Slow: slow}); err != nil {
		t.Fatal(err)
	}
	if err := host.InsertFlow(&in, tcp.Flow{Slow: slow}); err == nil {
		t.Error("two receivers of one tuple")
	}
	w.send(&out, 10, 20)
	if wakes == 0 || wakes > 2 {
		t.Errorf("%d wakes for 20 segments", wakes)
	}
	var bufs [64]*pkt.Buf
	var got []uint32
	pop := func() {
		for {
			n := ch.Pop(bufs[:])
			if n == 0 {
				return
			}
			for _, b := range bufs[:n] {
				got = append(got, wire.TCP(b.Bytes()[b.L4:]).Seq())
				b.Put()
			}
		}
	}
	pop()
	want(t, "channel", got, 10, 20)

	// In-order fallback.
	w.send(&out, 1000, channelSize)
	w.send(&out, 1000+channelSize, 10)
	got = nil
	pop()
	want(t, "channel when full", got, 1000, channelSize)
	want(t, "fallback", slow.segs, 1000+channelSize, 10)

	// Run to completion.
	inl := &record{t: t}
	host.ReplaceFlow(&in, tcp.Flow{Inline: inl, Slow: slow})
	w.send(&out, 2000, 8)
	want(t, "inline", inl.segs, 2000, 8)
	if inl.flush != 1 {
		t.Errorf("%d flushes for one batch", inl.flush)
	}
	ch.Close()
	host.RemoveFlow(&in)
	host.RemoveFlow(&in)
	host.ReplaceFlow(&in, tcp.Flow{Slow: slow})
	lis.segs = nil
	w.send(&out, 3000, 1)
	want(t, "listener again", lis.segs, 3000, 1)
	host.Unlisten(ap("0.0.0.0:80"), lis)
	host.Unlisten(ap("0.0.0.0:80"), lis)
	none.segs = nil
	w.send(&out, 4000, 1)
	want(t, "no flow again", none.segs, 4000, 1)
	if host.FreePort() < 49152 || host.Clock() == nil {
		t.Error("FreePort, Clock")
	}
	for _, bad := range []string{"8.8.8.8", "224.0.0.1"} {
		if _, _, err := host.Route(netip.Addr{}, netip.MustParseAddr(bad)); err == nil {
			t.Errorf("route to %s", bad)
		}
	}
}

// Host 1 sends ICMP about a segment; the flow on host 0 hears of it.
func TestICMP(t *testing.T) {
	for _, c := range []struct {
		in   stack.ICMPError
		want tcp.ICMPError
	}{
		{stack.ICMPError{Kind: stack.HardError, Err: syscall.ECONNREFUSED}, tcp.ICMPError{Kind: tcp.ICMPHard, Err: syscall.ECONNREFUSED}},
		{stack.ICMPError{Kind: stack.TooBig, MTU: 1400, Err: syscall.EMSGSIZE}, tcp.ICMPError{Kind: tcp.ICMPTooBig, MTU: 1400, Err: syscall.EMSGSIZE}},
		{stack.ICMPError{Err: syscall.EHOSTUNREACH}, tcp.ICMPError{Err: syscall.EHOSTUNREACH}},
	} {
		r := &record{t: t}
		fl := newFlow(&tcp.Tuple{}, tcp.Flow{Slow: r})
		c.in.Transport = []byte{0, 1, 0, 2, 0, 0, 1, 2}
		fl.sink.OnError(&c.in)
		c.want.Seq = 0x102
		if len(r.icmp) != 1 || r.icmp[0].Kind != c.want.Kind || r.icmp[0].MTU != c.want.MTU || r.icmp[0].Seq != c.want.Seq || !errors.Is(r.icmp[0].Err, c.want.Err) {
			t.Errorf("%+v, want %+v", r.icmp, c.want)
		}
		c.in.Transport = c.in.Transport[:7]
		fl.sink.OnError(&c.in)
		if len(r.icmp) != 1 {
			t.Error("quote without a sequence number passed on")
		}
	}
	(&Stack{}).ICMP(nil, nil)
}

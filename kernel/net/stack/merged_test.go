package stack

import (
	"bytes"
	"net/netip"
	"testing"

	"osv/kernel/net/demux"
	"osv/kernel/net/netchan"
	"osv/kernel/net/wire"
	"osv/kernel/pkt"
)

// chain makes a packet of f in pieces of at most n bytes, as a device hands up
// merged segments.
func chain(t *testing.T, p *pkt.Pool, f []byte, n int) *pkt.Buf {
	t.Helper()
	var head, last *pkt.Buf
	for len(f) > 0 {
		b := p.Get()
		if b == nil {
			t.Fatal("no buffer")
		}
		k := min(n, len(f))
		copy(b.Append(k), f)
		f = f[k:]
		if head == nil {
			head = b
		} else {
			last.Next = b
		}
		last = b
	}
	return head
}

// Frames of up to 64 KiB with merged segments go the fast way to the flow they
// belong to, of either family, by channel and by handler, whole and with what the
// device said of them. In the slow path they are the transport's in the same way.
func TestMergedSegmentsReachTheirFlow(t *testing.T) {
	h := newHost(t, pkt.Caps{TxCsum: true, RxCsum: true, LRO: true}, IfConfig{Addrs: []netip.Prefix{pfx("10.0.0.1/24"), pfx("fd00::1/64")}})
	h.frames()
	pool, err := pkt.NewPool(&h.mem, 64, 2048)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close(&h.mem)
	us := h.ifc.MAC()
	tcp := func(n int) []byte {
		b := make([]byte, wire.TCPMinHeader+n)
		wire.TCP(b).Put(&wire.TCPFields{SrcPort: 4000, DstPort: 5001, Seq: 1, Ack: 1, Flags: wire.TCPAck}, wire.TCPMinHeader)
		for i := range n {
			b[wire.TCPMinHeader+i] = byte(i * 7)
		}
		return b
	}
	body := tcp(65535 - wire.IPv4MinLen - wire.TCPMinHeader)
	v6 := make([]byte, wire.IPv6Len)
	wire.PutIPv6(v6, 0, 0, len(body), wire.ProtoTCP, 64, addr("fd00::2"), addr("fd00::1"))
	for _, c := range []struct {
		name   string
		packet []byte
		t      wire.EtherType
		tuple  demux.Tuple
		gso    pkt.GSO
	}{
		{"IPv4", ip4(wire.IPv4Fields{Proto: wire.ProtoTCP, Src: 0x0a000002, Dst: 0x0a000001}, body), wire.EtherIPv4,
			demux.Tuple{Proto: wire.ProtoTCP, Local: ap("10.0.0.1:5001"), Remote: ap("10.0.0.2:4000")}, pkt.GSOTCPv4},
		{"IPv6", append(v6, body...), wire.EtherIPv6,
			demux.Tuple{Proto: wire.ProtoTCP, Local: ap("[fd00::1]:5001"), Remote: ap("[fd00::2]:4000")}, pkt.GSOTCPv6},
	} {
		frame := eth(us, peerMAC, c.t, c.packet)
		deliver := func(trailing int) {
			b := chain(t, pool, append(append([]byte(nil), frame...), make([]byte, trailing)...), 1900)
			b.Flags, b.GSO, b.GSOSize = pkt.CsumPartial, c.gso, 1448
			h.ifc.loops[0].inject.Push1(b)
			h.stack.Poll()
		}
		check := func(how string, b *pkt.Buf) {
			t.Helper()
			if b == nil {
				t.Fatalf("%s, %s: nothing", c.name, how)
			}
			var got []byte
			for p := b; p != nil; p = p.Next {
				got = append(got, p.Bytes()...)
			}
			if !bytes.Equal(got, frame) || b.GSO != c.gso || b.GSOSize != 1448 || int(b.L4)-int(b.L3) != len(c.packet)-len(body) || !ChecksumOK(b) {
				t.Errorf("%s, %s: %d bytes, GSO %d of %d, headers at %d and %d", c.name, how, len(got), b.GSO, b.GSOSize, b.L3, b.L4)
			}
			b.Put()
		}
		before := h.ifc.Counters()

		var seen *pkt.Buf
		k := &Sink{Segment: func(_ *RxContext, b *pkt.Buf) { seen = b }}
		if err := h.stack.Insert(c.tuple, k); err != nil {
			t.Fatal(err)
		}
		deliver(0)
		check("handler", seen)
		deliver(6) // of the link
		check("handler, padded", seen)
		h.stack.Remove(c.tuple, k)

		k = &Sink{Chan: netchan.New(4)}
		if err := h.stack.Insert(c.tuple, k); err != nil {
			t.Fatal(err)
		}
		deliver(0)
		var one [1]*pkt.Buf
		k.Chan.Pop(one[:])
		check("channel", one[0])
		if now := h.ifc.Counters(); now.Fast-before.Fast != 3 || now.Slow != before.Slow {
			t.Errorf("%s: %d fast, %d slow", c.name, now.Fast-before.Fast, now.Slow-before.Slow)
		}
		k.Chan.Close()
		h.stack.Remove(c.tuple, k)

		var slow mergedTransport
		h.stack.Register(wire.ProtoTCP, &slow)
		deliver(0)
		check("slow path", slow.b)

		// A length beyond the frame is a lie of the sender's, not the device's.
		frame = frame[:len(frame)-1]
		bad := h.ifc.Counters().Reasons["bad-ip"]
		deliver(0)
		if n := h.ifc.Counters().Reasons["bad-ip"] - bad; n != 1 || pool.InUse() != 0 {
			t.Errorf("%s: %d dropped for their length, %d buffers out", c.name, n, pool.InUse())
		}
	}
}

type mergedTransport struct{ b *pkt.Buf }

func (m *mergedTransport) Segment(_ *Interface, b *pktBuf, _ *demux.Meta, _ *Sink) { m.b = b }
func (m *mergedTransport) ICMP(*ICMPError, *Sink)                                  {}

// A handler of datagrams takes one buffer: a chain is copied into one by the slow
// path, and dropped with a reason where none is large enough.
func TestChainedDatagram(t *testing.T) {
	h := quiet(t, pkt.Caps{TxCsum: true, RxCsum: true})
	pool, err := pkt.NewPool(&h.mem, 64, 2048)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close(&h.mem)
	var got []int
	h.stack.HandleUDP(ap("10.0.0.1:7"), func(_ *RxContext, _ *pkt.Buf, p []byte) { got = append(got, len(p)) })
	for _, n := range []int{1200, 60000} {
		f := eth(h.ifc.MAC(), peerMAC, wire.EtherIPv4, udp4(ap("10.0.0.2:999"), ap("10.0.0.1:7"), make([]byte, n)))
		b := chain(t, pool, f, 1000)
		if n > 2000 {
			b.Put()
			b = chain(t, pool, f, 1900)
		}
		b.Flags = pkt.CsumValid
		h.ifc.loops[0].inject.Push1(b)
		h.stack.Poll()
	}
	if len(got) != 1 || got[0] != 1200 || h.ifc.Counters().Reasons["no-buf"] != 1 || pool.InUse() != 0 {
		t.Errorf("handler saw %v, %v, %d buffers out", got, h.ifc.Counters().Reasons, pool.InUse())
	}
}

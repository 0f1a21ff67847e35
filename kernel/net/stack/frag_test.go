package stack

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"osv/kernel/net/wire"
	"osv/kernel/pkt"
)

// fragments cuts an IPv4 packet.
func fragments(p []byte, size int) [][]byte {
	var out [][]byte
	body := p[20:]
	for off := 0; off < len(body); off += size {
		n := min(size, len(body)-off)
		h := wire.IPv4(p)
		out = append(out, ip4(wire.IPv4Fields{ID: 77, Proto: h.Proto(), Src: h.SrcU32(), Dst: h.DstU32(), FragOffset: off, MF: off+n < len(body)}, body[off:off+n]))
	}
	return out
}

// A large ping comes back in fragments, whatever order its own came in.
func TestFragmentedPing(t *testing.T) {
	h := quiet(t, pkt.Caps{})
	data := make([]byte, 4000)
	for i := range data {
		data[i] = byte(i * 3)
	}
	req := ip4(wire.IPv4Fields{Proto: wire.ProtoICMP, Src: 0x0a000002, Dst: 0x0a000001}, icmp4(wire.ICMPEcho, 0, 1, data))
	var fs [][]byte
	for _, i := range []int{2, 0, 1} {
		fs = append(fs, h.ask(h.toUs(fragments(req, 1480)[i]))...)
	}
	if len(fs) != 3 {
		t.Fatalf("%d fragments, want 3", len(fs))
	}
	got := make([]byte, 8+len(data))
	id := wire.IPv4(fs[0][14:]).ID()
	for i, f := range fs {
		p := h.checkIP(f, wire.ProtoICMP)
		if p.ID() != id || p.MF() != (i < 2) || p.DF() {
			t.Errorf("fragment %d: id %d MF %v DF %v", i, p.ID(), p.MF(), p.DF())
		}
		copy(got[p.FragOffset():], p.Payload())
	}
	if m := wire.ICMP(got); !m.ChecksumOK() || m.Type() != wire.ICMPEchoReply || !bytes.Equal(m.Body(), data) {
		t.Error("reply is not the request")
	}
}

// A datagram in fragments, or with options, reaches the handler in one piece.
func TestHandlerGetsFragmentsAndOptions(t *testing.T) {
	h := quiet(t, pkt.Caps{})
	var got []byte
	h.stack.HandleUDP(ap("10.0.0.1:7"), func(c *RxContext, b *pkt.Buf, p []byte) {
		got = append([]byte(nil), p...)
		if c.Source() != ap("10.0.0.2:999") {
			t.Errorf("from %v", c.Source())
		}
		c.ReplyInPlace(b, copy(c.Room(), "ok"))
	})
	data := bytes.Repeat([]byte("0123456789"), 140)
	whole := udp4(ap("10.0.0.2:999"), ap("10.0.0.1:7"), data)
	var fs [][]byte
	for _, f := range fragments(whole, 800) {
		fs = append(fs, h.ask(h.toUs(f))...)
	}
	u, ok := wire.ParseUDP(h.checkIP(h.one(fs), wire.ProtoUDP).Payload())
	if !ok || string(u.Payload()) != "ok" || !bytes.Equal(got, data) {
		t.Errorf("handler got %d bytes, reply % x", len(got), u)
	}
	got = nil
	h.one(h.ask(h.toUs(withOptions(udp4(ap("10.0.0.2:999"), ap("10.0.0.1:7"), []byte("x")), 1, 1, 1, 0))))
	if string(got) != "x" {
		t.Errorf("with options: %q", got)
	}
	// Damage in one fragment is found by the checksum.
	got = nil
	parts := fragments(whole, 800)
	parts[1][100] ^= 1
	for _, f := range parts {
		h.ask(h.toUs(f))
	}
	if got != nil || h.ifc.Counters().Reasons["bad-sum"] != 1 {
		t.Errorf("%d bytes, %+v", len(got), h.ifc.Counters())
	}
	// More than one buffer holds: dropped, counted.
	for _, f := range fragments(udp4(ap("10.0.0.2:999"), ap("10.0.0.1:7"), make([]byte, 5000)), 1480) {
		h.ask(h.toUs(f))
	}
	if got != nil {
		t.Error("handler got more than a buffer holds")
	}
}

// RFC 792: time exceeded in reassembly, to the sender of the first fragment.
func TestReassemblyTimeout(t *testing.T) {
	h := quiet(t, pkt.Caps{})
	parts := fragments(udp4(ap("10.0.0.2:999"), ap("10.0.0.1:7"), make([]byte, 2000)), 1480)
	h.ask(h.toUs(parts[0]))
	h.clk.Advance(32 * time.Second)
	h.icmpReply(h.frames(), wire.ICMPTimeExceeded, wire.ICMPReassemblyExceeded, parts[0])
	h.ask(h.toUs(parts[1])) // alone: nobody is told
	h.clk.Advance(32 * time.Second)
	if fs := h.frames(); len(fs) != 0 {
		t.Errorf("% x", fs)
	}
}

// A packet in more pieces than the link takes is copied into one.
func TestScatterIsCopied(t *testing.T) {
	h := quiet(t, pkt.Caps{TxCsum: true})
	r, err := h.stack.Route(netip.Addr{}, addr("10.0.0.2"))
	if err != nil {
		t.Fatal(err)
	}
	a, b := r.Alloc(), r.Alloc()
	wire.PutUDP(a.Append(wire.UDPLen+3), 1, 2, wire.UDPLen+7, 0)
	copy(a.Bytes()[8:], "abc")
	copy(b.Append(4), "defg")
	a.Next = b
	if !r.SendOne(wire.ProtoUDP, 6, a) {
		t.Fatal("not taken")
	}
	p := h.checkIP(h.one(h.frames()), wire.ProtoUDP)
	if u, ok := wire.ParseUDP(p.Payload()); !ok || string(u.Payload()) != "abcdefg" || p.MF() || !p.DF() ||
		wire.Fold(wire.Sum(wire.PseudoSum4(p.SrcU32(), p.DstU32(), 17, len(u)), u)) != 0xffff {
		t.Errorf("% x", p)
	}
}

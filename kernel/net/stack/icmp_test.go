package stack

import (
	"bytes"
	"errors"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"osv/kernel/net/demux"
	"osv/kernel/net/wire"
	"osv/kernel/pkt"
)

// quiet is a host that has made its announcements and knows its peer.
func quiet(t testing.TB, caps pkt.Caps) *host {
	h := newHost(t, caps, IfConfig{NoIPv6: true})
	h.peerKnown()
	h.frames()
	h.clk.Advance(time.Minute)
	h.frames()
	return h
}

func (h *host) toUs(packet []byte) []byte {
	return eth(h.ifc.MAC(), peerMAC, wire.EtherIPv4, packet)
}

// icmpReply checks that fs is one ICMP error of the given kind that quotes packet.
func (h *host) icmpReply(fs [][]byte, typ wire.ICMPType, code uint8, packet []byte) {
	h.t.Helper()
	ip := h.checkIP(h.one(fs), wire.ProtoICMP)
	m := wire.ICMP(ip.Payload())
	if m.Type() != typ || m.Code() != code || !m.ChecksumOK() || ip.Dst() != addr("10.0.0.2") || ip.Src() != addr("10.0.0.1") {
		h.t.Errorf("type %d code %d from %v to %v, want %d %d", m.Type(), m.Code(), ip.Src(), ip.Dst(), typ, code)
	}
	if want := packet[:min(len(packet), 548)]; !bytes.Equal(m.Body(), want) {
		h.t.Errorf("quotes % x, want % x", m.Body(), want)
	}
}

// RFC 1122 §4.1.3.1 and §3.2.2.1: port and protocol unreachable.
func TestUnreachables(t *testing.T) {
	h := quiet(t, pkt.Caps{})
	u := udp4(ap("10.0.0.2:999"), ap("10.0.0.1:9"), make([]byte, 1000))
	h.icmpReply(h.ask(h.toUs(u)), wire.ICMPUnreachable, wire.ICMPPortUnreachable, u)
	p := ip4(wire.IPv4Fields{Proto: 99, Src: 0x0a000002, Dst: 0x0a000001}, []byte("what?"))
	h.icmpReply(h.ask(h.toUs(p)), wire.ICMPUnreachable, wire.ICMPProtoUnreachable, p)
}

// RFC 1122 §3.2.2: what an ICMP error is never sent about.
func TestNoICMPErrorAbout(t *testing.T) {
	h := quiet(t, pkt.Caps{})
	up := func(src, dst string) []byte { return udp4(ap(src), ap(dst), []byte("x")) }
	frag := udp4(ap("10.0.0.2:9"), ap("10.0.0.1:9"), make([]byte, 24))
	f2 := ip4(wire.IPv4Fields{Proto: 99, Src: 0x0a000002, Dst: 0x0a000001, FragOffset: 8}, frag[28:])
	icmpErr := ip4(wire.IPv4Fields{Proto: wire.ProtoICMP, Src: 0x0a000002, Dst: 0x0a000001}, icmp4(wire.ICMPUnreachable, 3, 0, up("10.0.0.1:1", "10.0.0.2:2")))
	for what, f := range map[string][]byte{
		"broadcast":              eth(wire.BroadcastMAC, peerMAC, wire.EtherIPv4, up("10.0.0.2:999", "10.0.0.255:9")),
		"limited broadcast":      eth(wire.BroadcastMAC, peerMAC, wire.EtherIPv4, up("10.0.0.2:999", "255.255.255.255:9")),
		"multicast":              eth(wire.MAC{1, 0, 0x5e, 0, 0, 1}, peerMAC, wire.EtherIPv4, up("10.0.0.2:999", "224.0.0.1:9")),
		"unicast in a broadcast": eth(wire.BroadcastMAC, peerMAC, wire.EtherIPv4, up("10.0.0.2:999", "10.0.0.1:9")),
		"source broadcast":       h.toUs(up("10.0.0.255:999", "10.0.0.1:9")),
		"source multicast":       h.toUs(up("224.0.0.1:999", "10.0.0.1:9")),
		"fragment":               h.toUs(f2),
		"an ICMP error":          h.toUs(icmpErr),
		"another's packet":       h.toUs(up("10.0.0.2:999", "10.0.0.77:9")),
		"echo to broadcast":      eth(wire.BroadcastMAC, peerMAC, wire.EtherIPv4, ip4(wire.IPv4Fields{Proto: wire.ProtoICMP, Src: 0x0a000002, Dst: 0x0a0000ff}, icmp4(wire.ICMPEcho, 0, 1, nil))),
		"source route":           h.toUs(withOptions(up("10.0.0.2:999", "10.0.0.1:9"), 131, 7, 4, 1, 2, 3, 4, 0)),
		"bad options":            h.toUs(withOptions(up("10.0.0.2:999", "10.0.0.1:9"), 7, 9, 0, 0)),
		"TCP to multicast":       h.toUs(ip4(wire.IPv4Fields{Proto: wire.ProtoTCP, Src: 0x0a000002, Dst: 0xe0000001}, append(make([]byte, 12), 0x50, 2, 0, 0, 0, 0, 0, 0))),
		"loopback from outside":  h.toUs(up("127.0.0.1:999", "10.0.0.1:9")),
		"to loopback":            h.toUs(up("10.0.0.2:999", "127.0.0.1:9")),
		"bad ICMP checksum":      h.toUs(ip4(wire.IPv4Fields{Proto: wire.ProtoICMP, Src: 0x0a000002, Dst: 0x0a000001}, []byte{8, 0, 1, 1, 0, 0, 0, 0})),
		"short ICMP":             h.toUs(ip4(wire.IPv4Fields{Proto: wire.ProtoICMP, Src: 0x0a000002, Dst: 0x0a000001}, []byte{8, 0, 1})),
	} {
		if fs := h.ask(f); len(fs) != 0 {
			t.Errorf("%s: answered % x", what, fs)
		}
	}
	if c := h.ifc.Counters(); c.Slow == 0 || c.Reasons["bad-source"] != 4 {
		t.Errorf("counters %+v", c)
	}
}

func withOptions(p []byte, opts ...byte) []byte {
	b := append(append(append([]byte{}, p[:20]...), opts...), p[20:]...)
	b[0] = 4<<4 | byte(5+len(opts)/4)
	be.PutUint16(b[2:], uint16(len(b)))
	wire.IPv4(b).SetChecksum()
	return b
}

// RFC 1812 §4.3.2.8: errors are limited, echo replies are not.
func TestICMPErrorsAreLimited(t *testing.T) {
	h := quiet(t, pkt.Caps{})
	n := 0
	for range 200 {
		n += len(h.ask(h.toUs(udp4(ap("10.0.0.2:999"), ap("10.0.0.1:9"), nil))))
	}
	if n != 50 {
		t.Errorf("%d errors at once, want the burst of 50", n)
	}
	h.clk.Advance(10 * time.Millisecond)
	for range 200 {
		n += len(h.ask(h.toUs(udp4(ap("10.0.0.2:999"), ap("10.0.0.1:9"), nil))))
	}
	if n != 60 {
		t.Errorf("%d errors, want 10 more after 10 ms", n)
	}
}

// ICMP errors find the flow that they are about.
func TestICMPErrorReachesFlow(t *testing.T) {
	h := quiet(t, pkt.Caps{})
	var got []ICMPError
	k := &Sink{OnError: func(e *ICMPError) {
		if len(e.Transport) < 8 {
			t.Errorf("quote of %d bytes", len(e.Transport))
		}
		got = append(got, *e)
	}}
	tu := demux.Tuple{Proto: wire.ProtoUDP, Local: ap("10.0.0.1:1000"), Remote: ap("8.8.8.8:53")}
	if err := h.stack.Insert(tu, k); err != nil {
		t.Fatal(err)
	}
	mine := udp4(tu.Local, tu.Remote, []byte("question"))
	send := func(typ wire.ICMPType, code uint8, rest uint32, quote []byte) {
		h.ask(h.toUs(ip4(wire.IPv4Fields{Proto: wire.ProtoICMP, Src: 0x0a000002, Dst: 0x0a000001}, icmp4(typ, code, rest, quote))))
	}
	for _, c := range []struct {
		typ  wire.ICMPType
		code uint8
		kind ErrorKind
		err  error
	}{
		{wire.ICMPUnreachable, 0, SoftError, syscall.ENETUNREACH},
		{wire.ICMPUnreachable, 1, SoftError, syscall.EHOSTUNREACH},
		{wire.ICMPUnreachable, 2, HardError, syscall.ENOPROTOOPT},
		{wire.ICMPUnreachable, 3, HardError, syscall.ECONNREFUSED},
		{wire.ICMPUnreachable, 4, TooBig, syscall.EMSGSIZE},
		{wire.ICMPUnreachable, 13, HardError, errAdmin},
		{wire.ICMPTimeExceeded, 0, SoftError, syscall.EHOSTUNREACH},
		{wire.ICMPParamProblem, 0, SoftError, syscall.EPROTO},
	} {
		got = nil
		send(c.typ, c.code, 1400, mine[:28]) // as little as RFC 792 asks for
		if len(got) != 1 || got[0].Kind != c.kind || !errors.Is(got[0].Err, c.err) || got[0].Tuple != tu || got[0].From != addr("10.0.0.2") || c.kind == TooBig && got[0].MTU != 1400 {
			t.Errorf("type %d code %d: %+v", c.typ, c.code, got)
		}
	}
	got = nil
	other := udp4(ap("10.0.0.1:1001"), tu.Remote, nil)
	forged := udp4(ap("10.0.0.9:1000"), tu.Remote, nil)
	frag := append([]byte{}, mine...)
	frag[7] = 1
	for _, q := range [][]byte{other, forged, frag, mine[:27], mine[:10], append([]byte{0x65}, mine[1:]...), append([]byte{0x41}, mine[1:]...)} {
		send(wire.ICMPUnreachable, 3, 0, q)
	}
	if len(got) != 0 {
		t.Errorf("%+v", got)
	}
	h.stack.Remove(tu, k)
	send(wire.ICMPUnreachable, 3, 0, mine)
	if len(got) != 0 {
		t.Error("told after Remove")
	}
}

// rawProto is a Transport that writes down what it gets.
type rawProto struct {
	segs [][]byte
	errs []ICMPError
}

func (r *rawProto) Segment(_ *Interface, b *pkt.Buf, m *demux.Meta, _ *Sink) {
	r.segs = append(r.segs, append([]byte(nil), b.Bytes()[m.L4:]...))
	b.Put()
}
func (r *rawProto) ICMP(e *ICMPError, _ *Sink) { r.errs = append(r.errs, *e) }

func TestRegisteredProtocol(t *testing.T) {
	h := quiet(t, pkt.Caps{})
	var r, ic rawProto
	h.stack.Register(99, &r)
	h.stack.Register(wire.ProtoICMP, &ic)
	h.ask(h.toUs(ip4(wire.IPv4Fields{Proto: 99, Src: 0x0a000002, Dst: 0x0a000001}, []byte("hello"))))
	if len(r.segs) != 1 || string(r.segs[0]) != "hello" {
		t.Errorf("%q", r.segs)
	}
	q := ip4(wire.IPv4Fields{Proto: 99, Src: 0x0a000001, Dst: 0x0a000002}, make([]byte, 8))
	h.ask(h.toUs(ip4(wire.IPv4Fields{Proto: wire.ProtoICMP, Src: 0x0a000002, Dst: 0x0a000001}, icmp4(wire.ICMPUnreachable, 2, 0, q))))
	if len(r.errs) != 1 || r.errs[0].Kind != HardError || r.errs[0].Tuple.Local.Addr() != addr("10.0.0.1") {
		t.Errorf("%+v", r.errs)
	}
	h.ask(h.toUs(ip4(wire.IPv4Fields{Proto: wire.ProtoICMP, Src: 0x0a000002, Dst: 0x0a000001}, icmp4(wire.ICMPEchoReply, 0, 5, nil))))
	if len(ic.segs) != 1 {
		t.Error("echo reply not passed on")
	}
}

// RFC 1191: a smaller path MTU is believed, within bounds, and forgotten in time.
func TestPathMTU(t *testing.T) {
	h := quiet(t, pkt.Caps{})
	if err := h.ifc.SetGateway(addr("10.0.0.2")); err != nil {
		t.Fatal(err)
	}
	r, err := h.stack.Route(netip.Addr{}, addr("8.8.8.8"))
	if err != nil || r.MTU() != 1500 {
		t.Fatalf("%v %v", r, err)
	}
	for _, c := range []struct{ mtu, of, want int }{
		{1400, 1500, 1400}, {1450, 1500, 1400}, {100, 1500, 552}, {0, 1500, 552},
	} {
		if got := h.stack.UpdatePMTU(addr("8.8.8.8"), c.mtu, c.of); got != c.want || r.MTU() != c.want {
			t.Errorf("MTU %d for a packet of %d: %d, route has %d, want %d", c.mtu, c.of, got, r.MTU(), c.want)
		}
	}
	if got := h.stack.UpdatePMTU(addr("8.8.4.4"), 0, 1500); got != 1492 {
		t.Errorf("plateau below 1500: %d", got)
	}
	h.clk.Advance(11 * time.Minute)
	if r.MTU() != 1500 {
		t.Errorf("MTU %d after it should be forgotten", r.MTU())
	}
	for i := range pmtuMax + 10 {
		h.stack.UpdatePMTU(netip.AddrFrom4([4]byte{9, 9, byte(i >> 8), byte(i)}), 1300, 1500)
	}
	if n := len(h.stack.pmtu.m); n > pmtuMax {
		t.Errorf("%d destinations remembered, at most %d wanted", n, pmtuMax)
	}
}

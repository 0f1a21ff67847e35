package stack

import (
	"testing"

	"pgregory.net/rapid"

	"osv/kernel/net/wire"
	"osv/kernel/pkt"
)

// A datagram of the usual shape and the same one behind a priority tag, which
// goes the long way, get the same answer but for the tag, whatever the header's
// fields and whoever checks sums.
func TestUsualDatagramIsAnsweredAsAnyOther(t *testing.T) {
	for _, caps := range []pkt.Caps{{}, {TxCsum: true}, {TxCsum: true, RxCsum: true}} {
		h := quiet(t, caps)
		var sizes []int
		grow := 0
		h.stack.HandleUDP(ap("10.0.0.1:7"), func(c *RxContext, b *pkt.Buf, p []byte) {
			sizes = append(sizes, len(p))
			n := len(p) + grow
			clear(c.Room()[min(n, len(p)):n])
			if !c.ReplyInPlace(b, n) {
				t.Errorf("reply of %d bytes refused", n)
			}
		})
		us := h.ifc.MAC()
		rapid.Check(t, func(rt *rapid.T) {
			p := rapid.SliceOfN(rapid.Byte(), 0, 100).Draw(rt, "payload")
			grow = rapid.IntRange(-len(p), 100).Draw(rt, "grow")
			port := rapid.Uint16Range(1, 65535).Draw(rt, "port")
			src := 0x0a000002 + rapid.Uint32Range(0, 200).Draw(rt, "source")
			u := make([]byte, wire.UDPLen+len(p))
			wire.PutUDP(u, port, 7, len(u), 0)
			copy(u[wire.UDPLen:], p)
			be.PutUint16(u[6:], wire.UDPChecksum(wire.Sum(wire.PseudoSum4(src, 0x0a000001, wire.ProtoUDP, len(u)), u)))
			ip := ip4(wire.IPv4Fields{TOS: rapid.Byte().Draw(rt, "TOS"), ID: rapid.Uint16().Draw(rt, "ID"), DF: rapid.Bool().Draw(rt, "DF"),
				TTL: rapid.ByteRange(1, 255).Draw(rt, "TTL"), Proto: wire.ProtoUDP, Src: src, Dst: 0x0a000001}, u)
			ip = append(ip, make([]byte, rapid.IntRange(0, 20).Draw(rt, "padding"))...)
			tagged := append([]byte{0x20, 0, 8, 0}, ip...)
			sizes = nil
			a := h.one(h.ask(eth(us, peerMAC, wire.EtherIPv4, ip)))
			b := h.one(h.ask(eth(us, peerMAC, wire.EtherVLAN, tagged)))
			if string(a[:12]) != string(b[:12]) || string(a[14:]) != string(b[18:]) {
				rt.Fatalf("usual % x\ntagged % x", a, b)
			}
			if len(sizes) != 2 || sizes[0] != len(p) || sizes[1] != len(p) {
				rt.Fatalf("handler saw %d bytes of %d", sizes, len(p))
			}
			got := h.checkIP(a, wire.ProtoUDP)
			r, ok := wire.ParseUDP(got.Payload())
			if !ok || got.SrcU32() != 0x0a000001 || got.DstU32() != src || r.SrcPort() != 7 || r.DstPort() != port || r.Len() != wire.UDPLen+len(p)+grow {
				rt.Fatalf("answer % x", a)
			}
		})
	}
}

// What is to be refused is refused the usual way too, with the reason counted.
func TestUsualDatagramIsCheckedAsAnyOther(t *testing.T) {
	h := quiet(t, pkt.Caps{TxCsum: true, RxCsum: true})
	calls := 0
	h.stack.HandleUDP(ap("0.0.0.0:7"), func(*RxContext, *pkt.Buf, []byte) { calls++ })
	us := h.ifc.MAC()
	for _, c := range []struct {
		name   string
		frame  []byte
		reason string // "" is accepted
	}{
		{"sound", eth(us, peerMAC, wire.EtherIPv4, udp4(ap("10.0.0.2:999"), ap("10.0.0.1:7"), []byte("x"))), ""},
		{"no source port", eth(us, peerMAC, wire.EtherIPv4, udp4(ap("10.0.0.2:0"), ap("10.0.0.1:7"), []byte("x"))), "bad-source"},
		{"from us", eth(us, peerMAC, wire.EtherIPv4, udp4(ap("10.0.0.1:9"), ap("10.0.0.1:7"), []byte("x"))), "bad-source"},
		{"from broadcast", eth(us, peerMAC, wire.EtherIPv4, udp4(ap("10.0.0.255:9"), ap("10.0.0.1:7"), []byte("x"))), "bad-source"},
		{"from the network", eth(us, peerMAC, wire.EtherIPv4, udp4(ap("10.0.0.0:9"), ap("10.0.0.1:7"), []byte("x"))), "bad-source"},
		{"from loopback", eth(us, peerMAC, wire.EtherIPv4, udp4(ap("127.0.0.1:9"), ap("10.0.0.1:7"), []byte("x"))), "bad-source"},
		{"from nobody", eth(us, peerMAC, wire.EtherIPv4, udp4(ap("0.0.0.0:9"), ap("10.0.0.1:7"), []byte("x"))), "bad-source"},
		{"from a group", eth(us, peerMAC, wire.EtherIPv4, udp4(ap("224.0.0.1:9"), ap("10.0.0.1:7"), []byte("x"))), "bad-source"},
		{"to another station", eth(wire.MAC{2, 0, 0, 0, 9, 9}, peerMAC, wire.EtherIPv4, udp4(ap("10.0.0.2:999"), ap("10.0.0.1:7"), []byte("x"))), "other-mac"},
	} {
		calls = 0
		before := h.ifc.Counters().Reasons[c.reason]
		h.ask(c.frame)
		if want := map[bool]int{true: 1}[c.reason == ""]; calls != want {
			t.Errorf("%s: handler called %d times", c.name, calls)
		}
		if c.reason != "" && h.ifc.Counters().Reasons[c.reason] != before+1 {
			t.Errorf("%s: %v", c.name, h.ifc.Counters().Reasons)
		}
	}
}

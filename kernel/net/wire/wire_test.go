package wire

import (
	"bytes"
	"net/netip"
	"testing"
	"time"
)

var (
	macA = MAC{2, 0, 0, 0, 0, 1}
	macB = MAC{2, 0, 0, 0, 0, 2}
)

func TestEthernet(t *testing.T) {
	b := make([]byte, 20)
	e, ok := ParseEth(b)
	if !ok {
		t.Fatal("20 bytes refused")
	}
	e.SetDst(macA)
	e.SetSrc(macB)
	e.SetType(EtherIPv4)
	if ty, off, vlan, ok := e.Payload(); ty != EtherIPv4 || off != 14 || vlan != 0 || !ok {
		t.Errorf("untagged: type %#x at %d vlan %d ok %v", ty, off, vlan, ok)
	}
	e.Swap()
	if e.Dst() != macB || e.Src() != macA {
		t.Errorf("after Swap: %v from %v", e.Dst(), e.Src())
	}
	copy(b[12:], []byte{0x81, 0x00, 0xe0, 0x07, 0x86, 0xdd})
	if ty, off, vlan, ok := e.Payload(); ty != EtherIPv6 || off != 18 || vlan != 7 || !ok {
		t.Errorf("tagged: type %#x at %d vlan %d ok %v", ty, off, vlan, ok)
	}
	copy(b[16:], []byte{0x81, 0x00})
	if _, _, _, ok := e.Payload(); ok {
		t.Error("double tag accepted")
	}
	if _, _, _, ok := Eth(b[:17]).Payload(); ok {
		t.Error("tag cut short accepted")
	}
	if _, ok := ParseEth(b[:13]); ok {
		t.Error("13 bytes accepted")
	}
	if !BroadcastMAC.IsMulticast() || macA.IsMulticast() || macA.String() != "02:00:00:00:00:01" {
		t.Error("MAC properties")
	}
}

func TestARP(t *testing.T) {
	b := make([]byte, 46)
	s, d := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	PutARP(b, ARPReply, macA, s, macB, d)
	a, ok := ParseARP(b)
	if !ok || a.Op() != ARPReply || a.SenderMAC() != macA || a.SenderIP() != s || a.TargetMAC() != macB || a.TargetIP() != d {
		t.Errorf("read back %v %v", a, ok)
	}
	if _, ok := ParseARP(b[:27]); ok {
		t.Error("27 bytes accepted")
	}
	b[4] = 7
	if _, ok := ParseARP(b); ok {
		t.Error("hardware length 7 accepted")
	}
}

func TestIPv4Header(t *testing.T) {
	b := make([]byte, 64)
	PutIPv4(b, &IPv4Fields{TOS: 0x10, TotalLen: 40, ID: 77, DF: true, TTL: 64, Proto: ProtoUDP, Src: 0x0a000001, Dst: 0x0a000002})
	h, ok := ParseIPv4(b)
	if !ok || len(h) != 40 || h.HeaderLen() != 20 || h.TOS() != 0x10 || h.ID() != 77 || !h.DF() || h.MF() || h.IsFragment() ||
		h.TTL() != 64 || h.Proto() != ProtoUDP || h.Src() != Addr4(0x0a000001) || h.DstU32() != 0x0a000002 || h.SrcU32() != U32(h.Src()) || len(h.Payload()) != 20 || len(h.Options()) != 0 || h.Dst() != Addr4(0x0a000002) {
		t.Errorf("read back % x", h)
	}
	if !h.ChecksumOK() {
		t.Error("written checksum is wrong")
	}
	h.SetTotalLen(60)
	if !h.ChecksumOK() || h.TotalLen() != 60 {
		t.Error("checksum wrong after SetTotalLen")
	}
	b[8]--
	if h.ChecksumOK() {
		t.Error("changed header passes")
	}
	sum := h.Checksum()
	h.SetChecksum()
	if !h.ChecksumOK() || h.Checksum() == sum {
		t.Error("SetChecksum")
	}
	PutIPv4(b, &IPv4Fields{TotalLen: 64, MF: true, FragOffset: 1480})
	if h, _ := ParseIPv4(b); !h.IsFragment() || h.FragOffset() != 1480 || !h.MF() {
		t.Error("fragment fields")
	}
	for _, bad := range [][]byte{b[:19], append([]byte{0x65}, b[1:]...), append([]byte{0x44}, b[1:]...), b[:63]} {
		if _, ok := ParseIPv4(bad); ok {
			t.Errorf("% x accepted", bad)
		}
	}
}

func TestIPv4Options(t *testing.T) {
	for _, c := range []struct {
		o         []byte
		ok, route bool
	}{
		{nil, true, false},
		{[]byte{1, 1, 0, 9}, true, false},
		{[]byte{148, 4, 0, 0}, true, false}, // router alert
		{[]byte{131, 7, 4, 1, 2, 3, 4, 0}, true, true},
		{[]byte{137, 3, 4}, true, true},
		{[]byte{7, 1}, false, false},
		{[]byte{7, 9, 0}, false, false},
		{[]byte{7}, false, false},
	} {
		if ok, r := IPv4OptionsOK(c.o); ok != c.ok || r != c.route {
			t.Errorf("% x: ok %v route %v", c.o, ok, r)
		}
	}
}

// ip6 builds a packet of the given headers behind a fixed header.
func ip6(next Proto, body ...byte) IPv6 {
	b := make([]byte, IPv6Len+len(body))
	PutIPv6(b, 3, 0x12345, len(body), next, 64, LinkLocal6(macA), LinkLocal6(macB))
	copy(b[IPv6Len:], body)
	return IPv6(b)
}

func TestIPv6Header(t *testing.T) {
	h, ok := ParseIPv6(append(ip6(ProtoUDP, 1, 2, 3), 0, 0))
	if !ok || len(h) != 43 || h.TrafficClass() != 3 || h.PayloadLen() != 3 || h.NextHeader() != ProtoUDP || h.HopLimit() != 64 ||
		h.Src().String() != "fe80::ff:fe00:1" || h.Dst() != LinkLocal6(macB) || !bytes.Equal(h.Payload(), []byte{1, 2, 3}) {
		t.Errorf("read back % x", h)
	}
	h.SetPayloadLen(4)
	if _, ok := ParseIPv6(h); ok {
		t.Error("payload beyond the slice accepted")
	}
	h[0] = 0x45
	if _, ok := ParseIPv6(h); ok {
		t.Error("version 4 accepted")
	}
}

func TestIPv6ExtensionHeaders(t *testing.T) {
	pad := []byte{1, 4, 0, 0, 0, 0} // PadN
	opts := func(next Proto, o ...byte) []byte { return append([]byte{next, 0}, o...) }
	frag := func(next Proto, off int, more bool) []byte {
		b := make([]byte, 8)
		PutIPv6Frag(b, next, off, more, 99)
		return b
	}
	cat := func(b ...[]byte) []byte { return bytes.Join(b, nil) }
	many := bytes.Repeat(opts(ProtoDestOpts, pad...), 20)
	for _, c := range []struct {
		name string
		p    IPv6
		want Ext
	}{
		{"none", ip6(ProtoUDP, 0), Ext{Proto: ProtoUDP, Off: 40, PrevOff: 6}},
		{"hop-by-hop", ip6(ProtoHopByHop, opts(ProtoTCP, pad...)...), Ext{Proto: ProtoTCP, Off: 48, PrevOff: 40}},
		{"hop-by-hop second", ip6(ProtoDestOpts, cat(opts(ProtoHopByHop, pad...), opts(ProtoTCP, pad...))...), Ext{Proto: ProtoHopByHop, Off: 40, PrevOff: 40, Status: ExtBadOrder}},
		{"routing without segments left", ip6(ProtoRouting, 17, 0, 0, 0, 0, 0, 0, 0), Ext{Proto: 17, Off: 48, PrevOff: 40}},
		{"routing with segments left", ip6(ProtoRouting, 17, 0, 0, 1, 0, 0, 0, 0), Ext{Proto: ProtoRouting, Off: 42, PrevOff: 6, Status: ExtBadRouting}},
		{"fragment", ip6(ProtoFragment, cat(frag(17, 8, false), []byte{1})...), Ext{Proto: 17, Off: 48, PrevOff: 40, Frag: 40}},
		{"first fragment", ip6(ProtoFragment, frag(17, 0, true)...), Ext{Proto: 17, Off: 48, PrevOff: 40, Frag: 40}},
		{"atomic fragment", ip6(ProtoFragment, cat(frag(ProtoDestOpts, 0, false), opts(58, pad...))...), Ext{Proto: 58, Off: 56, PrevOff: 48, Frag: 40}},
		{"fragment cut short", ip6(ProtoFragment, 17, 0, 0), Ext{Proto: ProtoFragment, Off: 40, PrevOff: 6, Status: ExtTruncated}},
		{"options cut short", ip6(ProtoDestOpts, 17, 1, 0, 0, 0, 0, 0, 0), Ext{Proto: ProtoDestOpts, Off: 40, PrevOff: 6, Status: ExtTruncated}},
		{"option beyond header", ip6(ProtoDestOpts, 17, 0, 0, 5, 5, 0, 0, 0), Ext{Proto: ProtoDestOpts, Off: 43, PrevOff: 6, Status: ExtTruncated}},
		{"option: drop", ip6(ProtoDestOpts, 17, 0, 0x40, 0, 0, 0, 0, 0), Ext{Proto: ProtoDestOpts, Off: 42, PrevOff: 6, Status: ExtBadOption}},
		{"option: tell", ip6(ProtoDestOpts, 17, 0, 0, 0x80, 0, 0, 0, 0), Ext{Proto: ProtoDestOpts, Off: 43, PrevOff: 6, Status: ExtBadOptionICMP}},
		{"option: tell unicast", ip6(ProtoDestOpts, 17, 0, 0xc0, 0, 0, 0, 0, 0), Ext{Proto: ProtoDestOpts, Off: 42, PrevOff: 6, Status: ExtBadOptionICMPUnicast}},
		{"too many", ip6(ProtoDestOpts, many...), Ext{Proto: ProtoDestOpts, Off: 40 + 64, PrevOff: 40 + 56, Status: ExtTruncated}},
		{"no next", ip6(ProtoNoNext), Ext{Proto: ProtoNoNext, Off: 40, PrevOff: 6}},
	} {
		if got := c.p.Walk(); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
	f := IPv6Frag(frag(17, 1448, true))
	if f.NextHeader() != 17 || f.Offset() != 1448 || !f.More() || f.ID() != 99 {
		t.Errorf("fragment header % x", f)
	}
}

func TestIPv6Addresses(t *testing.T) {
	a := netip.MustParseAddr("2001:db8::1:800:200e:8c6c")
	if got := SolicitedNode(a).String(); got != "ff02::1:ff0e:8c6c" { // RFC 4291 §2.7.1
		t.Error(got)
	}
	if got := MulticastMAC6(SolicitedNode(a)); got != (MAC{0x33, 0x33, 0xff, 0x0e, 0x8c, 0x6c}) {
		t.Error(got)
	}
	if got := MulticastMAC4(netip.MustParseAddr("239.129.2.3")); got != (MAC{1, 0, 0x5e, 1, 2, 3}) {
		t.Error(got)
	}
	if got := LinkLocal6(MAC{0x00, 0xaa, 0x00, 0x3f, 0x2a, 0x1c}).String(); got != "fe80::2aa:ff:fe3f:2a1c" { // RFC 4291 appendix A
		t.Error(got)
	}
}

func TestUDPHeader(t *testing.T) {
	b := make([]byte, 14)
	PutUDP(b, 1000, 53, 12, 0xabcd)
	u, ok := ParseUDP(b)
	if !ok || u.SrcPort() != 1000 || u.DstPort() != 53 || u.Len() != 12 || u.Checksum() != 0xabcd || len(u.Payload()) != 4 {
		t.Errorf("read back % x %v", u, ok)
	}
	for _, n := range []uint16{7, 15} {
		be.PutUint16(b[4:], n)
		if _, ok := ParseUDP(b); ok {
			t.Errorf("length %d of 14 accepted", n)
		}
	}
	if _, ok := ParseUDP(b[:7]); ok {
		t.Error("7 bytes accepted")
	}
}

func TestICMP(t *testing.T) {
	b := make([]byte, 12)
	PutICMP(b, ICMPEcho, 0, 7<<16|9)
	m, ok := ParseICMP(b)
	m.SetChecksum()
	if !ok || m.Type() != ICMPEcho || m.Code() != 0 || m.Ident() != 7 || m.Seq() != 9 || m.NextMTU() != 9 || !m.ChecksumOK() || len(m.Body()) != 4 || m.Pointer() != 7<<16|9 || m.MTU6() != 7<<16|9 {
		t.Errorf("read back % x", m)
	}
	b[5]++
	if m.ChecksumOK() {
		t.Error("changed message passes")
	}
	s, d := make([]byte, 16), bytes.Repeat([]byte{9}, 16)
	m.SetChecksum6(s, d)
	if !m.ChecksumOK6(s, d) || m.ChecksumOK6(s, s) {
		t.Error("ICMPv6 checksum does not cover the pseudo header")
	}
	if _, ok := ParseICMP(b[:7]); ok {
		t.Error("7 bytes accepted")
	}
}

func TestNeighborMessages(t *testing.T) {
	b := make([]byte, 32)
	target := LinkLocal6(macB)
	n := PutNeighborMsg(b, ICMPv6NeighborAdv, 0xe0, target, NDTargetLLA, macB)
	m, ok := ParseNeighborMsg(b[:n])
	if !ok || m.Target() != target || !m.Router() || !m.Solicited() || !m.Override() {
		t.Errorf("read back % x", m)
	}
	if lla, ok := NDLLA(m.Options(), NDTargetLLA); !ok || lla != macB {
		t.Error(lla, ok)
	}
	if _, ok := NDLLA(m.Options(), NDSourceLLA); ok {
		t.Error("found an option that is not there")
	}
	if n := PutNeighborMsg(b, ICMPv6NeighborSol, 0, target, 0, MAC{}); n != NeighborMsgLen {
		t.Error(n)
	}
	b[25] = 0 // option length 0
	if _, ok := ParseNeighborMsg(b); ok {
		t.Error("option of length 0 accepted")
	}
}

func TestRouterAdvertisement(t *testing.T) {
	b := make([]byte, RouterAdvLen, 128)
	PutICMP(b, ICMPv6RouterAdv, 0, 64<<24|0x80<<16|1800)
	be.PutUint32(b[8:], 30000)
	be.PutUint32(b[12:], 1000)
	prefix := make([]byte, 32)
	copy(prefix, []byte{NDPrefix, 4, 64, 0xc0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 60})
	copy(prefix[16:], []byte{0x20, 1, 0xd, 0xb8, 8: 1})
	rdnss := append([]byte{NDRDNSS, 5, 0, 0, 0, 0, 1, 0}, make([]byte, 32)...)
	rdnss[39] = 53
	m, ok := ParseRouterAdv(bytes.Join([][]byte{b, prefix, {NDMTU, 1, 0, 0, 0, 0, 5, 0xdc}, rdnss}, nil))
	if !ok || m.HopLimit() != 64 || !m.Managed() || m.Lifetime() != 30*time.Minute || m.ReachableTime() != 30*time.Second || m.RetransTimer() != time.Second {
		t.Errorf("read back % x", m)
	}
	seen := 0
	for o := m.Options(); ; {
		kind, opt, rest, ok := NextNDOption(o)
		if !ok {
			break
		}
		switch kind {
		case NDPrefix:
			p, ok := ParseNDPrefix(opt)
			if !ok || p.Prefix().String() != "2001:db8::/64" || !p.OnLink() || !p.Autonomous() || p.Valid() != Forever || p.Preferred() != time.Minute {
				t.Errorf("prefix % x", opt)
			}
			seen++
		case NDMTU:
			if mtu, ok := NDMTUValue(opt); !ok || mtu != 1500 {
				t.Errorf("MTU %d", mtu)
			}
			seen++
		case NDRDNSS:
			lt, a, ok := NDRDNSSServers(opt, 1)
			if !ok || lt != 256*time.Second || a.String() != "::35" {
				t.Errorf("RDNSS %v %v", lt, a)
			}
			if _, _, ok := NDRDNSSServers(opt, 2); ok {
				t.Error("third server of two")
			}
			seen++
		}
		o = rest
	}
	if seen != 3 {
		t.Errorf("%d options seen, want 3", seen)
	}
	if _, ok := NDMTUValue(prefix); ok {
		t.Error("prefix read as MTU")
	}
}

func TestNoAllocs(t *testing.T) {
	b := ip6(ProtoHopByHop, ProtoUDP, 0, 1, 4, 0, 0, 0, 0, 0, 1, 0, 2, 0, 8, 0, 0)
	v4 := make([]byte, 64)
	for name, f := range map[string]func(){
		"ipv4": func() {
			PutIPv4(v4, &IPv4Fields{TotalLen: 64, Src: 1, Dst: 2})
			h, _ := ParseIPv4(v4)
			_ = h.ChecksumOK() && h.Src() == h.Dst()
		},
		"ipv6": func() { h, _ := ParseIPv6(b); _ = h.Walk(); _ = h.Src() == h.Dst() },
		"udp":  func() { u, _ := ParseUDP(b[48:]); _ = u.DstPort() },
		"sum":  func() { _ = Checksum(v4) },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// FuzzParse feeds any bytes to every parser and reads every field of what it
// accepts: nothing may panic.
func FuzzParse(f *testing.F) {
	v4 := make([]byte, 40)
	PutIPv4(v4, &IPv4Fields{TotalLen: 40, Proto: ProtoUDP})
	f.Add(v4)
	f.Add([]byte(ip6(ProtoFragment, 17, 0, 0, 9, 1, 2, 3, 4)))
	f.Add([]byte(ip6(ProtoHopByHop, 17, 0, 1, 4, 0, 0, 0, 0)))
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, ok := ParseEth(b); ok {
			_, off, _, ok := e.Payload()
			if ok && off > len(b) {
				t.Fatal("payload beyond frame")
			}
		}
		if a, ok := ParseARP(b); ok {
			_, _, _, _, _ = a.Op(), a.SenderIP(), a.TargetIP(), a.SenderMAC(), a.TargetMAC()
		}
		if h, ok := ParseIPv4(b); ok {
			_, _, _, _ = h.Src(), h.Dst(), h.Payload(), h.ChecksumOK()
			IPv4OptionsOK(h.Options())
		}
		if h, ok := ParseIPv6(b); ok {
			x := h.Walk()
			if x.Off > len(h) || x.PrevOff >= len(h) || x.Frag > 0 && x.Frag+IPv6FragLen > len(h) {
				t.Fatalf("%+v outside %d bytes", x, len(h))
			}
		}
		if u, ok := ParseUDP(b); ok {
			_, _ = u.Payload(), u.Checksum()
		}
		if m, ok := ParseICMP(b); ok {
			_, _, _ = m.Body(), m.Ident(), m.NextMTU()
		}
		if m, ok := ParseNeighborMsg(b); ok {
			_ = m.Target()
			NDLLA(m.Options(), NDSourceLLA)
		}
		if m, ok := ParseRouterAdv(b); ok {
			for o := m.Options(); ; {
				_, opt, rest, ok := NextNDOption(o)
				if !ok {
					break
				}
				if p, ok := ParseNDPrefix(opt); ok {
					_, _, _ = p.Prefix(), p.Valid(), p.Preferred()
				}
				NDMTUValue(opt)
				for i := 0; ; i++ {
					if _, _, ok := NDRDNSSServers(opt, i); !ok {
						break
					}
				}
				o = rest
			}
		}
	})
}

package stack

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"osv/kernel/net/demux"
	"osv/kernel/net/wire"
	"osv/kernel/pkt"
)

var (
	peerLL = wire.LinkLocal6(peerMAC)
	ourLL  = addr("fe80::ff:fe00:1")
	allLL  = addr("ff02::1")
)

func ip6(hops uint8, next wire.Proto, src, dst netip.Addr, body []byte) []byte {
	b := make([]byte, wire.IPv6Len)
	wire.PutIPv6(b, 0, 0, len(body), next, hops, src, dst)
	return append(b, body...)
}

// icmp6 makes a whole ICMPv6 packet.
func icmp6(hops uint8, src, dst netip.Addr, msg []byte) []byte {
	s, d := src.As16(), dst.As16()
	wire.ICMP(msg).SetChecksum6(s[:], d[:])
	return ip6(hops, wire.ProtoICMPv6, src, dst, msg)
}

func echo6(data string) []byte {
	b := make([]byte, wire.ICMPLen)
	wire.PutICMP(b, wire.ICMPv6Echo, 0, 1)
	return append(b, data...)
}

func nd6(t wire.ICMPType, flags uint8, target netip.Addr, opt uint8, m wire.MAC) []byte {
	b := make([]byte, wire.NeighborMsgLen+8)
	return b[:wire.PutNeighborMsg(b, t, flags, target, opt, m)]
}

// to6 sends a packet to us and returns the answers.
func (h *host) to6(p []byte) [][]byte {
	dst, _ := netip.AddrFromSlice(p[24:40])
	mac := h.ifc.MAC()
	if dst.IsMulticast() {
		mac = wire.MulticastMAC6(dst)
	}
	return h.ask(eth(mac, peerMAC, wire.EtherIPv6, p))
}

// msg6 reads a frame as an ICMPv6 packet and verifies it.
func (h *host) msg6(f []byte) (wire.IPv6, wire.ICMP) {
	h.t.Helper()
	p, ok := wire.ParseIPv6(f[14:])
	if !ok || wire.Eth(f).Type() != wire.EtherIPv6 {
		h.t.Fatalf("not IPv6: % x", f)
	}
	x := p.Walk()
	m := wire.ICMP(p[x.Off:])
	if x.Proto != wire.ProtoICMPv6 || !m.ChecksumOK6(p[8:24], p[24:40]) {
		h.t.Fatalf("not a sound ICMPv6 packet: % x", p)
	}
	return p, m
}

// only drops frames of other ICMPv6 types.
func (h *host) only(fs [][]byte, t wire.ICMPType) (out [][]byte) {
	for _, f := range fs {
		if wire.Eth(f).Type() == wire.EtherIPv6 {
			if _, m := h.msg6(f); m.Type() == t {
				out = append(out, f)
			}
		}
	}
	return out
}

// host6 is a host with its link-local address and fd00::1, all quiet.
func host6(t testing.TB) *host {
	h := newHost(t, pkt.Caps{}, IfConfig{Addrs: []netip.Prefix{pfx("fd00::1/64")}})
	h.frames()
	h.clk.Advance(time.Minute)
	h.frames()
	h.ifc.AddNeighbour(peerLL, peerMAC)
	h.ifc.AddNeighbour(addr("fd00::2"), peerMAC)
	return h
}

// RFC 4862 §5.4 and RFC 4861 §6.3.7: check the address, then ask for routers.
func TestLinkLocalAddress(t *testing.T) {
	h := newHost(t, pkt.Caps{}, IfConfig{})
	fs := h.frames()
	p, m := h.msg6(h.one(h.only(fs, wire.ICMPv6NeighborSol)))
	n, _ := wire.ParseNeighborMsg(m)
	if !p.Src().IsUnspecified() || p.Dst() != wire.SolicitedNode(ourLL) || n.Target() != ourLL || p.HopLimit() != 255 || len(n.Options()) != 0 {
		t.Errorf("probe from %v to %v for %v", p.Src(), p.Dst(), n.Target())
	}
	if r := h.only(fs, wire.ICMPv6MLDv2Report); len(r) != 1 {
		t.Errorf("%d MLD reports", len(r))
	}
	if h.ifc.hasAddr(ourLL) {
		t.Error("in use before it is checked")
	}
	h.clk.Advance(time.Second)
	fs = h.frames()
	if !h.ifc.hasAddr(ourLL) {
		t.Fatal("not in use after the check")
	}
	p, m = h.msg6(h.one(h.only(fs, wire.ICMPv6NeighborAdv)))
	if n, _ := wire.ParseNeighborMsg(m); p.Dst() != allLL || n.Target() != ourLL || n.Solicited() || !n.Override() {
		t.Error("no announcement")
	}
	p, m = h.msg6(h.one(h.only(fs, wire.ICMPv6RouterSol)))
	if lla, ok := wire.NDLLA(m[8:], wire.NDSourceLLA); p.Dst() != addr("ff02::2") || p.Src() != ourLL || !ok || lla != h.ifc.MAC() {
		t.Error("router solicitation")
	}
	h.clk.Advance(time.Minute)
	if n := len(h.only(h.frames(), wire.ICMPv6RouterSol)); n != maxRouterSols-1 {
		t.Errorf("%d more router solicitations", n)
	}
}

func TestDuplicateAddress(t *testing.T) {
	for name, p := range map[string][]byte{
		"somebody has it":        icmp6(255, ourLL, allLL, nd6(wire.ICMPv6NeighborAdv, 0x20, ourLL, wire.NDTargetLLA, peerMAC)),
		"somebody also wants it": icmp6(255, netip.IPv6Unspecified(), wire.SolicitedNode(ourLL), nd6(wire.ICMPv6NeighborSol, 0, ourLL, 0, wire.MAC{})),
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, pkt.Caps{}, IfConfig{})
			h.to6(p)
			h.clk.Advance(time.Minute)
			if h.ifc.hasAddr(ourLL) || h.ifc.Conflicts() != 1 {
				t.Errorf("address in use: %v; %d conflicts", h.ifc.hasAddr(ourLL), h.ifc.Conflicts())
			}
		})
	}
}

// RFC 4861 §7.2.4 and what is not answered (§7.1.1).
func TestNeighborSolicitation(t *testing.T) {
	h := host6(t)
	sol := func(src, dst, target netip.Addr, lla bool) []byte {
		o := wire.NDSourceLLA
		if !lla {
			o = 0
		}
		return nd6ip(255, src, dst, target, o)
	}
	adv := func(fs [][]byte) (wire.IPv6, wire.NeighborMsg) {
		p, m := h.msg6(h.one(fs))
		n, ok := wire.ParseNeighborMsg(m)
		if !ok || m.Type() != wire.ICMPv6NeighborAdv {
			t.Fatalf("type %d", m.Type())
		}
		return p, n
	}
	us := addr("fd00::1")
	p, n := adv(h.to6(sol(addr("fd00::9"), wire.SolicitedNode(us), us, true)))
	if lla, _ := wire.NDLLA(n.Options(), wire.NDTargetLLA); p.Dst() != addr("fd00::9") || p.Src() != us || n.Target() != us || !n.Solicited() || !n.Override() || n.Router() || lla != h.ifc.MAC() {
		t.Errorf("advertisement % x", p)
	}
	p, n = adv(h.to6(sol(netip.IPv6Unspecified(), wire.SolicitedNode(us), us, false))) // somebody probes for it
	if p.Dst() != allLL || n.Solicited() {
		t.Errorf("defence % x", p)
	}
	p, _ = adv(h.to6(sol(addr("fd00::2"), us, us, false))) // unicast, address known
	if p.Dst() != addr("fd00::2") {
		t.Errorf("% x", p)
	}
	if fs := h.only(h.to6(sol(addr("fd00::77"), us, us, false)), wire.ICMPv6NeighborSol); len(fs) != 1 {
		t.Error("sender without an address is not asked for it")
	}
	for what, pk := range map[string][]byte{
		"hop limit":                 nd6ip(254, addr("fd00::9"), us, us, wire.NDSourceLLA),
		"another's address":         sol(addr("fd00::9"), wire.SolicitedNode(us), addr("fd00::5"), true),
		"multicast target":          sol(addr("fd00::9"), us, addr("ff02::5"), true),
		"probe to unicast":          sol(netip.IPv6Unspecified(), us, us, false),
		"probe with an address":     sol(netip.IPv6Unspecified(), wire.SolicitedNode(us), us, true),
		"group that we are not in":  sol(addr("fd00::9"), wire.SolicitedNode(addr("fd00::abcd")), us, true),
		"advertisement to nobody":   icmp6(255, peerLL, allLL, nd6(wire.ICMPv6NeighborAdv, 0x60, addr("fd00::5"), wire.NDTargetLLA, peerMAC)),
		"cut short":                 icmp6(255, addr("fd00::9"), us, nd6(wire.ICMPv6NeighborSol, 0, us, 0, wire.MAC{})[:20]),
		"redirect":                  icmp6(255, peerLL, us, append([]byte{137, 0, 0, 0}, make([]byte, 36)...)),
		"source is a group":         sol(addr("ff02::9"), us, us, true),
		"source is loopback":        sol(addr("::1"), us, us, true),
		"source is our own address": sol(us, us, us, true),
	} {
		if fs := h.to6(pk); len(fs) != 0 {
			t.Errorf("%s: answered % x", what, fs)
		}
	}
	h.to6(icmp6(255, addr("fd00::9"), us, nd6(wire.ICMPv6NeighborAdv, 0x20, us, wire.NDTargetLLA, peerMAC)))
	if h.ifc.Conflicts() != 1 || !h.ifc.hasAddr(us) {
		t.Error("conflict about an address in use: counted, and kept")
	}
}

func nd6ip(hops uint8, src, dst, target netip.Addr, opt uint8) []byte {
	return icmp6(hops, src, dst, nd6(wire.ICMPv6NeighborSol, 0, target, opt, wire.MAC{2, 0, 0, 0, 0, 9}))
}

// routerAdv builds an advertisement from the peer.
func routerAdv(lifetime uint16, opts ...[]byte) []byte {
	b := make([]byte, wire.RouterAdvLen)
	wire.PutICMP(b, wire.ICMPv6RouterAdv, 0, 64<<24|uint32(lifetime))
	return icmp6(255, peerLL, allLL, bytes.Join(append([][]byte{b}, opts...), nil))
}

func prefixOpt(p string, flags byte, valid, preferred uint32) []byte {
	b := make([]byte, 32)
	pf := netip.MustParsePrefix(p)
	b[0], b[1], b[2], b[3] = wire.NDPrefix, 4, byte(pf.Bits()), flags
	be.PutUint32(b[4:], valid)
	be.PutUint32(b[8:], preferred)
	a := pf.Addr().As16()
	copy(b[16:], a[:])
	return b
}

// RFC 4862 §5.5 and RFC 4861 §6.3.4: router, prefix, address, MTU, name server,
// and the end of each.
func TestRouterAdvertisement(t *testing.T) {
	h := host6(t)
	rdnss := append([]byte{wire.NDRDNSS, 3, 0, 0, 0, 0, 1, 0}, make([]byte, 16)...)
	rdnss[23] = 53
	mtu := []byte{wire.NDMTU, 1, 0, 0, 0, 0, 5, 0x78} // 1400
	slla := []byte{wire.NDSourceLLA, 1, 2, 0, 0, 0, 0, 2}
	auto := addr("2001:db8::ff:fe00:1")
	h.to6(routerAdv(1800, prefixOpt("2001:db8::/64", 0xc0, 86400, 3600), mtu, rdnss, slla))
	h.clk.Advance(2 * time.Second)
	h.frames()
	if !h.ifc.hasAddr(auto) || h.ifc.MTU() != 1400 || len(h.stack.DNS()) != 1 {
		t.Errorf("addresses %v, MTU %d, DNS %v", h.ifc.Addrs(), h.ifc.MTU(), h.stack.DNS())
	}
	r, err := h.stack.Route(netip.Addr{}, addr("2001:4860::8888"))
	if err != nil || r.Local() != auto {
		t.Fatalf("route out: %v, from %v", err, r.Local())
	}
	if r, err := h.stack.Route(netip.Addr{}, addr("2001:db8::77")); err != nil || r.Local() != auto || r.current().entry.Addr() != addr("2001:db8::77") {
		t.Errorf("route to the prefix: %v", err)
	}
	b := r.Alloc()
	wire.PutUDP(b.Append(8), 1, 2, 8, 0)
	r.SendOne(wire.ProtoUDP, 6, b)
	f := h.one(h.frames())
	if wire.Eth(f).Dst() != peerMAC {
		t.Errorf("not by way of the router: % x", f)
	}
	// The router says goodbye; RFC 4861 §6.3.4.
	h.to6(routerAdv(0))
	if _, err := h.stack.Route(netip.Addr{}, addr("2001:4860::8888")); !errors.Is(err, ErrNoRoute) {
		t.Errorf("route without a router: %v", err)
	}
	// RFC 4862 §5.5.3 (e): an address does not end at once by an unauthenticated word.
	h.to6(routerAdv(1800, prefixOpt("2001:db8::/64", 0xc0, 1, 1)))
	h.clk.Advance(time.Minute)
	if !h.ifc.hasAddr(auto) {
		t.Error("address ended at once")
	}
	h.clk.Advance(twoHours)
	if h.ifc.hasAddr(auto) {
		t.Error("address did not end after two hours")
	}
	if _, err := h.stack.Route(netip.Addr{}, addr("2001:4860::8888")); !errors.Is(err, ErrNoRoute) {
		t.Errorf("router's lifetime did not end: %v", err)
	}
	for what, p := range map[string][]byte{
		"not autonomous":     routerAdv(0, prefixOpt("2001:db8:1::/64", 0x80, 3600, 3600)),
		"not 64 bits":        routerAdv(0, prefixOpt("2001:db8:2::/56", 0xc0, 3600, 3600)),
		"link-local prefix":  routerAdv(0, prefixOpt("fe80::/64", 0xc0, 3600, 3600)),
		"preferred > valid":  routerAdv(0, prefixOpt("2001:db8:3::/64", 0xc0, 3600, 7200)),
		"from afar":          icmp6(255, addr("2001::1"), allLL, wire.IPv6(routerAdv(0, prefixOpt("2001:db8:4::/64", 0xc0, 3600, 3600))).Payload()),
		"by way of a router": icmp6(64, peerLL, allLL, wire.IPv6(routerAdv(0, prefixOpt("2001:db8:5::/64", 0xc0, 3600, 3600))).Payload()),
	} {
		h.to6(p)
		h.clk.Advance(2 * time.Second)
		for _, a := range h.ifc.Addrs() {
			if strings.HasPrefix(a.String(), "2001:") {
				t.Errorf("%s: made %v", what, a)
			}
		}
	}
}

func TestPing6(t *testing.T) {
	h := host6(t)
	us := addr("fd00::1")
	p, m := h.msg6(h.one(h.to6(icmp6(64, addr("fd00::2"), us, echo6("data")))))
	if m.Type() != wire.ICMPv6EchoReply || string(m.Body()) != "data" || p.Src() != us || p.Dst() != addr("fd00::2") {
		t.Errorf("% x", p)
	}
	p, m = h.msg6(h.one(h.to6(icmp6(64, peerLL, ourLL, echo6("link-local")))))
	if string(m.Body()) != "link-local" || p.Dst() != peerLL {
		t.Errorf("% x", p)
	}
	if fs := h.to6(icmp6(64, peerLL, allLL, echo6("all"))); len(fs) != 0 {
		t.Error("answered a ping to a group")
	}
	bad := icmp6(64, peerLL, ourLL, echo6("x"))
	bad[len(bad)-1]++
	if fs := h.to6(bad); len(fs) != 0 {
		t.Error("answered a damaged ping")
	}
	if fs := h.to6(ip6(64, wire.ProtoICMPv6, peerLL, ourLL, []byte{128, 0, 1})); len(fs) != 0 {
		t.Error("answered a cut ping")
	}
}

// RFC 8200 §4.2, §4.4, §4: which extension headers are complained of, and where.
func TestExtensionHeaders(t *testing.T) {
	h := host6(t)
	src, us := addr("fd00::2"), addr("fd00::1")
	problem := func(what string, p []byte, code uint8, pointer uint32) {
		t.Helper()
		fs := h.to6(p)
		if len(fs) != 1 {
			t.Errorf("%s: %d answers", what, len(fs))
			return
		}
		if _, m := h.msg6(fs[0]); m.Type() != wire.ICMPv6ParamProblem || m.Code() != code || m.Pointer() != pointer || !bytes.Equal(m.Body(), p) {
			t.Errorf("%s: type %d code %d pointer %d", what, m.Type(), m.Code(), m.Pointer())
		}
	}
	silent := func(what string, p []byte) {
		t.Helper()
		if fs := h.to6(p); len(fs) != 0 {
			t.Errorf("%s: answered % x", what, fs)
		}
	}
	dest := func(next byte, o ...byte) []byte { return append([]byte{next, 0}, o...) }
	e := wire.IPv6(icmp6(64, src, us, echo6("x"))).Payload()
	ok := ip6(64, wire.ProtoDestOpts, src, us, append(dest(wire.ProtoICMPv6, 1, 4, 0, 0, 0, 0), e...))
	if _, m := h.msg6(h.one(h.to6(ok))); m.Type() != wire.ICMPv6EchoReply {
		t.Error("ping behind padding")
	}
	problem("unknown option", ip6(64, wire.ProtoDestOpts, src, us, append(dest(wire.ProtoICMPv6, 0x80, 0, 0, 0, 0, 0), e...)), wire.ICMPv6UnknownOption, 42)
	problem("routing header", ip6(64, wire.ProtoRouting, src, us, append([]byte{wire.ProtoICMPv6, 0, 0, 1, 0, 0, 0, 0}, e...)), wire.ICMPv6ErroneousHeader, 42)
	problem("hop-by-hop second", ip6(64, wire.ProtoDestOpts, src, us, append(dest(0, 1, 4, 0, 0, 0, 0), dest(58, 1, 4, 0, 0, 0, 0)...)), wire.ICMPv6UnknownNext, 40)
	problem("unknown protocol", ip6(64, 99, src, us, []byte("12345678")), wire.ICMPv6UnknownNext, 6)
	silent("option: drop", ip6(64, wire.ProtoDestOpts, src, us, append(dest(58, 0x40, 0, 0, 0, 0, 0), e...)))
	silent("cut short", ip6(64, wire.ProtoDestOpts, src, us, []byte{58, 9}))
	silent("no next header", ip6(64, wire.ProtoNoNext, src, us, nil))
	silent("unknown protocol to a group", ip6(64, 99, src, allLL, []byte("12345678")))
	silent("option to a group, unicast only", ip6(64, wire.ProtoDestOpts, src, allLL, append(dest(58, 0xc0, 0, 0, 0, 0, 0), e...)))
	var r rawProto
	h.stack.Register(99, &r)
	silent("registered protocol", ip6(64, 99, src, us, []byte("12345678")))
	if len(r.segs) != 1 {
		t.Error("registered protocol got nothing")
	}
}

func fragment6(p []byte, size int) (out [][]byte) {
	h := wire.IPv6(p)
	body := h.Payload()
	for off := 0; off < len(body); off += size {
		n := min(size, len(body)-off)
		f := make([]byte, 8)
		wire.PutIPv6Frag(f, h.NextHeader(), off, off+n < len(body), 5)
		out = append(out, ip6(64, wire.ProtoFragment, h.Src(), h.Dst(), append(f, body[off:off+n]...)))
	}
	return out
}

func TestFragments6(t *testing.T) {
	h := host6(t)
	src, us := addr("fd00::2"), addr("fd00::1")
	data := strings.Repeat("0123456789", 300)
	parts := fragment6(icmp6(64, src, us, echo6(data)), 1400)
	h.to6(parts[1])
	h.to6(parts[0])
	fs := h.to6(parts[2])
	if len(fs) != 3 {
		t.Fatalf("%d fragments in the reply, want 3", len(fs))
	}
	got := make([]byte, 8+len(data))
	for i, f := range fs {
		p, _ := wire.ParseIPv6(f[14:])
		fh := wire.IPv6Frag(p[40:])
		if p.NextHeader() != wire.ProtoFragment || fh.NextHeader() != wire.ProtoICMPv6 || fh.More() != (i < 2) {
			t.Errorf("fragment % x", p[:48])
		}
		copy(got[fh.Offset():], p[48:])
	}
	s, d := us.As16(), src.As16()
	if m := wire.ICMP(got); !m.ChecksumOK6(s[:], d[:]) || string(m.Body()) != data {
		t.Error("reply is not the request")
	}
	// An atomic fragment (RFC 6946) is a packet like any other.
	if _, m := h.msg6(h.one(h.to6(fragment6(icmp6(64, src, us, echo6("atom")), 1400)[0]))); string(m.Body()) != "atom" {
		t.Errorf("%q", m.Body())
	}
	// RFC 8200 §4.5: lengths that cannot be.
	odd := fragment6(icmp6(64, src, us, echo6(data)), 1400)[0]
	odd = ip6(64, wire.ProtoFragment, src, us, odd[40:len(odd)-1])
	if _, m := h.msg6(h.one(h.to6(odd))); m.Type() != wire.ICMPv6ParamProblem || m.Pointer() != 4 {
		t.Errorf("type %d pointer %d", m.Type(), m.Pointer())
	}
	far := make([]byte, 8+16)
	wire.PutIPv6Frag(far, wire.ProtoUDP, 65528, false, 9)
	if _, m := h.msg6(h.one(h.to6(ip6(64, wire.ProtoFragment, src, us, far)))); m.Type() != wire.ICMPv6ParamProblem || m.Pointer() != 42 {
		t.Errorf("type %d pointer %d", m.Type(), m.Pointer())
	}
	// RFC 4443 §3.3: fragments that do not all come.
	first := fragment6(icmp6(64, src, us, echo6(data)), 1200)[0]
	h.to6(first)
	h.clk.Advance(32 * time.Second)
	if _, m := h.msg6(h.one(h.frames())); m.Type() != wire.ICMPv6TimeExceeded || m.Code() != 1 || !bytes.Equal(m.Body(), first[:min(len(first), 1232)]) {
		t.Errorf("type %d code %d", m.Type(), m.Code())
	}
}

func udp6(src, dst netip.AddrPort, data string) []byte {
	b := make([]byte, wire.UDPLen+len(data))
	wire.PutUDP(b, src.Port(), dst.Port(), len(b), 0)
	copy(b[8:], data)
	s, d := src.Addr().As16(), dst.Addr().As16()
	be.PutUint16(b[6:], wire.UDPChecksum(wire.Sum(wire.PseudoSum6(s[:], d[:], wire.ProtoUDP, len(b)), b)))
	return ip6(64, wire.ProtoUDP, src.Addr(), dst.Addr(), b)
}

func TestUDPHandler6(t *testing.T) {
	h := host6(t)
	calls := 0
	h.stack.HandleUDP(netip.AddrPortFrom(netip.Addr{}, 7), func(c *RxContext, b *pkt.Buf, p []byte) {
		calls++
		o := c.Alloc()
		copy(o.Append(5), "first")
		if !c.Reply(o) {
			t.Error("Reply")
		}
		c.ReplyInPlace(b, copy(c.Room(), "second"))
	})
	fs := h.to6(udp6(ap("[fd00::2]:999"), ap("[fd00::1]:7"), "q"))
	if len(fs) != 2 {
		t.Fatalf("%d replies", len(fs))
	}
	for i, want := range []string{"first", "second"} {
		p, _ := wire.ParseIPv6(fs[i][14:])
		u, ok := wire.ParseUDP(p.Payload())
		if !ok || string(u.Payload()) != want || p.Dst() != addr("fd00::2") || p.Src() != addr("fd00::1") || u.SrcPort() != 7 || u.DstPort() != 999 ||
			wire.Fold(wire.Sum(wire.PseudoSum6(p[8:24], p[24:40], 17, len(u)), u)) != 0xffff {
			t.Errorf("% x", p)
		}
	}
	calls = 0
	none := udp6(ap("[fd00::2]:999"), ap("[fd00::1]:7"), "q")
	none[46], none[47] = 0, 0 // RFC 8200 §8.1: IPv6 must have a checksum
	h.to6(none)
	h.to6(udp6(ap("[ff02::2]:999"), ap("[fd00::1]:7"), "q"))
	h.to6(udp6(ap("[::]:999"), ap("[fd00::1]:7"), "q"))
	if calls != 0 {
		t.Errorf("%d calls", calls)
	}
	if fs := h.to6(udp6(ap("[fd00::2]:999"), ap("[fd00::1]:9"), "q")); len(fs) != 1 {
		t.Error("no port unreachable")
	} else if _, m := h.msg6(fs[0]); m.Type() != wire.ICMPv6Unreachable || m.Code() != wire.ICMPv6PortUnreachable {
		t.Errorf("type %d code %d", m.Type(), m.Code())
	}
	if fs := h.to6(udp6(netip.AddrPortFrom(peerLL, 999), netip.AddrPortFrom(ourLL, 9), "q")); len(fs) != 1 {
		t.Error("no port unreachable on link-local addresses")
	}
}

func TestICMPv6ErrorReachesFlow(t *testing.T) {
	h := host6(t)
	var got []ICMPError
	tu := demux.Tuple{Proto: wire.ProtoUDP, Local: ap("[fd00::1]:1000"), Remote: ap("[2001::9]:53")}
	if err := h.stack.Insert(tu, &Sink{OnError: func(e *ICMPError) { got = append(got, *e) }}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		typ  wire.ICMPType
		code uint8
		kind ErrorKind
		err  error
	}{
		{wire.ICMPv6Unreachable, 0, SoftError, syscall.ENETUNREACH},
		{wire.ICMPv6Unreachable, 1, HardError, errAdmin},
		{wire.ICMPv6Unreachable, 3, SoftError, syscall.EHOSTUNREACH},
		{wire.ICMPv6Unreachable, 4, HardError, syscall.ECONNREFUSED},
		{wire.ICMPv6TooBig, 0, TooBig, syscall.EMSGSIZE},
		{wire.ICMPv6TimeExceeded, 0, SoftError, syscall.EHOSTUNREACH},
		{wire.ICMPv6ParamProblem, 0, SoftError, syscall.EPROTO},
		{wire.ICMPv6ParamProblem, 1, HardError, syscall.ENOPROTOOPT},
	} {
		got = nil
		msg := make([]byte, 8)
		wire.PutICMP(msg, c.typ, c.code, 1300)
		h.to6(icmp6(64, addr("fd00::2"), addr("fd00::1"), append(msg, udp6(tu.Local, tu.Remote, "question")[:50]...)))
		if len(got) != 1 || got[0].Kind != c.kind || !errors.Is(got[0].Err, c.err) || got[0].Tuple != tu {
			t.Errorf("type %d code %d: %+v", c.typ, c.code, got)
		}
	}
	got = nil
	msg := make([]byte, 8)
	wire.PutICMP(msg, wire.ICMPv6Unreachable, 4, 0)
	for _, q := range [][]byte{udp6(tu.Local, tu.Remote, "")[:47], []byte("short"), append([]byte{0x45}, make([]byte, 60)...)} {
		h.to6(icmp6(64, addr("fd00::2"), addr("fd00::1"), append(append([]byte{}, msg...), q...)))
	}
	if len(got) != 0 {
		t.Errorf("%+v", got)
	}
}

// RFC 3810 §6.2: a query is answered with all groups.
func TestMLDQuery(t *testing.T) {
	h := host6(t)
	q := make([]byte, 28)
	wire.PutICMP(q, wire.ICMPv6MLDQuery, 0, 1000<<16)
	s, d := peerLL.As16(), allLL.As16()
	wire.ICMP(q).SetChecksum6(s[:], d[:])
	hbh := append([]byte{wire.ProtoICMPv6, 0, 5, 2, 0, 0, 1, 0}, q...)
	h.to6(ip6(1, wire.ProtoHopByHop, peerLL, allLL, hbh))
	h.clk.Advance(time.Second)
	p, m := h.msg6(h.one(h.frames()))
	// ff02::1:ff00:1 is the group of both fd00::1 and the link-local address.
	if m.Type() != wire.ICMPv6MLDv2Report || be.Uint16(m[6:]) != 1 || len(m) != 8+20 || p.HopLimit() != 1 || p.Src() != ourLL {
		t.Errorf("% x", m)
	}
}

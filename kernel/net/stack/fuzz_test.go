package stack

import (
	"encoding/binary"
	"testing"
	"time"

	"osv/kernel/net/wire"
	"osv/kernel/pkt"
)

// FuzzFrames throws any frames at a stack that has a bit of everything. Nothing
// may panic, and every buffer must come home (newHost checks). Input: frames,
// each with two bytes of length in front; the bits above 11 of the length say
// whether checksums and the station's address are put right first, since a
// fuzzer finds neither.
func FuzzFrames(f *testing.F) {
	add := func(fs ...[]byte) {
		var in []byte
		for _, fr := range fs {
			in = append(binary.BigEndian.AppendUint16(in, uint16(len(fr))|0x8000), fr...)
		}
		f.Add(in)
	}
	us := wire.MAC{2, 0, 0, 0, 0, 1}
	e4 := func(p []byte) []byte { return eth(us, peerMAC, wire.EtherIPv4, p) }
	e6 := func(p []byte) []byte { return eth(us, peerMAC, wire.EtherIPv6, p) }
	u := udp4(ap("10.0.0.2:999"), ap("10.0.0.1:7"), make([]byte, 100))
	add(e4(u))
	add(e4(fragments(u, 48)[0]), e4(fragments(u, 48)[1]), e4(fragments(u, 48)[2]))
	add(eth(wire.BroadcastMAC, peerMAC, wire.EtherARP, arp(wire.ARPRequest, peerMAC, "10.0.0.2", wire.MAC{}, "10.0.0.1")))
	add(e4(ip4(wire.IPv4Fields{Proto: wire.ProtoICMP, Src: 0x0a000002, Dst: 0x0a000001}, icmp4(wire.ICMPUnreachable, 4, 1000, udp4(ap("10.0.0.1:1"), ap("10.0.0.2:2"), nil)))))
	add(e6(icmp6(255, peerLL, allLL, nd6(wire.ICMPv6NeighborSol, 0, addr("fd00::1"), wire.NDSourceLLA, peerMAC))))
	add(e6(routerAdv(1800, prefixOpt("2001:db8::/64", 0xc0, 100, 100))))
	add(e6(fragment6(icmp6(64, addr("fd00::2"), addr("fd00::1"), echo6("0123456789abcdef")), 8)[0]))
	add(e4(udp4(ap("10.0.0.254:67"), ap("255.255.255.255:68"), make([]byte, 240))))
	f.Fuzz(func(t *testing.T, in []byte) {
		h := newHost(quietTB{t}, pkt.Caps{}, IfConfig{Addrs: []prefix{pfx("10.0.0.1/24"), pfx("fd00::1/64")}, DHCP: true})
		h.clk.Advance(0)
		h.stack.HandleUDP(ap("10.0.0.1:7"), func(c *RxContext, b *pkt.Buf, p []byte) { c.ReplyInPlace(b, min(len(p)*2, len(c.Room()))) })
		for len(in) >= 2 {
			n := int(binary.BigEndian.Uint16(in))
			in = in[2:]
			repair := n&0x8000 != 0
			n = min(n&0x7ff, len(in), 1514)
			fr := append([]byte(nil), in[:n]...)
			in = in[n:]
			if len(fr) < wire.EthLen {
				continue
			}
			if repair {
				fix(fr)
			}
			h.ask(fr)
			h.clk.Advance(time.Duration(n) * 10 * time.Millisecond)
		}
		h.clk.Advance(time.Minute)
	})
}

// quietTB keeps the stack's log out of the fuzzer's way.
type quietTB struct{ *testing.T }

func (quietTB) Logf(string, ...any) {}

// fix makes a frame one for us, with sound checksums where it has them.
func fix(f []byte) {
	if f[0]&1 == 0 {
		copy(f, []byte{2, 0, 0, 0, 0, 1})
	}
	if h, ok := wire.ParseIPv4(f[14:]); ok {
		h.SetChecksum()
		p := h.Payload()
		switch {
		case h.Proto() == wire.ProtoICMP && len(p) >= 8:
			wire.ICMP(p).SetChecksum()
		case h.Proto() == wire.ProtoUDP && len(p) >= 8:
			p[6], p[7] = 0, 0
		}
	} else if h, ok := wire.ParseIPv6(f[14:]); ok {
		x := h.Walk()
		if x.Status == wire.ExtOK && x.Proto == wire.ProtoICMPv6 && len(h) >= x.Off+8 {
			wire.ICMP(h[x.Off:]).SetChecksum6(h[8:24], h[24:40])
		}
	}
}

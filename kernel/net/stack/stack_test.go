package stack

import (
	"bytes"
	"testing"
	"time"

	"osv/kernel/net/wire"
	"osv/kernel/pkt"
)

// RFC 5227 §2.3: an address is announced when it is taken into use.
func TestAddressIsAnnounced(t *testing.T) {
	h := newHost(t, pkt.Caps{}, IfConfig{NoIPv6: true})
	check := func() {
		t.Helper()
		f := h.one(h.frames())
		a, ok := wire.ParseARP(f[14:])
		if !ok || a.Op() != wire.ARPRequest || a.SenderIP() != a.TargetIP() || a.SenderIP() != addr("10.0.0.1") || wire.Eth(f).Dst() != wire.BroadcastMAC {
			t.Errorf("announcement % x", f)
		}
	}
	check()
	h.clk.Advance(2 * time.Second)
	check()
	h.clk.Advance(time.Minute)
	if fs := h.frames(); len(fs) != 0 {
		t.Errorf("third announcement")
	}
}

func TestARPRequestIsAnswered(t *testing.T) {
	h := newHost(t, pkt.Caps{}, IfConfig{NoIPv6: true})
	f := h.one(h.ask(eth(wire.BroadcastMAC, peerMAC, wire.EtherARP, arp(wire.ARPRequest, peerMAC, "10.0.0.2", wire.MAC{}, "10.0.0.1"))))
	a, ok := wire.ParseARP(f[14:])
	if !ok || a.Op() != wire.ARPReply || a.SenderMAC() != h.ifc.MAC() || a.SenderIP() != addr("10.0.0.1") || a.TargetMAC() != peerMAC || a.TargetIP() != addr("10.0.0.2") {
		t.Errorf("reply % x", f)
	}
	if fs := h.ask(eth(wire.BroadcastMAC, peerMAC, wire.EtherARP, arp(wire.ARPRequest, peerMAC, "10.0.0.2", wire.MAC{}, "10.0.0.9"))); len(fs) != 0 {
		t.Error("answered for another's address")
	}
}

// peerKnown makes the stack know the peer's address.
func (h *host) peerKnown() {
	h.ifc.AddNeighbour(addr("10.0.0.2"), peerMAC)
}

// RFC 792: the data of an echo request comes back, source and destination turned.
func TestPing(t *testing.T) {
	for name, caps := range map[string]pkt.Caps{"plain": {}, "offload": {TxCsum: true, RxCsum: true}} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, caps, IfConfig{NoIPv6: true})
			h.peerKnown()
			req := icmp4(wire.ICMPEcho, 0, 7<<16|1, []byte("some data to come back"))
			pkt4 := ip4(wire.IPv4Fields{Proto: wire.ProtoICMP, Src: 0x0a000002, Dst: 0x0a000001}, req)
			ip := h.checkIP(h.one(h.ask(eth(h.ifc.MAC(), peerMAC, wire.EtherIPv4, pkt4))), wire.ProtoICMP)
			m := wire.ICMP(ip.Payload())
			if ip.Src() != addr("10.0.0.1") || ip.Dst() != addr("10.0.0.2") || m.Type() != wire.ICMPEchoReply || !m.ChecksumOK() || m.Ident() != 7 || m.Seq() != 1 || !bytes.Equal(m.Body(), req[8:]) {
				t.Errorf("reply % x", ip)
			}
		})
	}
}

// The handler gets what is for it and nothing else, and its reply in place is a
// sound datagram back to the sender.
func TestUDPHandlerReplyInPlace(t *testing.T) {
	for name, caps := range map[string]pkt.Caps{"plain": {}, "offload": {TxCsum: true}} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, caps, IfConfig{NoIPv6: true})
			calls := 0
			remove, err := h.stack.HandleUDP(ap("0.0.0.0:11211"), func(c *RxContext, b *pkt.Buf, p []byte) {
				calls++
				if string(p) != "get k" || c.Source() != ap("10.0.0.2:999") || c.Local() != ap("10.0.0.1:11211") || c.Queue() != 0 || c.Interface() != h.ifc {
					t.Errorf("%q from %v to %v", p, c.Source(), c.Local())
				}
				n := copy(c.Room(), "VALUE k 0 5\r\nhello\r\nEND\r\n")
				if !c.ReplyInPlace(b, n) {
					t.Error("no reply")
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			req := func(dst string) []byte {
				return eth(h.ifc.MAC(), peerMAC, wire.EtherIPv4, udp4(ap("10.0.0.2:999"), ap(dst), []byte("get k")))
			}
			f := h.one(h.ask(req("10.0.0.1:11211")))
			if e := wire.Eth(f); e.Dst() != peerMAC || e.Src() != h.ifc.MAC() {
				t.Errorf("%v to %v", e.Src(), e.Dst())
			}
			ip := h.checkIP(f, wire.ProtoUDP)
			u, ok := wire.ParseUDP(ip.Payload())
			if !ok || ip.Src() != addr("10.0.0.1") || ip.Dst() != addr("10.0.0.2") || u.SrcPort() != 11211 || u.DstPort() != 999 || string(u.Payload()) != "VALUE k 0 5\r\nhello\r\nEND\r\n" {
				t.Errorf("reply % x", ip)
			}
			if wire.Fold(wire.Sum(wire.PseudoSum4(ip.SrcU32(), ip.DstU32(), 17, len(u)), u)) != 0xffff {
				t.Error("reply has a bad UDP checksum")
			}
			// Others' traffic.
			calls = 0
			bad := req("10.0.0.1:11211")
			bad[len(bad)-1] ^= 1
			for what, f := range map[string][]byte{
				"another port":       req("10.0.0.1:11212"),
				"another address":    req("10.0.0.3:11211"),
				"broadcast":          req("10.0.0.255:11211"),
				"multicast":          req("224.0.0.1:11211"),
				"bad checksum":       bad,
				"source multicast":   eth(h.ifc.MAC(), peerMAC, wire.EtherIPv4, udp4(ap("224.0.0.2:999"), ap("10.0.0.1:11211"), []byte("get k"))),
				"source broadcast":   eth(h.ifc.MAC(), peerMAC, wire.EtherIPv4, udp4(ap("10.0.0.255:999"), ap("10.0.0.1:11211"), []byte("get k"))),
				"source unspecified": eth(h.ifc.MAC(), peerMAC, wire.EtherIPv4, udp4(ap("0.0.0.0:999"), ap("10.0.0.1:11211"), []byte("get k"))),
				"source loopback":    eth(h.ifc.MAC(), peerMAC, wire.EtherIPv4, udp4(ap("127.0.0.1:999"), ap("10.0.0.1:11211"), []byte("get k"))),
				"source ourselves":   eth(h.ifc.MAC(), peerMAC, wire.EtherIPv4, udp4(ap("10.0.0.1:999"), ap("10.0.0.1:11211"), []byte("get k"))),
				"source port 0":      eth(h.ifc.MAC(), peerMAC, wire.EtherIPv4, udp4(ap("10.0.0.2:0"), ap("10.0.0.1:11211"), []byte("get k"))),
				"another station":    eth(wire.MAC{2, 9, 9, 9, 9, 9}, peerMAC, wire.EtherIPv4, udp4(ap("10.0.0.2:999"), ap("10.0.0.1:11211"), []byte("get k"))),
				"ethernet broadcast": eth(wire.BroadcastMAC, peerMAC, wire.EtherIPv4, udp4(ap("10.0.0.2:999"), ap("10.0.0.1:11211"), []byte("get k"))),
			} {
				h.ask(f)
				if calls != 0 {
					t.Errorf("%s: the handler was called", what)
					calls = 0
				}
			}
			remove()
			h.ask(req("10.0.0.1:11211"))
			if calls != 0 {
				t.Error("called after remove")
			}
		})
	}
}

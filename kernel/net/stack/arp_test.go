package stack

import (
	"net/netip"
	"testing"
	"time"

	"osv/kernel/net/neigh"
	"osv/kernel/net/wire"
	"osv/kernel/pkt"
)

func countARP(fs [][]byte, op wire.ARPOp) (n int) {
	for _, f := range fs {
		if a, ok := wire.ParseARP(f[14:]); ok && wire.Eth(f).Type() == wire.EtherARP && a.Op() == op {
			n++
		}
	}
	return n
}

// RFC 5227 §2.4 (c): a conflict is answered with one announcement per 10 s.
func TestARPConflictIsDefended(t *testing.T) {
	h := newHost(t, pkt.Caps{}, IfConfig{NoIPv6: true})
	h.frames()
	h.clk.Advance(time.Minute)
	h.frames()
	claim := eth(wire.BroadcastMAC, peerMAC, wire.EtherARP, arp(wire.ARPRequest, peerMAC, "10.0.0.1", wire.MAC{}, "10.0.0.1"))
	if n := countARP(h.ask(claim), wire.ARPRequest); n != 1 {
		t.Errorf("%d defences, want 1", n)
	}
	if fs := h.ask(claim); len(fs) != 0 {
		t.Errorf("defended twice within 10 s: % x", fs)
	}
	h.clk.Advance(10 * time.Second)
	if n := countARP(h.ask(claim), wire.ARPRequest); n != 1 {
		t.Errorf("%d defences after 10 s, want 1", n)
	}
	if h.ifc.Conflicts() != 3 {
		t.Errorf("%d conflicts counted, want 3", h.ifc.Conflicts())
	}
	for _, e := range h.ifc.Neighbours() {
		t.Errorf("learnt %v", e)
	}
}

// RFC 5227 §2.1: three probes, then two announcements.
func TestARPProbeBeforeUse(t *testing.T) {
	h := newHost(t, pkt.Caps{}, IfConfig{NoIPv6: true, ProbeAddrs: true})
	if len(h.ifc.Addrs()) != 0 {
		t.Fatal("address in use before the probes")
	}
	probes := 0
	for range 40 {
		h.clk.Advance(250 * time.Millisecond)
		for _, f := range h.frames() {
			a, ok := wire.ParseARP(f[14:])
			if !ok || a.TargetIP() != addr("10.0.0.1") {
				t.Errorf("% x", f)
			} else if a.SenderIP() == netip.IPv4Unspecified() {
				probes++
			} else if probes != acdProbeNum {
				t.Errorf("announced after %d probes", probes)
			}
		}
	}
	if probes != acdProbeNum || len(h.ifc.Addrs()) != 1 {
		t.Errorf("%d probes, addresses %v", probes, h.ifc.Addrs())
	}
}

func TestARPProbeFindsConflict(t *testing.T) {
	for name, f := range map[string][]byte{
		"in use":       arp(wire.ARPReply, peerMAC, "10.0.0.1", wire.MAC{2, 0, 0, 0, 0, 1}, "0.0.0.0"),
		"also probing": arp(wire.ARPRequest, peerMAC, "0.0.0.0", wire.MAC{}, "10.0.0.1"),
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, pkt.Caps{}, IfConfig{NoIPv6: true, ProbeAddrs: true})
			h.clk.Advance(2 * time.Second)
			h.ask(eth(wire.BroadcastMAC, peerMAC, wire.EtherARP, f))
			h.clk.Advance(time.Minute)
			if len(h.ifc.Addrs()) != 0 || h.ifc.Conflicts() != 1 {
				t.Errorf("addresses %v, %d conflicts", h.ifc.Addrs(), h.ifc.Conflicts())
			}
		})
	}
}

// RFC 826: who asks us is learnt; who merely speaks is not.
func TestARPLearning(t *testing.T) {
	h := newHost(t, pkt.Caps{}, IfConfig{NoIPv6: true})
	send := func(dst wire.MAC, p []byte) { h.ask(eth(dst, peerMAC, wire.EtherARP, p)) }
	send(wire.BroadcastMAC, arp(wire.ARPRequest, peerMAC, "10.0.0.3", wire.MAC{}, "10.0.0.9"))
	send(h.ifc.MAC(), arp(wire.ARPReply, peerMAC, "10.0.0.4", h.ifc.MAC(), "10.0.0.1"))
	send(wire.BroadcastMAC, arp(wire.ARPRequest, wire.BroadcastMAC, "10.0.0.5", wire.MAC{}, "10.0.0.1"))
	send(wire.BroadcastMAC, arp(wire.ARPRequest, peerMAC, "224.0.0.5", wire.MAC{}, "10.0.0.1"))
	send(wire.BroadcastMAC, arp(wire.ARPRequest, peerMAC, "0.0.0.0", wire.MAC{}, "10.0.0.1"))
	send(wire.BroadcastMAC, arp(wire.ARPRequest, h.ifc.MAC(), "10.0.0.6", wire.MAC{}, "10.0.0.1"))
	send(wire.BroadcastMAC, arp(wire.ARPRequest, peerMAC, "10.0.0.7", wire.MAC{}, "10.0.0.1")[:20])
	if n := h.ifc.Neighbours(); len(n) != 0 {
		t.Errorf("learnt %v", n)
	}
	send(wire.BroadcastMAC, arp(wire.ARPRequest, peerMAC, "10.0.0.2", wire.MAC{}, "10.0.0.1"))
	if n := h.ifc.Neighbours(); len(n) != 1 || n[0] != (neigh.Info{Addr: addr("10.0.0.2"), MAC: peerMAC, State: neigh.Stale}) {
		t.Errorf("neighbours %v", n)
	}
}

// What is sent to an unknown neighbour waits for ARP and goes out after it.
func TestSendResolves(t *testing.T) {
	h := newHost(t, pkt.Caps{}, IfConfig{NoIPv6: true})
	h.frames()
	h.clk.Advance(time.Minute)
	h.frames()
	r, err := h.stack.Route(netip.Addr{}, addr("10.0.0.2"))
	if err != nil {
		t.Fatal(err)
	}
	send := func() {
		b := r.Alloc()
		wire.PutUDP(b.Append(wire.UDPLen), 1, 2, wire.UDPLen, 0)
		if !r.SendOne(wire.ProtoUDP, 6, b) {
			t.Error("not taken")
		}
	}
	send()
	if n := countARP(h.frames(), wire.ARPRequest); n != 1 {
		t.Fatalf("%d questions", n)
	}
	fs := h.ask(eth(h.ifc.MAC(), peerMAC, wire.EtherARP, arp(wire.ARPReply, peerMAC, "10.0.0.2", h.ifc.MAC(), "10.0.0.1")))
	ip := h.checkIP(h.one(fs), wire.ProtoUDP)
	if ip.Dst() != addr("10.0.0.2") || wire.Eth(fs[0]).Dst() != peerMAC || !ip.DF() {
		t.Errorf("% x", fs[0])
	}
	send()
	h.one(h.frames())
	// Stale, used: sent at once, then checked by unicast after 5 s.
	h.clk.Advance(32 * time.Second)
	send()
	h.one(h.frames())
	h.clk.Advance(5 * time.Second)
	f := h.one(h.frames())
	if wire.Eth(f).Dst() != peerMAC || countARP([][]byte{f}, wire.ARPRequest) != 1 {
		t.Errorf("probe % x", f)
	}
	r.Confirm() // heard from above
	h.clk.Advance(10 * time.Second)
	if fs := h.frames(); len(fs) != 0 {
		t.Errorf("asked although confirmed: % x", fs)
	}
	if r.Interface() != h.ifc || r.MTU() != 1500 || r.Local() != addr("10.0.0.1") || r.Remote() != addr("10.0.0.2") || r.Err() != nil {
		t.Error("route properties")
	}
}

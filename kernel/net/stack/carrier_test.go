package stack

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"osv/kernel/net/wire"
	"osv/kernel/pkt"
)

// replug takes the carrier away and gives it back.
func (h *host) replug() {
	l := h.net.Links[0]
	l.SetUp(false)
	l.SetUp(true)
}

// A link that comes back: DHCP asks whether the lease holds, once for a plug
// that bounced, and the address is announced.
func TestCarrierDHCP(t *testing.T) {
	h := newHost(t, pkt.Caps{}, IfConfig{NoIPv6: true, DHCP: true, Addrs: []netip.Prefix{}})
	d := &dhcpd{h: h, lease: 3600, opts: []byte{1, 4, 255, 255, 255, 0}}
	h.clk.Advance(0)
	d.run(false)
	h.clk.Advance(10 * time.Second) // the announcements of the address
	d.run(false)
	d.kinds, d.to = nil, nil
	for range 3 {
		h.replug()
	}
	announced := 0
	h.net.Links[0].SetTap(func(f []byte) {
		if a, ok := wire.ParseARP(f[min(len(f), wire.EthLen):]); ok && a.SenderIP() == addr("10.7.0.9") && a.TargetIP() == a.SenderIP() {
			announced++
		}
	})
	h.clk.Advance(carrierSettle - 1)
	if fs := h.frames(); len(fs) != 0 {
		t.Fatalf("%d frames before the plug has settled", len(fs))
	}
	h.clk.Advance(1)
	d.run(false)
	h.clk.Advance(acdAnnounceInterval)
	d.run(false)
	if !slices.Equal(d.kinds, []byte{3}) || d.to[0] != broadcast4 {
		t.Errorf("DHCP sent %v to %v, want one broadcast REQUEST", d.kinds, d.to)
	}
	if announced != acdAnnounceNum {
		t.Errorf("announced %d times", announced)
	}
	if l, ok := h.ifc.Lease(); !ok || l.Addr != pfx("10.7.0.9/24") {
		t.Errorf("lease %v, %v", l, ok)
	}
	// A carrier that went again before it settled.
	d.kinds = nil
	h.replug()
	h.net.Links[0].SetUp(false)
	h.clk.Advance(time.Second)
	h.net.Links[0].SetTap(nil)
	if d.run(false); len(d.kinds) != 0 {
		t.Errorf("without a carrier, DHCP sent %v", d.kinds)
	}
	h.net.Links[0].SetUp(true)
	h.clk.Advance(carrierSettle)
	if d.run(false); !slices.Equal(d.kinds, []byte{3}) {
		t.Errorf("with it, DHCP sent %v", d.kinds)
	}
}

func TestCarrierIPv6(t *testing.T) {
	h := newHost(t, pkt.Caps{}, IfConfig{Addrs: []netip.Prefix{pfx("fd00::1/64")}})
	h.clk.Advance(time.Minute)
	h.frames()
	h.replug()
	h.clk.Advance(carrierSettle)
	kinds := map[wire.ICMPType]int{}
	for _, f := range h.frames() {
		if wire.Eth(f).Type() != wire.EtherIPv6 {
			t.Fatalf("sent % x", f)
		}
		if p := f[wire.EthLen:]; p[6] == wire.ProtoICMPv6 {
			kinds[wire.ICMPType(p[wire.IPv6Len])]++
		}
	}
	if kinds[wire.ICMPv6RouterSol] != 1 || kinds[wire.ICMPv6NeighborAdv] != 2 {
		t.Errorf("sent %v, want one router solicitation and two advertisements", kinds)
	}
}

package stack

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"osv/kernel/net/wire"
	"osv/kernel/pkt"
)

// optionOf is an option of a DHCP message, "" without it.
func optionOf(m []byte, code byte) string {
	for o := m[240:]; len(o) > 1 && o[0] != 255; {
		if o[0] == 0 {
			o = o[1:]
			continue
		}
		if o[0] == code {
			return string(o[2 : 2+o[1]])
		}
		o = o[2+o[1]:]
	}
	return ""
}

// dhcpd plays a DHCP server on the peer's side.
type dhcpd struct {
	h     *host
	lease uint32
	opts  []byte
	kinds []byte // of what the client sent
	to    []netip.Addr
	names []string // host names in it
}

// run answers the client's messages; with mute it only writes them down.
func (d *dhcpd) run(mute bool) {
	d.h.t.Helper()
	for again := true; again; {
		again = false
		for _, f := range d.h.frames() {
			if wire.Eth(f).Type() != wire.EtherIPv4 {
				if a, ok := wire.ParseARP(f[14:]); ok && a.TargetIP() == addr("10.7.0.254") {
					d.h.peer.Inject(eth(d.h.ifc.MAC(), peerMAC, wire.EtherARP, arp(wire.ARPReply, peerMAC, "10.7.0.254", d.h.ifc.MAC(), a.SenderIP().String())))
					again = true
				}
				continue
			}
			p := d.h.checkIP(f, wire.ProtoUDP)
			u, ok := wire.ParseUDP(p.Payload())
			if !ok || u.DstPort() != 67 || u.SrcPort() != 68 || wire.Fold(wire.Sum(wire.PseudoSum4(p.SrcU32(), p.DstU32(), 17, len(u)), u)) != 0xffff {
				d.h.t.Errorf("client sent % x", p)
			}
			m := u.Payload()
			d.kinds, d.to = append(d.kinds, m[242]), append(d.to, p.Dst())
			d.names = append(d.names, optionOf(m, 12))
			if mute || m[242] != 1 && m[242] != 3 {
				continue
			}
			kind := byte(2)
			if m[242] == 3 {
				kind = 5
			}
			r := make([]byte, 240)
			copy(r, m[:240])
			r[0] = 2
			copy(r[16:], []byte{10, 7, 0, 9})
			r = append(r, 53, 1, kind, 54, 4, 10, 7, 0, 254, 51, 4, 0, 0, byte(d.lease>>8), byte(d.lease))
			r = append(append(r, d.opts...), 255)
			// To the address that it does not have yet, by unicast: the harder case.
			d.h.peer.Inject(eth(d.h.ifc.MAC(), peerMAC, wire.EtherIPv4, udp4(ap("10.7.0.254:67"), ap("10.7.0.9:68"), r)))
			again = true
		}
	}
}

func TestDHCPOnInterface(t *testing.T) {
	h := newHost(t, pkt.Caps{}, IfConfig{NoIPv6: true, DHCP: true, Hostname: "guest", Addrs: []netip.Prefix{}})
	d := &dhcpd{h: h, lease: 3600, opts: []byte{1, 4, 255, 255, 255, 0, 3, 4, 10, 7, 0, 254, 6, 4, 10, 7, 0, 53, 26, 2, 5, 120}}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := h.ifc.WaitAddr(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("WaitAddr: %v", err)
	}
	h.clk.Advance(0)
	d.run(false)
	if p, err := h.ifc.WaitAddr(ctx); err != nil || p != pfx("10.7.0.9/24") {
		t.Fatalf("address %v, %v; client sent %v", p, err, d.kinds)
	}
	if l, ok := h.ifc.Lease(); !ok || l.Server != addr("10.7.0.254") || h.ifc.MTU() != 1400 || len(h.stack.DNS()) != 1 {
		t.Errorf("lease %v, MTU %d, DNS %v", l, h.ifc.MTU(), h.stack.DNS())
	}
	if r, err := h.stack.Route(netip.Addr{}, addr("8.8.8.8")); err != nil || r.current().entry.Addr() != addr("10.7.0.254") {
		t.Errorf("default route: %v", err)
	}
	// Renewal is by unicast; a changed mask is applied.
	d.kinds, d.to = nil, nil
	d.opts[2+3] = 0 // 255.255.255.0 -> 255.255.0.0 by its third byte
	d.opts[4] = 0
	d.opts[5] = 0
	h.clk.Advance(30 * time.Minute)
	d.run(false)
	if len(d.kinds) != 1 || d.to[0] != addr("10.7.0.254") {
		t.Errorf("renewal: %v to %v", d.kinds, d.to)
	}
	if a := h.ifc.Addrs(); len(a) != 1 || a[0] != pfx("10.7.0.9/16") {
		t.Errorf("addresses after renewal %v", a)
	}
	// No answer any more: the address goes at the end.
	h.clk.Advance(61 * time.Minute)
	d.run(true)
	if _, ok := h.ifc.Lease(); ok || len(h.ifc.Addrs()) != 0 {
		t.Errorf("addresses after the end %v", h.ifc.Addrs())
	}
	if _, err := h.stack.Route(netip.Addr{}, addr("8.8.8.8")); err == nil {
		t.Error("default route after the end")
	}
}

func TestDHCPClasslessRoutes(t *testing.T) {
	h := newHost(t, pkt.Caps{}, IfConfig{NoIPv6: true, DHCP: true, ProbeAddrs: true, Addrs: []netip.Prefix{}})
	// As on a cloud: /32, router outside the prefix, and a route to it (RFC 3442).
	d := &dhcpd{h: h, lease: 3600, opts: []byte{1, 4, 255, 255, 255, 255, 3, 4, 1, 2, 3, 4, 121, 14, 32, 10, 128, 0, 1, 0, 0, 0, 0, 0, 10, 128, 0, 1}}
	h.clk.Advance(0)
	d.run(false)
	if len(h.ifc.Addrs()) != 0 {
		t.Error("address in use before the probes")
	}
	h.clk.Advance(10 * time.Second)
	h.frames()
	if a := h.ifc.Addrs(); len(a) != 1 || a[0] != pfx("10.7.0.9/32") {
		t.Fatalf("addresses %v", a)
	}
	if r, err := h.stack.Route(netip.Addr{}, addr("8.8.8.8")); err != nil || r.current().entry.Addr() != addr("10.128.0.1") {
		t.Errorf("default route: %v", err)
	}
}

// The name set for the stack is sent by every interface, also by later ones.
func TestSetHostname(t *testing.T) {
	h := newHost(t, pkt.Caps{}, IfConfig{NoIPv6: true, DHCP: true, Hostname: "boot", Addrs: []netip.Prefix{}})
	d := &dhcpd{h: h, lease: 3600, opts: []byte{1, 4, 255, 255, 255, 0}}
	h.clk.Advance(0)
	d.run(false)
	if !slices.Equal(d.names, []string{"boot", "boot"}) {
		t.Errorf("names %q", d.names)
	}
	d.names = nil
	if err := h.stack.SetHostname("db-1"); err != nil {
		t.Fatal(err)
	}
	h.clk.Advance(0)
	d.run(false)
	if !slices.Equal(d.names, []string{"db-1"}) {
		t.Errorf("names %q after the change", d.names)
	}
	if h.stack.SetHostname("no good") == nil {
		t.Error("a bad name is taken")
	}
	if _, err := h.stack.AddLink(h.net.Links[1], IfConfig{NoIPv6: true, Hostname: "no good"}); err == nil {
		t.Error("a bad name is taken by AddLink")
	}
	if _, err := h.stack.AddLink(h.net.Links[1], IfConfig{NoIPv6: true, DHCP: true}); err != nil {
		t.Fatal(err)
	}
	var sent []byte
	h.net.Links[1].SetTap(func(f []byte) { sent = append(sent, f...) })
	h.clk.Advance(0)
	h.stack.Poll()
	if name := optionOf(sent[wire.EthLen+wire.IPv4MinLen+wire.UDPLen:], 12); name != "db-1" {
		t.Errorf("the second interface sends %q", name)
	}
}

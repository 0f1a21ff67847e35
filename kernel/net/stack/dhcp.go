package stack

import (
	"context"
	"fmt"
	"net/netip"

	"osv/kernel/net/demux"
	"osv/kernel/net/dhcp"
	"osv/kernel/net/route"
	"osv/kernel/net/wire"
	"osv/kernel/pkt"
)

// The DHCP client on an interface: how its datagrams get in and out, and what a
// lease changes.

const (
	dhcpServerPort = 67 // RFC 2131 §4.1
	dhcpClientPort = 68
)

// dhcpInput hands a datagram for the DHCP client to it, whatever its address:
// the client has none yet. It reports whether it took b.
func (ifc *Interface) dhcpInput(b *pkt.Buf, m *demux.Meta) bool {
	c := ifc.dhcp.Load()
	if c == nil || m.Class != demux.UDP || m.V6 || m.DstPort != dhcpClientPort || m.SrcPort != dhcpServerPort || b.Next != nil {
		return false
	}
	if b.Flags&(pkt.CsumValid|pkt.CsumPartial) == 0 && !udpSumOK(m, b.Bytes(), b) {
		ifc.dropSlow(b, demux.BadSum)
		return true
	}
	c.Input(b.Bytes()[m.Payload:m.DataEnd])
	b.Put()
	return true
}

// dhcpSend sends a datagram from the client. Before there is an address no route
// leads anywhere, so broadcasts are built by hand.
func (ifc *Interface) dhcpSend(src, dst netip.Addr, payload []byte) {
	b := ifc.txBuf(0)
	if b == nil {
		return
	}
	copy(b.Append(len(payload)), payload)
	n := wire.UDPLen + len(payload)
	u := b.Prepend(wire.UDPLen)
	wire.PutUDP(u, dhcpClientPort, dhcpServerPort, n, 0)
	if dst != broadcast4 {
		if r, err := ifc.stack.routeOn(ifc, src, dst); err == nil {
			r.SendOne(wire.ProtoUDP, 6, b)
			return
		}
		dst = broadcast4
	}
	ifc.finishSum(b, wire.PseudoSum4(wire.U32(src), wire.U32(dst), wire.ProtoUDP, n), 6)
	e := b.Prepend(wire.EthLen + wire.IPv4MinLen)
	wire.PutIPv4(e[wire.EthLen:], &wire.IPv4Fields{TotalLen: wire.IPv4MinLen + n, TTL: defaultTTL, Proto: wire.ProtoUDP, Src: wire.U32(src), Dst: wire.U32(dst)})
	wire.Eth(e).SetType(wire.EtherIPv4)
	b.CsumStart += uint16(len(e))
	ifc.sendTo(0, wire.BroadcastMAC, b)
}

func (ifc *Interface) startDHCP(cfg IfConfig) {
	s := ifc.stack
	dc := dhcp.Config{
		Clock: s.clock, Random: s.cfg.Random, MAC: ifc.mac, Hostname: cfg.Hostname,
		Send: ifc.dhcpSend, Bound: ifc.dhcpBound, Lost: ifc.dhcpLost, Log: s.log,
	}
	if cfg.ProbeAddrs {
		dc.Check = func(p netip.Prefix, done func(bool)) { ifc.acd.probe(p, done) }
	}
	c := dhcp.New(dc)
	s.mu.Lock() // a name set meanwhile is either seen here, or SetHostname sees c
	if s.hostname != nil {
		s.logErr(c.SetHostname(*s.hostname))
	}
	ifc.dhcp.Store(c)
	s.mu.Unlock()
	ifc.atClose(c.Stop)
	c.Start()
}

// SetHostname makes name the one that DHCP sends on every interface from now on;
// a lease that is held is renewed at once, so that its server learns the name.
// The empty name is not sent. The error tells what is wrong with name.
func (s *Stack) SetHostname(name string) error {
	if err := dhcp.CheckHostname(name); err != nil {
		return fmt.Errorf("stack: %w", err)
	}
	s.mu.Lock()
	s.hostname = &name
	ifaces := s.Interfaces()
	s.mu.Unlock()
	for _, ifc := range ifaces {
		if c := ifc.dhcp.Load(); c != nil {
			s.logErr(c.SetHostname(name))
		}
	}
	return nil
}

// dhcpBound applies a lease. A renewal changes only what is new in it.
func (ifc *Interface) dhcpBound(l dhcp.Lease) {
	s := ifc.stack
	s.log("%s: %v", ifc.name, l)
	ifc.setApplying(true) // WaitAddr waits for the routes as well
	defer ifc.setApplying(false)
	if l.MTU != 0 {
		ifc.setMTU(l.MTU)
	}
	if len(l.DNS) > 0 {
		s.SetDNS(l.DNS)
	}
	for _, p := range ifc.Addrs() {
		if p.Addr() == l.Addr.Addr() && p != l.Addr { // the mask has changed
			ifc.RemoveAddr(p.Addr())
		}
	}
	if err := ifc.AddAddr(l.Addr); err != nil {
		s.log("%v", err)
		return
	}
	if len(l.Routes) > 0 { // RFC 3442: then the router option does not count
		for _, r := range l.Routes {
			if r.Router.IsValid() {
				ifc.onLink(r.Router)
			}
			s.logErr(s.routes.Add(route.Route[*Interface]{Prefix: r.Prefix, Gateway: r.Router, Iface: ifc, Source: l.Addr.Addr(), Metric: ifc.metric}))
		}
	} else if len(l.Routers) > 0 {
		s.logErr(ifc.SetGateway(l.Routers[0]))
	}
	ifc.lease.Store(&l)
}

func (ifc *Interface) dhcpLost(l dhcp.Lease) {
	ifc.lease.Store(nil)
	ifc.RemoveAddr(l.Addr.Addr())
	for _, r := range l.Routers {
		ifc.stack.routes.Remove(func(row routeRow) bool { return row.Iface == ifc && row.Gateway == r })
	}
}

// Lease is what DHCP granted, and whether there is a lease.
func (ifc *Interface) Lease() (dhcp.Lease, bool) {
	if l := ifc.lease.Load(); l != nil {
		return *l, true
	}
	return dhcp.Lease{}, false
}

func (ifc *Interface) setApplying(on bool) {
	ifc.mu.Lock()
	ifc.applying = on
	ifc.mu.Unlock()
	if !on {
		ifc.tellAddr()
	}
}

// tellAddr wakes those who wait for an address.
func (ifc *Interface) tellAddr() {
	ifc.mu.Lock()
	if ifc.addrWait != nil {
		close(ifc.addrWait)
		ifc.addrWait = nil
	}
	ifc.mu.Unlock()
}

// WaitAddr blocks until the interface has an IPv4 address, and the routes and
// name servers that came with it are in place.
func (ifc *Interface) WaitAddr(ctx context.Context) (netip.Prefix, error) {
	for {
		ifc.mu.Lock()
		for _, p := range ifc.addrs.Load().prefixes {
			if p.Addr().Is4() && !ifc.applying {
				ifc.mu.Unlock()
				return p, nil
			}
		}
		if ifc.addrWait == nil {
			ifc.addrWait = make(chan struct{})
		}
		w := ifc.addrWait
		ifc.mu.Unlock()
		select {
		case <-w:
		case <-ctx.Done():
			return netip.Prefix{}, ctx.Err()
		}
	}
}

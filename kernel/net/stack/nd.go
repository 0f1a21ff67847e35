package stack

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"osv/kernel/net/neigh"
	"osv/kernel/net/route"
	"osv/kernel/net/wire"
)

// Neighbour discovery (RFC 4861), stateless address configuration (RFC 4862),
// name servers from routers (RFC 8106), and the listener side of MLDv2 (RFC
// 3810) as far as switches that snoop need it.

// Protocol constants: RFC 4861 §10, RFC 4862 §5.1.
const (
	maxRouterSols     = 3
	routerSolInterval = 4 * time.Second
	dadTransmits      = 1
	retransTimer      = 1 * time.Second
	ndHopLimit        = 255
	twoHours          = 2 * time.Hour // RFC 4862 §5.5.3 (e)
	maxAutoAddrs      = 16
	maxRouters        = 8
)

// ndState is neighbour discovery on one interface.
type ndState struct {
	ifc    *Interface
	timers timers

	mu        sync.Mutex // guards all below
	tentative map[netip.Addr]*dadCheck
	routers   map[netip.Addr]int64   // default routers, and until when (ns)
	onlink    map[netip.Prefix]int64 // prefixes on the link, and until when
	auto      map[netip.Addr]int64   // addresses made from prefixes, and until when valid
	heardRA   bool
	expiry    int64 // ns; when the expiry timer is due, 0 for not set
}

const never = int64(1<<63 - 1)

type dadCheck struct {
	p    netip.Prefix
	sent int
}

// start begins with the link-local address.
func (n *ndState) start() {
	n.check(netip.PrefixFrom(wire.LinkLocal6(n.ifc.mac), 64))
}

func (n *ndState) stop() { n.timers.stop() }

// check runs duplicate address detection (RFC 4862 §5.4) on an address and then
// adds it to the interface.
func (n *ndState) check(p netip.Prefix) {
	a := p.Addr()
	n.mu.Lock()
	if n.tentative == nil {
		n.tentative = map[netip.Addr]*dadCheck{}
	}
	if n.tentative[a] != nil || n.ifc.hasAddr(a) || len(n.tentative) >= maxAutoAddrs {
		n.mu.Unlock()
		return
	}
	d := &dadCheck{p: p}
	n.tentative[a] = d
	n.mu.Unlock()
	n.sendReport(wire.SolicitedNode(a))
	var step func()
	step = func() {
		n.mu.Lock()
		if n.tentative[a] != d {
			n.mu.Unlock()
			return // a conflict ended it
		}
		if d.sent < dadTransmits {
			d.sent++
			n.mu.Unlock()
			n.sendNS(a, netip.IPv6Unspecified(), wire.SolicitedNode(a), wire.MAC{})
			n.timers.after(retransTimer, step)
			return
		}
		delete(n.tentative, a)
		n.mu.Unlock()
		n.ifc.stack.logErr(n.ifc.AddAddr(p))
		if a.IsLinkLocalUnicast() {
			n.solicitRouters(0)
		}
	}
	step()
}

// conflict ends the use of an address that somebody else has.
func (n *ndState) conflict(a netip.Addr, by wire.MAC) {
	n.mu.Lock()
	d := n.tentative[a]
	delete(n.tentative, a)
	n.mu.Unlock()
	if d != nil {
		n.ifc.stack.log("%s: %v is in use by %v, not used here", n.ifc.name, a, by)
	} else {
		n.ifc.stack.log("%s: %v also claims our address %v", n.ifc.name, by, a)
	}
	n.ifc.acd.mu.Lock()
	n.ifc.acd.count++
	n.ifc.acd.mu.Unlock()
}

// member reports whether this interface listens to a group.
func (n *ndState) member(g netip.Addr) bool {
	if g == allNodes || g == ifaceNodes {
		return true
	}
	for _, p := range n.ifc.addrs.Load().v6 {
		if wire.SolicitedNode(p.Addr()) == g {
			return true
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for a := range n.tentative {
		if wire.SolicitedNode(a) == g {
			return true
		}
	}
	return false
}

// announce makes an address known: to switches that snoop, and to neighbours
// that may know it elsewhere (RFC 4861 §7.2.6).
func (n *ndState) announce(a netip.Addr) {
	n.sendReport(wire.SolicitedNode(a))
	n.sendNA(a, a, allNodes, wire.MulticastMAC6(allNodes), 0x20)
}

// solicit is the neighbour cache's question.
func (n *ndState) solicit(a netip.Addr, to wire.MAC) {
	src, ok := n.ifc.source(a)
	if !ok {
		return
	}
	dst := a
	if to == (wire.MAC{}) {
		dst = wire.SolicitedNode(a)
	}
	n.sendNS(a, src, dst, to)
}

// send sends an ICMPv6 message of this link. body makes it, checksum left out.
func (n *ndState) send(src, dst netip.Addr, mac wire.MAC, size int, body func(b []byte)) {
	b := n.ifc.txBuf(0)
	if b == nil {
		return
	}
	m := wire.ICMP(b.Append(size))
	body(m)
	s, d := src.As16(), dst.As16()
	m.SetChecksum6(s[:], d[:])
	wire.PutIPv6(b.Prepend(wire.IPv6Len), 0, 0, size, wire.ProtoICMPv6, ndHopLimit, src, dst)
	wire.Eth(b.Prepend(wire.EthLen)).SetType(wire.EtherIPv6)
	if mac == (wire.MAC{}) {
		mac = wire.MulticastMAC6(dst)
	}
	n.ifc.sendTo(0, mac, b)
}

func (n *ndState) sendNS(target, src, dst netip.Addr, mac wire.MAC) {
	opt, size := wire.NDSourceLLA, wire.NeighborMsgLen+8
	if src.IsUnspecified() {
		opt, size = 0, wire.NeighborMsgLen
	}
	n.send(src, dst, mac, size, func(b []byte) {
		wire.PutNeighborMsg(b, wire.ICMPv6NeighborSol, 0, target, opt, n.ifc.mac)
	})
}

func (n *ndState) sendNA(target, src, dst netip.Addr, mac wire.MAC, flags uint8) {
	n.send(src, dst, mac, wire.NeighborMsgLen+8, func(b []byte) {
		wire.PutNeighborMsg(b, wire.ICMPv6NeighborAdv, flags, target, wire.NDTargetLLA, n.ifc.mac)
	})
}

// solicitRouters asks for a router advertisement, a few times (RFC 4861 §6.3.7).
// The random delay before the first, which is for many hosts that boot at once
// on one wire, is left out.
func (n *ndState) solicitRouters(sent int) {
	n.mu.Lock()
	heard := n.heardRA
	n.mu.Unlock()
	if heard || sent >= maxRouterSols {
		return
	}
	if src, ok := n.ifc.source(allRouters); ok {
		n.send(src, allRouters, wire.MAC{}, wire.RouterSolLen+8, func(b []byte) {
			wire.PutICMP(b, wire.ICMPv6RouterSol, 0, 0)
			wire.PutNDLLA(b[wire.RouterSolLen:], wire.NDSourceLLA, n.ifc.mac)
		})
	}
	n.timers.after(routerSolInterval, func() { n.solicitRouters(sent + 1) })
}

// again asks for routers on a link that came back.
func (n *ndState) again() {
	n.mu.Lock()
	n.heardRA = false
	n.mu.Unlock()
	n.solicitRouters(0)
}

// sendReport tells multicast routers and switches that we listen to groups
// (RFC 3810 §5.2).
func (n *ndState) sendReport(groups ...netip.Addr) {
	if n.ifc.loopback || len(groups) == 0 {
		return
	}
	b := n.ifc.txBuf(0)
	if b == nil {
		return
	}
	const changeToExclude = 4
	size := wire.ICMPLen + 20*len(groups)
	if size > b.Tailroom() {
		b.Put()
		return
	}
	m := wire.ICMP(b.Append(size))
	wire.PutICMP(m, wire.ICMPv6MLDv2Report, 0, uint32(len(groups)))
	for i, g := range groups {
		r := m[wire.ICMPLen+20*i:]
		be.PutUint32(r, changeToExclude<<24)
		a := g.As16()
		copy(r[4:20], a[:])
	}
	src, ok := n.ifc.source(mldRouters)
	if !ok || !src.IsLinkLocalUnicast() {
		src = netip.IPv6Unspecified() // RFC 3810 §5.2.13
	}
	s, d := src.As16(), mldRouters.As16()
	m.SetChecksum6(s[:], d[:])
	copy(b.Prepend(8), []byte{wire.ProtoICMPv6, 0, 5, 2, 0, 0, 1, 0}) // router alert, PadN
	wire.PutIPv6(b.Prepend(wire.IPv6Len), 0, 0, 8+size, wire.ProtoHopByHop, 1, src, mldRouters)
	wire.Eth(b.Prepend(wire.EthLen)).SetType(wire.EtherIPv6)
	n.ifc.sendTo(0, wire.MulticastMAC6(mldRouters), b)
}

// groups are the solicited-node groups of all addresses.
func (n *ndState) groups() []netip.Addr {
	var gs []netip.Addr
	add := func(a netip.Addr) {
		if g := wire.SolicitedNode(a); !slices.Contains(gs, g) {
			gs = append(gs, g)
		}
	}
	for _, p := range n.ifc.addrs.Load().v6 {
		add(p.Addr())
	}
	n.mu.Lock()
	for a := range n.tentative {
		add(a)
	}
	n.mu.Unlock()
	return gs
}

// input takes in a message that came from this link.
func (n *ndState) input(m wire.ICMP, src, dst netip.Addr) {
	switch m.Type() {
	case wire.ICMPv6NeighborSol:
		n.inputNS(m, src, dst)
	case wire.ICMPv6NeighborAdv:
		n.inputNA(m, dst)
	case wire.ICMPv6RouterAdv:
		n.inputRA(m, src)
	case wire.ICMPv6MLDQuery:
		// RFC 3810 §6.2: answer within the time that the query allows, in ms.
		if src.IsLinkLocalUnicast() {
			limit := time.Duration(max(be.Uint16(m[4:]), 1)) * time.Millisecond
			n.timers.after(n.ifc.stack.between(0, limit), func() { n.sendReport(n.groups()...) })
		}
	}
}

func (n *ndState) inputNS(b wire.ICMP, src, dst netip.Addr) {
	m, ok := wire.ParseNeighborMsg(b)
	if !ok || m.Target().IsMulticast() {
		return
	}
	lla, hasLLA := wire.NDLLA(m.Options(), wire.NDSourceLLA)
	probe := src.IsUnspecified()
	if probe && (hasLLA || dst != wire.SolicitedNode(m.Target())) { // RFC 4861 §7.1.1
		return
	}
	target := m.Target()
	n.mu.Lock()
	checking := n.tentative[target] != nil
	n.mu.Unlock()
	if checking { // RFC 4862 §5.4.3
		if probe {
			n.conflict(target, wire.MAC{})
		}
		return
	}
	if !n.ifc.addrs.Load().has6(target) {
		return
	}
	if probe { // somebody wants our address: tell everyone
		n.sendNA(target, target, allNodes, wire.MulticastMAC6(allNodes), 0x20)
		return
	}
	if hasLLA {
		n.ifc.neigh.Learn(neigh.News{Addr: src, MAC: lla, Override: true, Create: true})
		n.sendNA(target, target, src, lla, 0x60)
		return
	}
	// Asked without an address to answer to: by way of the cache.
	if e := n.ifc.neigh.Get(src); e != nil {
		if mac, st := e.MAC(); st != neigh.Incomplete && st != neigh.Gone {
			n.sendNA(target, target, src, mac, 0x60)
		} else {
			n.solicit(src, wire.MAC{})
		}
	}
}

func (n *ndState) inputNA(b wire.ICMP, dst netip.Addr) {
	m, ok := wire.ParseNeighborMsg(b)
	if !ok || m.Target().IsMulticast() || dst.IsMulticast() && m.Solicited() {
		return
	}
	target := m.Target()
	lla, hasLLA := wire.NDLLA(m.Options(), wire.NDTargetLLA)
	n.mu.Lock()
	checking := n.tentative[target] != nil
	n.mu.Unlock()
	if checking || n.ifc.addrs.Load().has6(target) {
		n.conflict(target, lla)
		return
	}
	if hasLLA {
		n.ifc.neigh.Learn(neigh.News{Addr: target, MAC: lla, Solicited: m.Solicited(), Override: m.Override()})
	}
}

func (n *ndState) inputRA(b wire.ICMP, src netip.Addr) {
	m, ok := wire.ParseRouterAdv(b)
	if !ok || !src.IsLinkLocalUnicast() || n.ifc.noIPv6 { // RFC 4861 §6.1.2
		return
	}
	s, ifc := n.ifc.stack, n.ifc
	now := s.clock.Now()
	until := func(d time.Duration) int64 {
		if d == wire.Forever {
			return never
		}
		return now + int64(d)
	}
	n.mu.Lock()
	n.heardRA = true
	if n.routers == nil {
		n.routers, n.onlink, n.auto = map[netip.Addr]int64{}, map[netip.Prefix]int64{}, map[netip.Addr]int64{}
	}
	var todo []func() // outside the lock
	_, known := n.routers[src]
	switch lt := m.Lifetime(); {
	case lt == 0 && known:
		delete(n.routers, src)
		todo = append(todo, func() { n.dropRouter(src) })
	case lt > 0 && (known || len(n.routers) < maxRouters):
		n.routers[src] = until(lt)
		if !known {
			todo = append(todo, func() {
				s.logErr(s.routes.Add(route.Route[*Interface]{Prefix: netip.PrefixFrom(netip.IPv6Unspecified(), 0), Gateway: src, Iface: ifc, Metric: ifc.metric + 1024}))
			})
		}
	}
	var dns []netip.Addr
	for o := m.Options(); ; {
		kind, opt, rest, ok := wire.NextNDOption(o)
		if !ok {
			break
		}
		o = rest
		switch kind {
		case wire.NDSourceLLA:
			mac := wire.MAC(opt[2:8])
			todo = append(todo, func() { ifc.neigh.Learn(neigh.News{Addr: src, MAC: mac, Override: true, Create: true}) })
		case wire.NDMTU:
			if mtu, ok := wire.NDMTUValue(opt); ok && mtu >= wire.IPv6MinMTU {
				todo = append(todo, func() { ifc.setMTU(mtu) })
			}
		case wire.NDPrefix:
			if p, ok := wire.ParseNDPrefix(opt); ok && !p.Prefix().Addr().IsLinkLocalUnicast() && !p.Prefix().Addr().IsMulticast() {
				todo = append(todo, n.prefix(p, until, now)...)
			}
		case wire.NDRDNSS:
			for i := 0; ; i++ {
				lt, a, ok := wire.NDRDNSSServers(opt, i)
				if !ok {
					break
				}
				if lt > 0 && len(dns) < 4 {
					dns = append(dns, a)
				}
			}
		}
	}
	n.schedule()
	n.mu.Unlock()
	for _, f := range todo {
		f()
	}
	if len(dns) > 0 && len(s.DNS()) == 0 {
		s.SetDNS(dns)
	}
}

// prefix takes in a prefix information option and returns what is to be done
// without the lock. Caller must hold mu.
func (n *ndState) prefix(p wire.NDPrefixInfo, until func(time.Duration) int64, now int64) (todo []func()) {
	s, ifc := n.ifc.stack, n.ifc
	pf := p.Prefix()
	if p.OnLink() {
		_, known := n.onlink[pf]
		switch {
		case p.Valid() == 0 && known:
			delete(n.onlink, pf)
			todo = append(todo, func() { n.dropPrefix(pf) })
		case p.Valid() > 0 && (known || len(n.onlink) < maxAutoAddrs):
			n.onlink[pf] = until(p.Valid())
			if !known {
				todo = append(todo, func() { s.logErr(s.routes.Add(route.Route[*Interface]{Prefix: pf, Iface: ifc})) })
			}
		}
	}
	if !p.Autonomous() || pf.Bits() != 64 || p.Valid() < p.Preferred() {
		return todo
	}
	a16, ll := pf.Addr().As16(), wire.LinkLocal6(ifc.mac).As16()
	copy(a16[8:], ll[8:])
	a := netip.AddrFrom16(a16)
	end, known := n.auto[a]
	switch v := p.Valid(); {
	case !known:
		if v > 0 && len(n.auto) < maxAutoAddrs {
			n.auto[a] = until(v)
			// Whether the prefix is on the link, the other flag says (RFC 4862
			// §5.5.3): the address itself brings no route.
			todo = append(todo, func() { n.check(netip.PrefixFrom(a, 128)) })
		}
	case v > twoHours || until(v) > end:
		n.auto[a] = until(v)
	case end-now > int64(twoHours):
		n.auto[a] = until(twoHours) // an unauthenticated message may not end it at once
	}
	return todo
}

// schedule sets the expiry timer to what ends first. Caller must hold mu.
func (n *ndState) schedule() {
	next := never
	for _, u := range n.routers {
		next = min(next, u)
	}
	for _, u := range n.onlink {
		next = min(next, u)
	}
	for _, u := range n.auto {
		next = min(next, u)
	}
	if next == never || n.expiry != 0 && n.expiry <= next {
		return // nothing ends, or the timer that is set comes first and looks again
	}
	n.expiry = next
	n.timers.after(time.Duration(next-n.ifc.stack.clock.Now()), n.expire)
}

// expire ends what was not renewed in time.
func (n *ndState) expire() {
	now := n.ifc.stack.clock.Now()
	var todo []func()
	n.mu.Lock()
	n.expiry = 0
	for a, u := range n.routers {
		if now >= u {
			delete(n.routers, a)
			todo = append(todo, func() { n.dropRouter(a) })
		}
	}
	for p, u := range n.onlink {
		if now >= u {
			delete(n.onlink, p)
			todo = append(todo, func() { n.dropPrefix(p) })
		}
	}
	for a, u := range n.auto {
		if now >= u {
			delete(n.auto, a)
			delete(n.tentative, a)
			todo = append(todo, func() { n.ifc.RemoveAddr(a) })
		}
	}
	n.schedule()
	n.mu.Unlock()
	for _, f := range todo {
		f()
	}
}

func (n *ndState) dropRouter(a netip.Addr) {
	n.ifc.stack.routes.Remove(func(r routeRow) bool { return r.Iface == n.ifc && r.Gateway == a })
}

func (n *ndState) dropPrefix(p netip.Prefix) {
	n.ifc.stack.routes.Remove(func(r routeRow) bool {
		return r.Iface == n.ifc && r.Prefix == p && !r.Gateway.IsValid() && !r.Source.IsValid()
	})
}

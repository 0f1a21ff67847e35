package stack

import (
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"osv/kernel/net/demux"
	"osv/kernel/net/dhcp"
	"osv/kernel/net/neigh"
	"osv/kernel/net/route"
	"osv/kernel/net/wire"
	"osv/kernel/pkt"
)

// IfConfig says how an interface gets its addresses.
type IfConfig struct {
	Addrs   []netip.Prefix // address and prefix length, of either family
	Gateway netip.Addr     // default router of IPv4; may be the zero Addr
	Metric  int            // of this interface's default routes
	MTU     int            // 0: the link's; otherwise at most that
	DHCP    bool           // get an IPv4 address by DHCP, in the background
	// NoIPv6 leaves out the link-local address, router solicitation and SLAAC.
	NoIPv6 bool
	// ProbeAddrs makes IPv4 addresses wait for RFC 5227's probes (about 6 s)
	// before they are used. Without, they are announced at once and defended.
	ProbeAddrs bool
	// Hostname is sent with DHCP, if not empty; Stack.SetHostname changes it.
	Hostname string
}

// Interface is a link with addresses.
type Interface struct {
	stack    *Stack
	link     pkt.Link
	caps     pkt.Caps
	name     string
	mac      wire.MAC
	mtu      atomic.Int32
	metric   int
	loopback bool
	noIPv6   bool

	addrs atomic.Pointer[addrSet]
	neigh *neigh.Cache
	loops []*rxLoop
	plugs []plug // by transmit queue
	acd   acd
	nd    ndState

	dhcp  atomic.Pointer[dhcp.Client] // nil without one
	lease atomic.Pointer[dhcp.Lease]
	count counters

	mu       sync.Mutex // guards changes of addrs, and all below
	onClose  []func()
	addrWait chan struct{} // closed when an address comes
	applying bool          // a lease is being applied
	carrier  carrier
}

// addrSet is an interface's addresses; replaced as a whole.
type addrSet struct {
	v4       []addr4
	v6       []netip.Prefix
	prefixes []netip.Prefix // all, in the order of adding

	// For the receive path, from v4: the first address, 1<<32 without one, and
	// what no sender has for its address.
	first4 uint64
	avoid4 []uint32
}

type addr4 struct{ ip, mask uint32 }

func (a addr4) broadcast() uint32 {
	if a.mask >= 0xfffffffe { // /31 and /32 have none (RFC 3021)
		return 0
	}
	return a.ip | ^a.mask
}

// counters are an interface's; the receive loops add to them once per batch.
type counters struct {
	fast   atomic.Uint64 // frames that went to a channel or handler
	slow   atomic.Uint64 // frames that went to the slow path
	reason [demux.NumReasons]atomic.Uint64
	wakes  [WakeClasses]atomic.Uint64
}

// WakeClasses is how many sizes of wake-ups are told apart.
const WakeClasses = 6

// woke counts a time that a receive loop did not sleep, by the frames that it found.
func (c *counters) woke(frames int) {
	if frames > 0 {
		c.wakes[min(bits.Len(uint(frames-1)>>3), WakeClasses-1)].Add(1)
	}
}

func (c *counters) drop(r demux.Reason) { c.reason[r].Add(1) }

// Counters are the counts of one interface.
type Counters struct {
	Fast, Slow uint64
	Reasons    map[string]uint64 // drops and slow-path frames by reason; only what is not 0
	// Wakes counts how often receive loops were awake, by how many frames they found
	// before they slept again: at most 8, 16, 32, 64 or 128, or more.
	Wakes [WakeClasses]uint64
}

// Counters copies the counts.
func (ifc *Interface) Counters() Counters {
	c := Counters{Fast: ifc.count.fast.Load(), Slow: ifc.count.slow.Load(), Reasons: map[string]uint64{}}
	for r := range ifc.count.reason {
		if n := ifc.count.reason[r].Load(); n != 0 {
			c.Reasons[demux.Reason(r).String()] = n
		}
	}
	for i := range c.Wakes {
		c.Wakes[i] = ifc.count.wakes[i].Load()
	}
	return c
}

// AddLink makes an interface of a link and starts its receive loops. With DHCP
// it returns before there is an address; see Interface.WaitAddr.
func (s *Stack) AddLink(link pkt.Link, cfg IfConfig) (*Interface, error) {
	return s.addLink(link, cfg, false)
}

func (s *Stack) addLink(link pkt.Link, cfg IfConfig, loop bool) (*Interface, error) {
	caps := link.Caps()
	if caps.RxQueues < 1 || caps.TxQueues < 1 || caps.MTU < 68 {
		return nil, fmt.Errorf("stack: link %s: %d receive queues, %d transmit queues, MTU %d: need 1, 1, 68", link.Name(), caps.RxQueues, caps.TxQueues, caps.MTU)
	}
	ifc := &Interface{stack: s, link: link, caps: caps, name: link.Name(), mac: wire.MAC(caps.MAC), metric: cfg.Metric, loopback: loop, noIPv6: cfg.NoIPv6}
	mtu := caps.MTU
	if cfg.MTU != 0 {
		if cfg.MTU < 68 || cfg.MTU > caps.MTU {
			return nil, fmt.Errorf("stack: link %s: MTU %d: want 68 to %d", ifc.name, cfg.MTU, caps.MTU)
		}
		mtu = cfg.MTU
	}
	if err := dhcp.CheckHostname(cfg.Hostname); err != nil {
		return nil, fmt.Errorf("stack: link %s: %w", ifc.name, err)
	}
	for _, p := range cfg.Addrs {
		if err := checkAddr(ifc.name, p); err != nil {
			return nil, err
		}
	}
	if gw := cfg.Gateway; gw.IsValid() && (!gw.Is4() || gw.IsMulticast() || gw.IsUnspecified()) {
		return nil, fmt.Errorf("stack: link %s: gateway %v is not an IPv4 address of a host", ifc.name, gw)
	}
	ifc.mtu.Store(int32(mtu))
	ifc.addrs.Store(newAddrSet(nil))
	ifc.carrier.timers.clock = s.clock
	ifc.acd.ifc, ifc.acd.timers.clock = ifc, s.clock
	ifc.nd.ifc, ifc.nd.timers.clock = ifc, s.clock
	ifc.neigh = neigh.New(neigh.Config{Clock: s.clock, Solicit: ifc.solicit, Send: ifc.sendResolved, Fail: ifc.unresolved})
	ifc.plugs = make([]plug, caps.TxQueues)
	for q := range ifc.plugs {
		ifc.plugs[q].held = make([]*pkt.Buf, 0, 4*s.cfg.Batch)
	}
	for q := range caps.RxQueues {
		ifc.loops = append(ifc.loops, newRxLoop(ifc, q))
	}

	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, ErrClosed
	}
	if s.Interface(ifc.name) != nil {
		s.mu.Unlock()
		return nil, fmt.Errorf("stack: there is an interface %s already", ifc.name)
	}
	all := append(slices.Clone(s.Interfaces()), ifc)
	s.ifaces.Store(&all)
	if !s.cfg.Manual {
		for _, l := range ifc.loops {
			s.loops.Go(l.run)
			s.loops.Go(l.runSlow)
		}
	}
	s.mu.Unlock()

	for _, p := range cfg.Addrs {
		if cfg.ProbeAddrs && !loop && p.Addr().Is4() {
			ifc.acd.probe(p, func(ok bool) {
				if ok {
					s.logErr(ifc.AddAddr(p))
				}
			})
			continue
		}
		if err := ifc.AddAddr(p); err != nil {
			return nil, err
		}
	}
	if cfg.Gateway.IsValid() {
		if err := ifc.SetGateway(cfg.Gateway); err != nil {
			return nil, err
		}
	}
	if !loop && !cfg.NoIPv6 {
		ifc.nd.start()
	}
	if cfg.DHCP {
		ifc.startDHCP(cfg)
	}
	if !loop {
		ifc.watchCarrier()
	}
	return ifc, nil
}

func (s *Stack) logErr(err error) {
	if err != nil {
		s.log("%v", err)
	}
}

// Name is the link's name, MAC its address, MTU the largest IP packet in bytes.
func (ifc *Interface) Name() string  { return ifc.name }
func (ifc *Interface) MAC() wire.MAC { return ifc.mac }
func (ifc *Interface) MTU() int      { return int(ifc.mtu.Load()) }

// Link is the link below.
func (ifc *Interface) Link() pkt.Link { return ifc.link }

// Stack is the stack the interface belongs to.
func (ifc *Interface) Stack() *Stack { return ifc.stack }

// IsLoopback reports whether frames sent on it come back.
func (ifc *Interface) IsLoopback() bool { return ifc.loopback }

// Neighbours are the entries of the neighbour cache.
func (ifc *Interface) Neighbours() []neigh.Info { return ifc.neigh.Snapshot() }

// AddNeighbour configures a station's address, so that it is never asked for.
func (ifc *Interface) AddNeighbour(a netip.Addr, m wire.MAC) { ifc.neigh.AddPermanent(a, m) }

// HasAddr reports whether a is one of the interface's addresses.
func (ifc *Interface) HasAddr(a netip.Addr) bool { return ifc.hasAddr(a) }

// Addrs are the addresses with their prefix lengths.
func (ifc *Interface) Addrs() []netip.Prefix { return slices.Clone(ifc.addrs.Load().prefixes) }

// AddAddr adds an address and the route to its prefix, and announces it.
func (ifc *Interface) AddAddr(p netip.Prefix) error {
	if err := checkAddr(ifc.name, p); err != nil {
		return err
	}
	a := p.Addr().WithZone("")
	p = netip.PrefixFrom(a, p.Bits())
	ifc.mu.Lock()
	if ifc.addrs.Load().has(a) {
		ifc.mu.Unlock()
		return nil
	}
	ifc.setAddrs(append(ifc.Addrs(), p))
	ifc.mu.Unlock()
	if err := ifc.stack.routes.Add(route.Route[*Interface]{Prefix: p, Iface: ifc, Source: a}); err != nil {
		return err
	}
	if !ifc.loopback {
		if a.Is4() {
			ifc.acd.announce(a)
		} else {
			ifc.nd.announce(a)
		}
	}
	ifc.tellAddr()
	return nil
}

func checkAddr(name string, p netip.Prefix) error {
	if a := p.Addr(); !p.IsValid() || a.IsMulticast() || a.IsUnspecified() || a.Is4In6() || a == broadcast4 {
		return fmt.Errorf("stack: %s: %v is not an address for an interface", name, p)
	}
	return nil
}

// RemoveAddr takes an address away, with the routes that depend on it.
func (ifc *Interface) RemoveAddr(a netip.Addr) bool {
	ifc.mu.Lock()
	all := ifc.Addrs()
	kept := slices.DeleteFunc(slices.Clone(all), func(p netip.Prefix) bool { return p.Addr() == a })
	if len(kept) == len(all) {
		ifc.mu.Unlock()
		return false
	}
	ifc.setAddrs(kept)
	ifc.mu.Unlock()
	ifc.stack.routes.Remove(func(r route.Route[*Interface]) bool { return r.Iface == ifc && r.Source == a })
	return true
}

// setAddrs replaces the addresses. Caller must hold mu.
func (ifc *Interface) setAddrs(ps []netip.Prefix) {
	ifc.addrs.Store(newAddrSet(ps))
	ifc.stack.routes.Bump()
}

func newAddrSet(ps []netip.Prefix) *addrSet {
	set := &addrSet{prefixes: ps, first4: 1 << 32}
	for _, p := range ps {
		if !p.Addr().Is4() {
			set.v6 = append(set.v6, p)
			continue
		}
		a := addr4{wire.U32(p.Addr()), ^uint32(0) << (32 - p.Bits())}
		if len(set.v4) == 0 {
			set.first4 = uint64(a.ip)
		}
		set.v4 = append(set.v4, a)
		set.avoid4 = append(set.avoid4, a.ip)
		if b := a.broadcast(); b != 0 {
			set.avoid4 = append(set.avoid4, b)
			if a.mask != 0 {
				set.avoid4 = append(set.avoid4, a.ip&a.mask)
			}
		}
	}
	return set
}

// SetGateway makes gw the default router of its family on this interface.
func (ifc *Interface) SetGateway(gw netip.Addr) error {
	all := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if gw.Is6() {
		all = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	ifc.stack.routes.Remove(func(r route.Route[*Interface]) bool {
		return r.Iface == ifc && r.Prefix == all && r.Gateway != gw
	})
	ifc.onLink(gw)
	return ifc.stack.routes.Add(route.Route[*Interface]{Prefix: all, Gateway: gw, Iface: ifc, Metric: ifc.metric})
}

// onLink makes sure that a router can be reached directly: a cloud's address may
// have a prefix of /32 that holds no router.
func (ifc *Interface) onLink(gw netip.Addr) {
	if gw.Is6() && gw.IsLinkLocalUnicast() {
		return
	}
	if _, ok := ifc.stack.routes.LookupIf(gw, func(r *routeRow) bool { return r.Iface == ifc && !r.Gateway.IsValid() }); !ok {
		ifc.stack.logErr(ifc.stack.routes.Add(routeRow{Prefix: netip.PrefixFrom(gw, gw.BitLen()), Iface: ifc}))
	}
}

// setMTU changes the MTU, within what link and protocol allow.
func (ifc *Interface) setMTU(n int) {
	if n >= 576 && n <= ifc.caps.MTU && int32(n) != ifc.mtu.Load() {
		ifc.mtu.Store(int32(n))
		ifc.stack.routes.Bump()
	}
}

func (s *addrSet) has(a netip.Addr) bool {
	for _, p := range s.prefixes {
		if p.Addr() == a {
			return true
		}
	}
	return false
}

func (s *addrSet) has4(ip uint32) bool {
	for i := range s.v4 {
		if s.v4[i].ip == ip {
			return true
		}
	}
	return false
}

func (s *addrSet) has6(a netip.Addr) bool {
	for i := range s.v6 {
		if s.v6[i].Addr() == a {
			return true
		}
	}
	return false
}

// isBroadcast reports a directed broadcast address of one of the prefixes
// (RFC 1122 §3.2.1.3 (c)), or the network's own number (its old form).
func (s *addrSet) isBroadcast(ip uint32) bool {
	for _, a := range s.v4 {
		if b := a.broadcast(); b != 0 && (ip == b || ip == a.ip&a.mask && a.mask != 0) {
			return true
		}
	}
	return false
}

// source4 reports whether ip may be the address of another host: unicast, not
// loopback, not ours, and no broadcast of ours.
func (s *addrSet) source4(ip uint32) bool {
	if ip-1 >= 0xe0000000-1 || ip>>24 == 127 { // 0.0.0.0, multicast, class E, broadcast
		return false
	}
	for _, a := range s.avoid4 {
		if a == ip {
			return false
		}
	}
	return true
}

// hasAddr reports whether a is an address of this interface; for the loopback
// interface, also any of 127/8.
func (ifc *Interface) hasAddr(a netip.Addr) bool {
	if ifc.loopback && a.Is4() && a.As4()[0] == 127 {
		return true
	}
	return ifc.addrs.Load().has(a)
}

// local4 reports whether a packet to ip that came in here is for this host: the
// address is this interface's (strong host model, RFC 1122 §3.3.4.2), or the
// packet came over the loopback interface.
func (ifc *Interface) local4(set *addrSet, ip uint32) bool {
	if set.has4(ip) {
		return true
	}
	return ifc.loopback && (ip>>24 == 127 || ifc.stack.IsLocal(wire.Addr4(ip)))
}

func (ifc *Interface) local6(set *addrSet, a netip.Addr) bool {
	return set.has6(a) || ifc.loopback && ifc.stack.IsLocal(a)
}

// source picks the address to send from to dst: of the same scope, then with the
// longest prefix in common, then the first (RFC 6724 §5, rules 1, 2 and 8: what
// is left of them where all addresses are on one interface and none deprecated).
func (ifc *Interface) source(dst netip.Addr) (netip.Addr, bool) {
	var best netip.Addr
	bestRank := -1
	linkScope := dst.IsLinkLocalUnicast() || dst.IsLinkLocalMulticast() || dst.IsInterfaceLocalMulticast()
	for _, p := range ifc.addrs.Load().prefixes {
		a := p.Addr()
		if a.Is4() != dst.Is4() {
			continue
		}
		rank := commonBits(a, dst)
		if p.Contains(dst) {
			rank += 256
		}
		if a.IsLinkLocalUnicast() == linkScope {
			rank += 512
		}
		if rank > bestRank {
			best, bestRank = a, rank
		}
	}
	return best, best.IsValid()
}

// commonBits is the length of the prefix that two addresses of a family share.
func commonBits(a, b netip.Addr) int {
	x, y := a.As16(), b.As16()
	for i := range x {
		if d := x[i] ^ y[i]; d != 0 {
			return i*8 + bits.LeadingZeros8(d)
		}
	}
	return 128
}

// transmit sends frames and puts back what the link does not take.
func (ifc *Interface) transmit(q int, frames []*pkt.Buf) int {
	n := ifc.link.TxBatch(q, frames)
	for _, b := range frames[n:] {
		b.Put()
		ifc.count.drop(demux.TxFull)
	}
	return n
}

func (ifc *Interface) transmit1(q int, b *pkt.Buf) bool {
	one := single(b)
	n := ifc.transmit(q, one[:])
	singles.Put(one)
	return n == 1
}

// txBuf is an empty transmit buffer, or nil and a count.
func (ifc *Interface) txBuf(q int) *pkt.Buf {
	b := ifc.link.TxBuf(q)
	if b == nil {
		ifc.count.drop(demux.NoBuf)
	}
	return b
}

// txQueue is the transmit queue that goes with a receive queue.
func (ifc *Interface) txQueue(rxq int) int { return rxq % ifc.caps.TxQueues }

// atClose arranges for f to run when the interface closes.
func (ifc *Interface) atClose(f func()) {
	ifc.mu.Lock()
	ifc.onClose = append(ifc.onClose, f)
	ifc.mu.Unlock()
}

func (ifc *Interface) close() error {
	ifc.mu.Lock()
	fs := ifc.onClose
	ifc.onClose = nil
	ifc.mu.Unlock()
	ifc.unwatchCarrier()
	for _, f := range fs {
		f()
	}
	ifc.acd.stop()
	ifc.nd.stop()
	err := ifc.link.Close()
	for _, l := range ifc.loops {
		l.stopSlow()
	}
	if err != nil {
		return fmt.Errorf("stack: close %s: %w", ifc.name, err)
	}
	return nil
}

// drain puts back what is left once the loops have stopped.
func (ifc *Interface) drain() {
	for _, l := range ifc.loops {
		l.drain()
	}
	ifc.neigh.Close()
}

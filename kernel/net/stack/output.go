package stack

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"

	"osv/kernel/net/demux"
	"osv/kernel/net/ip"
	"osv/kernel/net/neigh"
	"osv/kernel/net/route"
	"osv/kernel/net/wire"
	"osv/kernel/pkt"
)

// Packet path, transmit, step 3 of 4.
// From: tcp/output.go, udp/write.go.  To: the link's TxBatch.
// May not: allocate or lock where the next hop is known.

// Errors of Route, wrapped with the addresses.
var (
	ErrNoRoute  = errors.New("no route to host")
	ErrNoSource = errors.New("no address of that family to send from")
	ErrTooBig   = errors.New("message too long")
	ErrTxFull   = errors.New("no buffer space available")
)

// Route is the way from a local address to a remote one. It may be kept for the
// life of a flow: it notices changes of routes, addresses and path MTU by
// itself. Any goroutine may use it.
type Route struct {
	stack  *Stack
	pin    *Interface // the only way out, nil where any will do
	local  netip.Addr
	remote netip.Addr
	// TOS and TTL are those of each packet; set before the first use.
	TOS, TTL uint8

	// queue is the transmit queue, modulo those there are, for buffers and
	// packets alike: a flow goes by one, to stay in order. Routes take turns, so
	// that flows spread over all, also because some devices (Linux's tap) steer
	// what they receive of a flow to the queue that it is sent on.
	queue int

	state atomic.Pointer[routeState]
}

// routeState is what a Route found when it looked last.
type routeState struct {
	gen      uint64
	ifc      *Interface
	mtu      int          // of the path
	entry    *neigh.Entry // of the next hop; nil where mac is fixed
	mac      uint64       // of a group, of broadcast, or of loopback, as wire.MAC.Word
	from     uint64       // the interface's own, likewise
	src, dst uint32       // of IPv4
	sum4     uint32       // of the pseudo header without protocol and length
	v6       bool
	err      error
}

// Route finds the way to remote. The zero local, or an unspecified one, asks for
// the address that suits. A route to a link-local IPv6 address needs a zone,
// the interface's name.
func (s *Stack) Route(local, remote netip.Addr) (*Route, error) {
	return s.routeOn(nil, local, remote)
}

// routeOn is Route by way of one interface.
func (s *Stack) routeOn(ifc *Interface, local, remote netip.Addr) (*Route, error) {
	local, remote = local.Unmap(), remote.Unmap()
	if !remote.IsValid() || remote.IsUnspecified() {
		return nil, fmt.Errorf("stack: route to %v: %w", remote, ErrNoRoute)
	}
	zone := remote.Zone()
	if zone != "" {
		if ifc = s.Interface(zone); ifc == nil {
			return nil, fmt.Errorf("stack: route to %v: no such interface: %w", remote, ErrNoRoute)
		}
	}
	r := &Route{stack: s, pin: ifc, remote: remote.WithZone(""), TTL: defaultTTL, queue: int(s.nextQueue.Add(1))}
	out, _, err := s.nextHop(ifc, local, r.remote)
	if err != nil {
		return nil, err
	}
	switch {
	case local.IsValid() && !local.IsUnspecified():
		if local.Is4() != remote.Is4() {
			return nil, fmt.Errorf("stack: route from %v to %v: %w", local, remote, ErrNoSource)
		}
		r.local = local.WithZone("")
	case out.loopback && !r.remote.IsMulticast():
		r.local = r.remote // talking to oneself
	default:
		src, ok := s.preferredSource(out, r.remote)
		if !ok {
			return nil, fmt.Errorf("stack: route to %v by %s: %w", remote, out.name, ErrNoSource)
		}
		r.local = src
	}
	if ifc == nil && (r.remote.IsMulticast() || r.remote.Is6() && r.remote.IsLinkLocalUnicast()) {
		r.pin = out // means something on that link only
	}
	if st := r.resolve(); st.err != nil {
		return nil, st.err
	}
	return r, nil
}

func (s *Stack) preferredSource(out *Interface, dst netip.Addr) (netip.Addr, bool) {
	if row, ok := s.routes.LookupIf(dst, func(row *routeRow) bool { return row.Iface == out }); ok && row.Source.IsValid() && row.Source.Is4() == dst.Is4() && out.hasAddr(row.Source) {
		return row.Source, true
	}
	return out.source(dst)
}

// nextHop is the routing decision: the interface and the on-link address to send
// to. An interface given is not left, but for our own addresses.
func (s *Stack) nextHop(ifc *Interface, local, dst netip.Addr) (*Interface, netip.Addr, error) {
	if s.lo != nil && (s.IsLocal(dst) || dst.Is4() && dst.As4()[0] == 127) {
		return s.lo, dst, nil
	}
	if dst == broadcast4 || dst.IsMulticast() || dst.IsLinkLocalUnicast() && dst.Is6() {
		// On some link. Which one is told by ifc, by the local address, or, where
		// there is no choice, by there being one only.
		if ifc == nil {
			ifc = s.ifaceFor(local)
		}
		if ifc == nil {
			return nil, dst, fmt.Errorf("stack: route to %v: which interface? %w", dst, ErrNoRoute)
		}
		return ifc, dst, nil
	}
	row, ok := s.routes.LookupIf(dst, func(row *routeRow) bool {
		if ifc != nil {
			return row.Iface == ifc
		}
		return !row.Iface.loopback
	})
	if !ok {
		return nil, dst, fmt.Errorf("stack: route to %v: %w", dst, ErrNoRoute)
	}
	if row.Gateway.IsValid() {
		return row.Iface, row.Gateway, nil
	}
	return row.Iface, dst, nil
}

type routeRow = route.Route[*Interface]

var broadcast4 = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// ifaceFor is the interface that has the address; for none, the first that is
// not loopback.
func (s *Stack) ifaceFor(a netip.Addr) *Interface {
	var first *Interface
	for _, ifc := range s.Interfaces() {
		if a.IsValid() && !a.IsUnspecified() && ifc.hasAddr(a) {
			return ifc
		}
		if first == nil && !ifc.loopback {
			first = ifc
		}
	}
	return first
}

// current returns a state that is up to date.
func (r *Route) current() *routeState {
	st := r.state.Load()
	if st != nil && st.gen == r.stack.routes.Generation() && st.err == nil {
		return st
	}
	return r.resolve()
}

// resolve looks the route up anew.
func (r *Route) resolve() *routeState {
	s := r.stack
	st := &routeState{gen: s.routes.Generation(), v6: r.remote.Is6()}
	ifc, next, err := s.nextHop(r.pin, r.local, r.remote)
	if err != nil {
		st.err = err
		r.state.Store(st)
		return st
	}
	st.ifc = ifc
	st.mtu = ifc.MTU()
	st.from = ifc.mac.Word()
	if !st.v6 {
		st.src, st.dst = wire.U32(r.local), wire.U32(r.remote)
		st.sum4 = wire.PseudoSum4(st.src, st.dst, 0, 0)
	}
	if m := s.pmtu.get(r.remote, s.clock.Now()); m != 0 && m < st.mtu {
		st.mtu = m
	}
	switch {
	case ifc.loopback:
	case next.IsMulticast():
		st.mac = multicastMAC(next).Word()
	case next == broadcast4 || next.Is4() && ifc.addrs.Load().isBroadcast(wire.U32(next)):
		st.mac = wire.BroadcastMAC.Word()
	default:
		if st.entry = ifc.neigh.Get(next); st.entry == nil {
			st.err = fmt.Errorf("stack: route to %v: neighbour cache of %s is full: %w", r.remote, ifc.name, ErrTxFull)
			// Not stored: the next packet tries again.
			return st
		}
	}
	r.state.Store(st)
	return st
}

func multicastMAC(a netip.Addr) wire.MAC {
	if a.Is4() {
		return wire.MulticastMAC4(a)
	}
	return wire.MulticastMAC6(a)
}

// Local and Remote are the two ends.
func (r *Route) Local() netip.Addr  { return r.local }
func (r *Route) Remote() netip.Addr { return r.remote }

// MTU is the largest IP packet in bytes that the path takes whole, as far as known.
func (r *Route) MTU() int { return r.current().mtu }

// Interface is the way out; nil where there is none any more.
func (r *Route) Interface() *Interface { return r.current().ifc }

// Caps are those of the link; zero where there is none any more.
func (r *Route) Caps() pkt.Caps {
	if ifc := r.current().ifc; ifc != nil {
		return ifc.caps
	}
	return pkt.Caps{}
}

// Err says why nothing can be sent, nil where it can.
func (r *Route) Err() error { return r.current().err }

// Alloc returns an empty transmit buffer with headroom for all headers, or nil.
func (r *Route) Alloc() *pkt.Buf {
	st := r.current()
	if st.ifc == nil {
		return nil
	}
	return st.ifc.txBuf(st.ifc.txQueue(r.queue))
}

// Confirm tells the neighbour cache that the peer answers (RFC 4861 §7.3.1).
func (r *Route) Confirm() {
	if st := r.state.Load(); st != nil && st.entry != nil {
		if _, s := st.entry.MAC(); s != neigh.Reachable && s != neigh.Permanent {
			st.ifc.neigh.Confirm(st.entry)
		}
	}
}

// Send sends packets of one transport protocol and returns how many it took, in
// order from the front; those are the stack's now, which also drops them where
// the next hop does not answer. The others are the caller's, unchanged. It rings
// the doorbell once, unless some have to be fragmented. frames is read by the
// link: a slice on the caller's stack would move to the heap.
//
// Each begins with its transport header. sumOff is the offset in it of the
// checksum field, which is 0 and is filled in here (whole, or the pseudo
// header's sum for the device to go on from); negative where there is none to
// fill in. Packets beyond the path MTU are fragmented, other than those with
// GSO set.
func (r *Route) Send(p wire.Proto, sumOff int, frames []*pkt.Buf) int {
	st, mac, known := r.link()
	if st.err != nil {
		return 0
	}
	if !known {
		for i, b := range frames {
			if st.tooBig(b) {
				if !r.fragment(st, st.ifc.txQueue(r.queue), p, sumOff, b) {
					return i
				}
				continue
			}
			r.prepare(st, mac, p, sumOff, b)
			b.Queue = uint16(st.ifc.txQueue(r.queue))
			st.ifc.neigh.Resolve(st.entry, b)
		}
		return len(frames)
	}
	q := st.ifc.txQueue(r.queue)
	for i := 0; i < len(frames); {
		j := i
		for ; j < len(frames) && !st.tooBig(frames[j]); j++ {
			r.prepare(st, mac, p, sumOff, frames[j])
		}
		if j > i {
			if took := st.flush(q, frames[i:j], sumOff); took < j-i {
				return i + took
			}
		}
		if j < len(frames) {
			if !r.fragment(st, q, p, sumOff, frames[j]) {
				return j
			}
			j++
		}
		i = j
	}
	return len(frames)
}

// SendOne is Send of one packet; it is the stack's whether or not it was taken.
func (r *Route) SendOne(p wire.Proto, sumOff int, b *pkt.Buf) bool {
	one := single(b)
	n := r.Send(p, sumOff, one[:])
	singles.Put(one)
	if n != 1 {
		b.Put()
	}
	return n == 1
}

// singles holds slices of one, for calls of a Link's TxBatch with one frame.
var singles = sync.Pool{New: func() any { return new([1]*pkt.Buf) }}

func single(b *pkt.Buf) *[1]*pkt.Buf {
	one := singles.Get().(*[1]*pkt.Buf)
	one[0] = b
	return one
}

// link is the current state and the next hop's Ethernet address, as
// wire.MAC.Word, if known.
func (r *Route) link() (st *routeState, mac uint64, known bool) {
	st = r.current()
	if st.entry == nil {
		return st, st.mac, true
	}
	mac, state := st.entry.Word()
	switch state {
	case neigh.Gone:
		st = r.resolve()
		if st.err != nil || st.entry == nil {
			return st, st.mac, true
		}
		if mac, state = st.entry.Word(); state == neigh.Incomplete || state == neigh.Gone {
			return st, 0, false
		}
	case neigh.Incomplete:
		return st, 0, false
	}
	if state == neigh.Stale {
		st.ifc.neigh.Used(st.entry)
	}
	return st, mac, true
}

func (st *routeState) headerLen() int {
	if st.v6 {
		return wire.IPv6Len
	}
	return wire.IPv4MinLen
}

// tooBig reports a packet that cannot go as it is: longer than the path takes,
// or in more pieces than the link does.
func (st *routeState) tooBig(b *pkt.Buf) bool {
	if b.Next == nil {
		return b.GSO == pkt.GSONone && b.Len()+st.headerLen() > st.mtu
	}
	n, total := 0, 0
	for p := b; p != nil; p = p.Next {
		n++
		total += p.Len()
	}
	return n > st.ifc.caps.TxScatter || b.GSO == pkt.GSONone && total+st.headerLen() > st.mtu
}

// flush sends prepared frames and undoes the preparation of those not taken.
func (st *routeState) flush(q int, frames []*pkt.Buf, sumOff int) int {
	n := st.ifc.plugs[q].take(frames)
	if n < len(frames) {
		n += st.ifc.link.TxBatch(q, frames[n:])
	}
	if n < len(frames) {
		st.ifc.count.reason[demux.TxFull].Add(uint64(len(frames) - n))
		for _, b := range frames[n:] {
			b.Trim(wire.EthLen + st.headerLen())
			b.Flags &^= pkt.CsumPartial
			b.CsumStart = 0
			if sumOff >= 0 {
				be.PutUint16(b.Bytes()[sumOff:], 0)
			}
		}
	}
	return n
}

// pseudo is the sum of the pseudo header for n bytes.
func (r *Route) pseudo(st *routeState, p wire.Proto, n int) uint32 {
	if !st.v6 {
		return st.sum4 + uint32(p) + uint32(n)
	}
	s, d := r.local.As16(), r.remote.As16()
	return wire.PseudoSum6(s[:], d[:], p, n)
}

// prepare puts checksum, IP and Ethernet header to a packet.
func (r *Route) prepare(st *routeState, mac uint64, p wire.Proto, sumOff int, b *pkt.Buf) {
	n := b.TotalLen()
	if sumOff >= 0 {
		st.ifc.finishSum(b, r.pseudo(st, p, n), sumOff)
	}
	size := wire.EthLen + wire.IPv4MinLen
	if st.v6 {
		size = wire.EthLen + wire.IPv6Len
		e := b.Prepend(size)
		wire.PutIPv6(e[wire.EthLen:], r.TOS, 0, n, p, r.TTL, r.local, r.remote)
		be.PutUint64(e, mac<<16|st.from>>32)
		be.PutUint32(e[8:], uint32(st.from))
		be.PutUint16(e[12:], uint16(wire.EtherIPv6))
	} else {
		r.putIPv4(st, mac, p, n, (*[wire.EthLen + wire.IPv4MinLen]byte)(b.Prepend(size)))
	}
	if b.Flags&pkt.CsumPartial != 0 {
		b.CsumStart += uint16(size)
	}
}

// putIPv4 writes the headers of a packet with n bytes of payload, as wire.PutIPv4
// would, in words and with the sum from what is known of all its packets.
func (r *Route) putIPv4(st *routeState, mac uint64, p wire.Proto, n int, h *[wire.EthLen + wire.IPv4MinLen]byte) {
	const dontFragment = 0x4000
	first := 0x4500 | uint32(r.TOS)
	total := uint32(uint16(wire.IPv4MinLen + n))
	life := uint32(r.TTL)<<8 | uint32(p)
	sum := ^wire.Fold(first + total + dontFragment + life + st.sum4)
	be.PutUint64(h[0:], mac<<16|st.from>>32)
	be.PutUint64(h[8:], st.from<<32|uint64(wire.EtherIPv4)<<16|uint64(first))
	be.PutUint64(h[16:], uint64(total)<<48|dontFragment<<16|uint64(life))
	be.PutUint64(h[24:], uint64(sum)<<48|uint64(st.src)<<16|uint64(st.dst>>16))
	be.PutUint16(h[32:], uint16(st.dst))
}

// fragment sends a packet in pieces that fit the path (RFC 791 §3.2, RFC 8200
// §4.5) and puts it back. It reports false, and leaves it to the caller, where
// the packet is longer than IP allows.
func (r *Route) fragment(st *routeState, q int, p wire.Proto, sumOff int, b *pkt.Buf) bool {
	if b.GSO != pkt.GSONone { // more pieces than the link said it takes
		st.ifc.count.drop(demux.TxFull)
		b.Put()
		return true
	}
	total := b.TotalLen()
	hl := st.headerLen()
	if st.v6 {
		hl += wire.IPv6FragLen
	}
	size := (st.mtu - hl) &^ 7
	whole := total+st.headerLen() <= st.mtu // in too many pieces, not too long
	if whole {
		size = total
	}
	if total > wire.IPv4MaxLen-wire.IPv4MinLen || size < 8 {
		return false
	}
	ifc := st.ifc
	if sumOff >= 0 {
		sum := wire.UDPChecksum(ip.SumChain(r.pseudo(st, p, total), b, 0, total))
		be.PutUint16(b.Bytes()[sumOff:], sum)
	}
	id := r.stack.ipID.Add(1)
	alloc := func() *pkt.Buf {
		f := ifc.txBuf(q)
		if f != nil && f.Tailroom() < size {
			f.Put()
			return nil
		}
		return f
	}
	ip.Split(b, size, alloc, func(f *pkt.Buf, off int, more bool) {
		n := f.Len()
		t := wire.EtherIPv4
		switch {
		case st.v6 && whole:
			t = wire.EtherIPv6
			wire.PutIPv6(f.Prepend(wire.IPv6Len), r.TOS, 0, n, p, r.TTL, r.local, r.remote)
		case st.v6:
			t = wire.EtherIPv6
			wire.PutIPv6Frag(f.Prepend(wire.IPv6FragLen), p, off, more, id)
			wire.PutIPv6(f.Prepend(wire.IPv6Len), r.TOS, 0, n+wire.IPv6FragLen, wire.ProtoFragment, r.TTL, r.local, r.remote)
		default:
			wire.PutIPv4(f.Prepend(wire.IPv4MinLen), &wire.IPv4Fields{TOS: r.TOS, TotalLen: wire.IPv4MinLen + n, ID: uint16(id), DF: whole, MF: more, FragOffset: off, TTL: r.TTL, Proto: p, Src: st.src, Dst: st.dst})
		}
		e := wire.Eth(f.Prepend(wire.EthLen))
		e.SetType(t)
		if st.entry == nil {
			ifc.sendTo(q, wire.MACOf(st.mac), f)
		} else {
			f.Queue = uint16(q)
			ifc.neigh.Resolve(st.entry, f)
		}
	})
	b.Put()
	return true
}

// sendTo completes the Ethernet header and sends one frame.
func (ifc *Interface) sendTo(q int, mac wire.MAC, b *pkt.Buf) bool {
	e := wire.Eth(b.Bytes())
	e.SetDst(mac)
	e.SetSrc(ifc.mac)
	return ifc.transmit1(q, b)
}

// sendResolved is the neighbour cache's way out. Queue is the transmit queue here.
func (ifc *Interface) sendResolved(mac wire.MAC, bs []*pkt.Buf) {
	for _, b := range bs {
		ifc.sendTo(int(b.Queue), mac, b)
	}
}

// Package demux is the classifier: from a frame to the one sink that owns its
// tuple, with one look at the headers.
//
// Packet path, receive, step 2 of 5.
// From: a driver's RxBatch (through stack/rx.go).  To: netchan/netchan.go.
// May not: allocate, block, take a lock, look past the transport header.
//
// A sink is whatever the user of the table says (the type parameter): the stack
// keeps a net channel or a handler in it. Sinks are found by exact tuple
// (established TCP connections, connected UDP sockets) and by local port (bound
// UDP sockets and handlers, TCP listeners). Exact tuples go through a keyed
// hash (SipHash-2-4), so a sender cannot make the table slow; ports are indexed
// directly. The number of exact tuples is bounded. Insert and remove are O(1):
// growth doubles one of 64 shards.
//
// A look-up that races with a removal may still return the sink: its channel is
// closed then and turns the packet away, to be counted as late.
//
// Start reading at parse.go, then Lookup.
package demux

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"

	"osv/kernel/net/wire"
)

// Table holds the sinks of type S. Any goroutine may look up, insert and remove.
type Table[S any] struct {
	key      Key
	max      int64
	count    atomic.Int64
	flows4   flowMap[key4, S]
	flows6   flowMap[key6, S]
	udp, tcp portMap[S]
}

// Tuple names one flow, seen from here.
type Tuple struct {
	Proto         wire.Proto // UDP or TCP
	Local, Remote netip.AddrPort
}

func (t Tuple) String() string {
	return fmt.Sprintf("protocol %d %v<-%v", t.Proto, t.Local, t.Remote)
}

// Errors of Insert and Bind, wrapped with the tuple or port.
var (
	ErrExists = errors.New("address already in use")
	ErrFull   = errors.New("flow table is full")
	ErrTuple  = errors.New("not a tuple of one family with both ports")
)

// New makes a table for at most maxFlows exact tuples.
func New[S any](maxFlows int, key Key) *Table[S] {
	return &Table[S]{key: key, max: int64(maxFlows)}
}

// key4 and key6 are the tuple as the hash and the comparison want it: the words
// of the SipHash message, source (remote) first.
type key4 struct{ addrs, rest uint64 }

type key6 [5]uint64

func makeKey4(src, dst uint32, sport, dport uint16, proto wire.Proto) key4 {
	return key4{uint64(src)<<32 | uint64(dst), uint64(sport)<<24 | uint64(dport)<<8 | uint64(proto) | 13<<56}
}

// makeKey6 takes source and destination address, 32 bytes as they stand in the
// header.
func makeKey6(addrs []byte, sport, dport uint16, proto wire.Proto) key6 {
	_ = addrs[31]
	le := binary.LittleEndian
	return key6{le.Uint64(addrs), le.Uint64(addrs[8:]), le.Uint64(addrs[16:]), le.Uint64(addrs[24:]),
		uint64(sport)<<24 | uint64(dport)<<8 | uint64(proto) | 37<<56}
}

func (t *Table[S]) hash4(k key4) uint64  { return t.key.hash2(k.addrs, k.rest) }
func (t *Table[S]) hash6(k *key6) uint64 { return t.key.hash5((*[5]uint64)(k)) }

func (t *Table[S]) ports(p wire.Proto) *portMap[S] {
	switch p {
	case wire.ProtoUDP:
		return &t.udp
	case wire.ProtoTCP:
		return &t.tcp
	}
	return nil
}

// Match says how a sink was found.
type Match uint8

const (
	NoMatch Match = iota
	Exact
	Bound
)

// Lookup finds the sink of a frame of class UDP or TCP whose destination is one
// of our addresses. b is the first piece.
func (t *Table[S]) Lookup(m *Meta, b []byte) (*S, Match) {
	ports := &t.udp
	if m.Class == TCP {
		ports = &t.tcp
	}
	slot := ports.slot(m.DstPort)
	if slot == nil {
		return nil, NoMatch
	}
	if slot.exact.Load() != 0 {
		if s := t.lookupExact(m, b); s != nil {
			return s, Exact
		}
	}
	var s *S
	if !m.V6 {
		s = slot.find4(m.Dst4)
	} else {
		s = slot.find6(netip.AddrFrom16([16]byte(b[m.L3+24 : m.L3+40])))
	}
	if s == nil {
		return nil, NoMatch
	}
	return s, Bound
}

// Lookup4 is Lookup of a packet of IPv4, which needs no look at the frame.
func (t *Table[S]) Lookup4(m *Meta) *S {
	ports := &t.udp
	if m.Class == TCP {
		ports = &t.tcp
	}
	slot := ports.slot(m.DstPort)
	if slot == nil {
		return nil
	}
	if slot.exact.Load() != 0 {
		k := makeKey4(m.Src4, m.Dst4, m.SrcPort, m.DstPort, m.Proto)
		if s := t.flows4.find(k, t.hash4(k)); s != nil {
			return s
		}
	}
	return slot.find4(m.Dst4)
}

func (t *Table[S]) lookupExact(m *Meta, b []byte) *S {
	if !m.V6 {
		k := makeKey4(m.Src4, m.Dst4, m.SrcPort, m.DstPort, m.Proto)
		return t.flows4.find(k, t.hash4(k))
	}
	k := makeKey6(b[m.L3+8:m.L3+40], m.SrcPort, m.DstPort, m.Proto)
	return t.flows6.find(k, t.hash6(&k))
}

// LookupTuple finds the sink of an exact tuple: for ICMP errors, which quote one.
func (t *Table[S]) LookupTuple(tu Tuple) *S {
	k4, k6, v6, err := keysOf(tu)
	switch {
	case err != nil:
		return nil
	case v6:
		return t.flows6.find(k6, t.hash6(&k6))
	}
	return t.flows4.find(k4, t.hash4(k4))
}

// LookupPort finds what is bound to a local address and port.
func (t *Table[S]) LookupPort(proto wire.Proto, local netip.AddrPort) *S {
	ports := t.ports(proto)
	if ports == nil {
		return nil
	}
	slot := ports.slot(local.Port())
	if slot == nil {
		return nil
	}
	if a := local.Addr().Unmap(); a.Is4() {
		return slot.find4(wire.U32(a))
	}
	return slot.find6(local.Addr().WithZone(""))
}

func keysOf(tu Tuple) (k4 key4, k6 key6, v6 bool, err error) {
	l, r := tu.Local.Addr().Unmap(), tu.Remote.Addr().Unmap()
	if !l.IsValid() || !r.IsValid() || l.Is4() != r.Is4() || tu.Local.Port() == 0 || tu.Remote.Port() == 0 ||
		tu.Proto != wire.ProtoUDP && tu.Proto != wire.ProtoTCP {
		return k4, k6, false, fmt.Errorf("demux: %v: %w", tu, ErrTuple)
	}
	if l.Is4() {
		return makeKey4(wire.U32(r), wire.U32(l), tu.Remote.Port(), tu.Local.Port(), tu.Proto), k6, false, nil
	}
	var a [32]byte
	s, d := r.As16(), l.As16()
	copy(a[:], s[:])
	copy(a[16:], d[:])
	return k4, makeKey6(a[:], tu.Remote.Port(), tu.Local.Port(), tu.Proto), true, nil
}

// Insert makes s the sink of an exact tuple.
func (t *Table[S]) Insert(tu Tuple, s *S) error {
	k4, k6, v6, err := keysOf(tu)
	if err != nil {
		return err
	}
	if t.count.Add(1) > t.max {
		t.count.Add(-1)
		return fmt.Errorf("demux: %v: %w (%d flows)", tu, ErrFull, t.max)
	}
	// Counted before it is there: the receive path hashes from then on.
	t.ports(tu.Proto).addExact(tu.Local.Port(), 1)
	var ok bool
	if v6 {
		ok = t.flows6.insert(k6, t.hash6(&k6), s)
	} else {
		ok = t.flows4.insert(k4, t.hash4(k4), s)
	}
	if !ok {
		t.ports(tu.Proto).addExact(tu.Local.Port(), -1)
		t.count.Add(-1)
		return fmt.Errorf("demux: %v: %w", tu, ErrExists)
	}
	return nil
}

// Remove takes an exact tuple out if its sink is s, and reports whether it did.
// A receive loop may still deliver to s for the batch it is in.
func (t *Table[S]) Remove(tu Tuple, s *S) bool {
	k4, k6, v6, err := keysOf(tu)
	if err != nil {
		return false
	}
	var ok bool
	if v6 {
		ok = t.flows6.remove(k6, t.hash6(&k6), s)
	} else {
		ok = t.flows4.remove(k4, t.hash4(k4), s)
	}
	if ok {
		t.count.Add(-1)
		t.ports(tu.Proto).addExact(tu.Local.Port(), -1)
	}
	return ok
}

// Replace changes the sink of an exact tuple from old to s in one step, and
// reports whether it did. A receive loop may still deliver to old for the batch
// it is in.
func (t *Table[S]) Replace(tu Tuple, old, s *S) bool {
	k4, k6, v6, err := keysOf(tu)
	switch {
	case err != nil:
		return false
	case v6:
		return t.flows6.replace(k6, t.hash6(&k6), old, s)
	}
	return t.flows4.replace(k4, t.hash4(k4), old, s)
}

// Flows is the number of exact tuples, Max their bound.
func (t *Table[S]) Flows() int { return int(t.count.Load()) }

// Max is the most exact tuples the table takes.
func (t *Table[S]) Max() int { return int(t.max) }

// Bind makes s the sink of a local port: of one address, of any IPv4 address
// (0.0.0.0), of any IPv6 address (::), or of any address (the zero Addr).
func (t *Table[S]) Bind(proto wire.Proto, local netip.AddrPort, s *S) error {
	ports := t.ports(proto)
	if ports == nil || local.Port() == 0 {
		return fmt.Errorf("demux: bind protocol %d %v: no such protocol or port", proto, local)
	}
	if !ports.add(local.Port(), makeBind(local.Addr(), s)) {
		return fmt.Errorf("demux: bind protocol %d %v: %w", proto, local, ErrExists)
	}
	return nil
}

// Unbind takes all binds of s from a port and reports whether there was one.
func (t *Table[S]) Unbind(proto wire.Proto, port uint16, s *S) bool {
	ports := t.ports(proto)
	return ports != nil && ports.remove(port, s)
}

// PortInUse reports whether a local port has a bind or an exact tuple.
func (t *Table[S]) PortInUse(proto wire.Proto, port uint16) bool {
	ports := t.ports(proto)
	return ports != nil && ports.inUse(port)
}

// FreePort picks an unused local port from the dynamic range (RFC 6335 §6) by
// the random numbers of rnd (RFC 6056 §3.3.1), 0 where all are taken. The port
// is not reserved: Insert or Bind may still find that another was faster.
func (t *Table[S]) FreePort(proto wire.Proto, rnd func() uint32) uint16 {
	const first, n = 49152, 65536 - 49152
	start := rnd() % n
	for i := range uint32(n) {
		if p := uint16(first + (start+i)%n); !t.PortInUse(proto, p) {
			return p
		}
	}
	return 0
}

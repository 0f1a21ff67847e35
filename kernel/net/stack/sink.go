package stack

import (
	"net/netip"
	"sync/atomic"

	"osv/kernel/net/demux"
	"osv/kernel/net/netchan"
	"osv/kernel/net/wire"
	"osv/kernel/pkt"
)

type pktBuf = pkt.Buf

// Sink is where the receive loop puts the packets of a flow or a bound port. At
// most one of Chan, Datagram and Segment is set, before the sink is inserted and
// never after; with none, everything goes to the transport by the slow path.
type Sink struct {
	// Chan is the net channel of the flow.
	Chan *netchan.Chan
	// Lossy: what does not fit into Chan is dropped and counted, as a datagram
	// socket does. Without, it goes through the slow path, in order: from the
	// first frame that did not fit until the transport has seen it, all frames of
	// the flow take that way.
	Lossy bool
	// Datagram runs in the receive loop for each UDP datagram.
	Datagram UDPHandler
	// Segment runs in the receive loop for each packet of an exact flow.
	Segment SegmentHandler
	// Owner is the transport's own.
	Owner any
	// OnError is told of ICMP errors for what Sink's owner sent; may be nil.
	OnError func(*ICMPError)

	group  *Group       // of a port that several sinks share: whose this is
	behind atomic.Int32 // frames of this sink that are in the slow path
	drops  atomic.Uint64
}

// Drops is the number of packets that a lossy channel had no room for.
func (k *Sink) Drops() uint64 { return k.drops.Load() }

// SegmentHandler takes one packet of a flow in the receive loop. b starts with
// its link header, has L3 and L4 set and is the handler's. The transport
// checksum is verified only if b.Flags say so.
type SegmentHandler func(ctx *RxContext, b *pkt.Buf)

// Insert makes k the sink of an exact tuple.
func (s *Stack) Insert(t demux.Tuple, k *Sink) error { return s.table.Insert(t, k) }

// Remove takes an exact tuple out of the table if its sink is k, and reports
// whether it did. The receive loops may be delivering to k for the length of the
// batch they are in.
func (s *Stack) Remove(t demux.Tuple, k *Sink) bool { return s.table.Remove(t, k) }

// Replace changes the sink of an exact tuple from old to k in one step, and
// reports whether it did.
func (s *Stack) Replace(t demux.Tuple, old, k *Sink) bool { return s.table.Replace(t, old, k) }

// Lookup finds the sink of an exact tuple, nil where there is none.
func (s *Stack) Lookup(t demux.Tuple) *Sink { return s.table.LookupTuple(t) }

// Bind makes k the sink of a local port.
func (s *Stack) Bind(p wire.Proto, local netip.AddrPort, k *Sink) error {
	return s.table.Bind(p, local, k)
}

// Unbind undoes Bind.
func (s *Stack) Unbind(p wire.Proto, port uint16, k *Sink) bool { return s.table.Unbind(p, port, k) }

// FreePort picks a local port that nothing uses, 0 where there is none.
func (s *Stack) FreePort(p wire.Proto) uint16 {
	return s.table.FreePort(p, func() uint32 { return uint32(s.cfg.Random()) })
}

// PortInUse reports whether a local port is bound or part of a flow.
func (s *Stack) PortInUse(p wire.Proto, port uint16) bool { return s.table.PortInUse(p, port) }

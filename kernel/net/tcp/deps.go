package tcp

import (
	"net/netip"

	"osv/kernel/net/clock"
	"osv/kernel/pkt"
)

// What TCP needs from the layers below. kernel/net/tcpstack implements Stack on
// kernel/net/stack; kernel/net/sock/tcpsock implements Endpoint and Inline.

// Tuple names a connection as this end sees it. Both addresses are of one
// family and never IPv4-mapped IPv6.
type Tuple struct{ Local, Remote netip.AddrPort }

// Path is what the layers below know of the way to one peer.
type Path struct {
	MTU    int // largest IP packet that the path takes, in bytes, the header included
	GSOMax int // largest frame, all headers included, that the link cuts itself; 0 for none
	Pieces int // buffers that a frame may span (pkt.Caps.TxScatter); 0 and 1 mean one
	Link   any // the stack's own, handed back in TxBuf and Output
}

// Stack is what TCP needs from the layers below it. All methods may be called
// from any goroutine, Output and TxBuf also inside the receive loop; none may
// call back into TCP before it returns.
type Stack interface {
	// Clock is the time that all of TCP goes by.
	Clock() clock.Clock

	// Route finds the way from local to remote. An invalid (zero) or unspecified
	// local asks for the source address that suits; the one used is returned.
	Route(local, remote netip.Addr) (netip.Addr, Path, error)

	// TxBuf returns an empty transmit buffer with headroom for the IP and link
	// headers of p in front of the TCP header, or nil when none is free.
	TxBuf(p *Path) *pkt.Buf

	// Output queues segments of one connection for transmit and returns how many
	// it took, in order from the front; the rest is still the caller's. Those
	// taken belong to the stack, which also drops them where the peer's link
	// address cannot be found. Head is at the TCP header, the checksum field is
	// 0, GSO and GSOSize are set on frames the link must cut. The stack puts the
	// IP header in front, and the checksum (whole, or the pseudo header's with
	// pkt.CsumPartial) as the link wants it. One doorbell at most.
	Output(t *Tuple, p *Path, segs []*pkt.Buf) int

	// NewChannel makes a net channel. The receive loop calls wake after each
	// batch that put something into it; wake never blocks.
	NewChannel(wake func()) Channel

	// InsertFlow makes f the receiver of t's segments. An error says that t has a
	// receiver already, or that the table is full.
	InsertFlow(t *Tuple, f Flow) error
	// ReplaceFlow changes the receiver of t in one step. Segments that are in the
	// old channel stay there for its owner to take.
	ReplaceFlow(t *Tuple, f Flow)
	// RemoveFlow ends t. The receive loop may still be calling the old receiver
	// when it returns, and may still put into its channel until Channel.Close.
	RemoveFlow(t *Tuple)

	// Listen makes e the receiver of segments to local that belong to no flow; an
	// unspecified address takes those to any address of its family, and with dual
	// those of the other family too. The more specific listener wins.
	Listen(local netip.AddrPort, dual bool, e Endpoint) error
	// Unlisten ends what Listen began.
	Unlisten(local netip.AddrPort, e Endpoint)
}

// Channel is the consumer's end of a net channel: the segments of one flow in
// the order of arrival. One goroutine at a time (the connection's lock).
type Channel interface {
	// Pop moves up to len(dst) buffers to dst and returns how many.
	Pop(dst []*pkt.Buf) int
	// Close ends the channel: buffers in it, and any put later, go back to their
	// pool.
	Close()
}

// Flow is the receiver of one connection's segments, as the demultiplexer holds
// it. Buffers handed over have L3 and L4 set and end where the IP packet ends
// (no Ethernet padding); they are the receiver's from then on.
type Flow struct {
	// Chan, if not nil, takes the segments of the receive loop. A full channel,
	// and a segment that came by the slow path, go to Slow, which takes what is in
	// the channel first so that the order holds.
	Chan Channel
	// Inline, if not nil, is called in the receive loop instead.
	Inline Inline
	// Slow takes all other segments, and ICMP errors. Never nil.
	Slow Endpoint
}

// Endpoint is a receiver of segments in the slow path. It may lock, but not
// wait for the network. b is the receiver's from then on.
type Endpoint interface {
	// Segment takes one TCP segment of t. Its checksum is not verified yet.
	Segment(t *Tuple, b *pkt.Buf)
	// ICMP reports an ICMP error about a segment that t sent, or a new path MTU.
	ICMP(t *Tuple, e ICMPError)
}

// Inline is a receiver that is called in the receive loop (run to completion).
type Inline interface {
	// Deliver takes the next segment of the flow, in order of arrival.
	Deliver(b *pkt.Buf)
	// Flush ends the batch in which Deliver was called: all output is sent now.
	// now is when the batch was taken, in ns of the stack's clock.
	Flush(now int64)
}

// ICMPKind sorts the ICMP and ICMPv6 errors by what TCP does about them.
type ICMPKind uint8

const (
	// ICMPSoft is one that may pass: net or host unreachable, time exceeded
	// (RFC 9293 §3.9.2.2, RFC 5461).
	ICMPSoft ICMPKind = iota
	// ICMPHard is protocol or port unreachable, or administratively prohibited.
	ICMPHard
	// ICMPTooBig is fragmentation needed, or packet too big (RFC 1191, RFC 8201).
	ICMPTooBig
)

// ICMPError is an ICMP error that quotes one of our segments.
type ICMPError struct {
	Kind ICMPKind
	MTU  int    // of ICMPTooBig: the next hop's, in bytes; 0 where a router did not say
	Seq  uint32 // SEG.SEQ of the quoted segment
	Err  error  // what an application sees if the connection fails for it
}

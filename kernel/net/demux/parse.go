package demux

import (
	"encoding/binary"
	"math/bits"
	"net/netip"

	"osv/kernel/net/wire"
)

// Class is what the classifier says of a frame.
type Class uint8

const (
	Drop Class = iota // malformed or not for us; see Reason
	Slow              // not for the fast path, or not known yet; see Reason
	UDP               // a whole UDP datagram with its headers in the first piece
	TCP               // a TCP segment with its header in the first piece
)

// Reason says why a frame is dropped or leaves the fast path.
type Reason uint8

const (
	None Reason = iota

	// Dropped.
	ShortFrame   // no Ethernet header
	OtherType    // an EtherType that nobody here speaks
	OtherVLAN    // tagged for a VLAN
	OtherMAC     // unicast to another station
	BadIP        // version, header length or total length
	BadIPSum     // IPv4 header checksum
	BadTransport // UDP or TCP header does not fit
	BadSum       // UDP or TCP checksum
	BadSource    // source is multicast, broadcast, unspecified or our own
	NotLocal     // destination is not one of our addresses
	NoBuf        // a buffer was wanted and none was free
	TxFull       // the transmit ring was full
	SlowFull     // the slow path's channel was full
	SocketFull   // a datagram socket's channel was full
	NoSink       // no socket and no protocol wants it
	RateLimited  // an ICMP message that the limiter held back
	Unresolved   // the neighbour did not answer
	NoRoute      // no way to the destination
	Reassembly   // fragment refused, or its packet not completed in time

	// Sent to the slow path.
	IsARP
	IsMulticast // to a group or to broadcast
	IsFragment
	HasOptions // IPv4 options or IPv6 extension headers
	IsOther    // an IP protocol other than UDP and TCP
	NoFlow     // no flow in the table
	ChanFull   // the flow's channel was full: in-order fallback
	ChanBusy   // another receive queue was pushing to the flow's channel
	Late       // the flow's channel was closed between look-up and push

	NumReasons
)

var reasonNames = [NumReasons]string{
	"", "short-frame", "other-type", "other-vlan", "other-mac", "bad-ip", "bad-ip-sum", "bad-transport", "bad-sum",
	"bad-source", "not-local", "no-buf", "tx-full", "slow-full", "socket-full", "no-sink", "rate-limited", "unresolved",
	"no-route", "reassembly",
	"arp", "multicast", "fragment", "options", "other-protocol", "no-flow", "chan-full", "chan-busy", "late",
}

func (r Reason) String() string {
	if r < NumReasons {
		return reasonNames[r]
	}
	return "?"
}

// Dropped reports whether r is a reason for a drop rather than for the slow path.
func (r Reason) Dropped() bool { return r > None && r < IsARP }

// Meta is what one look at the headers tells. Offsets count from the first byte
// of the frame.
type Meta struct {
	Class  Class
	Reason Reason
	V6     bool
	Proto  wire.Proto
	L3, L4 int
	// End is where the IP packet ends: what lies behind is padding of the link.
	End int
	// Payload..DataEnd is the data of a UDP datagram or TCP segment. DataEnd is
	// before End for a datagram shorter than its packet.
	Payload, DataEnd int
	Src4, Dst4       uint32 // of IPv4
	SrcPort, DstPort uint16
}

// Src is the sender's address and port; b is the frame that Parse saw.
func (m *Meta) Src(b []byte) netip.AddrPort {
	if m.V6 {
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[m.L3+8:m.L3+24])), m.SrcPort)
	}
	return netip.AddrPortFrom(wire.Addr4(m.Src4), m.SrcPort)
}

// Dst is the destination address and port; b is the frame that Parse saw.
func (m *Meta) Dst(b []byte) netip.AddrPort {
	if m.V6 {
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[m.L3+24:m.L3+40])), m.DstPort)
	}
	return netip.AddrPortFrom(wire.Addr4(m.Dst4), m.DstPort)
}

var be = binary.BigEndian

// Parse looks at a frame once. b is its first piece and total the length of all
// pieces. It fills m and reads nothing beyond the transport header.
func Parse(m *Meta, b []byte, total int) {
	*m = Meta{}
	if len(b) < wire.EthLen {
		m.Reason = ShortFrame
		return
	}
	t, off := wire.EtherType(be.Uint16(b[12:])), wire.EthLen
	if t == wire.EtherVLAN {
		var vlan uint16
		var ok bool
		if t, off, vlan, ok = wire.Eth(b).Payload(); !ok || vlan != 0 {
			m.Reason = OtherVLAN
			return
		}
	}
	m.L3 = off
	switch t {
	case wire.EtherIPv4:
		parse4(m, b, total)
	case wire.EtherIPv6:
		parse6(m, b, total)
	case wire.EtherARP:
		m.Class, m.Reason, m.End = Slow, IsARP, total
	default:
		m.Reason = OtherType
	}
}

func parse4(m *Meta, b []byte, total int) {
	h := b[m.L3:]
	if len(h) < wire.IPv4MinLen || h[0]>>4 != 4 || h[0]&0xf < 5 {
		m.Reason = BadIP
		return
	}
	_ = h[wire.IPv4MinLen-1]
	n := int(be.Uint16(h[2:]))
	hl := int(h[0]&0xf) * 4
	if n < hl || n > total-m.L3 {
		m.Reason = BadIP
		return
	}
	m.Proto, m.Src4, m.Dst4 = h[9], be.Uint32(h[12:]), be.Uint32(h[16:])
	m.L4, m.End = m.L3+hl, m.L3+n
	if hl != wire.IPv4MinLen {
		m.Class, m.Reason = Slow, HasOptions
		if len(h) < hl || wire.Checksum(h[:hl]) != 0 {
			m.Class, m.Reason = Drop, BadIPSum
		}
		return
	}
	if !sum20OK(h) {
		m.Reason = BadIPSum
		return
	}
	if be.Uint16(h[6:])&0x3fff != 0 { // MF or offset
		m.Class, m.Reason = Slow, IsFragment
		return
	}
	transport(m, b)
}

// sum20OK verifies a header checksum over 20 bytes: a whole header sums to all
// ones (RFC 1071 §1), in either byte order.
func sum20OK(h []byte) bool {
	_ = h[19]
	s, c := bits.Add64(binary.LittleEndian.Uint64(h), binary.LittleEndian.Uint64(h[8:]), 0)
	s, c = bits.Add64(s, uint64(binary.LittleEndian.Uint32(h[16:])), c)
	s += c
	s = s>>32 + s&0xffffffff
	s = s>>32 + s&0xffffffff
	s = s>>16 + s&0xffff
	return s>>16+s&0xffff == 0xffff
}

func parse6(m *Meta, b []byte, total int) {
	h := b[m.L3:]
	if len(h) < wire.IPv6Len || h[0]>>4 != 6 {
		m.Reason = BadIP
		return
	}
	n := wire.IPv6Len + int(be.Uint16(h[4:]))
	if n > total-m.L3 {
		m.Reason = BadIP
		return
	}
	m.V6, m.Proto = true, h[6]
	m.L4, m.End = m.L3+wire.IPv6Len, m.L3+n
	switch m.Proto {
	case wire.ProtoUDP, wire.ProtoTCP:
		transport(m, b)
	case wire.ProtoHopByHop, wire.ProtoDestOpts, wire.ProtoRouting:
		m.Class, m.Reason = Slow, HasOptions
	case wire.ProtoFragment:
		m.Class, m.Reason = Slow, IsFragment
	default:
		m.Class, m.Reason = Slow, IsOther
	}
}

// ParseTransport reads ports and payload once L3, L4, End, Proto and the
// addresses are known: for packets that came out of the slow path's hands
// (options skipped, fragments put together). b is the first piece.
func ParseTransport(m *Meta, b []byte) {
	m.Reason = None
	transport(m, b)
}

// transport reads the UDP or TCP header at L4. The header must be in the first
// piece: drivers put at least 128 bytes there.
func transport(m *Meta, b []byte) {
	m.Class = Drop
	m.Reason = BadTransport
	n := m.End - m.L4
	h := b[min(m.L4, len(b)):]
	switch m.Proto {
	case wire.ProtoUDP:
		if n < wire.UDPLen || len(h) < wire.UDPLen {
			return
		}
		u := int(be.Uint16(h[4:]))
		if u < wire.UDPLen || u > n {
			return
		}
		m.Class, m.Payload, m.DataEnd = UDP, m.L4+wire.UDPLen, m.L4+u
	case wire.ProtoTCP:
		if n < 20 || len(h) < 20 {
			return
		}
		hl := int(h[12]>>4) * 4
		if hl < 20 || hl > n || hl > len(h) {
			return
		}
		m.Class, m.Payload, m.DataEnd = TCP, m.L4+hl, m.End
	default:
		m.Class, m.Reason = Slow, IsOther
		return
	}
	m.SrcPort, m.DstPort = be.Uint16(h), be.Uint16(h[2:])
	m.Reason = None
}

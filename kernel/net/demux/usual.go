package demux

import (
	"encoding/binary"
	"math/bits"

	"osv/kernel/net/wire"
)

// Most frames of a server are of one shape: no VLAN tag, IPv4 without options, no
// fragment, UDP or TCP. Their headers are at fixed places and are looked at in a
// few wide loads; what is not of that shape, or not sound, is for Parse to judge.

// Where a usual frame has its headers (and no other frame has a transport header
// there). UsualLen is what of it is looked at.
const (
	UsualL3  = wire.EthLen
	UsualL4  = UsualL3 + wire.IPv4MinLen
	UsualLen = UsualL4 + 20

	usualTotal = UsualL4 + wire.UDPLen // the shortest
)

// Usual is Parse for a usual frame of total bytes in one piece, of which h is the
// memory at the front (what of it lies behind the frame does not matter). It
// reports false for any other frame and for those that Parse refuses; m is not
// changed then.
func Usual(m *Meta, h *[UsualLen]byte, total int) bool {
	if total < usualTotal {
		return false
	}
	le := binary.LittleEndian
	// Version, header length, TOS, total length, ID, fragment;
	// TTL, protocol, checksum, source; destination.
	w0, w1, w2 := le.Uint64(h[UsualL3:]), le.Uint64(h[UsualL3+8:]), le.Uint32(h[UsualL3+16:])
	const fragment = 0x3f<<48 | 0xff<<56 // MF and offset
	if le.Uint16(h[12:]) != 0x0008 || w0&(0xff|fragment) != 0x45 {
		return false
	}
	// A whole header sums to all ones (RFC 1071 §1), in either byte order: as the
	// sum is not 0, it is a multiple of 2^16-1, which 2^64-1 is too.
	s, c := bits.Add64(w0, w1, 0)
	s, c = bits.Add64(s, uint64(w2), c)
	if (s+c)%0xffff != 0 {
		return false
	}
	end := UsualL3 + int(bits.ReverseBytes16(uint16(w0>>16)))
	if end > total {
		return false
	}
	// Ports, and length and checksum, or sequence number.
	w3 := le.Uint64(h[UsualL4:])
	switch wire.Proto(w1 >> 8) {
	case wire.ProtoUDP:
		dataEnd := UsualL4 + int(bits.ReverseBytes16(uint16(w3>>32)))
		if dataEnd < UsualL4+wire.UDPLen || dataEnd > end {
			return false
		}
		m.Class, m.Reason, m.V6, m.Proto = UDP, None, false, wire.ProtoUDP
		m.Payload, m.DataEnd = UsualL4+wire.UDPLen, dataEnd
	case wire.ProtoTCP:
		hl := int(h[UsualL4+12]>>4) * 4
		if hl < 20 || UsualL4+hl > end {
			return false
		}
		m.Class, m.Reason, m.V6, m.Proto = TCP, None, false, wire.ProtoTCP
		m.Payload, m.DataEnd = UsualL4+hl, end
	default:
		return false
	}
	m.L3, m.L4, m.End = UsualL3, UsualL4, end
	m.Src4, m.Dst4 = bits.ReverseBytes32(uint32(w1>>32)), bits.ReverseBytes32(w2)
	m.SrcPort, m.DstPort = bits.ReverseBytes16(uint16(w3)), bits.ReverseBytes16(uint16(w3>>16))
	return true
}

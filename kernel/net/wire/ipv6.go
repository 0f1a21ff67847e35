package wire

import "net/netip"

const (
	IPv6Len     = 40
	IPv6MinMTU  = 1280
	IPv6FragLen = 8
)

// IPv6 is an IPv6 packet (RFC 8200 §3), from header to end of payload.
type IPv6 []byte

// ParseIPv6 views the packet at the front of b, cut to its payload length. It
// reports false for a wrong version or a length that does not fit. A jumbogram
// (payload length 0 with more behind) is seen as a packet without payload.
func ParseIPv6(b []byte) (IPv6, bool) {
	if len(b) < IPv6Len || b[0]>>4 != 6 {
		return nil, false
	}
	n := IPv6Len + int(be.Uint16(b[4:]))
	if n > len(b) {
		return nil, false
	}
	return IPv6(b[:n]), true
}

func (h IPv6) TrafficClass() uint8 { return uint8(be.Uint16(h) >> 4) }
func (h IPv6) PayloadLen() int     { return int(be.Uint16(h[4:])) }
func (h IPv6) NextHeader() Proto   { return h[6] }
func (h IPv6) HopLimit() uint8     { return h[7] }
func (h IPv6) Src() netip.Addr     { return addr6(h[8:]) }
func (h IPv6) Dst() netip.Addr     { return addr6(h[24:]) }
func (h IPv6) Payload() []byte     { return h[IPv6Len:] }

// SetPayloadLen changes the payload length.
func (h IPv6) SetPayloadLen(n int) { be.PutUint16(h[4:], uint16(n)) }

// PutIPv6 writes a header of 40 bytes to the front of b.
func PutIPv6(b []byte, class uint8, flow uint32, payloadLen int, next Proto, hops uint8, src, dst netip.Addr) {
	_ = b[IPv6Len-1]
	be.PutUint32(b, 6<<28|uint32(class)<<20|flow&0xfffff)
	be.PutUint16(b[4:], uint16(payloadLen))
	b[6], b[7] = next, hops
	s, d := src.As16(), dst.As16()
	copy(b[8:], s[:])
	copy(b[24:], d[:])
}

// ExtStatus is the outcome of walking a chain of extension headers.
type ExtStatus uint8

const (
	ExtOK                   ExtStatus = iota
	ExtTruncated                      // a header is cut short, or there are too many
	ExtBadOption                      // an unknown option asks for the packet to be dropped silently
	ExtBadOptionICMP                  // the same, with an ICMPv6 parameter problem to the sender
	ExtBadOptionICMPUnicast           // the same, but only if the destination is not multicast
	ExtBadRouting                     // a routing header with segments left: not for a host (RFC 8200 §4.4)
	ExtBadOrder                       // hop-by-hop options not first (RFC 8200 §4.1)
)

// Ext describes what follows the fixed header of an IPv6 packet.
type Ext struct {
	Proto   Proto     // upper-layer protocol, or ProtoNoNext
	Off     int       // its offset in the packet
	PrevOff int       // offset of the next-header field that names it
	Status  ExtStatus // when not ExtOK, Off is that of the offending byte
	Frag    int       // offset of the fragment header, 0 without one
}

// maxExt bounds the headers that Walk follows: a legitimate sender uses each
// kind once, destination options twice (RFC 8200 §4.1).
const maxExt = 8

// Walk follows the extension headers up to the upper-layer protocol, or up to
// and including a fragment header of a real fragment (offset or M bit set):
// what lies behind it can only be read after reassembly. An atomic fragment
// (RFC 6946) is passed over.
func (h IPv6) Walk() Ext {
	x := Ext{Proto: h[6], Off: IPv6Len, PrevOff: 6}
	for range maxExt {
		b := h[x.Off:]
		switch x.Proto {
		case ProtoHopByHop, ProtoDestOpts, ProtoRouting:
			if x.Proto == ProtoHopByHop && x.Off != IPv6Len {
				x.Status, x.Off = ExtBadOrder, x.PrevOff
				return x
			}
			if len(b) < 8 || len(b) < 8+int(b[1])*8 {
				x.Status = ExtTruncated
				return x
			}
			n := 8 + int(b[1])*8
			if x.Proto == ProtoRouting {
				if b[3] != 0 { // segments left
					x.Status, x.Off = ExtBadRouting, x.Off+2
					return x
				}
			} else if st, off := walkOptions(b[2:n]); st != ExtOK {
				x.Status, x.Off = st, x.Off+2+off
				return x
			}
			x.Proto, x.PrevOff = b[0], x.Off
			x.Off += n
		case ProtoFragment:
			if len(b) < IPv6FragLen {
				x.Status = ExtTruncated
				return x
			}
			x.Frag = x.Off
			x.Proto, x.PrevOff = b[0], x.Off
			x.Off += IPv6FragLen
			if be.Uint16(b[2:])&^6 != 0 {
				return x
			}
		default:
			return x
		}
	}
	x.Status = ExtTruncated
	return x
}

// walkOptions goes through the options of a hop-by-hop or destination header
// (RFC 8200 §4.2) and returns the offset of the first that may not be skipped.
func walkOptions(o []byte) (ExtStatus, int) {
	for i := 0; i < len(o); {
		if o[i] == 0 { // Pad1
			i++
			continue
		}
		if i+2 > len(o) || i+2+int(o[i+1]) > len(o) {
			return ExtTruncated, i
		}
		// PadN and Router Alert have an action of "skip"; so has all we know of
		switch o[i] >> 6 {
		case 1:
			return ExtBadOption, i
		case 2:
			return ExtBadOptionICMP, i
		case 3:
			return ExtBadOptionICMPUnicast, i
		}
		i += 2 + int(o[i+1])
	}
	return ExtOK, 0
}

// IPv6Frag is a fragment header (RFC 8200 §4.5).
type IPv6Frag []byte

func (f IPv6Frag) NextHeader() Proto { return f[0] }
func (f IPv6Frag) Offset() int       { return int(be.Uint16(f[2:]) &^ 7) } // bytes
func (f IPv6Frag) More() bool        { return f[3]&1 != 0 }
func (f IPv6Frag) ID() uint32        { return be.Uint32(f[4:]) }

// PutIPv6Frag writes a fragment header of 8 bytes to the front of b.
func PutIPv6Frag(b []byte, next Proto, offset int, more bool, id uint32) {
	_ = b[IPv6FragLen-1]
	b[0], b[1] = next, 0
	v := uint16(offset) &^ 7
	if more {
		v |= 1
	}
	be.PutUint16(b[2:], v)
	be.PutUint32(b[4:], id)
}

// SolicitedNode is the multicast address that owners of a listen on (RFC 4291
// §2.7.1).
func SolicitedNode(a netip.Addr) netip.Addr {
	b := a.As16()
	return netip.AddrFrom16([16]byte{0: 0xff, 1: 2, 11: 1, 12: 0xff, 13: b[13], 14: b[14], 15: b[15]})
}

// MulticastMAC6 is the Ethernet address of an IPv6 multicast address (RFC 2464 §7).
func MulticastMAC6(a netip.Addr) MAC {
	b := a.As16()
	return MAC{0x33, 0x33, b[12], b[13], b[14], b[15]}
}

// MulticastMAC4 is the Ethernet address of an IPv4 multicast address (RFC 1112 §6.4).
func MulticastMAC4(a netip.Addr) MAC {
	b := a.As4()
	return MAC{0x01, 0x00, 0x5e, b[1] & 0x7f, b[2], b[3]}
}

// LinkLocal6 is the link-local address with the modified EUI-64 identifier of m
// (RFC 4291 §2.5.6, appendix A).
func LinkLocal6(m MAC) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: m[0] ^ 2, 9: m[1], 10: m[2], 11: 0xff, 12: 0xfe, 13: m[3], 14: m[4], 15: m[5]})
}

package wire

import "net/netip"

// Proto is an IP protocol number (IANA), also the next header of IPv6.
type Proto = uint8

const (
	ProtoHopByHop Proto = 0
	ProtoICMP     Proto = 1
	ProtoTCP      Proto = 6
	ProtoUDP      Proto = 17
	ProtoRouting  Proto = 43
	ProtoFragment Proto = 44
	ProtoICMPv6   Proto = 58
	ProtoNoNext   Proto = 59
	ProtoDestOpts Proto = 60
)

const (
	IPv4MinLen = 20
	IPv4MaxLen = 65535 // of a whole packet

	ipv4DF         = 0x4000
	ipv4MF         = 0x2000
	ipv4OffsetMask = 0x1fff
)

// IPv4 is an IPv4 packet (RFC 791 §3.1), from header to end of payload.
type IPv4 []byte

// ParseIPv4 views the packet at the front of b, cut to its total length. It
// reports false for a wrong version or a length that does not fit. It does not
// verify the checksum.
func ParseIPv4(b []byte) (IPv4, bool) {
	if len(b) < IPv4MinLen || b[0]>>4 != 4 {
		return nil, false
	}
	hl, tl := int(b[0]&0xf)*4, int(be.Uint16(b[2:]))
	if hl < IPv4MinLen || tl < hl || tl > len(b) {
		return nil, false
	}
	return IPv4(b[:tl]), true
}

func (h IPv4) HeaderLen() int   { return int(h[0]&0xf) * 4 }
func (h IPv4) TOS() uint8       { return h[1] }
func (h IPv4) TotalLen() int    { return int(be.Uint16(h[2:])) }
func (h IPv4) ID() uint16       { return be.Uint16(h[4:]) }
func (h IPv4) DF() bool         { return be.Uint16(h[6:])&ipv4DF != 0 }
func (h IPv4) MF() bool         { return be.Uint16(h[6:])&ipv4MF != 0 }
func (h IPv4) FragOffset() int  { return int(be.Uint16(h[6:])&ipv4OffsetMask) * 8 } // bytes
func (h IPv4) IsFragment() bool { return be.Uint16(h[6:])&(ipv4MF|ipv4OffsetMask) != 0 }
func (h IPv4) TTL() uint8       { return h[8] }
func (h IPv4) Proto() Proto     { return h[9] }
func (h IPv4) Checksum() uint16 { return be.Uint16(h[10:]) }
func (h IPv4) Src() netip.Addr  { return addr4(h[12:]) }
func (h IPv4) Dst() netip.Addr  { return addr4(h[16:]) }
func (h IPv4) SrcU32() uint32   { return be.Uint32(h[12:]) }
func (h IPv4) DstU32() uint32   { return be.Uint32(h[16:]) }
func (h IPv4) Options() []byte  { return h[IPv4MinLen:h.HeaderLen()] }
func (h IPv4) Payload() []byte  { return h[h.HeaderLen():] }

// ChecksumOK verifies the header's checksum.
func (h IPv4) ChecksumOK() bool { return Checksum(h[:h.HeaderLen()]) == 0 }

// SetTotalLen changes the total length and, incrementally, the checksum.
func (h IPv4) SetTotalLen(n int) {
	old := be.Uint16(h[2:])
	be.PutUint16(h[2:], uint16(n))
	be.PutUint16(h[10:], UpdateChecksum(be.Uint16(h[10:]), old, uint16(n)))
}

// SetChecksum computes the checksum anew.
func (h IPv4) SetChecksum() {
	h[10], h[11] = 0, 0
	be.PutUint16(h[10:], Checksum(h[:h.HeaderLen()]))
}

// IPv4Fields are the fields of a header without options.
type IPv4Fields struct {
	TOS        uint8
	TotalLen   int
	ID         uint16
	DF, MF     bool
	FragOffset int // bytes, a multiple of 8
	TTL        uint8
	Proto      Proto
	Src, Dst   uint32 // big-endian numbers
}

// PutIPv4 writes a header of 20 bytes with its checksum to the front of b.
func PutIPv4(b []byte, f *IPv4Fields) {
	_ = b[IPv4MinLen-1]
	frag := uint16(f.FragOffset / 8)
	if f.DF {
		frag |= ipv4DF
	}
	if f.MF {
		frag |= ipv4MF
	}
	first := 0x45<<24 | uint32(f.TOS)<<16 | uint32(uint16(f.TotalLen))
	life := uint32(f.TTL)<<8 | uint32(f.Proto)
	// The sum of the words as they are at hand, cheaper than that of the bytes.
	sum := first>>16 + first&0xffff + uint32(f.ID) + uint32(frag) + life +
		f.Src>>16 + f.Src&0xffff + f.Dst>>16 + f.Dst&0xffff
	be.PutUint32(b[0:], first)
	be.PutUint32(b[4:], uint32(f.ID)<<16|uint32(frag))
	be.PutUint32(b[8:], life<<16|uint32(^Fold(sum)))
	be.PutUint32(b[12:], f.Src)
	be.PutUint32(b[16:], f.Dst)
}

// IPv4OptionsOK walks the options (RFC 791 §3.1) and reports whether each is
// inside, and whether one of them is a source route, which hosts should drop
// (RFC 7126 §4.3, §4.4).
func IPv4OptionsOK(o []byte) (ok, sourceRoute bool) {
	for len(o) > 0 {
		switch o[0] {
		case 0: // end of list
			return true, sourceRoute
		case 1: // no operation
			o = o[1:]
			continue
		case 131, 137: // LSRR, SSRR
			sourceRoute = true
		}
		if len(o) < 2 || o[1] < 2 || int(o[1]) > len(o) {
			return false, sourceRoute
		}
		o = o[o[1]:]
	}
	return true, sourceRoute
}

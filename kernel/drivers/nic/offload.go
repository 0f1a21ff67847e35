package nic

import (
	"encoding/binary"

	"osv/kernel/pkt"
)

const (
	etherLen = 14
	vlanLen  = 4
	vlanType = 0x8100
)

// Offload is what a frame asks of the card, as offsets in its first piece, for
// cards that are told where headers are.
type Offload struct {
	L4  int // where the checksum starts
	Sum int // the checksum field

	// Only where the frame is to be segmented.
	TSO bool
	V4  bool // IPv4, else IPv6
	L3  int  // the IP header
	Hdr int  // bytes of all headers
}

// Plan finds out what b asks for. sum bounds the offset of the checksum field, hdr
// the bytes of headers. It reports false where b asks for what caps does not offer,
// or does not hold what it says.
func (o *Offload) Plan(b *pkt.Buf, caps *pkt.Caps, sum, hdr int) bool {
	*o = Offload{L4: int(b.CsumStart), Sum: int(b.CsumStart) + int(b.CsumOffset)}
	if b.Flags&pkt.CsumPartial == 0 || !caps.TxCsum || o.Sum > sum || o.L4 < etherLen || o.Sum+2 > b.Len() {
		return false
	}
	switch {
	case b.GSO == pkt.GSONone:
		return true
	case b.GSO == pkt.GSOTCPv4 && caps.TSO4:
		o.V4 = true
	case b.GSO == pkt.GSOTCPv6 && caps.TSO6:
	default:
		return false
	}
	h := b.Bytes()
	o.L3 = etherLen
	if binary.BigEndian.Uint16(h[12:]) == vlanType {
		o.L3 += vlanLen
	}
	if o.L4 < o.L3+20 || !o.V4 && o.L4 < o.L3+40 || o.Sum != o.L4+16 || len(h) < o.L4+20 {
		return false
	}
	o.Hdr = o.L4 + int(h[o.L4+12]>>4)*4
	total := b.TotalLen()
	if o.Hdr < o.L4+20 || o.Hdr > hdr || o.Hdr > len(h) || b.HdrLen != 0 && int(b.HdrLen) != o.Hdr {
		return false
	}
	o.TSO = true
	return b.GSOSize != 0 && total > o.Hdr && total <= caps.GSOMax && total-o.L4 <= 0xFFFF
}

// Reseed prepares the headers of a frame to be segmented for a card that sets
// lengths and sums of each segment: no IPv4 checksum, and a pseudo-header sum
// without the length.
func (o *Offload) Reseed(b *pkt.Buf) {
	h := b.Bytes()
	if o.V4 {
		h[o.L3+10], h[o.L3+11] = 0, 0
	}
	n := uint32(b.TotalLen() - o.L4)
	s := uint32(binary.BigEndian.Uint16(h[o.Sum:])) + 0xFFFF - n
	binary.BigEndian.PutUint16(h[o.Sum:], uint16(s>>16+s&0xFFFF))
}

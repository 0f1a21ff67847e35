package vmxnet3

import (
	"encoding/binary"

	"osv/kernel/pkt"
)

// offload is what the device is to do to a frame.
type offload struct {
	word uint64 // for its descriptors
	tso  bool
	v4   bool
	l3   int
	l4   int // also where the checksum starts
	sum  int // offset of the checksum field
}

// plan works out the descriptor's fields for b, which asks for a checksum or
// segmentation. It reports false where the device cannot do it.
func (o *offload) plan(b *pkt.Buf, caps *pkt.Caps) bool {
	o.l4 = int(b.CsumStart)
	o.sum = o.l4 + int(b.CsumOffset)
	// The field must be in the frame's first piece, where its headers are.
	if b.Flags&pkt.CsumPartial == 0 || !caps.TxCsum || o.sum >= txMaxCsum || o.l4 < etherLen || o.sum+2 > b.Len() {
		return false
	}
	if b.GSO == pkt.GSONone {
		o.word = txdOMCsum | uint64(o.l4)<<txdHLen | uint64(o.sum)<<txdMSS
		return true
	}
	switch {
	case b.GSO == pkt.GSOTCPv4 && caps.TSO4:
		o.v4 = true
	case b.GSO == pkt.GSOTCPv6 && caps.TSO6:
	default:
		return false
	}
	h := b.Bytes()
	o.l3 = etherLen
	if len(h) > 16 && binary.BigEndian.Uint16(h[12:]) == 0x8100 {
		o.l3 += 4
	}
	if o.l4 < o.l3+20 || !o.v4 && o.l4 < o.l3+40 || o.sum != o.l4+16 || len(h) < o.l4+20 {
		return false
	}
	hdr := o.l4 + int(h[o.l4+12]>>4)*4
	total := b.TotalLen()
	if hdr < o.l4+20 || hdr > len(h) || hdr >= txMaxCsum || b.HdrLen != 0 && int(b.HdrLen) != hdr {
		return false
	}
	if b.GSOSize == 0 || b.GSOSize > txdLen || total <= hdr || total > caps.GSOMax || total-o.l4 > 0xFFFF {
		return false
	}
	o.tso = true
	o.word = txdOMTSO | uint64(hdr)<<txdHLen | uint64(b.GSOSize)<<txdMSS
	return true
}

// rewrite prepares the headers of a frame to be segmented: no IP checksum, and a
// pseudo-header sum without the length.
func (o *offload) rewrite(b *pkt.Buf) {
	h := b.Bytes()
	if o.v4 {
		h[o.l3+10], h[o.l3+11] = 0, 0
	}
	n := uint32(b.TotalLen() - o.l4)
	s := uint32(binary.BigEndian.Uint16(h[o.sum:])) + 0xFFFF - n
	s = s>>16 + s&0xFFFF
	binary.BigEndian.PutUint16(h[o.sum:], uint16(s))
}

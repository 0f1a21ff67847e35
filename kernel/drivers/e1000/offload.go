package e1000

import (
	"encoding/binary"

	"osv/kernel/pkt"
)

// context is a context descriptor, SDM §3.3.6. The device keeps the last one for
// all frames that follow.
type context struct{ lo, hi uint64 }

// offload is what the device is to do to a frame.
type offload struct {
	ctx  context
	cmd  uint64 // of each data descriptor
	pops uint64 // of the first and, harmlessly, of all
	tso  bool
	l3   int
	v4   bool
	l4   int // also where the checksum starts
	sum  int // offset of the checksum field
}

// plan works out the context for b, which asks for a checksum or segmentation. It
// reports false where the device cannot do it.
func (o *offload) plan(b *pkt.Buf, caps *pkt.Caps) bool {
	o.l4 = int(b.CsumStart)
	o.sum = o.l4 + int(b.CsumOffset)
	// The offsets of a context are bytes, and the field must be in the frame's
	// first piece, where its headers are.
	if b.Flags&pkt.CsumPartial == 0 || !caps.TxCsum || o.sum > 255 || o.l4 < etherLen || o.sum+2 > b.Len() {
		return false
	}
	o.pops = txTXSM
	o.ctx.lo = uint64(o.l4)<<32 | uint64(o.sum)<<40 // TUCSE 0: to the end of the frame
	o.ctx.hi = txDEXT
	if b.GSO == pkt.GSONone {
		return true
	}
	return o.planTSO(b, caps)
}

// planTSO is SDM §3.5: headers are repeated by the device, which counts up
// identification and sequence numbers and sets lengths and checksums.
func (o *offload) planTSO(b *pkt.Buf, caps *pkt.Caps) bool {
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
	if hdr < o.l4+20 || hdr > 255 || hdr > len(h) || b.HdrLen != 0 && int(b.HdrLen) != hdr {
		return false
	}
	if b.GSOSize == 0 || total <= hdr || total > caps.GSOMax || total-o.l4 > 0xFFFF {
		return false
	}
	o.tso = true
	o.cmd |= txTSE
	o.ctx.lo |= uint64(o.l3)
	o.ctx.hi |= ctxTCP | ctxTSE | uint64(total-hdr) | uint64(hdr)<<40 | uint64(b.GSOSize)<<48
	if o.v4 {
		o.pops |= txIXSM
		o.ctx.lo |= uint64(o.l3+10)<<8 | uint64(o.l4-1)<<16
		o.ctx.hi |= ctxIP
	}
	return true
}

// rewrite prepares the headers of a frame to be segmented, SDM §3.5.4: no IP
// length and checksum, and a pseudo-header sum without the length.
func (o *offload) rewrite(b *pkt.Buf) {
	h := b.Bytes()
	if o.v4 {
		h[o.l3+2], h[o.l3+3] = 0, 0
		h[o.l3+10], h[o.l3+11] = 0, 0
	} else {
		h[o.l3+4], h[o.l3+5] = 0, 0
	}
	n := uint32(b.TotalLen() - o.l4)
	s := uint32(binary.BigEndian.Uint16(h[o.sum:])) + 0xFFFF - n
	s = s>>16 + s&0xFFFF
	binary.BigEndian.PutUint16(h[o.sum:], uint16(s))
}

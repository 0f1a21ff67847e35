package e1000

import (
	"osv/kernel/drivers/nic"
	"osv/kernel/pkt"
)

// context is a context descriptor, SDM §3.3.6. The device keeps the last one for
// all frames that follow.
type context struct{ lo, hi uint64 }

// offload is what the device is to do to a frame.
type offload struct {
	nic.Offload
	ctx  context
	cmd  uint64 // of each data descriptor
	pops uint64 // of the first and, harmlessly, of all
}

// ctxMax is the largest offset that fits a context's bytes.
const ctxMax = 255

// plan works out the context for b, which asks for a checksum or segmentation. It
// reports false where the device cannot do it. Segmentation is SDM §3.5: headers are
// repeated by the device, which counts up identification and sequence numbers and
// sets lengths and checksums.
func (o *offload) plan(b *pkt.Buf, caps *pkt.Caps) bool {
	if !o.Plan(b, caps, ctxMax, ctxMax) {
		return false
	}
	o.pops |= txTXSM
	o.ctx.lo = uint64(o.L4)<<32 | uint64(o.Sum)<<40 // TUCSE 0: to the end of the frame
	o.ctx.hi = txDEXT
	if !o.TSO {
		return true
	}
	o.cmd |= txTSE
	o.ctx.lo |= uint64(o.L3)
	o.ctx.hi |= ctxTCP | ctxTSE | uint64(b.TotalLen()-o.Hdr) | uint64(o.Hdr)<<40 | uint64(b.GSOSize)<<48
	if o.V4 {
		o.pops |= txIXSM
		o.ctx.lo |= uint64(o.L3+10)<<8 | uint64(o.L4-1)<<16
		o.ctx.hi |= ctxIP
	}
	return true
}

// rewrite prepares the headers of a frame to be segmented, SDM §3.5.4: as Reseed,
// and no IP length.
func (o *offload) rewrite(b *pkt.Buf) {
	h, length := b.Bytes(), o.L3+4
	if o.V4 {
		length = o.L3 + 2
	}
	h[length], h[length+1] = 0, 0
	o.Reseed(b)
}

package vmxnet3

import (
	"osv/kernel/drivers/nic"
	"osv/kernel/pkt"
)

// offload is what the device is to do to a frame.
type offload struct {
	nic.Offload
	word uint64 // for its descriptors
}

// plan works out the descriptor's fields for b, which asks for a checksum or
// segmentation. It reports false where the device cannot do it.
func (o *offload) plan(b *pkt.Buf, caps *pkt.Caps) bool {
	if b.GSOSize > txdLen || !o.Plan(b, caps, txMaxCsum-1, txMaxCsum-1) {
		return false
	}
	if o.TSO {
		o.word = txdOMTSO | uint64(o.Hdr)<<txdHLen | uint64(b.GSOSize)<<txdMSS
	} else {
		o.word = txdOMCsum | uint64(o.L4)<<txdHLen | uint64(o.Sum)<<txdMSS
	}
	return true
}

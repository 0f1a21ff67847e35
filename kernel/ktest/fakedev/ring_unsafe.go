package fakedev

import (
	"sync/atomic"
	"unsafe"

	"osv/kernel/hw/dma"
)

// desc is an entry of the descriptor table, §2.7.5.
type desc struct {
	addr  uint64
	len   uint32
	flags uint16
	next  uint16
}

const (
	descNext     = 1
	descWrite    = 2
	descIndirect = 4
)

type used struct{ id, len uint32 }

// ring is the device's view of a split virtqueue.
type ring struct {
	desc       []desc
	availHead  *uint32 // flags | idx<<16
	avail      []uint16
	usedEvent  *uint16
	usedHead   *uint32 // flags | idx<<16
	used       []used
	availEvent *uint32
}

// mapRing finds the three parts of a queue of n descriptors in mem. It reports
// false where one of them is not inside memory that the driver allocated.
func mapRing(mem *Mem, n int, descAt, availAt, usedAt dma.Addr) (r ring, ok bool) {
	d, ok1 := mem.BytesAt(descAt, 16*n)
	a, ok2 := mem.BytesAt(availAt, 6+2*n)
	u, ok3 := mem.BytesAt(usedAt, 8+8*n) // avail_event is accessed as a 32-bit word
	if n == 0 || !ok1 || !ok2 || !ok3 || descAt%16 != 0 || availAt%2 != 0 || usedAt%4 != 0 {
		return ring{}, false
	}
	return ring{
		desc:       unsafe.Slice((*desc)(unsafe.Pointer(&d[0])), n),
		availHead:  (*uint32)(unsafe.Pointer(&a[0])),
		avail:      unsafe.Slice((*uint16)(unsafe.Pointer(&a[4])), n),
		usedEvent:  (*uint16)(unsafe.Pointer(&a[4+2*n])),
		usedHead:   (*uint32)(unsafe.Pointer(&u[0])),
		used:       unsafe.Slice((*used)(unsafe.Pointer(&u[4])), n),
		availEvent: (*uint32)(unsafe.Pointer(&u[4+8*n])),
	}, true
}

// loadUsedEvent reads used_event through the aligned word that holds it.
func (r *ring) loadUsedEvent() uint16 {
	return uint16(atomic.LoadUint32((*uint32)(unsafe.Pointer(r.usedEvent))))
}

func indirectTable(b []byte) []desc {
	return unsafe.Slice((*desc)(unsafe.Pointer(&b[0])), len(b)/16)
}

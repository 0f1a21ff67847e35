package virtio

import (
	"unsafe"

	"osv/kernel/hw/dma"
)

// Split virtqueue layout, §2.7. All words that one side polls are accessed as
// the aligned 32-bit word around the 16-bit field, since sync/atomic has no
// narrower access; the padding that this needs is part of the sizes below.

// descriptor is one entry of the descriptor table, §2.7.5: a word for addr and a
// word for len | flags<<32 | next<<48. Driver writes, device reads.
type descriptor struct {
	addr uint64
	meta uint64
}

const (
	descNext     = 1 << 0 // the chain goes on at next
	descWrite    = 1 << 1 // device writes (else: reads)
	descIndirect = 1 << 2 // addr is a table of descriptors
)

// usedElem is one entry of the used ring, §2.7.8. Device writes, driver reads.
type usedElem struct {
	id  uint32 // head of the descriptor chain
	len uint32 // bytes written into the chain
}

const (
	availNoInterrupt = 1 << 0 // VIRTQ_AVAIL_F_NO_INTERRUPT
	usedNoNotify     = 1 << 0 // VIRTQ_USED_F_NO_NOTIFY
)

// ring is the memory of one split virtqueue as the driver sees it.
type ring struct {
	desc []descriptor

	availHead *uint32  // flags | idx<<16: driver writes; device reads after Publish's release store
	avail     []uint16 // heads offered: driver writes before that store
	usedEvent *uint32  // driver writes: "interrupt me when idx passes this"

	usedHead   *uint32    // flags | idx<<16: device writes; the driver's acquire load pairs with it
	used       []usedElem // device writes before that
	availEvent *uint32    // device writes: "notify me when idx passes this"
}

// entry is s[i] for an i that the caller has masked to be below len(s): for
// loops in which the check of a slice costs as much as the work.
func entry[T any](s []T, i uint32) *T {
	return (*T)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(s)), uintptr(i)*unsafe.Sizeof(*new(T))))
}

const (
	descBytes   = 16
	usedAlign   = 64   // own cache line; the spec asks for 4
	legacyAlign = 4096 // §2.7.2, §4.1.5.1.3: legacy interfaces know one page number
)

// ringOffsets returns where available and used ring start behind the descriptor
// table of n entries, and the whole size in bytes.
func ringOffsets(n int, legacy bool) (avail, used, size int) {
	align := usedAlign
	if legacy {
		align = legacyAlign
	}
	avail = n * descBytes
	used = roundUp(avail+4+2*n+4, align) // flags, idx, ring, used_event with padding
	size = used + 4 + 8*n + 4            // flags, idx, ring, avail_event with padding
	if legacy {
		size = roundUp(size, legacyAlign)
	}
	return avail, used, size
}

func roundUp(n, align int) int { return (n + align - 1) &^ (align - 1) }

// newRing lays a ring of n descriptors (a power of two, at least 2) over r, which
// is as large as ringOffsets says and aligned to 16 bytes or more.
func newRing(r dma.Region, n int, legacy bool) ring {
	avail, used, size := ringOffsets(n, legacy)
	_ = r.Bytes[size-1]
	p := unsafe.Pointer(&r.Bytes[0])
	at := func(off int) unsafe.Pointer { return unsafe.Add(p, off) }
	return ring{
		desc:       unsafe.Slice((*descriptor)(p), n),
		availHead:  (*uint32)(at(avail)),
		avail:      unsafe.Slice((*uint16)(at(avail+4)), n),
		usedEvent:  (*uint32)(at(avail + 4 + 2*n)),
		usedHead:   (*uint32)(at(used)),
		used:       unsafe.Slice((*usedElem)(at(used+4)), n),
		availEvent: (*uint32)(at(used + 4 + 8*n)),
	}
}

// descTable is the view of r as n descriptors, for indirect tables.
func descTable(r dma.Region, n int) []descriptor {
	_ = r.Bytes[n*descBytes-1]
	return unsafe.Slice((*descriptor)(unsafe.Pointer(&r.Bytes[0])), n)
}

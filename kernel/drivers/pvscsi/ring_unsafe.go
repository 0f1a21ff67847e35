package pvscsi

import (
	"sync/atomic"
	"unsafe"
)

// The indices of the rings are shared with the adapter: a load pairs with the
// adapter's store after it wrote entries, and a store comes after our own.

func load32(b []byte, off int) uint32 {
	return atomic.LoadUint32((*uint32)(unsafe.Pointer(&b[off : off+4][0])))
}

func store32(b []byte, off int, v uint32) {
	atomic.StoreUint32((*uint32)(unsafe.Pointer(&b[off : off+4][0])), v)
}

package fakee1000

import (
	"sync/atomic"
	"unsafe"
)

// store64 writes v at the start of b in one piece, as the device does: a driver that
// sees one half of a descriptor's word sees the other too. A race detector's build
// writes what encoding/binary puts octet by octet.
func store64(b []byte, v uint64) { atomic.StoreUint64((*uint64)(unsafe.Pointer(&b[:8][0])), v) }

package nvme

import (
	"sync/atomic"
	"unsafe"
)

// load32 reads a dword that the device writes, before all that is read after it.
// b has at least off+4 bytes at a multiple of 4.
func load32(b []byte, off int) uint32 {
	_ = b[off+3]
	return atomic.LoadUint32((*uint32)(unsafe.Pointer(&b[off])))
}

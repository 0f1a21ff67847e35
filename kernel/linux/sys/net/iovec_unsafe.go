package net

import (
	"unsafe"

	"osv/kernel/linux/mm"
)

// iovecBytes is v as the program has it: a struct iovec is a pointer and a size_t, as
// an mm.Iovec is two words.
func iovecBytes(v []mm.Iovec) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(v))), len(v)*int(unsafe.Sizeof(mm.Iovec{})))
}

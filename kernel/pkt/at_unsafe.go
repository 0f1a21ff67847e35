package pkt

import "unsafe"

// At views the bytes at offset off of b's memory as a T, an array of bytes: a
// header of fixed length, whose fields are then read and written without further
// checks. It returns nil where they are not all inside, so that a use panics.
func At[T any](b *Buf, off int) *T {
	if off < 0 || off > len(b.Mem.Bytes)-int(unsafe.Sizeof(*new(T))) {
		return nil
	}
	return (*T)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(b.Mem.Bytes)), off))
}

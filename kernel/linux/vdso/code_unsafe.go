package vdso

import (
	"bytes"
	"sync/atomic"
	"unsafe"
)

func addresses() (gettime, tod, time, getres, cpu uintptr)

// endMark ends each function in code_amd64.s.
var endMark = []byte("vend\x0f\x0b\x0f\x0b")

// maxFunc bounds the search for it.
const maxFunc = 512

// body is the machine code of the function at an address in the kernel's text.
func body(at uintptr) []byte {
	b := unsafe.Slice((*byte)(text(at)), maxFunc)
	n := bytes.Index(b, endMark)
	if n < 0 {
		panic("vdso: a function without its end")
	}
	return b[:n]
}

//go:nocheckptr
func text(a uintptr) unsafe.Pointer { return unsafe.Pointer(a) }

// Update writes data, the shared page, so that programs that read it meanwhile try
// again. One goroutine at a time may call it.
func Update(data []byte, p Params) {
	_ = data[PageSize-1]
	word := func(off int) *uint64 { return (*uint64)(unsafe.Pointer(&data[off])) }
	half := func(off int) *uint32 { return (*uint32)(unsafe.Pointer(&data[off])) }
	atomic.AddUint32(half(offSeq), 1)
	atomic.StoreUint64(word(offStart), p.Start)
	atomic.StoreUint64(word(offMul), p.Mul)
	atomic.StoreUint64(word(offWall), p.WallNS)
	mode := uint32(0)
	if p.Usable {
		mode = 1
	}
	atomic.StoreUint32(half(offMode), mode)
	atomic.AddUint32(half(offSeq), 1)
}

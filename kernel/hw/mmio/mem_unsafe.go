package mmio

import (
	"fmt"
	"sync/atomic"
	"unsafe"
)

// Mem is a Space over mapped memory: [base, base+size). The caller owns the
// mapping and keeps it for the life of the Space.
type Mem struct {
	base unsafe.Pointer
	size uint32
}

// NewMem returns the window of size bytes that is mapped at virtual address base.
func NewMem(base unsafe.Pointer, size uint32) *Mem { return &Mem{base, size} }

func (m *Mem) at(o Off, width uint32) unsafe.Pointer {
	if uint64(o)+uint64(width) > uint64(m.size) {
		panic(fmt.Sprintf("mmio: access of %d bytes at %#x is outside the window of %#x bytes", width, uint32(o), m.size))
	}
	return unsafe.Add(m.base, o)
}

// Len is the size of the window in bytes.
func (m *Mem) Len() uint32 { return m.size }

// Sub returns the window [off, off+size) of m, clipped to nothing beyond m: it
// reports false where the range is not inside m.
func (m *Mem) Sub(off, size uint32) (*Mem, bool) {
	if uint64(off)+uint64(size) > uint64(m.size) {
		return nil, false
	}
	return &Mem{unsafe.Add(m.base, off), size}, true
}

// The accesses are kept out of line so that the compiler can neither merge nor
// widen them; sync/atomic has no narrow loads, and its stores are XCHG, which reads
// the register as well: one exit more, and registers that a read changes.

//go:noinline
func (m *Mem) Load8(o Off) uint8 { return *(*uint8)(m.at(o, 1)) }

//go:noinline
func (m *Mem) Load16(o Off) uint16 { return *(*uint16)(m.at(o, 2)) }

// Load32 reads the register at o.
func (m *Mem) Load32(o Off) uint32 { return atomic.LoadUint32((*uint32)(m.at(o, 4))) }

//go:noinline
func (m *Mem) Store8(o Off, v uint8) { *(*uint8)(m.at(o, 1)) = v }

//go:noinline
func (m *Mem) Store16(o Off, v uint16) { *(*uint16)(m.at(o, 2)) = v }

// Store32 writes the register at o.
//
//go:noinline
func (m *Mem) Store32(o Off, v uint32) { *(*uint32)(m.at(o, 4)) = v }

// Doorbell returns the 16- and 32-bit register at o as a plain pointer.
func (m *Mem) Doorbell(o Off) Doorbell {
	return Doorbell{w16: (*uint16)(m.at(o, 2)), w32: (*uint32)(m.at(o&^3, 4))}
}

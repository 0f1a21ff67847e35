package usermem

import (
	"unsafe"

	"osv/kernel/linux/mm"
)

// Bytes is the kernel's view of a block.
func (m *Machine) Bytes(f mm.Frame, order uint) []byte {
	return unsafe.Slice((*byte)(pointer(m.direct+uintptr(f))), pageSize<<order)
}

// node is a page table in memory.
type node [512]uint64

// node views the table at a physical address.
func (m *Machine) node(pa uint64) *node { return (*node)(pointer(m.direct + uintptr(pa))) }

// pointer makes a pointer of an address in the direct map, which is no Go memory.
//
//go:nocheckptr
func pointer(a uintptr) unsafe.Pointer { return unsafe.Pointer(a) }

// words views frames as the words that Hardware takes.
func words(f []mm.Frame) []uint64 { return unsafe.Slice((*uint64)(&f[0]), len(f)) }

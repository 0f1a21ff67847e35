package usermem

import (
	"sync/atomic"
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

// Reach is the memory at va up to the end of its page, if a program may do want there:
// Lookup and Bytes in one, for the kernel's copies. dirty says that the entry is.
func (t *Table) Reach(va uint64, want mm.Prot) (b []byte, dirty, ok bool) {
	key := va >> 30
	c := t.near[key%nearSize].Load()
	if c == nil || c.key != key {
		if c = t.find(va); c == nil {
			return nil, false, false
		}
	}
	need := uint64(ptePresent | pteUser)
	if want == mm.ProtWrite {
		need |= pteWrite
	} else if want != mm.ProtRead {
		return nil, false, false
	}
	size := uint64(largeSize)
	v := atomic.LoadUint64(&c.n[va>>21&511])
	if v&pteLarge == 0 {
		if v == 0 {
			return nil, false, false
		}
		v = atomic.LoadUint64(&t.m.node(v & pteAddr)[va>>12&511])
		size = pageSize
	}
	if v&need != need {
		return nil, false, false
	}
	off := va & (size - 1)
	p := pointer(t.m.direct + uintptr(v&pteAddr&^(size-1)+off))
	return unsafe.Slice((*byte)(p), size-off), v&pteDirty != 0, true
}

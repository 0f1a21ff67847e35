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
	if want != mm.ProtRead && want != mm.ProtWrite {
		return nil, false, false
	}
	need := ptePresent | pteUser | uint64(want)&pteWrite // which is the same bit
	v := atomic.LoadUint64(&c.n[va>>21&511])
	if v&pteLarge != 0 {
		if v&need != need {
			return nil, false, false
		}
		p := (*[largeSize]byte)(pointer(t.m.direct + uintptr(v&pteAddr&^(largeSize-1))))
		return p[va&(largeSize-1):], v&pteDirty != 0, true
	}
	if v == 0 {
		return nil, false, false
	}
	v = atomic.LoadUint64(&t.m.node(v & pteAddr)[va>>12&511])
	if v&need != need {
		return nil, false, false
	}
	p := (*[pageSize]byte)(pointer(t.m.direct + uintptr(v&pteAddr)))
	return p[va&(pageSize-1):], v&pteDirty != 0, true
}

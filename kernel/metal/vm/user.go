package vm

import (
	"osv/kernel/metal/arch"
	"osv/kernel/metal/cpu"
	"osv/kernel/metal/phys"
)

// Page tables of programs. The upper half of each is the kernel's: the same
// tables, so that what the kernel maps is seen on all of them. Of the lower half,
// metal knows nothing; code above the runtime fills it (kernel/linux/usermem).
//
// A root is two frames: the top table, and one that links it to the other roots.

const (
	rootOrder   = 1
	halfEntries = 256 // entries of a half of the top table
)

var firstRoot = phys.None // list of roots; guarded by mu

func rootLinks(r uintptr) (next, prev *uintptr) {
	a := phys.ToVirt(r) + phys.FrameSize
	return arch.Ptr(a), arch.Ptr(a + 8)
}

// NewRoot makes a page table that maps nothing in the lower half; phys.None where
// there is no memory.
func NewRoot() uintptr {
	r := phys.AllocZero(rootOrder)
	if r == phys.None {
		return r
	}
	next, prev := rootLinks(r)
	mu.Lock()
	const half = halfEntries * 8
	arch.Copy(phys.ToVirt(r)+half, phys.ToVirt(root)+half, half)
	*next, *prev = firstRoot, phys.None
	if firstRoot != phys.None {
		_, p := rootLinks(firstRoot)
		*p = r
	}
	firstRoot = r
	mu.Unlock()
	return r
}

// FreeRoot ends a page table whose lower half is empty; no processor enters it any
// more, and those that are on it leave it.
func FreeRoot(c *cpu.CPU, r uintptr) {
	cpu.RetireRoot(c, r)
	next, prev := rootLinks(r)
	mu.Lock()
	if *prev == phys.None {
		firstRoot = *next
	} else {
		n, _ := rootLinks(*prev)
		*n = *next
	}
	if *next != phys.None {
		_, p := rootLinks(*next)
		*p = *prev
	}
	mu.Unlock()
	phys.Free(r, rootOrder)
}

// shareUpper copies a new entry of the kernel's top table to all roots. Caller
// holds mu, or is alone.
func shareUpper(i, e uintptr) {
	for r := firstRoot; r != phys.None; {
		*arch.Ptr(phys.ToVirt(r) + i*8) = e
		next, _ := rootLinks(r)
		r = *next
	}
}

package vm

import (
	"osv/kernel/metal/arch"
	"osv/kernel/metal/phys"
)

// Page-table entry bits (SDM vol. 3A §4.5, tables 4-15 to 4-20).
const (
	ptePresent  = 1 << 0
	pteWrite    = 1 << 1
	pteUser     = 1 << 2
	ptePWT      = 1 << 3
	ptePCD      = 1 << 4
	pteAccessed = 1 << 5
	pteDirty    = 1 << 6
	pteLarge    = 1 << 7
	pteNX       = 1 << 63
	pteAddr     = 0x000ffffffffff000

	pageSize  = 4096
	largeSize = 2 << 20
	giantSize = 1 << 30
)

// Kinds of mapping.
const (
	protRX   = ptePresent | pteAccessed
	protRO   = ptePresent | pteAccessed | pteNX
	protRW   = ptePresent | pteWrite | pteNX | pteAccessed | pteDirty
	protMMIO = protRW | ptePCD | ptePWT // uncached with the reset PAT
)

var (
	root    uintptr // physical address of the PML4
	haveGiB bool    // 1 GiB pages
)

// entry returns the address of the entry that maps va at the level whose pages
// are 1<<shift bytes, and that level. It makes missing tables if create is set;
// otherwise it stops at the first level that is not present or is a large page.
// Address 0 means that a table could not be made.
func entry(va uintptr, shift uint, create bool) (e uintptr, level uint) {
	t := root
	for level = 39; ; level -= 9 {
		e = phys.ToVirt(t) + (va>>level&511)*8
		if level == shift {
			return e, level
		}
		v := *arch.Ptr(e)
		if v&ptePresent == 0 {
			if !create {
				return e, level
			}
			n := allocTable()
			if n == phys.None {
				return 0, level
			}
			*arch.Ptr(e) = n | ptePresent | pteWrite | pteUser
			if level == 39 && va>>level&511 >= halfEntries {
				shareUpper(va>>level&511, *arch.Ptr(e))
			}
			t = n
			continue
		}
		if v&pteLarge != 0 && level < 39 {
			return e, level
		}
		t = v & pteAddr
	}
}

// mapRange maps [va, va+n) to physical [pa, pa+n) with the largest pages that
// fit. It reports false when it ran out of memory for tables.
func mapRange(va, pa, n, prot uintptr) bool {
	for n > 0 {
		shift, size := uint(12), uintptr(pageSize)
		large := uintptr(0)
		switch {
		case haveGiB && (va|pa)&(giantSize-1) == 0 && n >= giantSize:
			shift, size, large = 30, giantSize, pteLarge
		case (va|pa)&(largeSize-1) == 0 && n >= largeSize:
			shift, size, large = 21, largeSize, pteLarge
		}
		e, level := entry(va, shift, true)
		if e == 0 || level != shift {
			return false
		}
		*arch.Ptr(e) = pa | prot | large
		va, pa, n = va+size, pa+size, n-min(n, size)
	}
	return true
}

// translate returns the physical address that va maps to.
func translate(va uintptr) (pa uintptr, ok bool) {
	e, level := entry(va, 12, false)
	v := *arch.Ptr(e)
	if v&ptePresent == 0 {
		return 0, false
	}
	mask := uintptr(1)<<level - 1
	return v&pteAddr&^mask | va&mask, true
}

package usermem

import (
	"sync/atomic"

	"osv/kernel/linux/mm"
)

// Lookup is the entry at va, which need not be a multiple of anything. It takes no
// lock and allocates nothing.
func (t *Table) Lookup(va uint64) (mm.PTE, bool) {
	if va >= userEnd {
		return mm.PTE{}, false
	}
	// Every access of the kernel to user memory comes through here: no loop.
	n := t.m.node(t.root)
	v := atomic.LoadUint64(&n[va>>39&511])
	if v == 0 {
		return mm.PTE{}, false
	}
	n = t.m.node(v & pteAddr)
	if v = atomic.LoadUint64(&n[va>>30&511]); v == 0 {
		return mm.PTE{}, false
	}
	n = t.m.node(v & pteAddr)
	if v = atomic.LoadUint64(&n[va>>21&511]); v&pteLarge != 0 {
		return pteOf(v, LargeOrder), true
	}
	if v == 0 {
		return mm.PTE{}, false
	}
	n = t.m.node(v & pteAddr)
	if v = atomic.LoadUint64(&n[va>>12&511]); v == 0 {
		return mm.PTE{}, false
	}
	return pteOf(v, 0), true
}

// Walk calls f for every page that is mapped in [va, end), in order, until it
// returns false. It takes no lock.
func (t *Table) Walk(va, end uint64, f func(va uint64, e mm.PTE) bool) {
	end = min(end, userEnd)
	for va < end {
		pmd, hole, _ := t.pmd(va, false)
		if pmd == nil {
			va = hole
			continue
		}
		next := min((va>>21+1)<<21, end)
		v := atomic.LoadUint64(pmd)
		switch {
		case v == 0:
		case v&pteLarge != 0:
			if !f(va&^(largeSize-1), pteOf(v, LargeOrder)) {
				return
			}
		default:
			n := t.m.node(v & pteAddr)
			for a := va &^ (pageSize - 1); a < next; a += pageSize {
				if e := atomic.LoadUint64(&n[a>>12&511]); e != 0 && !f(a, pteOf(e, 0)) {
					return
				}
			}
		}
		va = next
	}
}

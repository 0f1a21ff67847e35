package usermem

import (
	"sync/atomic"

	"osv/kernel/linux/mm"
)

// A third-level table stays where it is until Free, so Lookup remembers a few: the
// kernel reaches for the same pages again and again.
const nearSize = 8

// near is one of them: what covers the GiB number key.
type near struct {
	key uint64
	n   *node
}

// Lookup is the entry at va, which need not be a multiple of anything. It takes no
// lock.
func (t *Table) Lookup(va uint64) (mm.PTE, bool) {
	key := va >> 30
	c := t.near[key%nearSize].Load()
	if c == nil || c.key != key {
		if c = t.find(va); c == nil {
			return mm.PTE{}, false
		}
	}
	v := atomic.LoadUint64(&c.n[va>>21&511])
	if v&pteLarge != 0 {
		return pteOf(v, LargeOrder), true
	}
	if v == 0 {
		return mm.PTE{}, false
	}
	v = atomic.LoadUint64(&t.m.node(v & pteAddr)[va>>12&511])
	if v == 0 {
		return mm.PTE{}, false
	}
	return mm.PTE{Frame: mm.Frame(v & pteAddr), Prot: protOf(v), Accessed: v&pteAccessed != 0, Dirty: v&pteDirty != 0}, true
}

// find walks to the table that covers the GiB around va, and remembers it; nil where
// there is none.
func (t *Table) find(va uint64) *near {
	if va >= userEnd {
		return nil
	}
	n := t.m.node(t.root)
	for _, shift := range [2]uint{39, 30} {
		v := atomic.LoadUint64(&n[va>>shift&511])
		if v == 0 {
			return nil
		}
		n = t.m.node(v & pteAddr)
	}
	c := &near{va >> 30, n}
	t.near[c.key%nearSize].Store(c)
	return c
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

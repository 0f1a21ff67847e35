package usermem

import (
	"sync"
	"sync/atomic"

	"osv/kernel/linux/mm"
)

// What takes rights away works in batches: change entries, have the processors drop
// what they cached, then tell the caller. Frames are reused only after that.

const batchSize = 512

type batch struct {
	n       int
	va      [batchSize]uint64
	e       [batchSize]uint64 // as they were
	order   [batchSize]uint8
	retired []uint64 // page tables taken out
	nflush  int
	flush   [MaxFlush]uint64
}

var batches = sync.Pool{New: func() any { return new(batch) }}

func (b *batch) add(va, e uint64, order uint) {
	b.va[b.n], b.e[b.n], b.order[b.n] = va, e, uint8(order)
	b.n++
	b.drop(va)
}

// drop notes that the translation of va is to be dropped.
func (b *batch) drop(va uint64) {
	if b.nflush < MaxFlush {
		b.flush[b.nflush] = va
	}
	b.nflush++
}

// finish flushes and reports a batch, which is empty afterwards.
func (t *Table) finish(b *batch, f func(va uint64, e mm.PTE)) {
	switch {
	case b.nflush > MaxFlush:
		t.m.hw.FlushRoot(t.root)
	case b.nflush > 0:
		t.m.hw.FlushPages(t.root, b.flush[:b.nflush])
	}
	if f != nil {
		for i := range b.n {
			f(b.va[i], pteOf(b.e[i], uint(b.order[i])))
		}
	}
	for _, pa := range b.retired {
		t.retire(pa)
	}
	b.n, b.nflush, b.retired = 0, 0, b.retired[:0]
}

// Unmap clears [va, end) and calls f for every page that was mapped.
func (t *Table) Unmap(va, end uint64, f func(va uint64, e mm.PTE)) error {
	check(va, end, pageSize)
	b := batches.Get().(*batch)
	defer batches.Put(b)
	defer t.finish(b, f)
	for va < end {
		pmd, hole, _ := t.pmd(va, false)
		if pmd == nil {
			va = hole
			continue
		}
		next := min((va>>21+1)<<21, end)
		whole := next-va == largeSize
		v := atomic.LoadUint64(pmd)
		switch {
		case v == 0:
		case v&pteLarge != 0 && whole:
			if v = atomic.SwapUint64(pmd, 0); v != 0 {
				b.add(va, v, LargeOrder)
			}
		case v&pteLarge != 0:
			if _, err := t.split(pmd, va); err != nil {
				return err
			}
			continue
		default:
			n := t.m.node(v & pteAddr)
			for a := va; a < next; a += pageSize {
				e := &n[a>>12&511]
				if atomic.LoadUint64(e) == 0 {
					continue
				}
				if b.n == batchSize {
					t.finish(b, f)
				}
				b.add(a, atomic.SwapUint64(e, 0), 0)
			}
			if whole && atomic.CompareAndSwapUint64(pmd, v, 0) {
				b.retired = append(b.retired, v&pteAddr)
				b.drop(va)
			}
		}
		if b.n == batchSize {
			t.finish(b, f)
		}
		va = next
	}
	return nil
}

// Protect sets the rights of all pages mapped in [va, end).
func (t *Table) Protect(va, end uint64, prot mm.Prot) error {
	return t.update(va, end, nil, func(e uint64) (uint64, bool) {
		const rights = pteUser | pteWrite | pteNX
		v := e&^rights | bitsOf(prot, 0)&rights
		return v, !wider(v, e)
	})
}

// Harvest returns and clears the dirty bits of [va, end).
func (t *Table) Harvest(va, end uint64, f func(va uint64, e mm.PTE)) error {
	return t.update(va, end, f, func(e uint64) (uint64, bool) {
		return e &^ pteDirty, e&pteDirty != 0
	})
}

// update applies change to every entry in [va, end); less says that processors may
// not go on with what they cached. f is told of those entries.
func (t *Table) update(va, end uint64, f func(va uint64, e mm.PTE), change func(e uint64) (v uint64, less bool)) error {
	check(va, end, pageSize)
	b := batches.Get().(*batch)
	defer batches.Put(b)
	defer t.finish(b, f)
	apply := func(e *uint64, va uint64, order uint) {
		for {
			old := atomic.LoadUint64(e)
			if old == 0 {
				return
			}
			v, less := change(old)
			if v == old {
				return
			}
			if !atomic.CompareAndSwapUint64(e, old, v) {
				continue
			}
			if less {
				if b.n == batchSize {
					t.finish(b, f)
				}
				b.add(va, old, order)
			}
			return
		}
	}
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
		case v&pteLarge != 0 && next-va == largeSize:
			apply(pmd, va, LargeOrder)
		case v&pteLarge != 0:
			if w, _ := change(v); w == v {
				break
			}
			if _, err := t.split(pmd, va); err != nil {
				return err
			}
			continue
		default:
			n := t.m.node(v & pteAddr)
			for a := va; a < next; a += pageSize {
				apply(&n[a>>12&511], a, 0)
			}
		}
		va = next
	}
	return nil
}

package fakemm

import (
	"fmt"
	"slices"
	"sync"
	"syscall"

	"osv/kernel/linux/mm"
)

// Table is a page table: by 2 MiB region either one large page or 512 entries.
type Table struct {
	m *Machine

	mu      sync.Mutex
	regions map[uint64]*region // by address / 2 MiB
	freed   bool
}

type region struct {
	large *mm.PTE
	small [perLarge]*mm.PTE
	n     int
}

// NewTable is mm.Machine's.
func (m *Machine) NewTable() (mm.Table, error) {
	m.mu.Lock()
	fail := m.fail == 0
	m.mu.Unlock()
	if fail {
		return nil, syscall.ENOMEM
	}
	m.tables.Add(1)
	return &Table{m: m, regions: make(map[uint64]*region)}, nil
}

func (t *Table) region(va uint64) *region {
	r := t.regions[va/largeSize]
	if r == nil {
		r = new(region)
		t.regions[va/largeSize] = r
	}
	return r
}

func (t *Table) check(va, n uint64) {
	if t.freed {
		panic("fakemm: table is used after Free")
	}
	if va%pageSize != 0 || n%pageSize != 0 || va+n > 1<<47 || va+n < va {
		panic(fmt.Sprintf("fakemm: range %#x+%#x", va, n))
	}
}

// Map is mm.Table's.
func (t *Table) Map(va uint64, frames []mm.Frame, order uint, prot mm.Prot) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	size := uint64(pageSize) << order
	t.check(va, uint64(len(frames))*size)
	if va%size != 0 {
		panic(fmt.Sprintf("fakemm: page of order %d at %#x", order, va))
	}
	for _, f := range frames {
		if !t.m.live(f) {
			panic(fmt.Sprintf("fakemm: free frame %#x is mapped at %#x", f, va))
		}
		r := t.region(va)
		switch {
		case order != 0:
			if r.n != 0 || r.large != nil && r.large.Frame != f {
				panic(fmt.Sprintf("fakemm: large page over others at %#x", va))
			}
			if r.large == nil {
				r.large = &mm.PTE{Frame: f, Order: order}
			}
			r.large.Prot = prot
		case r.large != nil:
			panic(fmt.Sprintf("fakemm: small page inside a large one at %#x", va))
		default:
			e := &r.small[va/pageSize%perLarge]
			if *e == nil {
				*e = &mm.PTE{Frame: f}
				r.n++
			}
			if (*e).Frame != f {
				panic(fmt.Sprintf("fakemm: entry at %#x is replaced", va))
			}
			(*e).Prot = prot
		}
		va += size
	}
	return nil
}

// MapZero is mm.Table's.
func (t *Table) MapZero(va, n uint64, prot mm.Prot, large bool) (uint64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.check(va, n)
	done := uint64(0)
	for end := va + n; va < end; {
		r := t.region(va)
		var one [1]mm.Frame
		if large && va%largeSize == 0 && end-va >= largeSize && r.large == nil && r.n == 0 &&
			t.m.Alloc(one[:], 9, true) == nil {
			r.large = &mm.PTE{Frame: one[0], Order: 9, Prot: prot}
			va, done = va+largeSize, done+largeSize
			continue
		}
		if r.large != nil {
			va = va&^(largeSize-1) + largeSize
			continue
		}
		if e := &r.small[va/pageSize%perLarge]; *e == nil {
			if t.m.Alloc(one[:], 0, true) != nil {
				break
			}
			*e = &mm.PTE{Frame: one[0], Prot: prot}
			r.n++
			done += pageSize
		}
		va += pageSize
	}
	if done == 0 && n != 0 {
		return 0, syscall.ENOMEM
	}
	return done, nil
}

// split makes small pages of a large one that [va, end) is only a part of, unless it
// has prot anyway.
func (t *Table) split(va, end uint64, prot mm.Prot) error {
	for _, a := range [2]uint64{va, end} {
		if a%largeSize == 0 {
			continue
		}
		r := t.regions[a/largeSize]
		if r == nil || r.large == nil || r.large.Prot == prot {
			continue
		}
		t.m.mu.Lock()
		fail := t.m.fail == 0
		t.m.mu.Unlock()
		if fail {
			return syscall.ENOMEM
		}
		for i := range r.small {
			e := *r.large
			e.Order, e.Frame = 0, e.Frame+mm.Frame(i)*pageSize
			r.small[i] = &e
		}
		r.large, r.n = nil, perLarge
	}
	return nil
}

// each calls f for the entries of [va, end) in order. Caller holds mu.
func (t *Table) each(va, end uint64, f func(va uint64, r *region, e *mm.PTE) bool) {
	var keys []uint64
	for k := range t.regions {
		if k >= va/largeSize && k*largeSize < end {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	for _, k := range keys {
		r := t.regions[k]
		if r.large != nil {
			if !f(k*largeSize, r, r.large) {
				return
			}
			continue
		}
		for i, e := range r.small {
			a := k*largeSize + uint64(i)*pageSize
			if e != nil && a >= va && a < end && !f(a, r, e) {
				return
			}
		}
	}
}

// Unmap is mm.Table's.
func (t *Table) Unmap(va, end uint64, f func(va uint64, e mm.PTE)) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.check(va, end-va)
	if err := t.split(va, end, ^mm.Prot(0)); err != nil {
		return err
	}
	t.m.Flushes.Add(1)
	t.each(va, end, func(a uint64, r *region, e *mm.PTE) bool {
		if e == r.large {
			r.large = nil
		} else {
			r.small[a/pageSize%perLarge] = nil
			r.n--
		}
		f(a, *e)
		return true
	})
	return nil
}

// Protect is mm.Table's.
func (t *Table) Protect(va, end uint64, prot mm.Prot) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.check(va, end-va)
	if err := t.split(va, end, prot); err != nil {
		return err
	}
	t.m.Flushes.Add(1)
	t.each(va, end, func(_ uint64, _ *region, e *mm.PTE) bool {
		e.Prot = prot
		return true
	})
	return nil
}

// Lookup is mm.Table's.
func (t *Table) Lookup(va uint64) (mm.PTE, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.entry(va); e != nil {
		return *e, true
	}
	return mm.PTE{}, false
}

// Reach is mm.Reacher's: what Lookup and Bytes tell.
func (t *Table) Reach(va uint64, want mm.Prot) (b []byte, dirty, ok bool) {
	e, ok := t.Lookup(va)
	if !ok || e.Prot&want != want {
		return nil, false, false
	}
	return t.m.Bytes(e.Frame, e.Order)[va&(uint64(mm.PageSize)<<e.Order-1):], e.Dirty, true
}

func (t *Table) entry(va uint64) *mm.PTE {
	r := t.regions[va/largeSize]
	if r == nil {
		return nil
	}
	if r.large != nil {
		return r.large
	}
	return r.small[va/pageSize%perLarge]
}

// Walk is mm.Table's.
func (t *Table) Walk(va, end uint64, f func(va uint64, e mm.PTE) bool) {
	type entry struct {
		va uint64
		e  mm.PTE
	}
	var all []entry
	t.mu.Lock()
	t.check(va, end-va)
	t.each(va, end, func(a uint64, _ *region, e *mm.PTE) bool {
		all = append(all, entry{a, *e})
		return true
	})
	t.mu.Unlock()
	for _, x := range all {
		if !f(x.va, x.e) {
			return
		}
	}
}

// Harvest is mm.Table's.
func (t *Table) Harvest(va, end uint64, f func(va uint64, e mm.PTE)) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.check(va, end-va)
	t.m.Flushes.Add(1)
	t.each(va, end, func(a uint64, _ *region, e *mm.PTE) bool {
		if e.Dirty {
			f(a, *e)
			e.Dirty = false
		}
		return true
	})
	return nil
}

// Root is mm.Table's.
func (t *Table) Root() uint64 { return 0x1000 }

// Free is mm.Table's. It panics where something is still mapped.
func (t *Table) Free() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.each(0, 1<<47, func(va uint64, _ *region, e *mm.PTE) bool {
		panic(fmt.Sprintf("fakemm: %#x is mapped to %#x at Free", va, e.Frame))
	})
	t.freed = true
	t.m.tables.Add(-1)
}

// Bits of a page fault's error code.
const (
	faultPresent = 1 << 0
	faultWrite   = 1 << 1
	faultUser    = 1 << 2
	faultFetch   = 1 << 4
)

// Touch is one access of user mode to at most the rest of a page: f gets the memory
// from va on and runs with the table locked, as if it were one instruction. Where the
// access is not allowed it returns the error code of the fault.
func (t *Table) Touch(va uint64, want mm.Prot, f func(b []byte)) (code uint32, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	code = faultUser
	switch want {
	case mm.ProtWrite:
		code |= faultWrite
	case mm.ProtExec:
		code |= faultFetch
	}
	if va >= 1<<47 {
		return code, false
	}
	e := t.entry(va)
	if e == nil {
		return code, false
	}
	if e.Prot == 0 || want != mm.ProtRead && e.Prot&want == 0 {
		return code | faultPresent, false
	}
	e.Accessed = true
	if want == mm.ProtWrite {
		e.Dirty = true
	}
	size := uint64(pageSize) << e.Order
	f(t.m.Bytes(e.Frame, e.Order)[va%size:])
	return 0, true
}

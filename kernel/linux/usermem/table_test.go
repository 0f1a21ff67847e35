package usermem

import (
	"sync"
	"syscall"
	"testing"

	"osv/kernel/linux/mm"
)

// Few pages are flushed one by one, many at once, and unmapped memory not at all.
func TestFlushes(t *testing.T) {
	f, m, tab := newTable(t)
	tab.MapZero(0, 2*largeSize, mm.ProtRead|mm.ProtWrite, false)
	for _, test := range []struct {
		pages        uint64
		single, full int
	}{{1, 1, 0}, {MaxFlush, MaxFlush, 0}, {MaxFlush + 1, 0, 1}, {600, 0, 2}} {
		f.flush1, f.flushN = 0, 0
		var got []mm.Frame
		if err := tab.Unmap(0, test.pages*pageSize, func(va uint64, e mm.PTE) { got = append(got, e.Frame) }); err != nil {
			t.Fatal(err)
		}
		if f.flush1 != test.single || f.flushN != test.full || uint64(len(got)) != test.pages {
			t.Errorf("%d pages: %d single and %d full flushes, %d told", test.pages, f.flush1, f.flushN, len(got))
		}
		m.Free(got, 0)
		tab.MapZero(0, 2*largeSize, mm.ProtRead|mm.ProtWrite, false)
	}
	f.flush1, f.flushN = 0, 0
	tab.Unmap(1<<40, 1<<41, nil)
	tab.Protect(0, 2*largeSize, mm.ProtRead|mm.ProtWrite|mm.ProtExec)
	tab.MapZero(0, 4*largeSize, mm.ProtRead, true)
	if f.flush1 != 0 || f.flushN != 0 {
		t.Errorf("%d single and %d full flushes for nothing that takes rights away", f.flush1, f.flushN)
	}
	release(t, f, m, tab)
}

// Large pages come where the place is aligned and memory is plenty.
func TestMapZeroLarge(t *testing.T) {
	f, m, tab := newTable(t)
	if n, err := tab.MapZero(pageSize, 3*largeSize, mm.ProtRead, true); n != 3*largeSize || err != nil {
		t.Fatal(n, err)
	}
	for va, order := range map[uint64]uint{pageSize: 0, largeSize: LargeOrder, 2 * largeSize: LargeOrder, 3 * largeSize: 0} {
		if e, ok := tab.Lookup(va); !ok || e.Order != order {
			t.Errorf("%#x: %+v, %v; want order %d", va, e, ok, order)
		}
	}
	if _, ok := tab.Lookup(userEnd); ok {
		t.Error("the kernel's half is found")
	}
	m.plenty = 1 << 40
	tab.MapZero(8*largeSize, largeSize, mm.ProtRead, true)
	if e, ok := tab.Lookup(8 * largeSize); !ok || e.Order != 0 {
		t.Errorf("with little memory: %+v, %v", e, ok)
	}
	release(t, f, m, tab)
}

// An emptied page table makes room for a 2 MiB page, a used one does not.
func TestMapLargeOverTable(t *testing.T) {
	f, m, tab := newTable(t)
	small, large := make([]mm.Frame, 1), make([]mm.Frame, 1)
	m.Alloc(small, 0, true)
	m.Alloc(large, LargeOrder, true)
	if err := tab.Map(5*pageSize, small, 0, mm.ProtRead); err != nil {
		t.Fatal(err)
	}
	if err := tab.Map(0, large, LargeOrder, mm.ProtRead); err != syscall.EEXIST {
		t.Errorf("over a page that is mapped: %v", err)
	}
	tab.Unmap(5*pageSize, 6*pageSize, nil)
	if err := tab.Map(0, large, LargeOrder, mm.ProtRead); err != nil {
		t.Errorf("over an empty table: %v", err)
	}
	if err := tab.Map(pageSize, small, 0, mm.ProtRead); err != syscall.EEXIST {
		t.Errorf("another frame inside of a 2 MiB page: %v", err)
	}
	if e, _ := tab.Lookup(0); e.Frame != large[0] || e.Order != LargeOrder {
		t.Errorf("%+v", e)
	}
	m.Free(small, 0)
	release(t, f, m, tab)
}

// Goroutines that work on regions of their own, beside others that only look.
func TestConcurrent(t *testing.T) {
	f, m, tab := newTable(t)
	var wg sync.WaitGroup
	rounds := 60
	if testing.Short() {
		rounds = 15
	}
	done := make(chan struct{})
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				for va := uint64(0); va < 8*largeSize; va += 37 * pageSize {
					tab.Lookup(va)
				}
				tab.Walk(0, userEnd, func(uint64, mm.PTE) bool { return true })
			}
		})
	}
	var work sync.WaitGroup
	for g := range uint64(4) {
		work.Go(func() {
			lo := g * 2 * largeSize
			for r := range rounds {
				if _, err := tab.MapZero(lo, 2*largeSize, mm.ProtRead|mm.ProtWrite, r%2 == 0); err != nil {
					t.Error(err)
				}
				tab.Protect(lo+pageSize, lo+9*pageSize, mm.ProtRead)
				tab.Harvest(lo, lo+largeSize, func(uint64, mm.PTE) {})
				free := func(va uint64, e mm.PTE) {
					if e.Order == 0 && r%2 == 0 {
						return // part of a block
					}
					m.Free([]mm.Frame{e.Frame}, e.Order)
				}
				if r%2 == 0 { // blocks, split by Protect: freed as a whole
					var blocks []mm.Frame
					tab.Walk(lo, lo+2*largeSize, func(va uint64, e mm.PTE) bool {
						if va%largeSize == 0 {
							blocks = append(blocks, e.Frame)
						}
						return true
					})
					tab.Unmap(lo, lo+2*largeSize, nil)
					m.Free(blocks, LargeOrder)
					continue
				}
				tab.Unmap(lo, lo+2*largeSize, free)
			}
		})
	}
	work.Wait()
	close(done)
	wg.Wait()
	release(t, f, m, tab)
}

func TestLookupAllocatesNothing(t *testing.T) {
	f, m, tab := newTable(t)
	tab.MapZero(0, largeSize, mm.ProtRead, false)
	if n := testing.AllocsPerRun(100, func() { tab.Lookup(5 * pageSize) }); n != 0 {
		t.Errorf("Lookup: %v allocations", n)
	}
	fr := make([]mm.Frame, 1)
	nothing := func(uint64, mm.PTE) {}
	if n := testing.AllocsPerRun(100, func() {
		m.Alloc(fr, 0, true)
		tab.Map(1<<30, fr, 0, mm.ProtRead)
		tab.Unmap(1<<30, 1<<30+pageSize, nothing)
		m.Free(fr, 0)
	}); n != 0 {
		t.Errorf("a page mapped and unmapped: %v allocations", n)
	}
	release(t, f, m, tab)
}

// Single frames come and go without the allocator below.
func TestFramesAreCached(t *testing.T) {
	f, m, tab := newTable(t)
	fr := make([]mm.Frame, 3)
	m.Alloc(fr, 0, false)
	before := f.calls
	for range 100 {
		m.Free(fr, 0)
		m.Alloc(fr, 0, true)
		for _, x := range fr {
			if m.Bytes(x, 0)[0] != 0 {
				t.Fatal("not zeroed")
			}
		}
	}
	if f.calls != before {
		t.Errorf("%d calls", f.calls-before)
	}
	free := m.FreeBytes()
	more := make([]mm.Frame, cacheTake)
	var all []mm.Frame
	for range 20 {
		if err := m.Alloc(more, 0, false); err != nil {
			t.Fatal(err)
		}
		all = append(all, more...)
	}
	if got := m.FreeBytes(); got != free-20*cacheTake*pageSize {
		t.Errorf("%d bytes are free, want %d", got, free-20*cacheTake*pageSize)
	}
	for i := 0; i < len(all); i += cacheTake {
		m.Free(all[i:i+cacheTake], 0)
	}
	m.Free(fr, 0)
	if m.Alloc(nil, 0, true) != nil {
		t.Error("nothing cannot be allocated")
	}
	m.Free(nil, 0)
	release(t, f, m, tab)
}

// What only the cache holds is still found.
func TestLastFrames(t *testing.T) {
	f, m, tab := newTable(t)
	var all []mm.Frame
	big := make([]mm.Frame, 100)
	one := make([]mm.Frame, 1)
	m.Alloc(one, 0, false)
	all = append(all, one...)
	for m.Alloc(big, 0, false) == nil {
		all = append(all, big...)
	}
	for m.Alloc(one, 0, false) == nil {
		all = append(all, one...)
	}
	if m.FreeBytes() != uint64(len(f.free[LargeOrder]))*largeSize {
		t.Errorf("%d bytes are free but cannot be had", m.FreeBytes())
	}
	if n, err := tab.MapZero(0, largeSize, mm.ProtRead, false); err != syscall.ENOMEM || n != 0 {
		t.Errorf("MapZero: %d, %v", n, err)
	}
	if _, err := m.NewTable(); err == nil {
		t.Error("a table of no memory")
	}
	for _, x := range all {
		m.Free([]mm.Frame{x}, 0)
	}
	release(t, f, m, tab)
}

func TestBadRangesPanic(t *testing.T) {
	_, _, tab := newTable(t)
	for name, f := range map[string]func(){
		"unaligned":       func() { tab.Unmap(1, pageSize, nil) },
		"backwards":       func() { tab.Protect(2*pageSize, pageSize, 0) },
		"too high":        func() { tab.Unmap(0, userEnd+pageSize, nil) },
		"a strange order": func() { tab.Map(0, nil, 3, 0) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

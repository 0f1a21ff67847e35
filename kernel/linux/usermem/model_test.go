package usermem

import (
	"errors"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"osv/kernel/linux/mm"
)

// A table is a map from pages to frames and rights; the model is one.
type model struct {
	f     *fake
	m     *Machine
	tab   *Table
	pages map[uint64]modelPage
	held  map[mm.Frame]uint // blocks that the test owns, and their order
}

type modelPage struct {
	frame mm.Frame
	prot  mm.Prot
	dirty bool
}

// Pages are drawn from a few regions, the last before the end of user memory.
var regions = []uint64{0, 1 << 21, 1 << 30, 1<<39 - largeSize, 1 << 39, userEnd - largeSize}

func drawVA(t *rapid.T) uint64 {
	return rapid.SampledFrom(regions).Draw(t, "region") + uint64(rapid.IntRange(0, 511).Draw(t, "page"))*pageSize
}

func drawRange(t *rapid.T) (va, end uint64) {
	va = drawVA(t)
	n := uint64(rapid.SampledFrom([]int{1, 2, 3, 40, 512, 1024}).Draw(t, "pages")) * pageSize
	if rapid.Bool().Draw(t, "aligned") {
		va &^= largeSize - 1
	}
	return va, min(va+n, userEnd)
}

func drawProt(t *rapid.T) mm.Prot {
	return mm.ProtRead | rapid.SampledFrom([]mm.Prot{0, mm.ProtWrite, mm.ProtExec, mm.ProtWrite | mm.ProtExec}).Draw(t, "prot")
}

func (s *model) Map(t *rapid.T) {
	order := rapid.SampledFrom([]uint{0, 0, 0, LargeOrder}).Draw(t, "order")
	va, prot := drawVA(t), drawProt(t)
	size := uint64(pageSize) << order
	va &^= size - 1
	fr := make([]mm.Frame, 1)
	if s.m.Alloc(fr, order, true) != nil {
		t.Skip("no memory")
	}
	for a := va; a < va+size; a += pageSize {
		if _, ok := s.pages[a]; ok {
			if err := s.tab.Map(va, fr, order, prot); err != syscall.EEXIST {
				t.Fatalf("Map over another frame at %#x: %v", a, err)
			}
			s.m.Free(fr, order)
			return
		}
	}
	if err := s.tab.Map(va, fr, order, prot); err != nil {
		t.Fatal(err)
	}
	s.held[fr[0]] = order
	for o := uint64(0); o < size; o += pageSize {
		s.pages[va+o] = modelPage{frame: fr[0] + mm.Frame(o), prot: prot}
	}
}

// Widen maps what is mapped already.
func (s *model) Widen(t *rapid.T) {
	va, prot := drawVA(t), drawProt(t)
	p, ok := s.pages[va]
	if !ok {
		t.Skip("nothing there")
	}
	if err := s.tab.Map(va, []mm.Frame{p.frame}, 0, prot); err != nil {
		t.Fatal(err)
	}
	p.prot |= prot
	s.pages[va] = p
}

func (s *model) MapZero(t *rapid.T) {
	va, end := drawRange(t)
	prot, large := drawProt(t), rapid.Bool().Draw(t, "large")
	missing := uint64(0)
	for a := va; a < end; a += pageSize {
		if _, ok := s.pages[a]; !ok {
			missing += pageSize
		}
	}
	n, err := s.tab.MapZero(va, end-va, prot, large)
	if err != nil || n != missing {
		t.Fatalf("MapZero of [%#x, %#x): %d bytes, %v; want %d", va, end, n, err, missing)
	}
	for a := va; a < end; a += pageSize {
		e, ok := s.tab.Lookup(a)
		if !ok {
			t.Fatalf("nothing at %#x after MapZero", a)
		}
		if _, ok := s.pages[a]; ok {
			continue
		}
		if e.Order == 0 {
			s.held[e.Frame] = 0
		} else if a&(largeSize-1) == 0 {
			s.held[e.Frame] = LargeOrder
		}
		fr := frameAt(e, a)
		for _, b := range s.m.Bytes(fr, 0) {
			if b != 0 {
				t.Fatalf("page %#x is not zero", a)
			}
		}
		s.pages[a] = modelPage{frame: fr, prot: prot}
	}
}

// frameAt is the frame of a page, also inside of a 2 MiB page.
func frameAt(e mm.PTE, va uint64) mm.Frame {
	return e.Frame + mm.Frame(va&(pageSize<<e.Order-1)&^(pageSize-1))
}

func (s *model) Unmap(t *rapid.T) {
	va, end := drawRange(t)
	err := s.tab.Unmap(va, end, func(a uint64, e mm.PTE) {
		if err := s.f.cached(s.tab); err != nil {
			t.Fatalf("told of %#x before the flush: %v", a, err)
		}
		for o := uint64(0); o < pageSize<<e.Order; o += pageSize {
			p, ok := s.pages[a+o]
			if !ok || p.frame != e.Frame+mm.Frame(o) || p.prot != e.Prot || a+o < va || a+o >= end || p.dirty && !e.Dirty {
				t.Fatalf("Unmap of [%#x, %#x) tells of %#x: %+v, want %+v", va, end, a+o, e, p)
			}
			delete(s.pages, a+o)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	for a := va; a < end; a += pageSize {
		if _, ok := s.pages[a]; ok {
			t.Fatalf("Unmap did not tell of %#x", a)
		}
	}
}

func (s *model) Protect(t *rapid.T) {
	va, end := drawRange(t)
	prot := drawProt(t)
	if err := s.tab.Protect(va, end, prot); err != nil {
		t.Fatal(err)
	}
	for a := va; a < end; a += pageSize {
		if p, ok := s.pages[a]; ok {
			p.prot = prot
			s.pages[a] = p
		}
	}
}

func (s *model) Harvest(t *rapid.T) {
	va, end := drawRange(t)
	err := s.tab.Harvest(va, end, func(a uint64, e mm.PTE) {
		if err := s.f.cached(s.tab); err != nil {
			t.Fatalf("told of %#x before the flush: %v", a, err)
		}
		for o := uint64(0); o < pageSize<<e.Order; o += pageSize {
			p := s.pages[a+o]
			p.dirty = false
			s.pages[a+o] = p
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	for a := va; a < end; a += pageSize {
		if s.pages[a].dirty {
			t.Fatalf("Harvest did not tell of %#x", a)
		}
	}
}

// Touch is the program.
func (s *model) Touch(t *rapid.T) {
	for range 5 {
		va := drawVA(t)
		write, exec := rapid.Bool().Draw(t, "write"), rapid.Bool().Draw(t, "exec")
		p, ok := s.pages[va]
		may := ok && (!write || p.prot&mm.ProtWrite != 0) && (!exec || p.prot&mm.ProtExec != 0)
		if got := s.f.touch(s.tab, va, write, exec); got != may {
			t.Fatalf("access to %#x (write %v, exec %v): %v, page %+v", va, write, exec, got, p)
		}
		if may && write {
			p.dirty = true
			s.pages[va] = p
		}
	}
}

// Walk tells of all pages, in order.
func (s *model) Walk(t *rapid.T) {
	va, end := drawRange(t)
	found := map[uint64]bool{}
	last := uint64(0)
	s.tab.Walk(va, end, func(a uint64, e mm.PTE) bool {
		if len(found) > 0 && a <= last || a+pageSize<<e.Order <= va || a >= end {
			t.Fatalf("Walk of [%#x, %#x) tells of %#x after %#x", va, end, a, last)
		}
		last = a
		for o := uint64(0); o < pageSize<<e.Order; o += pageSize {
			found[a+o] = true
		}
		return true
	})
	for a := va; a < end; a += pageSize {
		if _, ok := s.pages[a]; ok != found[a] {
			t.Fatalf("Walk of [%#x, %#x): %#x mapped %v, told %v", va, end, a, ok, found[a])
		}
	}
}

// Check holds after every step.
func (s *model) check(t *rapid.T) {
	if err := s.f.cached(s.tab); err != nil {
		t.Fatal(err)
	}
	for va, p := range s.pages {
		for _, want := range []mm.Prot{mm.ProtRead, mm.ProtWrite} {
			b, dirty, ok := s.tab.Reach(va+5, want)
			if ok != (p.prot&want != 0) || ok && (&b[0] != &s.m.Bytes(p.frame, 0)[5] || p.dirty && !dirty || len(b)%pageSize != pageSize-5) {
				t.Fatalf("Reach of %#x for %d: %d bytes, %v; page %+v", va+5, want, len(b), ok, p)
			}
		}
		e, ok := s.tab.Lookup(va + 5)
		if !ok || frameAt(e, va) != p.frame || e.Prot != p.prot || p.dirty && !e.Dirty {
			t.Fatalf("%#x is %+v, %v; want %+v", va, e, ok, p)
		}
	}
	for _, va := range regions {
		if _, _, ok := s.tab.Reach(va, mm.ProtRead); ok != (s.pages[va].prot != 0) {
			t.Fatalf("Reach of %#x: %v", va, ok)
		}
	}
	n := 0
	s.tab.Walk(0, userEnd, func(_ uint64, e mm.PTE) bool { n += 1 << e.Order; return true })
	if n != len(s.pages) {
		t.Fatalf("%d pages mapped, want %d", n, len(s.pages))
	}
}

func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := newFake(fatal{r: t})
		defer syscall.Munmap(f.mem)
		m := New(f)
		tab, err := m.NewTable()
		if err != nil {
			t.Fatal(err)
		}
		s := &model{f, m, tab.(*Table), map[uint64]modelPage{}, map[mm.Frame]uint{}}
		t.Repeat(map[string]func(*rapid.T){
			"": s.check, "Map": s.Map, "Widen": s.Widen, "MapZero": s.MapZero, "Unmap": s.Unmap, "Protect": s.Protect,
			"Harvest": s.Harvest, "Touch": s.Touch, "Walk": s.Walk,
		})
		if err := s.tab.Unmap(0, userEnd, nil); err != nil {
			t.Fatal(err)
		}
		for fr, o := range s.held {
			m.Free([]mm.Frame{fr}, o)
		}
		s.tab.Free()
		m.drain()
		if len(f.out) != 0 {
			t.Fatalf("%d blocks are left", len(f.out))
		}
	})
}

// fatal lets a fake report to a rapid.T, which is no testing.TB; its Cleanup does
// nothing.
type fatal struct {
	testing.TB
	r *rapid.T
}

func (f fatal) Cleanup(func())            {}
func (f fatal) Fatal(a ...any)            { f.r.Fatal(a...) }
func (f fatal) Fatalf(s string, a ...any) { f.r.Fatalf(s, a...) }
func (f fatal) Errorf(s string, a ...any) { f.r.Errorf(s, a...) }

// Memory that runs out leaves a table as it was, or further than that, and nothing
// is lost.
func TestNoMemory(t *testing.T) {
	for limit := range 12 {
		f, m, tab := newTable(t)
		m.drain()
		f.limit = limit
		n, err := tab.MapZero(largeSize-4*pageSize, 40*pageSize, mm.ProtRead, false)
		if err != nil && (n != 0 || !errors.Is(err, syscall.ENOMEM)) || err == nil && n == 0 {
			t.Fatalf("limit %d: %d bytes, %v", limit, n, err)
		}
		got := uint64(0)
		tab.Walk(0, userEnd, func(va uint64, e mm.PTE) bool { got += pageSize; return true })
		if got != n {
			t.Fatalf("limit %d: %d bytes are mapped, %d said", limit, got, n)
		}
		f.limit = -1
		release(t, f, m, tab)
	}
}

// A split that finds no memory changes nothing.
func TestSplitWithoutMemory(t *testing.T) {
	f, m, tab := newTable(t)
	if n, err := tab.MapZero(0, largeSize, mm.ProtRead, true); n != largeSize || err != nil {
		t.Fatal(n, err)
	}
	m.drain()
	f.limit = 0
	if err := tab.Unmap(0, pageSize, nil); err != syscall.ENOMEM {
		t.Errorf("Unmap: %v", err)
	}
	if err := tab.Protect(pageSize, 2*pageSize, mm.ProtRead|mm.ProtWrite); err != syscall.ENOMEM {
		t.Errorf("Protect: %v", err)
	}
	if err := tab.Protect(pageSize, 2*pageSize, mm.ProtRead); err != nil { // nothing to change
		t.Errorf("Protect to the same: %v", err)
	}
	if e, ok := tab.Lookup(0); !ok || e.Order != LargeOrder || e.Prot != mm.ProtRead {
		t.Errorf("%+v, %v", e, ok)
	}
	f.limit = -1
	release(t, f, m, tab)
}

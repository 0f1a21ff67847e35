package mm_test

import (
	"testing"

	"osv/kernel/ktest/fakemm"
	"osv/kernel/linux/mm"
)

// fixedTable is a page table without cost: the first 2 MiB are mapped, one page after
// the other, and what is measured is mm.
type fixedTable struct {
	mm.Table
	ptes [512]mm.PTE
}

func (t *fixedTable) Lookup(va uint64) (mm.PTE, bool) {
	e := t.ptes[va>>12&511]
	return e, e.Prot != 0
}

func (t *fixedTable) MapZero(va, n uint64, _ mm.Prot, _ bool) (uint64, error) { return n, nil }

type fixedMachine struct {
	*fakemm.Machine
	t *fixedTable
}

func (m *fixedMachine) NewTable() (mm.Table, error) {
	t, err := m.Machine.NewTable()
	m.t = &fixedTable{Table: t}
	return m.t, err
}

func (m *fixedMachine) FreeBytes() uint64 { return 1 << 30 }

// fixedSpace is a space with a mapping of 2 MiB at a that is present.
func fixedSpace(tb testing.TB) (s *mm.Space, t *fixedTable, a uint64) {
	m := &fixedMachine{Machine: fakemm.New(1024)}
	s, err := mm.New(m, mm.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	for i := range m.t.ptes {
		var f [1]mm.Frame
		m.Alloc(f[:], 0, true)
		m.t.ptes[i] = mm.PTE{Frame: f[0], Prot: rw, Dirty: true}
	}
	a, err = s.Mmap(mm.MapRequest{Addr: 0x40000000, Length: 2 << 20, Prot: rw, Flags: anon | fixed})
	if err != nil {
		tb.Fatal(err)
	}
	return s, m.t, a
}

func TestCopiesDoNotAllocate(t *testing.T) {
	s, _, a := fixedSpace(t)
	b := make([]byte, 128<<10)
	v := []mm.Iovec{{a, 100}, {a + 9000, 100000}}
	var u mm.User
	for name, f := range map[string]func(){
		"CopyIn 16 B":     func() { s.CopyIn(b[:16], a+8) },
		"CopyOut 16 B":    func() { s.CopyOut(a+8, b[:16]) },
		"CopyIn 128 KiB":  func() { s.CopyIn(b, a+8) },
		"CopyOut 128 KiB": func() { s.CopyOut(a+8, b) },
		"vector":          func() { u = s.DstVec(v); u.Put(b); u = s.SrcVec(v); u.Take(b) },
		"futex":           func() { s.Load32(a); s.CompareAndSwap32(a, 0, 0); s.FutexKey(a, false) },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// A fault that finds memory, and mmap with munmap, allocate nothing once a space has had
// as many mappings before.
func TestFaultsDoNotAllocate(t *testing.T) {
	s, table, a := fixedSpace(t)
	table.ptes[3] = mm.PTE{}
	if n := testing.AllocsPerRun(100, func() {
		if s.Fault(a+3*page, 6) != nil {
			t.Fail()
		}
	}); n != 0 {
		t.Errorf("fault: %v allocations", n)
	}
	if n := testing.AllocsPerRun(100, func() {
		b, err := s.Mmap(mm.MapRequest{Length: 16 * page, Prot: rw, Flags: anon})
		if err != nil {
			t.Fail()
		}
		s.Mprotect(b+page, page, 0)
	}); n > 3 {
		t.Errorf("mmap and mprotect: %v allocations", n)
	}
}

func BenchmarkCopyIn(b *testing.B) {
	s, _, a := fixedSpace(b)
	for _, n := range []int{16, 4096, 128 << 10} {
		p := make([]byte, n)
		b.Run(byteSize(n), func(b *testing.B) {
			b.SetBytes(int64(n))
			for b.Loop() {
				s.CopyIn(p, a+16)
			}
		})
	}
}

func BenchmarkCopyOut(b *testing.B) {
	s, _, a := fixedSpace(b)
	for _, n := range []int{16, 4096, 128 << 10} {
		p := make([]byte, n)
		b.Run(byteSize(n), func(b *testing.B) {
			b.SetBytes(int64(n))
			for b.Loop() {
				s.CopyOut(a+16, p)
			}
		})
	}
}

func byteSize(n int) string {
	switch n {
	case 16:
		return "16B"
	case 4096:
		return "4KiB"
	}
	return "128KiB"
}

func BenchmarkLoad32(b *testing.B) {
	s, _, a := fixedSpace(b)
	for b.Loop() {
		s.Load32(a)
	}
}

func BenchmarkFault(b *testing.B) {
	s, t, a := fixedSpace(b)
	t.ptes[3] = mm.PTE{}
	for b.Loop() {
		s.Fault(a+3*page, 6)
	}
}

func BenchmarkMmapMunmap(b *testing.B) {
	m := fakemm.New(1024)
	s, _ := mm.New(m, mm.Options{})
	// As many mappings as a JVM has.
	for i := range uint64(300) {
		s.Mmap(mm.MapRequest{Addr: 0x40000000 + 2*i*page, Length: page, Prot: mm.Prot(1 + 2*(i&1)), Flags: anon | fixed})
	}
	b.ReportAllocs()
	for b.Loop() {
		a, _ := s.Mmap(mm.MapRequest{Length: 16 * page, Prot: rw, Flags: anon})
		s.Munmap(a, 16*page)
	}
}

// BenchmarkMprotectStep is what glibc does to grow an arena.
func BenchmarkMprotectStep(b *testing.B) {
	m := fakemm.New(1024)
	s, _ := mm.New(m, mm.Options{})
	a, _ := s.Mmap(mm.MapRequest{Length: 1 << 40, Flags: anon})
	s.Mprotect(a, page, uint32(rw))
	i := uint64(1)
	b.ReportAllocs()
	for b.Loop() {
		s.Mprotect(a+i*page, page, uint32(rw))
		i++
	}
}

package mm_test

import (
	"sync"
	"syscall"
	"testing"

	"osv/kernel/ktest/fakemm"
	"osv/kernel/linux/mm"
)

// What a copy has reached once it reaches without the table. Whatever takes a page or a
// right away has to be seen all the same.
func TestCopiesForgetPages(t *testing.T) {
	w := newWorld(t, 4096, mm.Options{})
	a := w.mmap(0, 4*page, rw, anon)
	word := func(addr, want uint64) {
		t.Helper()
		for range 2 {
			if got, err := w.s.Word(addr); got != want || err != nil {
				t.Fatalf("%#x: %d, %v, want %d", addr, got, err, want)
			}
		}
	}
	for i := range uint64(3) { // the first makes the page, the second remembers it
		w.ok(w.s.PutWord(a, i))
		w.ok(w.s.PutWords(a+8, i, i+1))
		word(a, i)
		word(a+16, i+1)
	}
	if got, err := w.Load(a); got != 2 || err != nil {
		t.Fatal(got, err)
	}

	// Over the end of a page, and of what is mapped.
	w.ok(w.s.PutWord(a+page-4, 1<<40|7))
	word(a+page-4, 1<<40|7)
	w.ok(w.s.PutWords(a+page-8, 5, 6))
	word(a+page, 6)
	if err := w.s.PutWord(a+4*page-4, 1); err != syscall.EFAULT {
		t.Error(err)
	}
	if _, err := w.s.Word(mm.TaskSize - 4); err != syscall.EFAULT {
		t.Error(err)
	}
	if err := w.s.PutWord(^uint64(0)-3, 1); err != syscall.EFAULT {
		t.Error(err)
	}

	// Rights.
	w.ok(w.s.Mprotect(a, page, uint32(mm.ProtRead)))
	word(a, 2)
	if err := w.s.PutWord(a, 9); err != syscall.EFAULT {
		t.Errorf("a read-only page was written to: %v", err)
	}
	w.ok(w.s.Mprotect(a, page, 0))
	if _, err := w.s.Word(a); err != syscall.EFAULT {
		t.Errorf("a page without rights was read: %v", err)
	}
	w.ok(w.s.Mprotect(a, page, uint32(rw)))
	word(a, 2)

	// A page that goes.
	w.ok(w.s.Munmap(a+page, page))
	if _, err := w.s.Word(a + page); err != syscall.EFAULT {
		t.Errorf("an unmapped page was read: %v", err)
	}
	w.ok(w.s.Madvise(a, page, syscall.MADV_DONTNEED))
	word(a, 0)
	w.ok(w.s.PutWord(a, 3))

	// Fork: the child's and the parent's pages part with the first write.
	s, err := w.s.Fork()
	w.ok(err)
	defer s.Close()
	word(a, 3)
	release := mm.HoldReading(w.s)
	w.ok(w.Store(a, 4)) // the program's own write: a copy on write
	got, err := w.s.Word(a)
	release()
	if got != 4 || err != nil {
		t.Errorf("after a copy on write: %d, %v", got, err)
	}
	w.ok(w.s.PutWord(a, 5))
	word(a, 5)
	if got, err := s.Word(a); got != 3 || err != nil {
		t.Errorf("the child sees %d, %v", got, err)
	}
	w.ok(s.PutWord(a, 6))
	word(a, 5)
}

// A thread writes, which copies the page, while another reads: it must never see an old
// word once it has seen a new one.
func TestCopiesSeeCopiesOnWrite(t *testing.T) {
	if raceEnabled {
		t.Skip("the threads' own words race, as those of programs may")
	}
	w := newWorld(t, 4096, mm.Options{})
	a := w.mmap(0, page, rw, anon)
	w.ok(w.s.PutWord(a, 0))
	for n := uint64(1); n <= 100; n++ {
		s, err := w.s.Fork()
		w.ok(err)
		var wg sync.WaitGroup
		wg.Go(func() {
			for last, tries := uint64(0), 0; last < n && tries < 1<<20; tries++ {
				v, err := w.s.Word(a)
				if err != nil || v < last {
					t.Errorf("%d after %d, %v", v, last, err)
					return
				}
				last = v
			}
		})
		w.ok(w.s.PutWord(a, n))
		if v, err := w.s.Word(a); v != n || err != nil {
			t.Errorf("round %d: %d, %v", n, v, err)
		}
		wg.Wait()
		s.Close()
	}
}

// What files put and take a word at a time, or as zeros, over ranges of any length.
func TestUserWords(t *testing.T) {
	w := newWorld(t, 64, mm.Options{})
	a := w.mmap(0, 2*page, rw, anon)
	for _, v := range [][]mm.Iovec{{{a, 100}}, {{a, 3}, {a + page, 100}}, {{a + page - 4, 8}}} {
		u := w.s.DstVec(v)
		if n, err := u.PutWord(0x1122334455667788); n != 8 || err != nil {
			t.Fatal(n, err)
		}
		u = w.s.SrcVec(v)
		if x, err := u.TakeWord(); x != 0x1122334455667788 || err != nil {
			t.Errorf("%v: %#x, %v", v, x, err)
		}
		u = w.s.DstVec(v)
		room := u.Room()
		if n, err := u.PutZeros(1 << 20); n != room || u.Room() != 0 || err != nil {
			t.Errorf("%v: %d zeros of %d, %v", v, n, room, err)
		}
		u = w.s.SrcVec(v)
		if x, err := u.TakeWord(); x != 0 || err != nil {
			t.Errorf("%v: %#x, %v after zeros", v, x, err)
		}
	}
	u := w.s.Dst(a+2*page-4, 100)
	if n, err := u.PutWord(1); n == 8 || err != syscall.EFAULT {
		t.Error(n, err)
	}
	u = w.s.Src(a+2*page-4, 8)
	if _, err := u.TakeWord(); err != syscall.EFAULT {
		t.Error(err)
	}
	u = w.s.Dst(a+page, 2*page)
	if n, err := u.PutZeros(2 * page); n != page || err != syscall.EFAULT {
		t.Error(n, err)
	}
}

func TestWordsDoNotAllocate(t *testing.T) {
	w := newWorld(t, 64, mm.Options{})
	a := w.mmap(0, page, rw, anon)
	var b [16]byte
	if n := testing.AllocsPerRun(100, func() {
		_ = w.s.PutWord(a, 1)
		_ = w.s.PutWords(a, 1, 2)
		_, _ = w.s.Word(a)
		_ = w.s.CopyIn(b[:], a)
		_ = w.s.CopyOut(a, b[:])
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

var _ mm.Reacher = (*fakemm.Table)(nil)

package mm_test

import (
	"bytes"
	"errors"
	"syscall"
	"testing"

	"osv/kernel/ktest/fakemm"
	"osv/kernel/linux/mm"
)

const (
	rw     = mm.ProtRead | mm.ProtWrite
	anon   = syscall.MAP_PRIVATE | syscall.MAP_ANON
	fixed  = syscall.MAP_FIXED
	shared = syscall.MAP_SHARED | syscall.MAP_ANON
	page   = mm.PageSize
)

// world is a machine, a space on it, and a program in that.
type world struct {
	*testing.T
	m *fakemm.Machine
	s *mm.Space
	fakemm.CPU
}

// newWorld makes a space; at the end of the test nothing may be left of it.
func newWorld(t *testing.T, frames int, opt mm.Options) *world {
	t.Helper()
	m := fakemm.New(frames)
	s, err := mm.New(m, opt)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, m: m, s: s, CPU: fakemm.CPU{S: s}}
	t.Cleanup(func() {
		s.Close()
		if f, n := m.Leaked(); f != 0 || n != 0 {
			t.Errorf("%d frames and %d tables are left", f, n)
		}
	})
	return w
}

func (w *world) mmap(addr, n uint64, prot mm.Prot, flags int) uint64 {
	w.Helper()
	a, err := w.s.Mmap(mm.MapRequest{Addr: addr, Length: n, Prot: prot, Flags: flags})
	if err != nil {
		w.Fatalf("mmap %#x+%#x: %v", addr, n, err)
	}
	return a
}

func (w *world) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// wants says whether err is the signal sig with code at addr.
func wants(err error, sig syscall.Signal, code int32, addr uint64) bool {
	var s *mm.Signal
	return errors.As(err, &s) && *s == mm.Signal{Sig: sig, Code: code, Addr: addr}
}

func TestTouchAndUnmap(t *testing.T) {
	w := newWorld(t, 4096, mm.Options{})
	a := w.mmap(0, 64*page, rw, anon)
	for i := uint64(0); i < 64; i++ {
		w.ok(w.Store(a+i*page, i+1))
	}
	for i := uint64(0); i < 64; i++ {
		if x, err := w.Load(a + i*page); err != nil || x != i+1 {
			t.Fatalf("page %d: %d, %v", i, x, err)
		}
	}
	if w.Faults > 8 {
		t.Errorf("%d faults for 64 pages in order", w.Faults)
	}
	w.ok(w.s.Munmap(a+16*page, 16*page))
	if err := w.Store(a+20*page, 1); !wants(err, syscall.SIGSEGV, mm.SegvMapErr, a+20*page) {
		t.Fatalf("store to unmapped memory: %v", err)
	}
	if x, err := w.Load(a + 32*page); err != nil || x != 33 {
		t.Fatalf("page above the hole: %d, %v", x, err)
	}
	w.ok(w.s.Munmap(a, 64*page))
	if f, _ := w.m.Leaked(); f != 0 {
		t.Fatalf("%d frames are left", f)
	}
}

// A fault of the kernel's rights on a page that is there (SMAP) is no page to bring in.
func TestFaultWithoutUserBit(t *testing.T) {
	w := newWorld(t, 64, mm.Options{})
	a := w.mmap(0, page, rw, anon)
	w.ok(w.Store(a, 1))
	for _, code := range []uint32{1, 3} {
		if err := w.s.Fault(a, code); !wants(err, syscall.SIGSEGV, mm.SegvAccErr, a) {
			t.Errorf("code %d: %v", code, err)
		}
	}
	w.ok(w.s.Fault(a, 2)) // the page may have come meanwhile
}

func TestRightsOfMappings(t *testing.T) {
	w := newWorld(t, 512, mm.Options{})
	a := w.mmap(0, 4*page, mm.ProtRead, anon)
	if err := w.Store(a, 1); !wants(err, syscall.SIGSEGV, mm.SegvAccErr, a) {
		t.Fatalf("store to read-only memory: %v", err)
	}
	if err := w.Fetch(a); !wants(err, syscall.SIGSEGV, mm.SegvAccErr, a) {
		t.Fatalf("execution of data: %v", err)
	}
	w.ok(w.s.Mprotect(a, page, uint32(rw)))
	w.ok(w.Store(a, 7))
	w.ok(w.s.Mprotect(a, 4*page, 0))
	if _, err := w.Load(a); !wants(err, syscall.SIGSEGV, mm.SegvAccErr, a) {
		t.Fatalf("load from PROT_NONE: %v", err)
	}
	if err := w.s.CopyIn(make([]byte, 1), a); err != syscall.EFAULT {
		t.Fatalf("CopyIn from PROT_NONE: %v", err)
	}
	w.ok(w.s.Mprotect(a, 4*page, uint32(mm.ProtRead|mm.ProtExec)))
	if x, err := w.Load(a); err != nil || x != 7 {
		t.Fatalf("contents after PROT_NONE: %d, %v", x, err)
	}
	w.ok(w.Fetch(a))
}

func TestCopyInAndOut(t *testing.T) {
	w := newWorld(t, 4096, mm.Options{})
	a := w.mmap(0, 64*page, rw, anon)
	out := bytes.Repeat([]byte("0123456789"), 10000)
	w.ok(w.s.CopyOut(a+100, out))
	in := make([]byte, len(out))
	w.ok(w.s.CopyIn(in, a+100))
	if !bytes.Equal(in, out) {
		t.Fatal("what comes back differs")
	}
	w.ok(w.Read(a+100, in))
	if !bytes.Equal(in, out) {
		t.Fatal("the program sees something else")
	}
	n, err := w.s.WriteAt(a+63*page+10, make([]byte, 2*page))
	if n != page-10 || err != syscall.EFAULT {
		t.Fatalf("write over the end: %d, %v", n, err)
	}
	w.ok(w.s.CopyOut(a, []byte("hello\x00")))
	if x, err := w.s.String(a, 100); x != "hello" || err != nil {
		t.Fatalf("String: %q, %v", x, err)
	}
	if _, err := w.s.String(a, 5); err != syscall.ENAMETOOLONG {
		t.Fatalf("long String: %v", err)
	}
}

func TestForkCopiesOnWrite(t *testing.T) {
	w := newWorld(t, 4096, mm.Options{})
	a := w.mmap(0, 32*page, rw, anon)
	b := w.mmap(0, 4*page, rw, shared)
	w.ok(w.Store(a, 1))
	w.ok(w.Store(b, 1))
	before, _ := w.m.Leaked()
	s, err := w.s.Fork()
	w.ok(err)
	if f, _ := w.m.Leaked(); f != before {
		t.Errorf("fork took %d frames", f-before)
	}
	c := fakemm.CPU{S: s}
	w.ok(c.Store(a, 2))
	w.ok(c.Store(b, 2))
	w.ok(w.Store(a+8, 3))
	for _, x := range []struct {
		cpu  *fakemm.CPU
		addr uint64
		want uint64
	}{{&c, a, 2}, {&w.CPU, a, 1}, {&c, a + 8, 0}, {&w.CPU, a + 8, 3}, {&w.CPU, b, 2}} {
		if got, err := x.cpu.Load(x.addr); got != x.want || err != nil {
			t.Errorf("%#x: %d, %v, want %d", x.addr, got, err, x.want)
		}
	}
	s.Close()
	w.ok(w.Store(a, 4))
}

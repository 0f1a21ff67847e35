package mm_test

import (
	"slices"
	"syscall"
	"testing"

	"osv/kernel/ktest/fakemm"
	"osv/kernel/linux/mm"
)

// file makes a file that the end of the test drops; nothing may have its pages then.
func (w *world) file(n int64) *fakemm.File {
	f := w.m.NewFile(n)
	w.Cleanup(func() {
		if f.Mapped() != 0 || f.Refs != 0 {
			w.Errorf("the file has %d mappings and %d references", f.Mapped(), f.Refs)
		}
		f.Drop()
	})
	return f
}

// newFileWorld is newWorld with a file of n bytes: the space is closed first.
func newFileWorld(t *testing.T, frames int, n int64) (*world, *fakemm.File) {
	m := fakemm.New(frames)
	s, err := mm.New(m, mm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, m: m, s: s, CPU: fakemm.CPU{S: s}}
	t.Cleanup(func() {
		if f, n := m.Leaked(); f != 0 || n != 0 {
			t.Errorf("%d frames and %d tables are left", f, n)
		}
	})
	f := w.file(n)
	t.Cleanup(s.Close)
	return w, f
}

func (w *world) mapFile(r mm.MapRequest) uint64 {
	w.Helper()
	a, err := w.s.Mmap(r)
	if err != nil {
		w.Fatal(err)
	}
	return a
}

func TestPrivateFileIsCopiedOnWrite(t *testing.T) {
	w, f := newFileWorld(t, 1024, 8*page)
	a := w.mapFile(f.Request(0, 8*page, 0, rw, syscall.MAP_PRIVATE))
	b := w.mapFile(f.Request(0, 4*page, 2*page, mm.ProtRead, syscall.MAP_PRIVATE))
	if x, err := w.Load(a + 3*page); err != nil || x != 4 {
		t.Fatalf("page 3: %d, %v", x, err)
	}
	w.ok(w.Store(a+3*page, 77)) // mapped already
	w.ok(w.Store(a+5*page+8, 78))
	for _, x := range []struct{ addr, want uint64 }{
		{a + 3*page, 77}, {b + page, 4}, {a + 5*page, 6}, {a + 5*page + 8, 78}, {b + 3*page + 8, 0},
	} {
		if got, err := w.Load(x.addr); got != x.want || err != nil {
			t.Errorf("%#x: %d, %v, want %d", x.addr, got, err, x.want)
		}
	}
	if d := f.Writeback(); len(d) != 0 {
		t.Errorf("private writes made pages %v dirty", d)
	}
	if s := w.s.Stat(); s.RSSAnon != 2*page {
		t.Errorf("anonymous memory: %d bytes", s.RSSAnon)
	}
}

func TestSharedFileTellsDirtyPages(t *testing.T) {
	w, f := newFileWorld(t, 1024, 8*page)
	a := w.mapFile(f.Request(0, 8*page, 0, rw, syscall.MAP_SHARED))
	w.ok(w.Store(a+2*page, 99))
	if _, err := w.Load(a + 3*page); err != nil {
		t.Fatal(err)
	}
	w.ok(w.s.CopyOut(a+4*page, []byte("x")))
	if d := f.Writeback(); !slices.Equal(d, []int64{2 * page, 4 * page}) {
		t.Errorf("dirty: %v", d)
	}
	if d := f.Writeback(); len(d) != 0 {
		t.Errorf("dirty again: %v", d)
	}
	w.ok(w.Store(a+2*page, 100)) // no fault: only the processor's dirty bit tells
	w.ok(w.s.CopyOut(a+4*page, []byte("y")))
	w.ok(w.s.Msync(a, 8*page, 4))
	if f.Syncs != 1 {
		t.Errorf("%d syncs", f.Syncs)
	}
	if d := f.Writeback(); !slices.Equal(d, []int64{2 * page, 4 * page}) {
		t.Errorf("dirty after msync: %v", d)
	}
	w.ok(w.Store(a+3*page, 1))
	w.ok(w.Store(a+2*page, 101))
	w.ok(w.s.Munmap(a, 8*page))
	if d := f.Writeback(); !slices.Equal(d, []int64{2 * page, 3 * page}) {
		t.Errorf("dirty after munmap: %v", d)
	}
}

func TestBeyondTheEndIsSIGBUS(t *testing.T) {
	w, f := newFileWorld(t, 1024, 2*page+100)
	a := w.mapFile(f.Request(0, 8*page, 0, rw, syscall.MAP_SHARED))
	w.ok(w.Store(a+2*page, 1))
	if err := w.Store(a+3*page+4, 1); !wants(err, syscall.SIGBUS, mm.BusAdrErr, a+3*page+4) {
		t.Fatalf("store beyond the end: %v", err)
	}
	if err := w.s.CopyOut(a+3*page, []byte("x")); err != syscall.EFAULT {
		t.Fatalf("CopyOut beyond the end: %v", err)
	}
	f.Truncate(5 * page)
	w.ok(w.Store(a+3*page+4, 1))
	f.Truncate(page)
	if _, err := w.Load(a + 2*page); !wants(err, syscall.SIGBUS, mm.BusAdrErr, a+2*page) {
		t.Fatalf("load after truncation: %v", err)
	}
	f.Err = syscall.EIO
	if _, err := w.Load(a); !wants(err, syscall.SIGBUS, mm.BusAdrErr, a) {
		t.Fatalf("load of a bad block: %v", err)
	}
	f.Err = nil
}

// Truncation takes private copies too; a hole leaves them.
func TestTruncateAndPunchPrivate(t *testing.T) {
	w, f := newFileWorld(t, 1024, 4*page)
	a := w.mapFile(f.Request(0, 4*page, 0, rw, syscall.MAP_PRIVATE))
	w.ok(w.Store(a+page, 50))
	if _, err := w.Load(a + 2*page); err != nil {
		t.Fatal(err)
	}
	f.Punch(page, 3*page)
	if x, err := w.Load(a + page); x != 50 || err != nil {
		t.Fatalf("private copy after a hole: %d, %v", x, err)
	}
	f.Truncate(0)
	f.Truncate(4 * page)
	if x, err := w.Load(a + page); x != 2 || err != nil {
		t.Fatalf("private copy after truncation: %d, %v", x, err)
	}
}

// A fault that waits for the file notices that its mapping, or the page, is another one
// afterwards.
func TestFaultWaitsWhileMappingChanges(t *testing.T) {
	w, f := newFileWorld(t, 1024, 4*page)
	a := w.mapFile(f.Request(0, 4*page, 0, rw, syscall.MAP_SHARED))
	f.Wait = func() {
		f.Wait = nil
		w.mmap(a, page, rw, anon|fixed)
	}
	if x, err := w.Load(a); x != 0 || err != nil {
		t.Fatalf("load from what replaced the file: %d, %v", x, err)
	}
	f.Wait = func() {
		f.Wait = nil
		f.Truncate(0)
	}
	if _, err := w.Load(a + page); !wants(err, syscall.SIGBUS, mm.BusAdrErr, a+page) {
		t.Fatalf("load during truncation: %v", err)
	}
	f.Truncate(4 * page)
	f.Wait = func() {
		f.Wait = nil
		w.ok(w.s.Munmap(a, 4*page))
	}
	if _, err := w.Load(a + 2*page); !wants(err, syscall.SIGSEGV, mm.SegvMapErr, a+2*page) {
		t.Fatalf("load during munmap: %v", err)
	}
	if f.Mapped() != 0 || f.Refs != 0 || f.Pinned() != 0 {
		t.Fatalf("%d mappings, %d references, %d pages pinned", f.Mapped(), f.Refs, f.Pinned())
	}
}

func TestForkOfFileMappings(t *testing.T) {
	w, f := newFileWorld(t, 1024, 8*page)
	p := w.mapFile(f.Request(0, 8*page, 0, rw, syscall.MAP_PRIVATE))
	s := w.mapFile(f.Request(0, 8*page, 0, rw, syscall.MAP_SHARED))
	w.ok(w.Store(p+page, 10))
	w.ok(w.Store(s+2*page, 20))
	sp, err := w.s.Fork()
	w.ok(err)
	c := fakemm.CPU{S: sp}
	if f.Refs != 4 || f.Mapped() != 4 {
		t.Errorf("%d references, %d mappings", f.Refs, f.Mapped())
	}
	w.ok(c.Store(p+page, 11))
	w.ok(c.Store(s+2*page, 21))
	w.ok(w.Store(p+3*page, 12))
	for _, x := range []struct {
		cpu        *fakemm.CPU
		addr, want uint64
	}{{&w.CPU, p + page, 10}, {&c, p + page, 11}, {&w.CPU, s + 2*page, 21}, {&c, p + 3*page, 4}} {
		if got, err := x.cpu.Load(x.addr); got != x.want || err != nil {
			t.Errorf("%#x: %d, %v, want %d", x.addr, got, err, x.want)
		}
	}
	f.Truncate(page)
	if _, err := c.Load(s + 2*page); !wants(err, syscall.SIGBUS, mm.BusAdrErr, s+2*page) {
		t.Errorf("the child's load after truncation: %v", err)
	}
	sp.Close()
}

func TestMaxProtOfFile(t *testing.T) {
	w, f := newFileWorld(t, 256, 4*page)
	r := f.Request(0, page, 0, mm.ProtRead, syscall.MAP_SHARED)
	r.Max = mm.ProtRead | mm.ProtExec
	a := w.mapFile(r)
	if err := w.s.Mprotect(a, page, uint32(rw)); err != syscall.EACCES {
		t.Errorf("mprotect of a read-only file: %v", err)
	}
	r.Prot = rw
	if _, err := w.s.Mmap(r); err != syscall.EACCES {
		t.Errorf("mmap of a read-only file: %v", err)
	}
}

func TestMapsOfFiles(t *testing.T) {
	w, f := newFileWorld(t, 256, 16*page)
	w.mapFile(f.Request(0x10000000, 2*page, page, mm.ProtRead|mm.ProtExec, syscall.MAP_PRIVATE|fixed))
	w.mapFile(f.Request(0x10002000, 2*page, 3*page, mm.ProtRead|mm.ProtExec, syscall.MAP_PRIVATE|fixed))
	w.mapFile(f.Request(0x10004000, 2*page, 6*page, mm.ProtRead|mm.ProtExec, syscall.MAP_PRIVATE|fixed))
	w.s.SetBrk(0x20000000)
	w.s.Brk(0x20000000 + 3*page)
	var got []string
	for _, m := range w.s.Maps() {
		got = append(got, m.String())
	}
	want := []string{
		"10000000-10004000 r-xp 00001000 /fake",
		"10004000-10006000 r-xp 00006000 /fake",
		"20000000-20003000 rw-p 00000000 [heap]",
	}
	if !slices.Equal(got, want) {
		t.Errorf("maps: %q", got)
	}
	if f.Refs != 2 {
		t.Errorf("%d references after a join", f.Refs)
	}
}

package mm_test

import (
	"bytes"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"osv/kernel/ktest/fakemm"
	"osv/kernel/linux/mm"
	"osv/kernel/vfs"
)

var (
	_ vfs.Dst    = (*mm.User)(nil)
	_ vfs.Src    = (*mm.User)(nil)
	_ vfs.Memory = (*mm.Space)(nil)
)

func TestPlacesOfMappings(t *testing.T) {
	w := newWorld(t, 64, mm.Options{})
	a := w.mmap(0, 3*page, rw, anon)
	b := w.mmap(0, 5*page, mm.ProtRead, anon)
	if a != w.s.Base()-3*page || b != a-5*page {
		t.Errorf("top down: %#x, %#x below %#x", a, b, w.s.Base())
	}
	if c := w.mmap(0x687400000, 6<<30, 0, anon|syscall.MAP_NORESERVE); c != 0x687400000 {
		t.Errorf("a free hint gave %#x", c)
	}
	if c := w.mmap(0x687400000+page, page, 0, anon); c != b-page {
		t.Errorf("a hint that is taken gave %#x", c)
	}
	if c := w.mmap(0, page, rw, anon|0x40); c != 1<<30 {
		t.Errorf("MAP_32BIT gave %#x", c)
	}
	if c := w.mmap(0, 3<<40, 0, anon|syscall.MAP_NORESERVE); c%(2<<20) != 0 {
		t.Errorf("3 TiB at %#x", c)
	}
	w.ok(w.s.Munmap(a, page))
	if c := w.mmap(0, page, rw, anon); c != a {
		t.Errorf("the hole of a page was not used: %#x", c)
	}
	// What does not fit below goes above.
	s := w.mmap(0, w.s.Base()-mm.MinAddr-(7<<40), 0, anon|syscall.MAP_NORESERVE)
	if s == 0 || w.s.Stat().VM < 100<<40 {
		t.Errorf("nearly all: %#x", s)
	}
	if _, err := w.s.Mmap(mm.MapRequest{Length: 100 << 40, Flags: anon}); err != syscall.ENOMEM {
		t.Errorf("more than there is: %v", err)
	}
	if f, _ := w.m.Leaked(); f != 0 {
		t.Errorf("reservations took %d frames", f)
	}
}

func TestErrorsOfMmap(t *testing.T) {
	w, f := newFileWorld(t, 64, page)
	lim := mm.Unlimited
	lim.Memlock = 0
	w.s.SetLimits(lim)
	for _, x := range []struct {
		r    mm.MapRequest
		want error
	}{
		{mm.MapRequest{Length: 0, Flags: anon}, syscall.EINVAL},
		{mm.MapRequest{Length: page, Flags: anon, Offset: 5}, syscall.EINVAL},
		{mm.MapRequest{Length: page, Flags: syscall.MAP_ANON}, syscall.EINVAL},
		{mm.MapRequest{Length: page, Flags: syscall.MAP_ANON | 3}, syscall.EINVAL},
		{mm.MapRequest{Length: page, Flags: anon | 0x40000}, syscall.ENOMEM},
		{mm.MapRequest{Length: page, Flags: anon | 0x40000 | 16<<26}, syscall.EINVAL},
		{mm.MapRequest{Length: page, Flags: shared | 0x100}, syscall.EINVAL},
		{mm.MapRequest{Length: page, Flags: anon | syscall.MAP_LOCKED}, syscall.EPERM},
		{mm.MapRequest{Length: page, Flags: anon | fixed, Addr: 0}, syscall.EPERM},
		{mm.MapRequest{Length: page, Flags: anon | fixed, Addr: 1<<47 - page}, syscall.ENOMEM},
		{mm.MapRequest{Length: page, Flags: anon | fixed, Addr: 1<<40 + 1}, syscall.EINVAL},
		{mm.MapRequest{Length: 1 << 48, Flags: anon}, syscall.ENOMEM},
		{mm.MapRequest{Length: ^uint64(0), Flags: anon}, syscall.ENOMEM},
		{mm.MapRequest{Length: page, Flags: 3 | 0x80000, File: f}, syscall.EOPNOTSUPP},
		{mm.MapRequest{Length: page, Flags: syscall.MAP_PRIVATE, File: unmappable{f}}, syscall.ENODEV},
		{mm.MapRequest{Length: page, Flags: syscall.MAP_PRIVATE | 0x100, File: f}, syscall.EINVAL},
		{mm.MapRequest{Length: page, Flags: syscall.MAP_PRIVATE, File: f, Offset: 1<<63 - page}, nil},
		{mm.MapRequest{Length: 2 * page, Flags: syscall.MAP_PRIVATE, File: f, Offset: 1<<63 - page}, syscall.EOVERFLOW},
	} {
		if _, err := w.s.Mmap(x.r); err != x.want {
			t.Errorf("%+v: %v, want %v", x.r, err, x.want)
		}
	}
}

// unmappable is a file without pages.
type unmappable struct{ vfs.File }

func TestLimits(t *testing.T) {
	w := newWorld(t, 1024, mm.Options{Total: 64 << 20})
	w.s.SetLimits(mm.Limits{AS: 1 << 30, Data: 256 * page, Stack: 8 << 20, Memlock: 4 * page})
	w.s.SetBrk(0x400000)
	if _, err := w.s.Mmap(mm.MapRequest{Length: 2 << 30, Flags: anon}); err != syscall.ENOMEM {
		t.Errorf("beyond RLIMIT_AS: %v", err)
	}
	if _, err := w.s.Mmap(mm.MapRequest{Length: 257 * page, Prot: rw, Flags: anon}); err != syscall.ENOMEM {
		t.Errorf("beyond RLIMIT_DATA: %v", err)
	}
	a := w.mmap(0, 300*page, mm.ProtRead, anon)
	if err := w.s.Mprotect(a, 300*page, uint32(rw)); err != syscall.ENOMEM {
		t.Errorf("mprotect beyond RLIMIT_DATA: %v", err)
	}
	if b := w.s.Brk(0x400000 + 300*page); b != 0x400000 {
		t.Errorf("brk beyond RLIMIT_DATA: %#x", b)
	}
	if err := w.s.Mlock(a, 5*page, 0); err != syscall.ENOMEM {
		t.Errorf("mlock beyond the limit: %v", err)
	}
	if _, err := w.s.Mmap(mm.MapRequest{Length: 5 * page, Flags: anon | syscall.MAP_LOCKED}); err != syscall.EAGAIN {
		t.Errorf("MAP_LOCKED beyond the limit: %v", err)
	}
	if err := w.s.MlockAll(1); err != syscall.ENOMEM {
		t.Errorf("mlockall beyond the limit: %v", err)
	}
	w.s.SetIPCLock(true)
	w.ok(w.s.MlockAll(3))
	w.ok(w.s.Munmap(a, 300*page))
	if s := w.s.Stat(); s.Locked != 0 {
		t.Errorf("%d bytes are locked", s.Locked)
	}
	if b := w.mmap(0, 2*page, rw, anon); w.s.Stat().Locked != 2*page {
		t.Errorf("MCL_FUTURE did not lock %#x", b)
	}
	if f, _ := w.m.Leaked(); f != 2 {
		t.Errorf("%d frames, want 2 that are locked", f)
	}
	w.ok(w.s.MunlockAll())
	if s := w.s.Stat(); s.Locked != 0 {
		t.Errorf("%d bytes are locked", s.Locked)
	}
	w.s.SetLimits(mm.Unlimited)
	if _, err := w.s.Mmap(mm.MapRequest{Length: 65 << 20, Prot: rw, Flags: anon}); err != syscall.ENOMEM {
		t.Errorf("more than there is memory: %v", err)
	}
	w.mmap(0, 65<<20, rw, anon|syscall.MAP_NORESERVE)
}

func TestBrk(t *testing.T) {
	w := newWorld(t, 256, mm.Options{})
	w.s.SetBrk(0x10000100)
	start := w.s.Brk(0)
	if start != 0x10001000 {
		t.Fatalf("brk begins at %#x", start)
	}
	if b := w.s.Brk(start + 3*page + 8); b != start+3*page+8 {
		t.Fatalf("brk: %#x", b)
	}
	w.ok(w.Store(start+3*page, 5))
	if b := w.s.Brk(start + page); b != start+page {
		t.Fatalf("brk down: %#x", b)
	}
	if err := w.Store(start+3*page, 5); err == nil {
		t.Fatal("memory above brk is still there")
	}
	w.mmap(start+8*page, page, rw, anon|fixed)
	if b := w.s.Brk(start + 9*page); b != start+page {
		t.Fatalf("brk into a mapping: %#x", b)
	}
	if b := w.s.Brk(start - 1); b != start+page {
		t.Fatalf("brk below its start: %#x", b)
	}
	w.ok(w.s.Munmap(start, page))
}

func TestStackGrows(t *testing.T) {
	w := newWorld(t, 4096, mm.Options{})
	const top = 0x7f0000000000
	w.mmap(top-4*page, 4*page, rw, anon|fixed|0x100)
	w.s.SetStack(top - 8)
	w.ok(w.Store(top-4*page-8, 1))
	w.ok(w.Store(top-100*page, 2))
	if err := w.s.CopyOut(top-200*page, []byte("x")); err != nil {
		t.Fatal(err)
	}
	a := uint64(top - (8 << 20) - page)
	if err := w.Store(a, 1); !wants(err, syscall.SIGSEGV, mm.SegvMapErr, a) {
		t.Errorf("beyond RLIMIT_STACK: %v", err)
	}
	// A mapping below keeps its distance, and none is put into the gap.
	w.mmap(top-600*page, page, rw, anon|fixed)
	a = top - 400*page
	if err := w.Store(a, 1); !wants(err, syscall.SIGSEGV, mm.SegvMapErr, a) {
		t.Errorf("into the guard gap: %v", err)
	}
	if b := w.mmap(top-300*page, page, rw, anon); b == top-300*page {
		t.Error("a hint in the guard gap was taken")
	}
	var names []string
	for _, m := range w.s.Maps() {
		names = append(names, m.Name)
	}
	if !slices.Contains(names, "[stack]") {
		t.Errorf("names: %q", names)
	}
	if s := w.s.Stat(); s.Stack != 200*page {
		t.Errorf("stack of %d bytes", s.Stack)
	}
	if err := w.s.Mprotect(top-page, page, uint32(rw|mm.ProtExec)|0x01000000); err != nil {
		t.Errorf("PROT_GROWSDOWN: %v", err)
	}
	w.ok(w.Fetch(top - 100*page))
}

func TestAtomics(t *testing.T) {
	w := newWorld(t, 64, mm.Options{})
	a := w.mmap(0, page, rw, anon)
	ro := w.mmap(0, page, mm.ProtRead, anon)
	w.ok(w.s.Store32(a, 7))
	if ok, err := w.s.CompareAndSwap32(a, 7, 8); !ok || err != nil {
		t.Errorf("CAS: %v, %v", ok, err)
	}
	if ok, err := w.s.CompareAndSwap32(a, 7, 9); ok || err != nil {
		t.Errorf("CAS of another value: %v, %v", ok, err)
	}
	if x, err := w.s.Add32(a, ^uint32(0)); x != 7 || err != nil {
		t.Errorf("Add32: %d, %v", x, err)
	}
	if x, err := w.s.Load32(a); x != 7 || err != nil {
		t.Errorf("Load32: %d, %v", x, err)
	}
	w.ok(w.s.Store64(a+8, 1<<40))
	if ok, err := w.s.CompareAndSwap64(a+8, 1<<40, 2); !ok || err != nil {
		t.Errorf("CAS64: %v, %v", ok, err)
	}
	if x, err := w.s.Load64(a + 8); x != 2 || err != nil {
		t.Errorf("Load64: %d, %v", x, err)
	}
	for _, err := range []error{
		w.s.Store32(a+1, 0), w.s.Store64(a+4, 0), second(w.s.Load32(a + 2)), second(w.s.Load64(a + 4)),
		second(w.s.CompareAndSwap64(a+4, 0, 0)), second(w.s.CompareAndSwap32(a+1, 0, 0)), second(w.s.Add32(a+3, 1)),
	} {
		if err != syscall.EINVAL {
			t.Errorf("unaligned: %v", err)
		}
	}
	for _, err := range []error{
		w.s.Store32(ro, 0), second(w.s.Load32(1 << 40)), second(w.s.CompareAndSwap32(ro, 0, 0)),
		second(w.s.Add32(1<<47, 1)), w.s.Store64(^uint64(7), 1),
	} {
		if err != syscall.EFAULT {
			t.Errorf("out of reach: %v", err)
		}
	}
	w.ok(w.s.CopyOut(a, bytes.Repeat([]byte{1}, page)))
	w.ok(w.s.Zero(a+8, 100))
	if x, _ := w.s.Load64(a + 104); x != 0x0101010100000000 {
		t.Errorf("after Zero: %#x", x)
	}
	if err := w.s.Zero(a+8, page); err != syscall.EFAULT {
		t.Errorf("Zero beyond: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestFutexKeys(t *testing.T) {
	w, f := newFileWorld(t, 256, 4*page)
	p := w.mmap(0, page, rw, anon)
	sh := w.mmap(0, page, rw, shared)
	fa := w.mapFile(f.Request(0, 4*page, 0, rw, syscall.MAP_SHARED))
	fb := w.mapFile(f.Request(0, 2*page, 2*page, rw, syscall.MAP_SHARED))
	c, err := w.s.Fork()
	w.ok(err)
	defer c.Close()
	key := func(s *mm.Space, a uint64, shared bool) mm.Key {
		k, err := s.FutexKey(a, shared)
		w.ok(err)
		return k
	}
	if key(w.s, p, false) != key(w.s, p, true) || key(w.s, p, true) == key(c, p, true) {
		t.Error("private memory")
	}
	if key(w.s, sh+8, true) != key(c, sh+8, true) || key(w.s, sh+8, false) == key(c, sh+8, false) {
		t.Error("shared memory")
	}
	if key(w.s, fa+2*page+4, true) != key(c, fb+4, true) || key(w.s, fa, true) == key(w.s, fb, true) {
		t.Error("a file")
	}
	if k := key(w.s, sh, true); k.Hash() != key(c, sh, true).Hash() {
		t.Error("hashes of equal keys differ")
	}
	for _, x := range []struct {
		a    uint64
		want error
	}{{p + 2, syscall.EINVAL}, {1 << 40, syscall.EFAULT}, {1 << 47, syscall.EFAULT}} {
		if _, err := w.s.FutexKey(x.a, true); err != x.want {
			t.Errorf("%#x: %v", x.a, err)
		}
	}
}

func TestUserMemoryAsVector(t *testing.T) {
	w := newWorld(t, 256, mm.Options{})
	a := w.mmap(0, 8*page, rw, anon)
	v := []mm.Iovec{{a + 10, 5}, {a, 0}, {a + page - 2, 4}, {a + 5*page, 6}}
	d := w.s.DstVec(v)
	if d.Room() != 15 {
		t.Fatalf("room for %d", d.Room())
	}
	for _, s := range []string{"012", "3456789", "abcdefgh"} {
		if _, err := d.Put([]byte(s)); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := d.Put([]byte("x")); n != 0 || err != nil || d.Room() != 0 {
		t.Fatalf("put into a full one: %d, %v", n, err)
	}
	s := w.s.SrcVec(v)
	s.Skip(6)
	got := make([]byte, 100)
	n, err := s.Take(got)
	if string(got[:n]) != "6789abcde" || err != nil || s.Left() != 0 {
		t.Fatalf("taken: %q, %v", got[:n], err)
	}
	s = w.s.Src(a+8*page-3, 10)
	if n, err := s.Take(got); n != 3 || err != syscall.EFAULT {
		t.Fatalf("take over the end: %d, %v", n, err)
	}
	d = w.s.Dst(a+8*page-3, 10)
	if err := d.FaultIn(10, true); err != nil {
		t.Fatalf("FaultIn of a part: %v", err)
	}
	if n, err := d.Put(got[:5]); n != 3 || err != syscall.EFAULT || d.Room() != 7 {
		t.Fatalf("put over the end: %d, %v", n, err)
	}
	if err := d.FaultIn(1, false); err != syscall.EFAULT {
		t.Fatalf("FaultIn of nothing: %v", err)
	}
	d = w.s.Dst(a, -1)
	if d.Room() != 0 {
		t.Fatal("negative room")
	}
	huge := w.s.DstVec([]mm.Iovec{{0, 1 << 62}, {0, 1 << 62}})
	if huge.Room() != 0x7ffff000 {
		t.Fatalf("huge room: %#x", huge.Room())
	}
}

func TestMincoreAndUsage(t *testing.T) {
	w, f := newFileWorld(t, 256, 4*page)
	a := w.mmap(0x10000000, 64*page, rw, anon|fixed)
	b := w.mapFile(f.Request(0x10000000+64*page, 4*page, 0, mm.ProtRead, syscall.MAP_SHARED|fixed))
	w.ok(w.Store(a+32*page, 1))
	f.CachedPage(0)
	p, _ := f.PageAt(page, false)
	p.Release()
	vec := make([]byte, 68)
	w.ok(w.s.Mincore(a, 68*page, vec))
	if vec[0] != 0 || vec[32] != 1 || vec[64] != 0 || vec[65] != 1 || vec[66] != 0 {
		t.Errorf("mincore: %v", vec)
	}
	for _, x := range []struct {
		a, n uint64
		want error
	}{{a + 1, page, syscall.EINVAL}, {b + 4*page, page, syscall.ENOMEM}, {a, 1 << 48, syscall.ENOMEM}} {
		if err := w.s.Mincore(x.a, x.n, vec[:1]); err != x.want {
			t.Errorf("mincore %#x: %v", x.a, err)
		}
	}
	w.Load(b)
	c, err := w.s.Fork()
	w.ok(err)
	defer c.Close()
	m := w.s.MapsUsage()
	if u := m[0].Usage; u.RSS != u.Anonymous || u.RSS != u.Shared || u.Proportional*2 != u.RSS || u.RSS == 0 || u.Dirty != page {
		t.Errorf("usage of memory: %+v", u)
	}
	if u := m[1].Usage; u.RSS != 2*page || u.Anonymous != 0 {
		t.Errorf("usage of a file: %+v", u)
	}
	if s := w.s.Stat(); s.RSS != s.RSSAnon+s.RSSFile || s.PeakRSS < s.RSS || s.VM != 68*page || s.Maps != 2 || s.Faults == 0 || s.IOWaits == 0 {
		t.Errorf("figures: %+v", s)
	}
}

func TestRemoveSharedMemory(t *testing.T) {
	w, f := newFileWorld(t, 256, 8*page)
	a := w.mmap(0, 8*page, rw, shared)
	b := w.mapFile(f.Request(0, 8*page, 0, rw, syscall.MAP_SHARED))
	c, err := w.s.Fork()
	w.ok(err)
	defer c.Close()
	child := fakemm.CPU{S: c}
	for i := uint64(0); i < 4; i++ {
		w.ok(child.Store(a+i*page, i+100))
		w.ok(w.Store(b+i*page, i+100))
		w.Load(a + i*page)
	}
	w.ok(w.s.Madvise(a+page, 2*page, 9))
	w.ok(w.s.Madvise(b+page, 2*page, 9))
	for i, want := range []uint64{100, 0, 0, 103} {
		if x, err := child.Load(a + uint64(i)*page); x != want || err != nil {
			t.Errorf("shared page %d: %d, %v", i, x, err)
		}
	}
	if x, err := w.Load(b + page); x != 2 || err != nil {
		t.Errorf("file page 1: %d, %v", x, err)
	}
	p := w.mmap(0, page, rw, anon)
	ro := w.mapFile(f.Request(0, page, 0, mm.ProtRead, syscall.MAP_SHARED))
	for _, x := range []struct {
		a    uint64
		want error
	}{{p, syscall.EINVAL}, {ro, syscall.EACCES}, {1 << 40, syscall.ENOMEM}} {
		if err := w.s.Madvise(x.a, page, 9); err != x.want {
			t.Errorf("MADV_REMOVE at %#x: %v", x.a, err)
		}
	}
}

func TestMremapInPlaceAndMoved(t *testing.T) {
	w, f := newFileWorld(t, 4096, 32*page)
	a := w.mmap(0x10000000, 4*page, rw, anon|fixed)
	w.ok(w.Store(a+3*page, 3))
	got, err := w.s.Mremap(a, 4*page, 8*page, 0, 0)
	if got != a || err != nil {
		t.Fatalf("grow in place: %#x, %v", got, err)
	}
	w.ok(w.Store(a+7*page, 7))
	w.mmap(a+8*page, page, mm.ProtRead, anon|fixed)
	if _, err := w.s.Mremap(a, 8*page, 16*page, 0, 0); err != syscall.ENOMEM {
		t.Fatalf("no room: %v", err)
	}
	b, err := w.s.Mremap(a, 8*page, 16*page, mm.MremapMayMove, 0)
	if err != nil || b == a {
		t.Fatalf("move: %#x, %v", b, err)
	}
	if x, _ := w.Load(b + 7*page); x != 7 {
		t.Errorf("moved contents: %d", x)
	}
	if _, err := w.Load(a); !wants(err, syscall.SIGSEGV, mm.SegvMapErr, a) {
		t.Errorf("the old place: %v", err)
	}
	got, err = w.s.Mremap(b, 16*page, 2*page, 0, 0)
	if got != b || err != nil || w.s.Mapped(b, b+3*page) || !w.s.Mapped(b, b+2*page) {
		t.Errorf("shrink: %#x, %v", got, err)
	}
	// MREMAP_DONTUNMAP leaves an empty mapping.
	w.ok(w.Store(b, 5))
	c, err := w.s.Mremap(b, 2*page, 2*page, mm.MremapMayMove|mm.MremapDontUnmap, 0)
	w.ok(err)
	if x, _ := w.Load(c); x != 5 {
		t.Errorf("moved contents: %d", x)
	}
	if x, err := w.Load(b); x != 0 || err != nil {
		t.Errorf("what stays: %d, %v", x, err)
	}
	// Length 0 maps shared memory a second time.
	d := w.mapFile(f.Request(0, 4*page, 8*page, rw, syscall.MAP_SHARED))
	w.ok(w.Store(d+page, 42))
	e, err := w.s.Mremap(d, 0, 2*page, mm.MremapMayMove, 0)
	w.ok(err)
	if x, err := w.Load(e + page); x != 42 || err != nil {
		t.Errorf("the second mapping: %d, %v", x, err)
	}
	if _, err := w.s.Mremap(c, 0, page, mm.MremapMayMove, 0); err != syscall.EINVAL {
		t.Errorf("length 0 of private memory: %v", err)
	}
	w.ok(w.s.Barrier())
}

// Large pages come about, are shared by fork, copied in small pieces, moved and split.
func TestLargePages(t *testing.T) {
	const large = 2 << 20
	w := newWorld(t, 65536, mm.Options{})
	a := w.mmap(0x40000000, 2*large, rw, anon|fixed|syscall.MAP_POPULATE)
	if m := w.s.MapsUsage(); m[0].Usage.AnonHuge != 2*large {
		t.Fatalf("populated: %+v", m[0].Usage)
	}
	for i := uint64(0); i < 2*large; i += page {
		w.ok(w.s.Store64(a+i, i))
	}
	c, err := w.s.Fork()
	w.ok(err)
	child := fakemm.CPU{S: c}
	w.ok(child.Store(a+5*page, 1))
	w.ok(w.Store(a+6*page, 2))
	w.ok(w.Store(a+5*page, 3))
	c.Close()
	w.ok(w.Store(a+7*page, 4))
	b, err := w.s.Mremap(a+page, large+page, large+page, mm.MremapMayMove|mm.MremapFixed, 0x50001000)
	w.ok(err)
	for i := uint64(0); i < large+page; i += page {
		want := page + i
		switch i / page {
		case 4, 5, 6:
			want = i/page%3 + 2
			want = map[uint64]uint64{4: 3, 5: 2, 6: 4}[i/page]
		}
		if x, err := w.Load(b + i); x != want || err != nil {
			t.Fatalf("page %d: %d, %v, want %d", i/page, x, err, want)
		}
	}
	if x, _ := w.Load(a + large + 2*page); x != large+2*page {
		t.Errorf("what stayed: %d", x)
	}
	w.ok(mm.Check(w.s))
	// Memory touched in order gets large pages, where the mapping allows.
	d := w.mmap(0x60000000, 8*large, rw, anon|fixed)
	for i := uint64(0); i < 8*large; i += page {
		w.ok(w.Store(d+i, 1))
	}
	m := w.s.MapsUsage()
	if u := m[len(m)-1].Usage; u.AnonHuge < 4*large {
		t.Errorf("touched in order: %+v", u)
	}
	e := w.mmap(0x70000000, large, rw, anon|fixed)
	w.ok(w.s.Madvise(e, large, 14))
	w.ok(w.Store(e+page, 1))
	m = w.s.MapsUsage()
	if u := m[len(m)-1].Usage; u.AnonHuge != large {
		t.Errorf("MADV_HUGEPAGE: %+v", u)
	}
}

func TestOutOfMemory(t *testing.T) {
	var told atomic.Int32
	var m *fakemm.Machine
	give := 0
	w := newWorld(t, 512, mm.Options{
		OOM: func() { told.Add(1) },
		Reclaim: func(uint64) bool {
			if give == 0 {
				return false
			}
			m.FailAfter(give)
			give = 0
			return true
		},
	})
	m = w.m
	a := w.mmap(0, 64*page, rw, anon)
	m.FailAfter(2)
	w.ok(w.Store(a, 1)) // the window is larger than what there is
	m.FailAfter(0)
	give = 3
	w.ok(w.Store(a+32*page, 1)) // the cache gives something back
	m.FailAfter(0)
	if err := w.Store(a+48*page, 1); err != mm.ErrOOM || told.Load() != 1 {
		t.Fatalf("without memory: %v, told %d times", err, told.Load())
	}
	if err := w.s.CopyOut(a+48*page, []byte("x")); err != syscall.EFAULT || told.Load() != 2 {
		t.Fatalf("CopyOut without memory: %v", err)
	}
	if _, err := w.s.Fork(); err != syscall.ENOMEM {
		t.Fatalf("fork without memory: %v", err)
	}
	if _, err := mm.New(m, mm.Options{}); err != syscall.ENOMEM {
		t.Fatalf("a space without memory: %v", err)
	}
	m.FailAfter(-1)
	c, err := w.s.Fork()
	w.ok(err)
	m.FailAfter(0)
	child := fakemm.CPU{S: c}
	if err := child.Store(a, 2); err != mm.ErrOOM {
		t.Fatalf("copy on write without memory: %v", err)
	}
	m.FailAfter(-1)
	c.Close()
	b := w.mmap(0x40000000, 4<<20, rw, anon|fixed)
	_ = b
}

// Without memory to split a 2 MiB page, calls fail and change nothing.
func TestSplitWithoutMemory(t *testing.T) {
	w := newWorld(t, 2048, mm.Options{})
	a := w.mmap(0x40000000, 2<<20, rw, anon|fixed|syscall.MAP_POPULATE)
	w.ok(w.Store(a, 1))
	w.m.FailAfter(0)
	for _, err := range []error{
		w.s.Munmap(a+page, page), w.s.Mprotect(a+page, page, 1), w.s.Madvise(a+page, page, 4), w.s.Mlock(a+page, page, 1),
		second(w.s.Mremap(a+page, page, page, 3, 0x50000000)),
	} {
		if err != syscall.ENOMEM {
			t.Errorf("split without memory: %v", err)
		}
	}
	w.ok(mm.Check(w.s))
	w.m.FailAfter(-1)
	w.ok(w.s.Munmap(a+page, page))
}

func TestShareAndClose(t *testing.T) {
	m := fakemm.New(64)
	s, _ := mm.New(m, mm.Options{})
	if s.Share() != s {
		t.Fatal("Share")
	}
	s.Close()
	w := fakemm.CPU{S: s}
	a, err := s.Mmap(mm.MapRequest{Length: page, Prot: rw, Flags: anon})
	if err != nil || w.Store(a, 1) != nil {
		t.Fatal("the space is gone while one user has it")
	}
	s.Close()
	if s.Share() != nil {
		t.Error("a closed space is shared")
	}
	if f, n := m.Leaked(); f != 0 || n != 0 {
		t.Errorf("%d frames, %d tables", f, n)
	}
}

// Threads fault, fork copies, other threads map, unmap and advise, the kernel copies.
func TestManyThreads(t *testing.T) {
	w, f := newFileWorld(t, 16384, 64*page)
	const threads, each = 4, 32
	own := w.mmap(0, threads*each*page, rw, anon)
	common := w.mmap(0, 64*page, rw, anon)
	file := w.mapFile(f.Request(0, 64*page, 0, rw, syscall.MAP_SHARED))
	rounds := 60
	if testing.Short() {
		rounds = 10
	}
	var wg sync.WaitGroup
	for th := range uint64(threads) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			cpu := fakemm.CPU{S: w.s}
			mine := own + th*each*page
			for r := range uint64(rounds) {
				for i := range uint64(each) {
					if err := cpu.Store(mine+i*page, r<<8|i); err != nil {
						t.Errorf("store: %v", err)
						return
					}
				}
				for i := range uint64(each) {
					if x, err := w.s.Load64(mine + i*page); x != r<<8|i || err != nil {
						t.Errorf("thread %d page %d: %#x, %v", th, i, x, err)
						return
					}
				}
				if _, err := w.s.Add32(common+r%64*page, 1); err != nil {
					t.Errorf("add: %v", err)
				}
				if err := cpu.Store(file+(r*threads+th)%64*page+8*th+16, r); err != nil {
					t.Errorf("store to the file: %v", err)
				}
				switch th {
				case 0:
					a, err := w.s.Mmap(mm.MapRequest{Length: 16 * page, Prot: rw, Flags: anon})
					if err != nil || cpu.Store(a+5*page, 1) != nil || w.s.Munmap(a, 16*page) != nil {
						t.Errorf("mmap, touch, munmap: %v", err)
					}
				case 1:
					c, err := w.s.Fork()
					if err != nil {
						t.Errorf("fork: %v", err)
						return
					}
					child := fakemm.CPU{S: c}
					if x, err := child.Load(mine + 3*page); x != r<<8|3 || err != nil {
						t.Errorf("child: %#x, %v", x, err)
					}
					child.Store(common, 1<<40)
					c.Close()
				case 2:
					w.s.Mprotect(own+threads*each*page-page, page, uint32(rw))
					f.Writeback()
				case 3:
					if r%8 == 0 {
						f.Truncate(64 * page)
					}
					w.s.Maps()
				}
			}
		}()
	}
	wg.Wait()
	sum := uint32(0)
	for i := range uint64(64) {
		x, _ := w.s.Load32(common + i*page)
		sum += x
	}
	if sum != uint32(threads*rounds) {
		t.Errorf("sum %d, want %d", sum, threads*rounds)
	}
	if err := mm.Check(w.s); err != nil {
		t.Error(err)
	}
}

package cache

import (
	"bytes"
	"errors"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"osv/kernel/vfs"
)

// store is a Backing in memory.
type store struct {
	mu       sync.Mutex
	b        []byte
	fills    []int // pages of each Fill
	cleans   []int
	fillErr  func(first int64, n int) error
	cleanErr error
	reserved atomic.Int64
	noSpace  bool
}

func (s *store) Fill(first int64, pages []*Page) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fills = append(s.fills, len(pages))
	if s.fillErr != nil {
		if err := s.fillErr(first, len(pages)); err != nil {
			return err
		}
	}
	for i, p := range pages {
		clear(p.Bytes())
		if at := (first + int64(i)) * PageSize; at < int64(len(s.b)) {
			copy(p.Bytes(), s.b[at:])
		}
	}
	return nil
}

func (s *store) Clean(first int64, pages []*Page) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cleans = append(s.cleans, len(pages))
	for i, p := range pages {
		s.reserved.Add(-int64(p.Held().Swap(0)))
		if s.cleanErr != nil {
			continue
		}
		at := (first + int64(i)) * PageSize
		if need := at + PageSize; need > int64(len(s.b)) {
			s.b = append(s.b, make([]byte, need-int64(len(s.b)))...)
		}
		copy(s.b[at:], p.Bytes())
	}
	return s.cleanErr
}

func (s *store) Reserve(p *Page) error {
	if s.noSpace {
		return syscall.ENOSPC
	}
	if p.Held().CompareAndSwap(0, 1) {
		s.reserved.Add(1)
	}
	return nil
}

func (s *store) Dropped(p *Page) { s.reserved.Add(-int64(p.Held().Swap(0))) }

// cut is what a file system does with the blocks beyond the end.
func (s *store) cut(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.b = bytes.Clone(s.b[:min(n, len(s.b))])
}

func (s *store) cleaned() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.cleans)
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i>>12*7 + i)
	}
	return b
}

func setup(pages int, size int) (*Cache, *Heap, *store, *File) {
	h := &Heap{}
	c := New(Config{Frames: h, Limit: pages * PageSize})
	s := &store{b: pattern(size)}
	return c, h, s, c.NewFile(s, 1, int64(size))
}

func readAt(t testing.TB, f *File, off int64, n int, ra *ReadAhead) []byte {
	t.Helper()
	b := vfs.Bytes{B: make([]byte, n)}
	k, err := f.Read(&b, off, ra)
	if err != nil {
		t.Fatal(err)
	}
	return b.B[:k]
}

func TestReadsAndWrites(t *testing.T) {
	c, h, s, f := setup(64, 20000)
	if got := readAt(t, f, 4000, 10000, nil); !bytes.Equal(got, s.b[4000:14000]) {
		t.Error("wrong bytes")
	}
	if got := readAt(t, f, 19990, 100, nil); !bytes.Equal(got, s.b[19990:]) {
		t.Error("wrong bytes at the end")
	}
	if got := readAt(t, f, 30000, 100, nil); len(got) != 0 {
		t.Error("bytes beyond the end")
	}
	p := bytes.Repeat([]byte("w"), 9000)
	if n, err := f.Write(&vfs.Bytes{B: p}, 18000); n != 9000 || err != nil || f.Size() != 27000 {
		t.Error(n, err, f.Size())
	}
	want := append(pattern(20000)[:18000], p...)
	if got := readAt(t, f, 0, 30000, nil); !bytes.Equal(got, want) {
		t.Error("wrong bytes after a write")
	}
	if i, ok := f.Dirty(0, 100); !ok || i != 4 {
		t.Error("dirty from", i, ok)
	}
	if err := f.Sync(); err != nil {
		t.Error(err)
	}
	if _, ok := f.Dirty(0, 100); ok || !bytes.Equal(s.b[:27000], want) || s.reserved.Load() != 0 {
		t.Error("not written")
	}
	if st := c.Stats(); st.Dirty != 0 || st.Pages != 7 || st.Written != 3 || st.Misses == 0 || st.Hits == 0 {
		t.Errorf("%+v", st)
	}
	f.HoldWriteBack()
	f.Truncate(10000)
	f.LetWriteBack()
	if f.Size() != 10000 || c.Stats().Pages != 3 {
		t.Errorf("%+v", c.Stats())
	}
	f.SetSize(12288)
	if got := readAt(t, f, 9999, 100, nil); got[0] != want[9999] || !bytes.Equal(got[1:], make([]byte, 99)) {
		t.Error("the cut part came back")
	}
	if err := f.Zero(4096, 10); err != nil || readAt(t, f, 4096, 1, nil)[0] != 0 {
		t.Error(err)
	}
	f.Close()
	if h.Used() != 0 || c.Stats().Pages != 0 || c.Stats().Dirty != 0 || s.reserved.Load() != 0 {
		t.Errorf("%d frames are in use, %+v", h.Used(), c.Stats())
	}
	for _, err := range []error{second(f.Read(&vfs.Bytes{B: p}, -1, nil)), second(f.Write(&vfs.Bytes{B: p}, -1))} {
		if err != syscall.EINVAL {
			t.Error(err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// Any operations give what a slice gives.
func TestAgainstASlice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, h, s, f := setup(rapid.IntRange(4, 40).Draw(t, "pages"), 30000)
		want := pattern(30000)
		var ra ReadAhead
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			off := rapid.IntRange(0, 70000).Draw(t, "off")
			n := rapid.IntRange(1, 20000).Draw(t, "n")
			if rapid.Bool().Draw(t, "whole pages") {
				off, n = off&^4095, (n+4095)&^4095
			}
			switch rapid.IntRange(0, 5).Draw(t, "op") {
			case 0, 1:
				b := vfs.Bytes{B: make([]byte, n)}
				k, err := f.Read(&b, int64(off), &ra)
				f.bg.Wait()
				if err != nil || !bytes.Equal(b.B[:k], want[min(off, len(want)):min(off+n, len(want))]) {
					t.Fatalf("read %d at %d: %d, %v", n, off, k, err)
				}
			case 2, 3:
				p := bytes.Repeat([]byte{byte(n)}, n)
				if k, err := f.Write(&vfs.Bytes{B: p}, int64(off)); k != n || err != nil {
					t.Fatalf("write: %d, %v", k, err)
				}
				if len(want) < off+n {
					want = append(want, make([]byte, off+n-len(want))...)
				}
				copy(want[off:], p)
			case 4:
				f.HoldWriteBack()
				edge, _ := f.PageAt(int64(off), true)
				f.Truncate(int64(off))
				s.cut(off)
				if edge != nil {
					edge.Dirty()
					edge.Release()
				}
				f.LetWriteBack()
				want = append(want, make([]byte, max(off-len(want), 0))...)[:off]
			case 5:
				if err := f.Sync(); err != nil {
					t.Fatal(err)
				}
				c.evict(rapid.IntRange(0, 30).Draw(t, "evict"))
			}
		}
		if f.Size() != int64(len(want)) {
			t.Fatalf("size %d, wanted %d", f.Size(), len(want))
		}
		f.Close()
		if h.Used() != 0 || s.reserved.Load() != 0 {
			t.Fatalf("%d frames, %d reserved", h.Used(), s.reserved.Load())
		}
	})
}

// A scan over more than there is room for does not drive out what is used again and
// again; what was driven out and is asked for again moves the border.
func TestPolicyResistsScans(t *testing.T) {
	c, _, s, f := setup(64, 0)
	s.b = pattern(1000 * PageSize)
	f.SetSize(int64(len(s.b)))
	hot := func() {
		for i := range 32 {
			readAt(t, f, int64(i)*PageSize, 1, nil)
		}
	}
	hot()
	hot()
	for i := 100; i < 164; i++ {
		readAt(t, f, int64(i)*PageSize, 1, nil)
	}
	hot() // they are known to be used often by now
	for i := 200; i < 900; i++ {
		readAt(t, f, int64(i)*PageSize, 1, nil)
	}
	before := c.Stats().Misses
	hot()
	if missed := c.Stats().Misses - before; missed > 0 {
		t.Errorf("%d of 32 pages were driven out by a scan: %+v", missed, c.Stats())
	}
	st := c.Stats()
	if st.Pages > 64 || st.T1+st.B1 > 64+1 || st.T1+st.T2+st.B1+st.B2 > 2*64+1 || st.Evicted == 0 {
		t.Errorf("%+v", st)
	}
	// Pages that T1 was too small for.
	target := st.T1Target
	for range 3 {
		for i := 860; i < 900; i++ {
			readAt(t, f, int64(i)*PageSize, 1, nil)
		}
	}
	if st := c.Stats(); st.T1Target <= target && st.RecentGhosts == 0 {
		t.Errorf("the border has not moved: %+v", st)
	}
	// And T2: the hot pages went with the new ones.
	for i := 900; i < 990; i++ {
		readAt(t, f, int64(i)*PageSize, 1, nil)
		readAt(t, f, int64(i-100)*PageSize, 1, nil)
		readAt(t, f, int64(i)*PageSize, 1, nil)
	}
	hot()
	if st := c.Stats(); st.OftenGhosts == 0 {
		t.Errorf("%+v", st)
	}
}

// ARC against a model of lists as the paper has them: sizes stay within its bounds,
// and every page is on one list.
func TestPolicyInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const size = 16
		c, h, s, f := setup(size, 0)
		s.b = make([]byte, 200*PageSize)
		f.SetSize(int64(len(s.b)))
		for range rapid.IntRange(10, 300).Draw(t, "reads") {
			i := rapid.IntRange(0, 60).Draw(t, "page")
			if _, err := f.Read(&vfs.Bytes{B: make([]byte, 1)}, int64(i)*PageSize, nil); err != nil {
				t.Fatal(err)
			}
			a := &c.arc
			if a.pages() > size || a.p < 0 || a.p > size || a.b1.n+a.b2.n > size+1 || len(a.ghosts) != a.b1.n+a.b2.n || a.pages() != f.tree.n || h.Used() != a.pages() {
				t.Fatalf("%+v, %d ghosts, %d in the tree, %d frames", c.Stats(), len(a.ghosts), f.tree.n, h.Used())
			}
		}
	})
}

func TestSequentialReadsAreClustered(t *testing.T) {
	_, _, s, f := setup(4096, 4<<20)
	var ra ReadAhead
	for off := int64(0); off < 4<<20; off += 8192 {
		if got := readAt(t, f, off, 8192, &ra); !bytes.Equal(got, s.b[off:off+8192]) {
			t.Fatal("wrong bytes at", off)
		}
		f.bg.Wait()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.fills) > 40 || s.fills[len(s.fills)/2] < 32 {
		t.Errorf("fills of %v pages", s.fills)
	}
	sum := 0
	for _, n := range s.fills {
		sum += n
	}
	if sum != 1024 {
		t.Errorf("%d pages were read of 1024", sum)
	}
}

func TestRandomReadsReadOnePage(t *testing.T) {
	_, _, s, f := setup(4096, 4<<20)
	var ra ReadAhead
	for _, i := range []int64{500, 20, 900, 333, 77, 600} {
		readAt(t, f, i*PageSize, 100, &ra)
	}
	if len(s.fills) != 6 || s.fills[3] != 1 {
		t.Errorf("fills of %v pages", s.fills)
	}
}

func TestFillErrors(t *testing.T) {
	c, h, s, f := setup(64, 100*PageSize)
	bad := errors.New("bad")
	s.fillErr = func(first int64, n int) error {
		if first <= 10 && first+int64(n) > 10 {
			return bad
		}
		return nil
	}
	if got := readAt(t, f, 8*PageSize, 4*PageSize, nil); len(got) != 2*PageSize {
		t.Errorf("%d bytes", len(got))
	}
	if _, err := f.Read(&vfs.Bytes{B: make([]byte, 1)}, 10*PageSize, nil); err != bad {
		t.Error(err)
	}
	if _, err := f.Write(&vfs.Bytes{B: make([]byte, 5)}, 10*PageSize); err != bad {
		t.Error(err)
	}
	if n, err := f.Write(&vfs.Bytes{B: make([]byte, PageSize)}, 10*PageSize); n != PageSize || err != nil {
		t.Error("a whole page need not be read:", n, err)
	}
	f.Sync()
	if h.Used() != int(c.Stats().Pages) {
		t.Errorf("%d frames, %+v", h.Used(), c.Stats())
	}
}

func TestWriteBackErrorsAreToldOnce(t *testing.T) {
	_, _, s, f := setup(64, 0)
	bad := errors.New("bad")
	s.cleanErr = bad
	a, b := f.ErrSeen(), f.ErrSeen()
	f.Write(&vfs.Bytes{B: []byte("x")}, 0)
	if err := f.Sync(); err != bad {
		t.Error(err)
	}
	if err := f.Err(&a); err != bad {
		t.Error(err)
	}
	if err := f.Err(&a); err != nil {
		t.Error(err)
	}
	if err := f.Err(&b); err != bad {
		t.Error(err)
	}
	s.cleanErr = nil
	s.noSpace = true
	for _, n := range []int{5, PageSize} {
		if _, err := f.Write(&vfs.Bytes{B: make([]byte, n)}, 8*PageSize); err != syscall.ENOSPC {
			t.Error(err)
		}
	}
	if err := f.Zero(0, 5); err != syscall.ENOSPC {
		t.Error(err)
	}
	if _, err := f.PageAt(0, true); err != syscall.ENOSPC {
		t.Error(err)
	}
}

// faulty is user memory that reads a page of the file when it is touched, as one that
// is mapped there does, and then breaks off.
type faulty struct {
	vfs.Bytes
	f    *File
	page int64
	stop int
}

func (u *faulty) Take(p []byte) (int, error) {
	if q, err := u.f.PageAt(u.page*PageSize, false); err == nil {
		q.Release()
	}
	if u.stop < len(p) {
		n, _ := u.Bytes.Take(p[:u.stop])
		if n == 0 {
			return 0, syscall.EFAULT
		}
		u.stop = 0
		return n, syscall.EFAULT
	}
	return u.Bytes.Take(p)
}

func TestWritesFromTheSameFile(t *testing.T) {
	_, _, s, f := setup(64, 10*PageSize)
	p := bytes.Repeat([]byte("n"), 2*PageSize)
	if n, err := f.Write(&faulty{Bytes: vfs.Bytes{B: p}, f: f, page: 4, stop: 1 << 30}, 4*PageSize); n != len(p) || err != nil {
		t.Fatal(n, err)
	}
	if got := readAt(t, f, 4*PageSize, 2*PageSize, nil); !bytes.Equal(got, p) {
		t.Error("lost")
	}
	n, err := f.Write(&faulty{Bytes: vfs.Bytes{B: p}, f: f, page: 7, stop: 100}, 7*PageSize)
	if n != 100 || err != nil {
		t.Error(n, err)
	}
	if got := readAt(t, f, 7*PageSize, 200, nil); !bytes.Equal(got[:100], p[:100]) || !bytes.Equal(got[100:], s.b[7*PageSize+100:][:100]) {
		t.Error("a write that broke off")
	}
	if n, err := f.Write(&faulty{Bytes: vfs.Bytes{B: p}, f: f, page: 8}, 8*PageSize); n != 0 || err != syscall.EFAULT {
		t.Error(n, err)
	}
	if n, err := f.Write(&faulty{Bytes: vfs.Bytes{B: p[:10]}, f: f, page: 8}, 8*PageSize+5); n != 0 || err != syscall.EFAULT {
		t.Error(n, err)
	}
	f.Close()
	if s.reserved.Load() != 0 {
		t.Errorf("%d are still reserved", s.reserved.Load())
	}
}

type mapping struct {
	calls   int
	harvest *Page
}

func (m *mapping) Invalidate(off, end int64, truncated bool) { m.calls++ }
func (m *mapping) Harvest(off, end int64) {
	if m.harvest != nil {
		m.harvest.Dirty()
	}
}

func TestMappings(t *testing.T) {
	_, _, s, f := setup(64, 10*PageSize)
	m := &mapping{}
	f.Attach(m)
	p, err := f.PageAt(3*PageSize, true)
	if err != nil || p.Frame() == 0 {
		t.Fatal(err)
	}
	copy(p.Bytes(), "mapped")
	m.harvest = p.(*Page)
	if err := f.Sync(); err != nil || string(s.b[3*PageSize:][:6]) != "mapped" {
		t.Error(err)
	}
	if q, ok := f.CachedPage(3 * PageSize); !ok || q != p {
		t.Error("not the same page")
	} else {
		q.Release()
	}
	if _, ok := f.CachedPage(4 * PageSize); ok {
		t.Error("a page that nobody has read")
	}
	if _, ok := f.CachedPage(40 * PageSize); ok {
		t.Error("a page beyond the end")
	}
	copy(p.Bytes(), "again")
	if err := f.cache.SyncAll(func(Backing) bool { return true }); err != nil || string(s.b[3*PageSize:][:6]) != "againd" {
		t.Errorf("%v, %q", err, s.b[3*PageSize:][:6])
	}
	f.HoldWriteBack()
	f.Truncate(0)
	f.LetWriteBack()
	if m.calls != 1 || string(p.Bytes()[:6]) != "againd" {
		t.Errorf("%d calls, %q", m.calls, p.Bytes()[:6])
	}
	p.Dirty() // it is nobody's now
	p.Release()
	f.Detach(m)
	f.Detach(m)
	f.Invalidate(0, 10)
	if m.calls != 1 {
		t.Error("told after Detach")
	}
}

// A cached read or overwrite allocates nothing.
func TestHotPathsDoNotAllocate(t *testing.T) {
	_, _, _, f := setup(64, 40*PageSize)
	var ra ReadAhead
	b := &vfs.Bytes{B: make([]byte, PageSize)}
	f.Read(b, 8192, &ra)
	if n := testing.AllocsPerRun(200, func() {
		*b = vfs.Bytes{B: b.B}
		f.Read(b, 8192, &ra)
	}); n != 0 {
		t.Errorf("read: %v allocations", n)
	}
	*b = vfs.Bytes{B: b.B}
	f.Write(b, 8192)
	if n := testing.AllocsPerRun(200, func() {
		*b = vfs.Bytes{B: b.B}
		f.Write(b, 8192)
	}); n != 0 {
		t.Errorf("write: %v allocations", n)
	}
}

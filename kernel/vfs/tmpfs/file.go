package tmpfs

import (
	"math"
	"slices"
	"syscall"

	"osv/kernel/vfs"
)

// file is an open regular file.
type file struct {
	vfs.Always
	n *node
}

var (
	_ vfs.Mapper       = (*file)(nil)
	_ vfs.Mapped       = (*file)(nil)
	_ vfs.CachedMapper = (*file)(nil)
	_ vfs.Allocator    = (*file)(nil)
	_ vfs.Seeker       = (*file)(nil)
)

// Node is the inode.
func (f *file) Node() vfs.Node { return f.n }

// Seekable is true.
func (f *file) Seekable() bool { return true }

// Sync has nothing to write.
func (f *file) Sync(bool) error { return nil }

// Close ends it.
func (f *file) Close() error {
	f.n.closed()
	return nil
}

// held is page i with a reference more, nil for a hole.
func (n *node) held(i int64) *page {
	n.mu.RLock()
	p := n.data.get(i)
	if p != nil {
		p.refs.Add(1)
	}
	n.mu.RUnlock()
	return p
}

// heldOrNew is page i with a reference more, made if it is not there.
func (n *node) heldOrNew(i int64) (*page, error) {
	if p := n.held(i); p != nil {
		return p, nil
	}
	fresh, err := n.fs.newPage()
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	p := n.data.get(i)
	if p == nil {
		p = fresh
		n.data.put(i, p)
	}
	p.refs.Add(1)
	n.mu.Unlock()
	if p != fresh {
		fresh.Release()
	}
	return p, nil
}

// Read copies from off on.
func (f *file) Read(d vfs.Dst, off int64) (int, error) {
	n := f.n
	if off < 0 {
		return 0, syscall.EINVAL
	}
	done := 0
	for d.Room() > 0 {
		left := n.size.Load() - off
		if left <= 0 {
			break
		}
		in := int(off % PageSize)
		want := int(min(int64(PageSize-in), left, int64(d.Room())))
		p := n.held(off / PageSize)
		b := n.fs.zero[:]
		if p != nil {
			b = p.b
		}
		got, err := d.Put(b[in : in+want])
		if p != nil {
			p.Release()
		}
		done += got
		off += int64(got)
		if err != nil {
			if done > 0 {
				break
			}
			return 0, err
		}
		if got < want {
			break
		}
	}
	if done > 0 {
		n.accessed()
	}
	return done, nil
}

// Write copies to off, or to the end.
func (f *file) Write(s vfs.Src, off int64, appending bool) (int, int64, error) {
	n := f.n
	n.writing.Lock()
	defer n.writing.Unlock()
	if appending {
		off = n.size.Load()
	}
	at := off
	if off < 0 {
		return 0, at, syscall.EINVAL
	}
	done := 0
	var err error
	for s.Left() > 0 {
		in := int(off % PageSize)
		want := int(min(int64(PageSize-in), int64(s.Left()), math.MaxInt64-off))
		if want == 0 {
			err = syscall.EFBIG
			break
		}
		var p *page
		if p, err = n.heldOrNew(off / PageSize); err != nil {
			break
		}
		var got int
		got, err = s.Take(p.b[in : in+want])
		p.Release()
		done += got
		off += int64(got)
		if off > n.size.Load() {
			n.size.Store(off)
		}
		if err != nil || got < want {
			break
		}
	}
	if done == 0 {
		return 0, at, err
	}
	n.touch()
	return done, at, nil
}

// truncate sets the size.
func (n *node) truncate(size int64) error {
	if size < 0 {
		return syscall.EINVAL
	}
	n.writing.Lock()
	defer n.writing.Unlock()
	old := n.size.Load()
	n.size.Store(size)
	if size >= old {
		return nil
	}
	n.mu.Lock()
	cut := n.data.cut((size + PageSize - 1) / PageSize)
	n.mu.Unlock()
	n.zero(size, (size+PageSize-1)/PageSize*PageSize)
	n.invalidate((size+PageSize-1)/PageSize*PageSize, math.MaxInt64, true)
	for _, p := range cut {
		p.Release()
	}
	return nil
}

// zero clears [from, to), which is within one page, if the page is there.
func (n *node) zero(from, to int64) {
	if from >= to {
		return
	}
	if p := n.held(from / PageSize); p != nil {
		clear(p.b[from%PageSize : from%PageSize+(to-from)])
		p.Release()
	}
}

func (n *node) invalidate(off, end int64, truncated bool) {
	n.mu.RLock()
	maps := slices.Clone(n.maps)
	n.mu.RUnlock()
	for _, m := range maps {
		m.Invalidate(off, end, truncated)
	}
}

// Attach and Detach note who has mapped the file.
func (f *file) Attach(m vfs.Mapping) {
	f.n.mu.Lock()
	f.n.maps = append(f.n.maps, m)
	f.n.mu.Unlock()
}

// Detach takes m off again.
func (f *file) Detach(m vfs.Mapping) {
	f.n.mu.Lock()
	if i := slices.Index(f.n.maps, m); i >= 0 {
		f.n.maps = slices.Delete(f.n.maps, i, i+1)
	}
	f.n.mu.Unlock()
}

// PageAt is the page at off, made where there was a hole.
func (f *file) PageAt(off int64, write bool) (vfs.Page, error) {
	if off < 0 || off >= f.n.size.Load() {
		return nil, syscall.EFBIG
	}
	p, err := f.n.heldOrNew(off / PageSize)
	if err != nil {
		return nil, err
	}
	if off >= f.n.size.Load() { // truncated meanwhile: it must not stay
		f.n.mu.Lock()
		var cut []*page
		if size := f.n.size.Load(); off >= size {
			cut = f.n.data.cut((size + PageSize - 1) / PageSize)
		}
		f.n.mu.Unlock()
		p.Release()
		for _, q := range cut {
			q.Release()
		}
		return nil, syscall.EFBIG
	}
	return p, nil
}

// CachedPage is the page at off if there is one.
func (f *file) CachedPage(off int64) (vfs.Page, bool) {
	if off < 0 || off >= f.n.size.Load() {
		return nil, false
	}
	if p := f.n.held(off / PageSize); p != nil {
		return p, true
	}
	return nil, false
}

// Modes of fallocate(2).
const (
	keepSize  = 0x01
	punchHole = 0x02
	zeroRange = 0x10
)

// Allocate is fallocate: plain, keeping the size, punching holes, zeroing.
func (f *file) Allocate(mode uint32, off, length int64) error {
	n := f.n
	switch {
	case off < 0 || length <= 0:
		return syscall.EINVAL
	case off > math.MaxInt64-length:
		return syscall.EFBIG
	case mode != 0 && mode != keepSize && mode != punchHole|keepSize && mode&^keepSize != zeroRange:
		return syscall.EOPNOTSUPP
	}
	end := off + length
	n.writing.Lock()
	defer n.writing.Unlock()
	if mode&(punchHole|zeroRange) != 0 {
		first, last := (off+PageSize-1)/PageSize, end/PageSize
		if first > last {
			n.zero(off, end)
		} else {
			n.zero(off, first*PageSize)
			n.zero(last*PageSize, end)
			n.mu.Lock()
			cut := n.data.cutRange(first, last)
			n.mu.Unlock()
			n.invalidate(first*PageSize, last*PageSize, false)
			for _, p := range cut {
				p.Release()
			}
		}
		if mode&punchHole != 0 {
			n.touch()
			return nil
		}
	}
	if n.fs.pages != 0 && (length+PageSize-1)/PageSize > n.fs.pages {
		return syscall.ENOSPC
	}
	for i := off / PageSize; i <= (end-1)/PageSize; i++ {
		p, err := n.heldOrNew(i)
		if err != nil {
			return err
		}
		p.Release()
	}
	if mode&keepSize == 0 && end > n.size.Load() {
		n.size.Store(end)
	}
	n.touch()
	return nil
}

// SeekData finds data and holes, by pages; ENXIO at the end. What was allocated ahead
// counts as data.
func (f *file) SeekData(off int64, hole bool) (int64, error) {
	n := f.n
	n.mu.RLock()
	defer n.mu.RUnlock()
	size := n.size.Load()
	if off < 0 || off >= size {
		return 0, syscall.ENXIO
	}
	end := (size + PageSize - 1) / PageSize
	i := n.data.next(off/PageSize, end, hole)
	if i == end {
		if hole {
			return size, nil
		}
		return 0, syscall.ENXIO
	}
	return max(i*PageSize, off), nil
}

package cache

import (
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"osv/kernel/vfs"
)

// Backing is what a file system does for a file's pages.
type Backing interface {
	// Fill fills pages, which follow each other from the page with index first on.
	// What lies in a hole or beyond the end becomes zero. An error fails all of them.
	Fill(first int64, pages []*Page) error
	// Clean writes such pages to the medium. File.wb is held, so that of one file
	// there is one at a time.
	Clean(first int64, pages []*Page) error
	// Reserve makes sure that there will be room for p, which is about to be written
	// to and is not dirty: ENOSPC, EROFS.
	Reserve(p *Page) error
	// Dropped is told of a page with Held blocks that goes without having been
	// written. It may not call the cache.
	Dropped(p *Page)
}

// File is the pages of one file. It is made by Cache.NewFile, belongs to the file
// system's inode, and is collected with it.
type File struct {
	cache   *Cache
	backing Backing
	key     uint64
	size    atomic.Int64
	last    atomic.Int64 // the page read last: reading it again at once is no new use

	wb sync.Mutex     // one write-back; see HoldWriteBack
	bg sync.WaitGroup // read-ahead under way

	mu     sync.Mutex
	tree   tree
	ndirty int64
	maps   []vfs.Mapping
	err    error // of the last write-back that failed
	errSeq atomic.Uint32

	// Guarded by Cache.mu.
	since      time.Time // when its first dirty page became dirty
	listed     bool
	prev, next *File
}

// NewFile makes the cache's part of a file of size bytes. key names the file for the
// policy's memory: one that comes back under the same key is known again.
func (c *Cache) NewFile(b Backing, key uint64, size int64) *File {
	f := &File{cache: c, backing: b, key: key}
	f.size.Store(size)
	f.last.Store(-1)
	return f
}

// Close drops all pages, when nobody uses the file any more.
func (f *File) Close() {
	f.bg.Wait()
	f.Invalidate(0, 1<<50)
}

// Size is the file's length in bytes as programs see it.
func (f *File) Size() int64 { return f.size.Load() }

// SetSize sets it; Truncate drops what lies beyond.
func (f *File) SetSize(n int64) { f.size.Store(n) }

// lookup returns the page at index with a reference, or nil.
func (f *File) lookup(index int64) *Page {
	p := f.tree.get(index)
	if p == nil || !p.ref() {
		return nil
	}
	return p
}

// touch notes a use for the policy. Several reads of one page in a row are one.
func (f *File) touch(p *Page) {
	if f.last.Load() != p.index {
		f.last.Store(p.index)
		if !p.is(accessed) {
			p.set(accessed)
		}
	}
}

// Page returns the page at index, filled, with a reference. want is how many pages
// from there on will be asked for, and ra, which may be nil, guesses beyond.
func (f *File) Page(index, want int64, ra *ReadAhead) (*Page, error) {
	for {
		p := f.lookup(index)
		if p == nil {
			var err error
			n := ra.window(f, index, want)
			if p, err = f.fetch(index, n); err != nil {
				return nil, err
			}
			if p == nil {
				continue
			}
			ra.mark(f, index, n)
			f.cache.misses.Add(1)
			f.last.Store(index)
			return p, nil
		}
		if !p.is(upToDate) {
			// Somebody fills it. Where that fails the page is no longer the file's.
			p.mu.Lock()
			ok := p.is(upToDate)
			p.mu.Unlock()
			if !ok {
				p.Release()
				continue
			}
		}
		if p.is(detached) {
			p.Release()
			continue
		}
		if p.is(marker) && p.clear(marker) {
			ra.next(f, index)
		}
		f.touch(p)
		return p, nil
	}
}

// batches are the slices of pages for fills and write-backs.
var batches = sync.Pool{New: func() any { return new([256]*Page) }}

// fetch fills up to n pages from index on, as far as they are not there yet, and
// returns the first. It returns nil, nil where somebody else was faster.
func (f *File) fetch(index, n int64) (*Page, error) {
	batch := batches.Get().(*[256]*Page)
	defer func() { clear(batch[:]); batches.Put(batch) }()
	pages := batch[:0]
	for i := range min(n, int64(len(batch))) {
		if i > 0 {
			if p := f.tree.get(index + i); p != nil && p.refs.Load() > 0 {
				break
			}
		}
		p, err := f.cache.newPage(f, index+i)
		if err != nil {
			if i == 0 {
				return nil, err
			}
			break
		}
		p.mu.Lock()
		p.refs.Store(2)
		if !f.insert(p) {
			p.mu.Unlock()
			p.refs.Store(0)
			p.free()
			break
		}
		pages = append(pages, p)
	}
	if len(pages) == 0 {
		return nil, nil
	}
	err := f.backing.Fill(index, pages)
	if err != nil && len(pages) > 1 {
		// A page that was only read ahead must not fail the one that is wanted.
		f.abandon(pages[1:])
		pages = pages[:1]
		err = f.backing.Fill(index, pages)
	}
	if err != nil {
		f.abandon(pages)
		return nil, err
	}
	for i, p := range pages {
		p.set(upToDate)
		p.mu.Unlock()
		if i > 0 {
			p.Release()
		}
	}
	if len(pages) > 1 {
		f.cache.ahead.Add(uint64(len(pages) - 1))
	}
	if pages[0].is(detached) {
		pages[0].Release()
		return nil, nil
	}
	return pages[0], nil
}

// abandon takes pages whose fill failed, which this goroutine has locked, out again.
func (f *File) abandon(pages []*Page) {
	for _, p := range pages {
		f.remove(p)
		p.mu.Unlock()
		p.Release()
	}
}

// insert puts p into the tree and under the policy, unless there is one already.
func (f *File) insert(p *Page) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.tree.grow(p.index)
	slot := &n.pages[n.slot(p.index)]
	if old := slot.Load(); old != nil {
		if old.refs.Load() > 0 {
			return false
		}
		f.tree.n-- // one that the policy has taken; forget will not find it
	}
	slot.Store(p)
	f.tree.n++
	c := f.cache
	c.mu.Lock()
	c.arc.add(p, int(c.limit.Load()))
	c.mu.Unlock()
	return true
}

// forget takes a page out of the tree that the policy has taken.
func (f *File) forget(p *Page) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.unlink(p)
}

// unlink takes p out of the tree and reports whether it was there.
// Caller holds f.mu.
func (f *File) unlink(p *Page) bool {
	n := f.tree.leaf(p.index)
	if n == nil || !n.pages[n.slot(p.index)].CompareAndSwap(p, nil) {
		return false
	}
	if f.tree.n--; f.tree.n == 0 {
		f.tree.root.Store(nil)
	}
	return true
}

// remove takes p, of which the caller has a reference, out of the file: what is
// dirty in it is lost.
func (f *File) remove(p *Page) {
	p.set(detached)
	f.mu.Lock()
	wasDirty := f.undirty(p)
	had := f.unlink(p)
	f.mu.Unlock()
	if wasDirty {
		f.cache.cleaned(f, 1)
		p.Release()
	}
	if had {
		f.cache.mu.Lock()
		f.cache.arc.drop(p)
		f.cache.mu.Unlock()
		p.Release()
	}
}

// Read copies from off on into d, up to the end of the file.
func (f *File) Read(d vfs.Dst, off int64, ra *ReadAhead) (int, error) {
	if off < 0 {
		return 0, syscall.EINVAL
	}
	done := 0
	pages := uint64(0)
	for room := d.Room(); room > 0; room = d.Room() {
		left := f.Size() - off
		if left <= 0 {
			break
		}
		at := int(off & (PageSize - 1))
		want := (min(int64(room), left) + int64(at) + PageSize - 1) >> PageShift
		p, err := f.Page(off>>PageShift, want, ra)
		if err != nil {
			if done > 0 {
				break
			}
			return 0, err
		}
		part := p.b[at:]
		if int64(len(part)) > left {
			part = part[:left]
		}
		n, err := d.Put(part)
		p.Release()
		pages++
		done += n
		off += int64(n)
		if err != nil || n == 0 {
			if done == 0 && err != nil {
				return 0, err
			}
			break
		}
	}
	f.cache.hits.Add(pages)
	return done, nil
}

// PageAt is vfs.Mapper's.
func (f *File) PageAt(off int64, write bool) (vfs.Page, error) {
	if off < 0 || off >= f.Size() {
		return nil, syscall.EFBIG
	}
	p, err := f.Page(off>>PageShift, 1, nil)
	if err != nil {
		return nil, err
	}
	if write && !p.is(dirty) {
		if err := f.backing.Reserve(p); err != nil {
			p.Release()
			return nil, err
		}
	}
	return p, nil
}

// CachedPage is vfs.CachedMapper's.
func (f *File) CachedPage(off int64) (vfs.Page, bool) {
	if off < 0 || off >= f.Size() {
		return nil, false
	}
	p := f.lookup(off >> PageShift)
	if p == nil {
		return nil, false
	}
	if !p.is(upToDate) || p.is(detached) {
		p.Release()
		return nil, false
	}
	f.touch(p)
	return p, true
}

// Attach and Detach are vfs.Mapped's.
func (f *File) Attach(m vfs.Mapping) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.maps = append(f.maps[:len(f.maps):len(f.maps)], m)
	if len(f.maps) == 1 {
		f.cache.mu.Lock()
		f.cache.mapped[f] = struct{}{}
		f.cache.mu.Unlock()
	}
}

func (f *File) Detach(m vfs.Mapping) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := slices.Index(f.maps, m)
	if i < 0 {
		return
	}
	f.maps = slices.Delete(slices.Clone(f.maps), i, i+1)
	if len(f.maps) == 0 {
		f.cache.mu.Lock()
		delete(f.cache.mapped, f)
		f.cache.mu.Unlock()
	}
}

// harvest has mappings tell what was written through them.
func (f *File) harvest(first, end int64) {
	for _, m := range f.mappings() {
		m.Harvest(first<<PageShift, min(end, 1<<50)<<PageShift)
	}
}

// mappings returns those to be told now.
func (f *File) mappings() []vfs.Mapping {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.maps // never changed in place
}

package mm

import (
	"sync"
	"sync/atomic"

	"osv/kernel/vfs"
)

// Refs knows, for one machine, the frames that have more owners than the page that
// maps them: anonymous frames that fork left to several spaces, and pages of files.
// A frame that it does not know is owned by the one entry that maps it. What it needs
// is in proportion to what is shared: 2 KiB of counts for each 2 MiB of memory with a
// shared frame in it.
//
// All spaces of a machine that fork from each other share one Refs; its methods take
// no lock of a space and may be called with any of them held.
type Refs struct {
	root [1 << refBits]atomic.Pointer[refDir]
}

const (
	refBits    = 13 // frame numbers of 35 bits: physical addresses below 1<<47
	chunkPages = 512
)

type refDir [1 << refBits]atomic.Pointer[refChunk]

// refChunk is 2 MiB of physical memory.
type refChunk struct {
	// more counts, for an anonymous frame, owners beyond the first; for a page of a
	// file the entries that map it.
	more [chunkPages]atomic.Int32
	// file has a bit for each page of a file: who has a frame mapped may look at its bit
	// without the lock.
	file  [chunkPages / 64]atomic.Uint64
	mu    sync.Mutex
	pages *[chunkPages]vfs.Page // the files' pages; guarded by mu
}

// chunk returns where f's counts are, nil where there are none and make is not set.
func (r *Refs) chunk(f Frame, make bool) (*refChunk, int) {
	n := uint64(f) >> PageShift
	i := int(n % chunkPages)
	n /= chunkPages
	slot := &r.root[n>>refBits%(1<<refBits)]
	dir := slot.Load()
	if dir == nil {
		if !make {
			return nil, 0
		}
		slot.CompareAndSwap(nil, new(refDir))
		dir = slot.Load()
	}
	leaf := &dir[n%(1<<refBits)]
	c := leaf.Load()
	if c == nil && make {
		leaf.CompareAndSwap(nil, new(refChunk))
		c = leaf.Load()
	}
	return c, i
}

// isFile says whether the frame f, which the caller has mapped, is a page of a file.
func (r *Refs) isFile(f Frame) bool {
	c, i := r.chunk(f, false)
	return c != nil && c.file[i/64].Load()>>(i%64)&1 != 0
}

// share gives the anonymous frames of a page one more owner.
func (r *Refs) share(f Frame, order uint) {
	c, i := r.chunk(f, true) // a 2 MiB page is one chunk
	for n := range 1 << order {
		c.more[i+n].Add(1)
	}
}

// shared says whether the anonymous frame f has owners beside the caller.
func (r *Refs) shared(f Frame) bool {
	c, i := r.chunk(f, false)
	return c != nil && c.more[i].Load() > 0
}

// owners is how many entries have the frame f.
func (r *Refs) owners(f Frame) uint64 {
	c, i := r.chunk(f, false)
	if c == nil {
		return 1
	}
	n := uint64(c.more[i].Load())
	if r.page(f) == nil {
		n++
	}
	return max(n, 1)
}

// drop takes one owner from the anonymous frame f; true: it was the last, and the
// frame is to be freed.
func (r *Refs) drop(f Frame) bool {
	c, i := r.chunk(f, false)
	if c == nil {
		return true
	}
	for {
		n := c.more[i].Load()
		if n == 0 {
			return true
		}
		if c.more[i].CompareAndSwap(n, n-1) {
			return false
		}
	}
}

// addPage notes one more entry that maps p, which the caller has a reference to; the
// reference is kept, or released where there is one already.
func (r *Refs) addPage(p vfs.Page) {
	c, i := r.chunk(Frame(p.Frame()), true)
	c.mu.Lock()
	if c.pages == nil {
		c.pages = new([chunkPages]vfs.Page)
	}
	c.more[i].Add(1)
	first := c.pages[i] == nil
	if first {
		c.pages[i] = p
		c.file[i/64].Or(1 << (i % 64))
	}
	c.mu.Unlock()
	if !first {
		p.Release()
	}
}

// page returns the file's page whose frame f is, nil for an anonymous frame. It stays
// while an entry maps it.
func (r *Refs) page(f Frame) vfs.Page {
	c, i := r.chunk(f, false)
	if c == nil || c.file[i/64].Load()>>(i%64)&1 == 0 {
		return nil
	}
	c.mu.Lock()
	p := c.pages[i]
	c.mu.Unlock()
	return p
}

// dropPage ends an entry's use of the file's page at f, and says so to the page when
// it was written to. False: f is no page of a file.
func (r *Refs) dropPage(f Frame, dirty bool) bool {
	c, i := r.chunk(f, false)
	if c == nil || c.file[i/64].Load()>>(i%64)&1 == 0 {
		return false
	}
	c.mu.Lock()
	p := c.pages[i]
	if dirty {
		// With the lock held, so that the page is not released before.
		p.Dirty()
	}
	last := c.more[i].Add(-1) == 0
	if last {
		c.pages[i] = nil
		c.file[i/64].And(^(uint64(1) << (i % 64)))
	}
	c.mu.Unlock()
	if last {
		p.Release()
	}
	return true
}

// Package cache is the page cache: the contents of files in pages of 4 KiB, shared
// by read, write and mmap, with one replacement policy over all files.
//
// Spec: the policy is ARC (N. Megiddo, D. Modha, "ARC: A Self-Tuning, Low Overhead
// Replacement Cache", USENIX FAST 2003), with hits noted by a bit and applied when a
// page comes to the end of its list (S. Bansal, D. Modha, "CAR: Clock with Adaptive
// Replacement", FAST 2004), so that a hit takes no lock.
//
// Who may use it: file systems below kernel/vfs; kernel/platform makes it and joins
// it to memory. It knows no file system and no device: a file system hands it a
// Backing for each file.
//
// What is read or written is copied between vfs.Dst or vfs.Src and the page itself.
// While it is copied no lock is held, since the copy may fault and come back here for
// another page, or the same one. So a read that meets a write of the same bytes may
// see part of each, as on Linux.
//
// Lock order: what the file system holds, File.wb, Page.mu (several only of pages
// that nobody else has seen yet), File.mu, Cache.mu. A file system's Fill, Clean and
// Reserve are called without File.mu and Cache.mu.
//
// Start reading at Cache, then File (file.go), arc.go, writeback.go.
package cache

import (
	"sync"
	"sync/atomic"
	"time"
)

// PageSize is the size of a page in bytes, PageShift its logarithm.
const (
	PageShift = 12
	PageSize  = 1 << PageShift
)

// Frames is where pages' memory comes from.
type Frames interface {
	// Alloc returns a frame of PageSize bytes, zeroed if zero is set: its physical
	// address (hosted: any number that is its own) and how the kernel sees it.
	Alloc(zero bool) (frame uint64, b []byte, err error)
	Free(frame uint64, b []byte)
}

// Config is what a Cache is made with. Zero values of all but Frames are sound.
type Config struct {
	Frames Frames
	// Limit is how many bytes of pages it may hold. 0: 64 MiB.
	Limit int
	// MaxAge is how long a page stays dirty before the flusher writes it, Interval how
	// often it looks. 0: 30 s and 5 s, as Linux.
	MaxAge, Interval time.Duration
	// Background and Dirty are shares of Limit in percent: with more dirty pages than
	// Background the flusher writes without waiting for their age; with more than
	// Dirty, who writes helps and waits. 0: 10 and 20.
	Background, Dirty int
	// ReadAhead is the largest cluster that a sequential reader reads, in bytes.
	// 0: 256 KiB. Below PageSize: none.
	ReadAhead int
}

// Cache is the pages of all files. It is made by New.
type Cache struct {
	frames    Frames
	maxAge    time.Duration
	interval  time.Duration
	bgShare   int
	maxShare  int
	readAhead int64 // pages

	kick chan struct{} // for the flusher

	ndirty atomic.Int64 // pages
	hits   atomic.Uint64
	misses atomic.Uint64
	ahead  atomic.Uint64 // pages read ahead
	wrote  atomic.Uint64 // pages written back
	limit  atomic.Int64  // pages

	mu      sync.Mutex
	arc     arc
	dirty   fileList // files with dirty pages, oldest first
	mapped  map[*File]struct{}
	evicted uint64
	shrunk  int64 // pages that Shrink took of the limit
	stop    chan struct{}
	stopped chan struct{}
}

// New makes a cache. Start runs its flusher.
func New(c Config) *Cache {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	def(&c.Limit, 64<<20)
	def(&c.Background, 10)
	def(&c.Dirty, 20)
	def(&c.ReadAhead, 256<<10)
	if c.MaxAge == 0 {
		c.MaxAge = 30 * time.Second
	}
	if c.Interval == 0 {
		c.Interval = 5 * time.Second
	}
	k := &Cache{
		frames: c.Frames, maxAge: c.MaxAge, interval: c.Interval,
		bgShare: c.Background, maxShare: c.Dirty,
		readAhead: int64(c.ReadAhead) >> PageShift,
		kick:      make(chan struct{}, 1),
		mapped:    map[*File]struct{}{},
	}
	k.limit.Store(max(int64(c.Limit)>>PageShift, 16))
	k.arc.init()
	return k
}

// Stats is what a cache did and holds. Sizes are in pages.
type Stats struct {
	Limit, Pages, Dirty       int64
	Hits, Misses              uint64 // pages that a read or write found, and did not
	ReadAhead, Written        uint64
	Evicted                   uint64
	T1, T2, B1, B2, T1Target  int // the policy's lists
	RecentGhosts, OftenGhosts uint64
}

// Stats returns the numbers of this moment.
func (c *Cache) Stats() Stats {
	s := Stats{
		Limit: c.limit.Load(), Dirty: c.ndirty.Load(), Hits: c.hits.Load(), Misses: c.misses.Load(),
		ReadAhead: c.ahead.Load(), Written: c.wrote.Load(),
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	a := &c.arc
	s.T1, s.T2, s.B1, s.B2, s.T1Target = a.t1.n, a.t2.n, a.b1.n, a.b2.n, a.p
	s.Pages, s.Evicted = int64(a.t1.n+a.t2.n), c.evicted
	s.RecentGhosts, s.OftenGhosts = a.hitB1, a.hitB2
	return s
}

// Shrink gives n bytes up if it can: what the cache may still take first, then pages
// that are clean and used by nobody, least valuable first. It returns how many bytes
// that was. With Grow and Claim it makes a Cache a reclaim.Shrinker.
func (c *Cache) Shrink(n int) int {
	want := (int64(n) + PageSize - 1) >> PageShift
	c.mu.Lock()
	limit := c.limit.Load()
	want = min(want, limit-16)
	if want <= 0 {
		c.mu.Unlock()
		return 0
	}
	c.limit.Store(limit - want)
	c.shrunk += want
	over := int64(c.arc.pages()) - (limit - want)
	c.mu.Unlock()
	if over <= 0 {
		return int(want << PageShift)
	}
	left := over - int64(c.evict(int(over)))
	if left > 0 {
		c.wake() // dirty pages are in the way
	}
	// What could not be freed now stays above the limit, and goes as pages are let go
	// of. It is not counted as given.
	return int((want - left) << PageShift)
}

// Grow lets the cache take up to n bytes again of what Shrink took, and returns how
// many those are.
func (c *Cache) Grow(n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	back := min(int64(n)>>PageShift, c.shrunk)
	c.shrunk -= back
	c.limit.Add(back)
	return int(back << PageShift)
}

// Claim is the number of bytes that the cache may take beyond those that it holds.
func (c *Cache) Claim() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return int(max(c.limit.Load()-int64(c.arc.pages()), 0) << PageShift)
}

// evict frees up to n pages and returns how many. The caller holds neither a File.mu
// nor Cache.mu.
func (c *Cache) evict(n int) int {
	var batch [32]*Page
	done := 0
	for done < n {
		c.mu.Lock()
		got := c.arc.victims(batch[:min(n-done, len(batch))], int(c.limit.Load()))
		c.evicted += uint64(got)
		c.mu.Unlock()
		for i, p := range batch[:got] {
			p.file.forget(p)
			p.free()
			batch[i] = nil
		}
		done += got
		if got == 0 {
			break
		}
	}
	return done
}

// newPage makes a page of f that is in no tree and on no list yet, with one
// reference. Its bytes are anything.
func (c *Cache) newPage(f *File, index int64) (*Page, error) {
	if over := c.over(); over > 0 {
		if c.evict(over) == 0 {
			c.relieve()
		}
	}
	frame, b, err := c.frames.Alloc(false)
	if err != nil {
		if c.evict(32) == 0 && !c.relieve() {
			return nil, err
		}
		c.evict(32)
		if frame, b, err = c.frames.Alloc(false); err != nil {
			return nil, err
		}
	}
	p := &Page{file: f, index: index, frame: frame, b: b}
	p.refs.Store(1)
	return p, nil
}

// over is how many pages have to go before one can be added.
func (c *Cache) over() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.arc.pages() + 1 - int(c.limit.Load())
}

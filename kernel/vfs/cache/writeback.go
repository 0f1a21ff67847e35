package cache

import (
	"errors"
	"time"
)

// Write-back: dirty pages reach the medium by Sync of a file or of all, by age (the
// flusher, Start), by too many of them (the flusher, then the writer itself), and
// where memory is short.

// fileList is a list of files, linked through them.
type fileList struct{ head, tail *File }

func (l *fileList) push(f *File) {
	f.prev, f.next, f.listed = l.tail, nil, true
	if l.tail != nil {
		l.tail.next = f
	} else {
		l.head = f
	}
	l.tail = f
}

func (l *fileList) remove(f *File) {
	if f.prev != nil {
		f.prev.next = f.next
	} else {
		l.head = f.next
	}
	if f.next != nil {
		f.next.prev = f.prev
	} else {
		l.tail = f.prev
	}
	f.prev, f.next, f.listed = nil, nil, false
}

// dirtied counts a page of f that became dirty, its first or a further one.
func (c *Cache) dirtied(f *File, first bool) {
	if c.ndirty.Add(1) > c.share(c.bgShare) {
		c.wake()
	}
	if !first {
		return
	}
	c.mu.Lock()
	if !f.listed {
		f.since = time.Now()
		c.dirty.push(f)
	}
	c.mu.Unlock()
}

// cleaned counts n pages of f that are dirty no longer.
func (c *Cache) cleaned(f *File, n int64) {
	c.ndirty.Add(-n)
	f.mu.Lock()
	none := f.ndirty == 0
	f.mu.Unlock()
	if !none {
		return
	}
	c.mu.Lock()
	if f.listed {
		c.dirty.remove(f)
	}
	c.mu.Unlock()
	// One that became dirty between the two locks is not listed now; it must be.
	f.mu.Lock()
	again := f.ndirty > 0
	f.mu.Unlock()
	if again {
		c.mu.Lock()
		if !f.listed {
			f.since = time.Now()
			c.dirty.push(f)
		}
		c.mu.Unlock()
	}
}

// HoldWriteBack keeps write-back of f away, and waits for one under way. File
// systems hold it where they change which blocks a file has.
func (f *File) HoldWriteBack() { f.wb.Lock() }

// LetWriteBack ends it.
func (f *File) LetWriteBack() { f.wb.Unlock() }

// Sync writes the file's dirty pages, with what mappings have written, and returns
// the error of doing so.
func (f *File) Sync() error { return f.SyncRange(0, 1<<62) }

// SyncRange is Sync of the pages [first, end).
func (f *File) SyncRange(first, end int64) error {
	f.harvest(first, end)
	f.wb.Lock()
	defer f.wb.Unlock()
	return f.clean(first, end)
}

// CleanHeld is SyncRange for who holds write-back already.
func (f *File) CleanHeld(first, end int64) error { return f.clean(first, end) }

// clean writes what is dirty in [first, end) now, in one pass. Caller holds f.wb.
func (f *File) clean(first, end int64) error {
	batch := batches.Get().(*[256]*Page)
	defer batches.Put(batch)
	var errs error
	for first < end {
		n := f.collect(batch[:], first, end, true)
		if n == 0 {
			break
		}
		pages := batch[:n]
		first = pages[n-1].index + 1
		for len(pages) > 0 {
			run := 1
			for run < len(pages) && pages[run].index == pages[0].index+int64(run) {
				run++
			}
			if err := f.cleanRun(pages[:run]); err != nil && errs == nil {
				errs = err
			}
			pages = pages[run:]
		}
		for i, p := range batch[:n] {
			p.Release()
			batch[i] = nil
		}
	}
	return errs
}

// cleanRun writes pages that follow each other. What is written to them meanwhile
// makes them dirty again.
func (f *File) cleanRun(pages []*Page) error {
	n := int64(0)
	f.mu.Lock()
	for _, p := range pages {
		if f.undirty(p) {
			p.set(writeback)
			n++
		}
	}
	f.mu.Unlock()
	if n == 0 {
		return nil // truncated
	}
	err := f.backing.Clean(pages[0].index, pages)
	for _, p := range pages {
		if p.clear(writeback) {
			p.Release()
		}
	}
	if err != nil {
		f.mu.Lock()
		f.err = err
		f.mu.Unlock()
		f.errSeq.Add(1)
	} else {
		f.cache.wrote.Add(uint64(n))
	}
	f.cache.cleaned(f, n)
	return err
}

// ErrSeen is a point in a file's history of failed write-backs, for Err.
func (f *File) ErrSeen() uint32 { return f.errSeq.Load() }

// Err returns the error of the last write-back that failed since seen, which it
// moves on, so that each open file hears of it once.
func (f *File) Err(seen *uint32) error {
	now := f.errSeq.Load()
	if now == *seen {
		return nil
	}
	*seen = now
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// Dirty says whether the file has dirty pages in [first, end), and where the first
// of them is.
func (f *File) Dirty(first, end int64) (index int64, ok bool) {
	var one [1]*Page
	if f.collect(one[:], first, end, true) == 0 {
		return 0, false
	}
	index = one[0].index
	one[0].Release()
	return index, true
}

// SyncAll writes all dirty pages of the files for which of returns true.
func (c *Cache) SyncAll(of func(b Backing) bool) error {
	c.harvest(of)
	var errs []error
	for _, f := range c.dirtyFiles(func(f *File) bool { return of(f.backing) }) {
		errs = append(errs, f.Sync())
	}
	return errors.Join(errs...)
}

// harvest makes files dirty that were written to through mappings alone.
func (c *Cache) harvest(of func(b Backing) bool) {
	c.mu.Lock()
	var files []*File
	for f := range c.mapped {
		if of(f.backing) {
			files = append(files, f)
		}
	}
	c.mu.Unlock()
	for _, f := range files {
		f.harvest(0, 1<<50)
	}
}

func (c *Cache) dirtyFiles(want func(*File) bool) []*File {
	c.mu.Lock()
	defer c.mu.Unlock()
	var files []*File
	for f := c.dirty.head; f != nil; f = f.next {
		if want(f) {
			files = append(files, f)
		}
	}
	return files
}

// Start runs the flusher until Stop.
func (c *Cache) Start() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stop != nil {
		return
	}
	c.stop, c.stopped = make(chan struct{}), make(chan struct{})
	go c.flusher(c.stop, c.stopped)
}

// Stop ends the flusher, after what it is writing. Dirty pages stay.
func (c *Cache) Stop() {
	c.mu.Lock()
	stop, stopped := c.stop, c.stopped
	c.stop = nil
	c.mu.Unlock()
	if stop != nil {
		close(stop)
		<-stopped
	}
}

func (c *Cache) flusher(stop, stopped chan struct{}) {
	defer close(stopped)
	tick := time.NewTicker(c.interval)
	defer tick.Stop()
	harvested := time.Now()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		case <-c.kick:
		}
		if time.Since(harvested) >= c.maxAge {
			harvested = time.Now()
			c.harvest(func(Backing) bool { return true })
		}
		old := time.Now().Add(-c.maxAge)
		for _, f := range c.dirtyFiles(func(*File) bool { return true }) {
			c.mu.Lock()
			due := f.listed && !f.since.After(old)
			c.mu.Unlock()
			if due || c.ndirty.Load() > c.share(c.bgShare) || c.over() > 1 {
				f.Sync() // who syncs the file hears of the error
			}
		}
	}
}

func (c *Cache) share(percent int) int64 { return c.limit.Load() * int64(percent) / 100 }

// wake has the flusher look now.
func (c *Cache) wake() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// throttle keeps the number of dirty pages in bounds: who has just written to f
// wakes the flusher, and writes f back itself where that is not enough.
func (c *Cache) throttle(f *File) {
	n := c.ndirty.Load()
	if n <= c.share(c.bgShare) {
		return
	}
	c.wake()
	if n > c.share(c.maxShare) {
		f.Sync()
	}
}

// relieve writes files back where no page can be freed otherwise, and reports whether
// it did. The caller may hold write-back of any file, so it only tries.
func (c *Cache) relieve() bool {
	if c.ndirty.Load() == 0 {
		return false
	}
	did := false
	for _, f := range c.dirtyFiles(func(*File) bool { return true }) {
		if !f.wb.TryLock() {
			continue
		}
		f.clean(0, 1<<62)
		f.wb.Unlock()
		if did = true; c.evict(1) > 0 {
			break
		}
	}
	return did
}

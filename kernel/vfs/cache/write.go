package cache

import (
	"syscall"

	"osv/kernel/vfs"
)

// Write copies s to off on, lets the file grow, and marks the pages dirty. The file
// system keeps writers and truncation of one file apart.
func (f *File) Write(s vfs.Src, off int64) (int, error) {
	if off < 0 {
		return 0, syscall.EINVAL
	}
	done := 0
	for left := s.Left(); left > 0; left = s.Left() {
		n, err := f.writePage(s, off, min(left, PageSize-int(off&(PageSize-1))))
		done += n
		off += int64(n)
		if err != nil || n == 0 {
			if done == 0 {
				return 0, err
			}
			break
		}
	}
	f.cache.throttle(f)
	return done, nil
}

// writePage writes n bytes inside of one page.
func (f *File) writePage(s vfs.Src, off int64, n int) (int, error) {
	index, at := off>>PageShift, int(off&(PageSize-1))
	if n == PageSize {
		if p := f.lookup(index); p != nil {
			p.Release()
		} else {
			return f.writeWhole(s, index)
		}
	}
	p, err := f.Page(index, 1, nil)
	if err != nil {
		return 0, err
	}
	defer p.Release()
	if !p.is(dirty) {
		if err := f.backing.Reserve(p); err != nil {
			return 0, err
		}
	}
	got, err := s.Take(p.b[at : at+n])
	if got > 0 {
		f.wrote(p, off+int64(got))
		err = nil
	}
	return got, err
}

// writeWhole writes a page that is not there and need not be read. It is filled
// before others see it: the copy may fault and want the same page.
func (f *File) writeWhole(s vfs.Src, index int64) (int, error) {
	p, err := f.cache.newPage(f, index)
	if err != nil {
		return 0, err
	}
	defer p.Release()
	if err := f.backing.Reserve(p); err != nil {
		return 0, err
	}
	got, err := s.Take(p.b)
	if got == 0 {
		return 0, err
	}
	end := index<<PageShift + int64(got)
	if got == PageSize {
		p.set(upToDate)
		p.refs.Add(1)
		if f.insert(p) {
			f.cache.misses.Add(1)
			f.last.Store(index)
			f.wrote(p, end)
			return got, nil
		}
		p.refs.Add(-1)
	}
	// Only a part came, or somebody has read the page meanwhile.
	q, err := f.Page(index, 1, nil)
	if err != nil {
		return 0, err
	}
	defer q.Release()
	if !q.is(dirty) {
		if err := f.backing.Reserve(q); err != nil {
			return 0, err
		}
	}
	copy(q.b, p.b[:got])
	f.wrote(q, end)
	return got, nil
}

// wrote notes that p was written up to the file's byte end.
func (f *File) wrote(p *Page, end int64) {
	if f.size.Load() < end {
		f.size.Store(end) // writers are kept apart
	}
	f.setDirty(p)
}

// setDirty marks a page dirty of which the caller has a reference.
func (f *File) setDirty(p *Page) {
	if p.is(dirty) {
		return
	}
	f.mu.Lock()
	n := f.tree.leaf(p.index)
	if n == nil || n.pages[n.slot(p.index)].Load() != p || !p.set(dirty) {
		f.mu.Unlock()
		return
	}
	p.refs.Add(1)
	n.dirty |= 1 << n.slot(p.index)
	f.ndirty++
	first := f.ndirty == 1
	f.mu.Unlock()
	f.cache.dirtied(f, first)
}

// undirty takes the dirty mark off p and reports whether there was one; the mark's
// reference is the caller's then. Caller holds f.mu.
func (f *File) undirty(p *Page) bool {
	if !p.clear(dirty) {
		return false
	}
	n := f.tree.leaf(p.index)
	n.dirty &^= 1 << n.slot(p.index)
	f.ndirty--
	return true
}

// Truncate sets the size to n, drops all pages beyond, and makes what is left of the
// last one zero, if it is in memory; that it is dirty then is the file system's to say.
// The caller keeps writers and write-back (HoldWriteBack) out.
func (f *File) Truncate(n int64) {
	f.size.Store(n)
	f.drop((n+PageSize-1)>>PageShift, 1<<50, true)
	at := int(n & (PageSize - 1))
	if at == 0 {
		return
	}
	if p := f.lookup(n >> PageShift); p != nil {
		clear(p.b[at:])
		p.Release()
	}
}

// Zero clears the bytes [off, off+n), which are inside of one page, if that is in
// memory; it is dirty then. The caller has reserved.
func (f *File) Zero(off, n int64) error {
	p, err := f.Page(off>>PageShift, 1, nil)
	if err != nil {
		return err
	}
	defer p.Release()
	if !p.is(dirty) {
		if err := f.backing.Reserve(p); err != nil {
			return err
		}
	}
	at := off & (PageSize - 1)
	clear(p.b[at : at+n])
	f.setDirty(p)
	return nil
}

// Invalidate drops the pages [first, end), dirty or not, and has them unmapped.
func (f *File) Invalidate(first, end int64) { f.drop(first, end, false) }

// drop is Invalidate; truncated has private copies in mappings go too.
func (f *File) drop(first, end int64, truncated bool) {
	batch := batches.Get().(*[256]*Page)
	defer batches.Put(batch)
	for at := first; at < end; {
		n := f.collect(batch[:], at, end, false)
		if n == 0 {
			break
		}
		for i, p := range batch[:n] {
			at = p.index + 1
			f.remove(p)
			p.Release()
			batch[i] = nil
		}
	}
	for _, m := range f.mappings() {
		m.Invalidate(first<<PageShift, min(end, 1<<50)<<PageShift, truncated)
	}
}

// collect puts the pages of [first, end) into out, with a reference each, dirty ones
// only if so asked.
func (f *File) collect(out []*Page, first, end int64, onlyDirty bool) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	f.tree.leaves(first, end, func(l *node) bool {
		if onlyDirty && l.dirty == 0 {
			return true
		}
		for i := range l.pages {
			if onlyDirty && l.dirty&(1<<i) == 0 {
				continue
			}
			p := l.pages[i].Load()
			if p == nil || p.index < first || p.index >= end || !p.ref() {
				continue
			}
			if n == len(out) {
				p.Release()
				return false
			}
			out[n] = p
			n++
		}
		return true
	})
	return n
}

package fakemm

import (
	"slices"
	"sync"
	"syscall"

	"osv/kernel/linux/mm"
	"osv/kernel/vfs"
	"osv/kernel/vfs/poll"
)

// File is a file whose pages are frames of a machine, as a page cache has them. It is
// strict: a page released too often panics.
type File struct {
	m *Machine

	mu    sync.Mutex
	size  int64
	pages map[int64]*Page
	maps  []vfs.Mapping
	Syncs int
	// Wait, if set, is called by PageAt with no lock held, as if it read from a disk.
	Wait func()
	// Err is what PageAt returns instead of pages.
	Err error
	// Refs counts the references that mmap has taken to the open file.
	Refs int
}

// Page is one of its pages.
type Page struct {
	f     *File
	frame mm.Frame
	refs  int
	dirty bool
	gone  bool // truncated
}

// NewFile makes a file of n bytes; page i begins with the bytes of its number plus 1.
func (m *Machine) NewFile(n int64) *File {
	return &File{m: m, size: n, pages: make(map[int64]*Page)}
}

// Request maps the file.
func (f *File) Request(addr, n, off uint64, prot mm.Prot, flags int) mm.MapRequest {
	return mm.MapRequest{Addr: addr, Length: n, Prot: prot, Flags: flags, File: f, Offset: off,
		Ref:   func() { f.mu.Lock(); f.Refs++; f.mu.Unlock() },
		Unref: func() { f.mu.Lock(); f.Refs--; f.mu.Unlock() },
		Path:  func() string { return "/fake" }}
}

// PageAt is vfs.Mapper's.
func (f *File) PageAt(off int64, write bool) (vfs.Page, error) {
	if f.Wait != nil {
		f.Wait()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.Err != nil {
		return nil, f.Err
	}
	if off >= f.size {
		return nil, syscall.EFBIG
	}
	p := f.pages[off]
	if p == nil {
		var one [1]mm.Frame
		if err := f.m.Alloc(one[:], 0, true); err != nil {
			return nil, err
		}
		p = &Page{f: f, frame: one[0]}
		f.m.Bytes(p.frame, 0)[0] = byte(off/pageSize + 1)
		f.pages[off] = p
	}
	p.refs++
	return p, nil
}

// CachedPage is vfs.CachedMapper's.
func (f *File) CachedPage(off int64) (vfs.Page, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.pages[off]
	if p == nil || off >= f.size {
		return nil, false
	}
	p.refs++
	return p, true
}

// Attach and Detach are vfs.Mapped's.
func (f *File) Attach(m vfs.Mapping) {
	f.mu.Lock()
	f.maps = append(f.maps, m)
	f.mu.Unlock()
}

// Detach ends Attach.
func (f *File) Detach(m vfs.Mapping) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := slices.Index(f.maps, m)
	if i < 0 {
		panic("fakemm: a mapping is detached that is not there")
	}
	f.maps = slices.Delete(f.maps, i, i+1)
}

// Truncate sets the size.
func (f *File) Truncate(n int64) {
	f.mu.Lock()
	f.size = n
	end := (n + pageSize - 1) &^ (pageSize - 1)
	for off, p := range f.pages {
		if off >= end {
			delete(f.pages, off)
			p.gone = true
			p.free()
		}
	}
	if p := f.pages[n&^(pageSize-1)]; p != nil {
		clear(f.m.Bytes(p.frame, 0)[n%pageSize:])
	}
	maps := slices.Clone(f.maps)
	f.mu.Unlock()
	for _, m := range maps {
		m.Invalidate(end, 1<<62, true)
	}
}

// Punch makes a hole of whole pages, as fallocate does.
func (f *File) Punch(off, end int64) {
	f.mu.Lock()
	for a := off; a < end; a += pageSize {
		if p := f.pages[a]; p != nil {
			delete(f.pages, a)
			p.gone = true
			p.free()
		}
	}
	maps := slices.Clone(f.maps)
	f.mu.Unlock()
	for _, m := range maps {
		m.Invalidate(off, end, false)
	}
}

// Allocate is vfs.Allocator's, for holes only.
func (f *File) Allocate(_ uint32, off, n int64) error {
	f.Punch(off, off+n)
	return nil
}

// Writeback harvests what was written through mappings, cleans all pages and returns
// the offsets of those that were dirty.
func (f *File) Writeback() []int64 {
	f.mu.Lock()
	maps := slices.Clone(f.maps)
	f.mu.Unlock()
	for _, m := range maps {
		m.Harvest(0, 1<<62)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []int64
	for off, p := range f.pages {
		if p.dirty {
			out = append(out, off)
			p.dirty = false
		}
	}
	slices.Sort(out)
	return out
}

// Drop frees the cache; pages that are mapped panic.
func (f *File) Drop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for off, p := range f.pages {
		if p.refs != 0 {
			panic("fakemm: a page is still mapped")
		}
		p.gone = true
		p.free()
		delete(f.pages, off)
	}
}

// Mapped is how many mappings are attached, Pinned how many references to pages exist.
func (f *File) Mapped() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.maps)
}

// Pinned is how many references to pages exist.
func (f *File) Pinned() (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.pages {
		n += p.refs
	}
	return n
}

// Frame, Bytes, Dirty and Release are vfs.Page's.
func (p *Page) Frame() uint64 { return uint64(p.frame) }

// Bytes is the page's memory.
func (p *Page) Bytes() []byte { return p.f.m.Bytes(p.frame, 0) }

// Dirty notes a write.
func (p *Page) Dirty() {
	p.f.mu.Lock()
	p.dirty = true
	p.f.mu.Unlock()
}

// Release ends a use.
func (p *Page) Release() {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	if p.refs--; p.refs < 0 {
		panic("fakemm: a page is released too often")
	}
	p.free()
}

// free frees a page that the file has not and nobody uses. Caller holds mu.
func (p *Page) free() {
	if p.gone && p.refs == 0 {
		p.f.m.Free([]mm.Frame{p.frame}, 0)
	}
}

// The rest of vfs.File, of which mm uses only Node and Sync.
func (f *File) Ready() poll.Events                             { return poll.In | poll.Out }
func (f *File) Watch(*poll.Waiter)                             {}
func (f *File) Unwatch(*poll.Waiter)                           {}
func (f *File) Node() vfs.Node                                 { return nil }
func (f *File) Read(vfs.Dst, int64) (int, error)               { return 0, syscall.EINVAL }
func (f *File) Seekable() bool                                 { return true }
func (f *File) Close() error                                   { return nil }
func (f *File) Write(vfs.Src, int64, bool) (int, int64, error) { return 0, 0, syscall.EINVAL }

// Sync counts.
func (f *File) Sync(bool) error {
	f.mu.Lock()
	f.Syncs++
	f.mu.Unlock()
	return nil
}

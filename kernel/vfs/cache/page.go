package cache

import (
	"sync"
	"sync/atomic"
)

// State bits of a page.
const (
	upToDate  = 1 << iota // its bytes are the file's
	dirty                 // and newer than the medium's
	writeback             // being written
	accessed              // used since the policy last looked
	marker                // reading it starts the next cluster of read-ahead
	detached              // no longer its file's: truncated, or the fill failed
)

// Page is one page of one file. It implements vfs.Page.
//
// Its life: newPage makes it with one reference, which belongs to the file's tree
// once it is there. A reader takes another for as long as it copies, a mapping for
// as long as it maps. Whoever takes it out of the tree drops the tree's reference;
// the last one frees the frame. A Page is never used again for another place.
type Page struct {
	file  *File
	index int64
	frame uint64
	b     []byte

	refs  atomic.Int32 // 0: gone
	flags atomic.Uint32
	held  atomic.Int32 // the file system's: blocks reserved for it

	mu sync.Mutex // held by who fills it

	// Guarded by Cache.mu.
	list       *pageList
	prev, next *Page
}

// Frame is the physical address of the page's memory.
func (p *Page) Frame() uint64 { return p.frame }

// Bytes is the page's memory.
func (p *Page) Bytes() []byte { return p.b }

// Index is which page of its file it is.
func (p *Page) Index() int64 { return p.index }

// Held is a number that the file system keeps with a page: the blocks that Reserve
// set aside for it.
func (p *Page) Held() *atomic.Int32 { return &p.held }

// Dirty says that the page was written to through a mapping.
func (p *Page) Dirty() { p.file.setDirty(p) }

// IsDirty says whether its bytes are newer than the medium's.
func (p *Page) IsDirty() bool { return p.is(dirty) }

// Release ends a use of the page.
func (p *Page) Release() {
	if p.refs.Add(-1) == 0 {
		p.free()
	}
}

// ref takes a reference, unless the page is gone.
func (p *Page) ref() bool {
	for {
		n := p.refs.Load()
		if n <= 0 {
			return false
		}
		if p.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// free gives the memory back. Nobody has a reference any more.
func (p *Page) free() {
	if p.held.Load() != 0 {
		p.file.backing.Dropped(p)
	}
	p.file.cache.frames.Free(p.frame, p.b)
	p.b = nil
}

func (p *Page) is(bit uint32) bool { return p.flags.Load()&bit != 0 }

// set sets a bit and reports whether it was clear.
func (p *Page) set(bit uint32) bool { return p.flags.Or(bit)&bit == 0 }

// clear clears a bit and reports whether it was set.
func (p *Page) clear(bit uint32) bool { return p.flags.And(^bit)&bit != 0 }

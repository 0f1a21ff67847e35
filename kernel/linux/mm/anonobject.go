package mm

import (
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"osv/kernel/vfs"
)

// anonObject is the memory of a MAP_SHARED|MAP_ANONYMOUS mapping, which fork's children
// share: a file without a name.
type anonObject struct {
	m     Machine
	size  uint64
	users atomic.Int32 // backings, one per space

	mu    sync.Mutex
	pages map[uint64]*anonPage // by offset
	maps  []vfs.Mapping
}

// anonPage is one of its pages. It lives as long as the object: Release does nothing.
type anonPage struct {
	frame Frame
	bytes []byte
}

func newAnonObject(m Machine, size uint64) *anonObject {
	o := &anonObject{m: m, size: size, pages: make(map[uint64]*anonPage)}
	o.users.Store(1)
	return o
}

func (o *anonObject) hold() { o.users.Add(1) }

// drop frees the memory with the last user; no page table maps it any more.
func (o *anonObject) drop() {
	if o.users.Add(-1) != 0 {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, p := range o.pages {
		o.m.Free([]Frame{p.frame}, 0)
	}
	o.pages = nil
}

// PageAt is vfs.Mapper's: pages are made when they are asked for.
func (o *anonObject) PageAt(off int64, _ bool) (vfs.Page, error) {
	if uint64(off) >= o.size {
		return nil, syscall.EFBIG
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if p := o.pages[uint64(off)]; p != nil {
		return p, nil
	}
	f := make([]Frame, 1)
	if err := o.m.Alloc(f, 0, true); err != nil {
		return nil, err
	}
	p := &anonPage{frame: f[0], bytes: o.m.Bytes(f[0], 0)}
	o.pages[uint64(off)] = p
	return p, nil
}

// remove frees the pages of [off, end), after taking them out of the page tables of all
// who share the object.
func (o *anonObject) remove(off, end uint64) {
	o.mu.Lock()
	var gone []Frame
	for a := off; a < end; a += PageSize {
		if p := o.pages[a]; p != nil {
			gone = append(gone, p.frame)
			delete(o.pages, a)
		}
	}
	maps := slices.Clone(o.maps)
	o.mu.Unlock()
	for _, m := range maps {
		m.Invalidate(int64(off), int64(end), false)
	}
	o.m.Free(gone, 0)
}

// Attach and Detach are vfs.Mapped's.
func (o *anonObject) Attach(m vfs.Mapping) {
	o.mu.Lock()
	o.maps = append(o.maps, m)
	o.mu.Unlock()
}

func (o *anonObject) Detach(m vfs.Mapping) {
	o.mu.Lock()
	if i := slices.Index(o.maps, m); i >= 0 {
		o.maps = slices.Delete(o.maps, i, i+1)
	}
	o.mu.Unlock()
}

func (p *anonPage) Frame() uint64 { return uint64(p.frame) }
func (p *anonPage) Bytes() []byte { return p.bytes }
func (p *anonPage) Dirty()        {}
func (p *anonPage) Release()      {}

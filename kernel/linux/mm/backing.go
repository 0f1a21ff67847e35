package mm

import (
	"sync/atomic"

	"osv/kernel/vfs"
)

// backing is what is behind a mapping that is not private anonymous memory: a file,
// or the object of shared anonymous memory. The pieces of one mmap call share it, also
// across spaces for shared anonymous memory; each space has its own for a file.
type backing struct {
	space  *Space
	mapper vfs.Mapper
	cached vfs.CachedMapper
	// rightAway: pages are mapped writable at once, since nobody asks whether they are
	// dirty (shared anonymous memory).
	rightAway bool

	file  vfs.File // nil for shared anonymous memory and kernel pages
	path  func() string
	unref func()
	ref   func()
	key   any // what shared futexes in it are named by

	// users counts the mappings and the faults under way.
	users atomic.Int32
	// gen changes before pages are invalidated: a fault that asked for a page before
	// does not map it afterwards.
	gen atomic.Uint64
}

func (b *backing) same(c *backing) bool {
	if b == c {
		return true
	}
	return b != nil && c != nil && b.file != nil && b.file == c.file && b.mapper == c.mapper
}

func (b *backing) hold() {
	if b != nil {
		b.users.Add(1)
	}
}

// attach begins the life of b with one user.
func (b *backing) attach() {
	b.users.Store(1)
	if b.ref != nil {
		b.ref()
	}
	if m, ok := b.mapper.(vfs.Mapped); ok {
		m.Attach(b)
	}
	b.cached, _ = b.mapper.(vfs.CachedMapper)
}

// drop ends a use of b. It may call into the file: no lock of a space may be held.
func (b *backing) drop() {
	if !b.release() {
		b.end()
	}
}

// release ends a use of b if it is not the last; then it returns false.
func (b *backing) release() bool {
	for {
		n := b.users.Load()
		if n == 1 {
			return false
		}
		if b.users.CompareAndSwap(n, n-1) {
			return true
		}
	}
}

// end is the last use's. No lock of a space may be held.
func (b *backing) end() {
	b.users.Store(0)
	if m, ok := b.mapper.(vfs.Mapped); ok {
		m.Detach(b)
	}
	if m, ok := b.mapper.(*anonObject); ok {
		m.drop()
	}
	if b.unref != nil {
		b.unref()
	}
}

// fork is b for the space of a child.
func (b *backing) fork(s *Space) *backing {
	c := &backing{space: s, mapper: b.mapper, file: b.file, path: b.path,
		ref: b.ref, unref: b.unref, key: b.key, rightAway: b.rightAway}
	if m, ok := b.mapper.(*anonObject); ok {
		m.hold()
	}
	c.attach()
	return c
}

// Invalidate is vfs.Mapping's.
func (b *backing) Invalidate(off, end int64, truncated bool) {
	b.gen.Add(1)
	s := b.space
	s.lock()
	defer s.unlock()
	b.each(off, end, func(v *vma, from, to uint64) {
		z := &s.zap
		z.begin(v)
		z.keepOwned = !truncated
		z.run(from, to)
	})
}

// Harvest is vfs.Mapping's.
func (b *backing) Harvest(off, end int64) {
	s := b.space
	s.lock()
	defer s.unlock()
	b.each(off, end, func(v *vma, from, to uint64) { s.harvest(v, from, to) })
}

// each calls f with those addresses of b's mappings that hold [off, end). Caller holds
// the space's write lock.
func (b *backing) each(off, end int64, f func(v *vma, from, to uint64)) {
	if end <= off || off < 0 {
		return
	}
	lo, hi := uint64(off)&^(PageSize-1), uint64(end)
	for v := b.space.tree.first; v != nil; v = v.next {
		// Pieces of several mmap calls of one file may have become one mapping.
		if v.back == nil || !v.back.same(b) {
			continue
		}
		first, last := v.off, v.off+(v.end-v.start)
		from, to := max(lo, first), min((hi+PageSize-1)&^(PageSize-1), last)
		if from < to {
			f(v, v.start+(from-first), v.start+(to-first))
		}
	}
}

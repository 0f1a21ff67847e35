package ext4

import (
	"syscall"

	"osv/kernel/vfs"
	"osv/kernel/vfs/cache"
)

// Modes of fallocate(2).
const (
	fallocKeepSize  = 0x1
	fallocPunchHole = 0x2
	fallocZeroRange = 0x10
)

// Allocate is vfs.Allocator's.
func (f *file) Allocate(mode uint32, off, n int64) error {
	i := f.i
	switch {
	case i.typ == vfs.TypeDir:
		return syscall.EISDIR
	case i.typ != vfs.TypeFile:
		return syscall.ENODEV
	case off < 0 || n <= 0:
		return syscall.EINVAL
	case off > maxFileSize(i.fs.sb.blockShift)-n:
		return syscall.EFBIG
	}
	keep := mode&fallocKeepSize != 0
	i.write.Lock()
	defer i.write.Unlock()
	if err := i.modified(); err != nil {
		return err
	}
	i.mu.RLock()
	inline, extents := i.flags&flInline != 0, i.flags&flExtents != 0
	i.mu.RUnlock()
	if inline {
		if err := i.fileToBlock(); err != nil {
			return err
		}
	} else if !extents {
		return syscall.EOPNOTSUPP
	}
	switch mode &^ fallocKeepSize {
	case 0:
		return i.allocate(off, n, keep)
	case fallocPunchHole:
		if !keep {
			return syscall.EINVAL
		}
		return i.punch(off, n)
	case fallocZeroRange:
		if err := i.punch(off, n); err != nil {
			return err
		}
		return i.allocate(off, n, keep)
	}
	return syscall.EOPNOTSUPP
}

// allocate gives the range blocks, which read as zeros where they are new, and lets
// the file grow over it.
func (i *inode) allocate(off, n int64, keep bool) error {
	fs := i.fs
	shift := fs.sb.blockShift
	size := i.pages.Size()
	grow := !keep && off+n > size
	if grow {
		if err := i.zeroTail(size, off+n); err != nil {
			return err
		}
	}
	// What is in the cache and waits for blocks gets its own first.
	if err := i.pages.SyncRange(off>>cache.PageShift, (off+n+cache.PageSize-1)>>cache.PageShift); err != nil {
		return err
	}
	i.pages.HoldWriteBack()
	defer i.pages.LetWriteBack()
	b, end := uint64(off)>>shift, uint64(off+n+int64(fs.sb.blockSize)-1)>>shift
	for b < end {
		i.mu.RLock()
		r, err := i.find(b)
		goal := i.goal(b)
		i.mu.RUnlock()
		if err != nil {
			return err
		}
		n := min(r.end(), end) - b
		if r.sort == hole {
			got, err := fs.choose(goal, min(n, maxInit-1), false)
			if err != nil {
				return err
			}
			err = i.update(func(h *handle) error {
				if err := fs.use(h, got); err != nil {
					return err
				}
				at := got.start
				n, got.n = got.n, 0
				if err := i.addBlocks(h, b, n, at, true); err != nil {
					return err
				}
				return h.inode(i, true)
			})
			if got.n > 0 {
				fs.unchoose(got)
			}
			if err != nil {
				return err
			}
		}
		b += n
	}
	if !grow {
		return nil
	}
	i.pages.SetSize(off + n)
	return i.update(func(h *handle) error {
		return i.sizeAtLeast(h, off+n)
	})
}

// punch makes the range a hole: whole blocks are freed, parts of blocks zeroed.
func (i *inode) punch(off, n int64) error {
	size := i.pages.Size()
	end := off + n
	bs := int64(i.fs.sb.blockSize)
	// Parts of pages at both ends are zeroed in the cache, whole pages dropped.
	pages := [2]int64{(off + cache.PageSize - 1) >> cache.PageShift, end >> cache.PageShift}
	if end >= size {
		pages[1] = 1 << 50
	}
	zero := func(lo, hi int64) error {
		hi = min(hi, size)
		if lo >= hi {
			return nil
		}
		p, err := i.edgePage(lo >> cache.PageShift)
		if err != nil || p == nil {
			return err
		}
		p.Release()
		return i.pages.Zero(lo, hi-lo)
	}
	if pages[0] > pages[1] {
		if err := zero(off, end); err != nil {
			return err
		}
	} else {
		if err := zero(off, pages[0]<<cache.PageShift); err != nil {
			return err
		}
		if end < size {
			if err := zero(pages[1]<<cache.PageShift, end); err != nil {
				return err
			}
		}
	}
	// Blocks smaller than a page: those in the two pages are written as zeros and
	// stay.
	if pages[0] >= pages[1] {
		return nil
	}
	i.pages.HoldWriteBack()
	defer i.pages.LetWriteBack()
	// Pages that go would have brought the size to the medium.
	err := i.update(func(h *handle) error {
		return i.sizeAtLeast(h, size)
	})
	if err != nil {
		return err
	}
	i.pages.Invalidate(pages[0], pages[1])
	shift := i.fs.sb.blockShift
	from, to := uint64(pages[0]<<cache.PageShift)>>shift, uint64(1)<<32
	if pages[1] < 1<<50 {
		to = uint64(pages[1]<<cache.PageShift) >> shift
	} else if end < 1<<62 {
		to = min(to, uint64(end+bs-1)>>shift)
	}
	for done := false; !done && from < to; {
		err := i.update(func(h *handle) error {
			var err error
			done, err = i.removeExtents(h, from, to, true)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

package ext4

import (
	"syscall"

	"osv/kernel/vfs"
	"osv/kernel/vfs/cache"
)

// SetAttr is vfs.Node's.
func (i *inode) SetAttr(set vfs.Set, a vfs.Attr) error {
	if err := i.fs.writable(); err != nil {
		return err
	}
	if set&vfs.SetSize != 0 {
		if err := i.setSize(a.Size); err != nil {
			return err
		}
		if set &^= vfs.SetSize; set == 0 {
			return nil
		}
	}
	h, err := i.fs.begin(creditsInode)
	if err != nil {
		return err
	}
	defer h.end()
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.dead {
		return syscall.ENOENT
	}
	if i.flags&(flImmutable|flAppend) != 0 && set&^vfs.SetAtime != 0 {
		return syscall.EPERM
	}
	if set&vfs.SetMode != 0 {
		i.mode = a.Mode & 07777
	}
	if set&vfs.SetUID != 0 {
		i.uid = a.UID
	}
	if set&vfs.SetGID != 0 {
		i.gid = a.GID
	}
	if set&vfs.SetAtime != 0 {
		i.atime.Store(a.Atime.UnixNano())
	}
	if set&vfs.SetMtime != 0 {
		i.mtime.Store(a.Mtime.UnixNano())
	}
	i.ctime.Store(i.fs.now())
	return h.inode(i, false)
}

// setSize truncates or extends a file.
func (i *inode) setSize(size int64) error {
	switch {
	case i.typ == vfs.TypeDir:
		return syscall.EISDIR
	case i.typ != vfs.TypeFile || size < 0:
		return syscall.EINVAL
	case size > maxFileSize(i.fs.sb.blockShift):
		return syscall.EFBIG
	}
	i.write.Lock()
	defer i.write.Unlock()
	if err := i.modified(); err != nil {
		return err
	}
	i.mu.RLock()
	flags := i.flags
	i.mu.RUnlock()
	if flags&(flAppend|flImmutable) != 0 {
		return syscall.EPERM
	}
	if flags&flInline != 0 {
		if err := i.fileToBlock(); err != nil {
			return err
		}
	}
	old := i.pages.Size()
	if size > old {
		if err := i.zeroTail(old, size); err != nil {
			return err
		}
		i.pages.SetSize(size)
		return i.update(func(h *handle) error {
			return i.sizeAtLeast(h, size)
		})
	}
	return i.shrink(size)
}

// update runs f with a handle and the inode locked.
func (i *inode) update(f func(h *handle) error) error {
	h, err := i.fs.begin(creditsExtent)
	if err != nil {
		return err
	}
	defer h.end()
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.dead {
		return syscall.ENOENT
	}
	return f(h)
}

// shrink cuts a file off at size. Caller holds i.write.
func (i *inode) shrink(size int64) error {
	// The page that the new end is in must be there, to be cut too.
	keep, err := i.edge(size)
	if err != nil {
		return err
	}
	if keep != nil {
		defer keep.Release()
	}
	i.pages.HoldWriteBack()
	defer i.pages.LetWriteBack()
	err = i.update(func(h *handle) error {
		i.size = size
		return i.fs.addOrphan(h, i)
	})
	if err != nil {
		return err
	}
	i.pages.Truncate(size)
	if keep != nil {
		keep.Dirty()
	}
	return i.cut(size)
}

// edge returns the page that byte off is in, ready to be changed, or nil where there
// is nothing to change: off is at its start, or in a hole.
func (i *inode) edge(off int64) (*cache.Page, error) {
	if off&(cache.PageSize-1) == 0 || off >= i.pages.Size() {
		return nil, nil
	}
	return i.edgePage(off >> cache.PageShift)
}

// edgePage is edge of a whole page, by its number.
func (i *inode) edgePage(n int64) (*cache.Page, error) {
	i.mu.RLock()
	holes, err := i.unmapped(n)
	i.mu.RUnlock()
	if err != nil {
		return nil, err
	}
	if _, dirty := i.pages.Dirty(n, n+1); !dirty && holes == int64(cache.PageSize>>i.fs.sb.blockShift) {
		return nil, nil
	}
	p, err := i.pages.Page(n, 1, nil)
	if err != nil {
		return nil, err
	}
	if !p.IsDirty() {
		if err := (*backing)(i).Reserve(p); err != nil {
			p.Release()
			return nil, err
		}
	}
	return p, nil
}

// cut frees the blocks beyond size of a file on the orphan list, and takes it off.
// Caller holds write-back.
func (i *inode) cut(size int64) error {
	from := uint64(size+int64(i.fs.sb.blockSize)-1) >> i.fs.sb.blockShift
	for done := false; !done; {
		err := i.update(func(h *handle) error {
			var err error
			if done, err = i.freeFrom(h, from); !done || err != nil {
				return err
			}
			if i.links == 0 {
				return nil // still to be deleted
			}
			return i.fs.dropOrphan(h, i)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// freeFrom frees the blocks from file block from on, false where the transaction is
// full. Caller holds i.mu.
func (i *inode) freeFrom(h *handle, from uint64) (bool, error) {
	switch {
	case !i.hasTree():
		return true, nil
	case i.flags&flExtents != 0:
		return i.removeExtents(h, from, 1<<32, true)
	}
	return i.freeIndirect(h, from)
}

// cutToSize ends a truncation that a crash has interrupted.
func (i *inode) cutToSize() error {
	if i.typ != vfs.TypeFile {
		return i.update(func(h *handle) error { return i.fs.dropOrphan(h, i) })
	}
	i.pages.HoldWriteBack()
	defer i.pages.LetWriteBack()
	return i.cut(i.size)
}

// destroyIfUnused deletes an inode that has neither a name nor an open file.
func (i *inode) destroyIfUnused() {
	i.mu.Lock()
	gone := i.links == 0 && i.open == 0 && !i.dead && !i.dying
	if gone {
		i.dying = true
	}
	i.mu.Unlock()
	if gone && i.fs.writable() == nil {
		if err := i.destroy(); err != nil {
			i.fs.report("deleting inode " + itoa(i.ino) + ": " + err.Error())
		}
	}
}

// destroy frees an inode and all that it has. It is on the orphan list, so that a
// crash changes nothing.
func (i *inode) destroy() error {
	if i.pages != nil {
		i.pages.Invalidate(0, 1<<50)
		i.pages.HoldWriteBack()
		defer i.pages.LetWriteBack()
	}
	for done := false; !done; {
		err := i.update(func(h *handle) error {
			var err error
			done, err = i.freeFrom(h, 0)
			return err
		})
		if err != nil {
			return err
		}
	}
	h, err := i.fs.begin(creditsInode + creditsXAttr)
	if err != nil {
		return err
	}
	defer h.end()
	i.mu.Lock()
	defer i.mu.Unlock()
	if err := i.dropXAttrBlock(h); err != nil {
		return err
	}
	if err := i.fs.dropOrphan(h, i); err != nil {
		return err
	}
	i.links, i.size = 0, 0
	i.dtime = uint32(i.fs.clock().Unix())
	if err := h.inode(i, true); err != nil {
		return err
	}
	i.fs.inodes.kill(i)
	return i.fs.freeIno(h, i.ino, i.typ)
}

func itoa(n uint32) string {
	var b [10]byte
	k := len(b)
	for {
		k--
		b[k] = byte('0' + n%10)
		if n /= 10; n == 0 {
			return string(b[k:])
		}
	}
}

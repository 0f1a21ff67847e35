package ext4

import (
	"math/rand/v2"
	"syscall"

	"osv/kernel/vfs"
)

const (
	linkMax = 65000 // EXT4_LINK_MAX

	renameNoReplace = 1
	renameExchange  = 2
)

// change runs f, which changes names, with the directory locked and a handle.
func (i *inode) change(credits int, f func(h *handle) error) error {
	if i.typ != vfs.TypeDir {
		return syscall.ENOTDIR
	}
	fs := i.fs
	fs.tree.Lock()
	defer fs.tree.Unlock()
	h, err := fs.begin(credits)
	if err != nil {
		return err
	}
	defer h.end()
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.dead || i.links == 0 {
		return syscall.ENOENT
	}
	if i.flags&flImmutable != 0 {
		return syscall.EPERM
	}
	return f(h)
}

// stamp sets the times of a change of a directory's names. Caller holds i.mu.
func (i *inode) stamp(h *handle) error {
	now := i.fs.now()
	i.mtime.Store(now)
	i.ctime.Store(now)
	return h.inode(i, true)
}

// moreLinks counts a link more; a directory with very many has 1, with dir_nlink.
// Caller holds i.mu.
func (i *inode) moreLinks() error {
	switch {
	case i.typ == vfs.TypeDir && i.fs.sb.roCompat&roDirNlink != 0:
		if i.links == 1 {
			return nil
		}
		if i.links++; i.links >= linkMax {
			i.links = 1
		}
		return nil
	case i.links >= linkMax:
		return syscall.EMLINK
	}
	i.links++
	return nil
}

func (i *inode) fewerLinks() {
	if i.typ == vfs.TypeDir && i.links <= 2 && i.links != 0 {
		return
	}
	if i.links > 0 {
		i.links--
	}
}

// newInode makes an inode that no name refers to yet.
func (fs *fileSystem) newInode(h *handle, dir *inode, n vfs.NewNode) (*inode, error) {
	ino, err := fs.newIno(h, dir, n.Type)
	if err != nil {
		return nil, err
	}
	s := &fs.sb
	i := &inode{fs: fs, ino: ino, typ: n.Type, mode: n.Mode & 07777, uid: n.UID, gid: n.GID, links: 1, raw: make([]byte, s.inodeSize)}
	if s.inodeSize > 128 {
		extra := s.u16(sbWantExtra)
		if int(extra) < 32 || 128+int(extra) > s.inodeSize || extra%4 != 0 {
			extra = 32
		}
		le.PutUint16(i.raw[inExtra:], extra)
	}
	i.gen = rand.Uint32()
	i.seed = crc32c32(crc32c32(s.csumSeed, ino), i.gen)
	i.flags = dir.flags & flInherit
	now := fs.now()
	i.atime.Store(now)
	i.mtime.Store(now)
	i.ctime.Store(now)
	i.btime = now
	switch n.Type {
	case vfs.TypeDir:
		i.links = 2
		fallthrough
	case vfs.TypeFile:
		i.flags |= flExtents
		i.root().init(0)
	default:
		i.flags &^= 0x10000 | 0x20 // of directories only
	}
	if n.Type == vfs.TypeChar || n.Type == vfs.TypeBlock {
		i.putRdev(n.Rdev)
	}
	i.newPages()
	fs.inodes.mu.Lock()
	fs.inodes.add(i)
	fs.inodes.mu.Unlock()
	return i, h.inode(i, true)
}

// Make is vfs.Node's.
func (i *inode) Make(name string, n vfs.NewNode) (vfs.Node, error) {
	var slow run // of a long symbolic link's target
	if n.Type == vfs.TypeLink {
		if len(n.Target) == 0 {
			return nil, syscall.ENOENT
		}
		if len(n.Target) >= i.fs.sb.blockSize {
			return nil, syscall.ENAMETOOLONG
		}
		if len(n.Target) >= blockArea {
			if err := i.fs.writable(); err != nil {
				return nil, err
			}
			var err error
			if slow, err = i.fs.writeNew([]byte(n.Target), i.fs.sb.groupStart((i.ino-1)/i.fs.sb.inodesPG)); err != nil {
				return nil, err
			}
			defer func() {
				if slow.n > 0 {
					i.fs.unchoose(slow)
				}
			}()
		}
	}
	var kid *inode
	err := i.change(creditsDir+creditsInode+creditsExtent, func(h *handle) error {
		if len(name) > maxName {
			return syscall.ENAMETOOLONG
		}
		if _, err := i.lookup(name); err != syscall.ENOENT {
			if err == nil {
				err = syscall.EEXIST
			}
			return err
		}
		if n.Type == vfs.TypeDir && i.links >= linkMax && i.fs.sb.roCompat&roDirNlink == 0 {
			return syscall.EMLINK
		}
		k, err := i.fs.newInode(h, i, n)
		if err != nil {
			return err
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		err = func() error {
			switch n.Type {
			case vfs.TypeDir:
				if _, err := k.initDir(h, i.ino); err != nil {
					return err
				}
			case vfs.TypeLink:
				k.size = int64(len(n.Target))
				k.pages.SetSize(k.size)
				if slow.n == 0 {
					copy(k.raw[inBlock:], n.Target)
					break
				}
				k.flags |= flExtents
				k.root().init(0)
				if err := i.fs.use(h, slow); err != nil {
					return err
				}
				at := slow.start
				slow.n = 0
				if err := k.addBlocks(h, 0, 1, at, false); err != nil {
					return err
				}
			}
			return i.enter(h, name, k.ino, n.Type)
		}()
		if err != nil {
			// What there is of it goes with the orphans.
			k.links = 0
			h.inode(k, true)
			i.fs.addOrphan(h, k)
			go k.destroyIfUnused()
			return err
		}
		if n.Type == vfs.TypeDir {
			if err := i.moreLinks(); err != nil {
				return err
			}
		}
		kid = k
		return i.stamp(h)
	})
	if err != nil {
		return nil, err
	}
	return kid, nil
}

// TmpFile makes a file without a name, on the orphan list until Link gives it one: a
// crash, or the end of its last open file, takes it away (vfs.TmpFiler).
func (i *inode) TmpFile(n vfs.NewNode) (vfs.Node, error) {
	var k *inode
	err := i.change(2*creditsInode, func(h *handle) (err error) {
		if k, err = i.fs.newInode(h, i, n); err != nil {
			return err
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		k.links = 0
		return i.fs.addOrphan(h, k)
	})
	if err != nil {
		return nil, err
	}
	return k, nil
}

// Link is vfs.Node's.
func (i *inode) Link(name string, n vfs.Node) error {
	k, ok := n.(*inode)
	if !ok || k.fs != i.fs {
		return syscall.EXDEV
	}
	if k.typ == vfs.TypeDir {
		return syscall.EPERM
	}
	return i.change(creditsDir+2*creditsInode, func(h *handle) error {
		if len(name) > maxName {
			return syscall.ENAMETOOLONG
		}
		if _, err := i.lookup(name); err != syscall.ENOENT {
			if err == nil {
				err = syscall.EEXIST
			}
			return err
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.dead || k.dying || k.links == 0 && !k.orphan {
			return syscall.ENOENT
		}
		if k.links >= linkMax {
			return syscall.EMLINK
		}
		if k.flags&(flImmutable|flAppend) != 0 {
			return syscall.EPERM
		}
		if err := i.enter(h, name, k.ino, k.typ); err != nil {
			return err
		}
		if k.links == 0 { // O_TMPFILE, linkat of a descriptor
			if err := i.fs.dropOrphan(h, k); err != nil {
				return err
			}
		}
		k.links++
		k.ctime.Store(i.fs.now())
		if err := h.inode(k, true); err != nil {
			return err
		}
		return i.stamp(h)
	})
}

// Remove is vfs.Node's.
func (i *inode) Remove(name string, dir bool) error {
	var gone *inode
	err := i.change(creditsDir+2*creditsInode, func(h *handle) error {
		p, err := i.lookup(name)
		if err != nil {
			return err
		}
		k, err := i.fs.inode(p.ino, i.ino)
		if err != nil {
			return err
		}
		if k == i {
			return i.fs.corrupt(i.ino, 0, "directory holds itself as %q", name)
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		if err := k.removable(dir); err != nil {
			return err
		}
		if err := i.leave(h, p, name); err != nil {
			return err
		}
		if k.typ == vfs.TypeDir {
			i.fewerLinks()
		}
		gone = k
		if err := k.unlinked(h); err != nil {
			return err
		}
		return i.stamp(h)
	})
	if err == nil && gone != nil {
		gone.destroyIfUnused()
	}
	return err
}

// removable says whether an inode's name may go. Caller holds i.mu.
func (i *inode) removable(dir bool) error {
	switch {
	case i.flags&(flImmutable|flAppend) != 0:
		return syscall.EPERM
	case dir && i.typ != vfs.TypeDir:
		return syscall.ENOTDIR
	case !dir && i.typ == vfs.TypeDir:
		return syscall.EISDIR
	case dir:
		if empty, err := i.isEmpty(); err != nil {
			return err
		} else if !empty {
			return syscall.ENOTEMPTY
		}
	}
	return nil
}

// unlinked counts a name less. Caller holds i.mu.
func (i *inode) unlinked(h *handle) error {
	if i.typ == vfs.TypeDir {
		i.links = 0
		i.size = 0
	} else if i.links > 0 {
		i.links--
	}
	i.ctime.Store(i.fs.now())
	if i.links == 0 {
		if err := i.fs.addOrphan(h, i); err != nil {
			return err
		}
	}
	return h.inode(i, true)
}

// Rename is vfs.Node's.
func (i *inode) Rename(old string, toNode vfs.Node, name string, flags uint32) error {
	to, ok := toNode.(*inode)
	if !ok || to.fs != i.fs {
		return syscall.EXDEV
	}
	if to.typ != vfs.TypeDir {
		return syscall.ENOTDIR
	}
	if flags&^(renameNoReplace|renameExchange) != 0 || flags == renameNoReplace|renameExchange {
		return syscall.EINVAL
	}
	if len(name) > maxName {
		return syscall.ENAMETOOLONG
	}
	var gone *inode
	err := i.change(2*creditsDir+4*creditsInode, func(h *handle) error {
		if to != i {
			to.mu.Lock()
			defer to.mu.Unlock()
			if to.dead || to.links == 0 {
				return syscall.ENOENT
			}
		}
		r := rename{h: h, from: i, to: to, old: old, name: name}
		if err := r.find(flags); err != nil || r.a == r.b {
			return err
		}
		if flags&renameExchange != 0 {
			return r.exchange()
		}
		if err := r.move(); err != nil {
			return err
		}
		gone = r.b
		return nil
	})
	if err == nil && gone != nil {
		gone.destroyIfUnused()
	}
	return err
}

// rename is one under way: entry pa of a, and pb of b, which may not be there.
type rename struct {
	h         *handle
	from, to  *inode
	old, name string
	pa, pb    place
	a, b      *inode
}

func (r *rename) find(flags uint32) error {
	fs := r.from.fs
	var err error
	if r.pa, err = r.from.lookup(r.old); err != nil {
		return err
	}
	if r.a, err = fs.inode(r.pa.ino, r.from.ino); err != nil {
		return err
	}
	r.pb, err = r.to.lookup(r.name)
	switch {
	case err == nil && flags&renameNoReplace != 0:
		return syscall.EEXIST
	case err == syscall.ENOENT && flags&renameExchange == 0:
		err = nil
	case err == nil:
		r.b, err = fs.inode(r.pb.ino, r.to.ino)
	}
	if err == nil && (r.a == r.from || r.a == r.to || r.b == r.from || r.b == r.to) {
		return syscall.ENOTEMPTY
	}
	return err
}

func (r *rename) move() error {
	h, a, b := r.h, r.a, r.b
	a.mu.Lock()
	defer a.mu.Unlock()
	isDir := a.typ == vfs.TypeDir
	if a.flags&(flImmutable|flAppend) != 0 || r.from.flags&flAppend != 0 || r.to.flags&flImmutable != 0 {
		return syscall.EPERM
	}
	if b != nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		if err := b.removable(isDir); err != nil {
			return err
		}
		if err := r.to.point(h, r.pb, r.name, a.ino, a.typ); err != nil {
			return err
		}
	} else {
		if isDir && r.to != r.from && r.to.links >= linkMax && r.to.fs.sb.roCompat&roDirNlink == 0 {
			return syscall.EMLINK
		}
		if err := r.to.enter(h, r.name, a.ino, a.typ); err != nil {
			return err
		}
	}
	// The entry may have moved when the other one came.
	p, err := r.from.lookup(r.old)
	if err != nil {
		return err
	}
	if err := r.from.leave(h, p, r.old); err != nil {
		return err
	}
	if isDir && r.to != r.from {
		if err := a.setParent(h, r.to.ino); err != nil {
			return err
		}
		r.from.fewerLinks()
		if b == nil {
			if err := r.to.moreLinks(); err != nil {
				return err
			}
		}
	} else if isDir && b != nil {
		r.from.fewerLinks()
	}
	if b != nil {
		if err := b.unlinked(h); err != nil {
			return err
		}
	}
	return r.stamp(a)
}

func (r *rename) exchange() error {
	h, a, b := r.h, r.a, r.b
	a.mu.Lock()
	defer a.mu.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := r.to.point(h, r.pb, r.name, a.ino, a.typ); err != nil {
		return err
	}
	p, err := r.from.lookup(r.old)
	if err != nil {
		return err
	}
	if err := r.from.point(h, p, r.old, b.ino, b.typ); err != nil {
		return err
	}
	if r.to != r.from {
		aDir, bDir := a.typ == vfs.TypeDir, b.typ == vfs.TypeDir
		if aDir {
			if err := a.setParent(h, r.to.ino); err != nil {
				return err
			}
		}
		if bDir {
			if err := b.setParent(h, r.from.ino); err != nil {
				return err
			}
		}
		if aDir && !bDir {
			r.from.fewerLinks()
			err = r.to.moreLinks()
		} else if bDir && !aDir {
			r.to.fewerLinks()
			err = r.from.moreLinks()
		}
		if err != nil {
			return err
		}
	}
	b.ctime.Store(b.fs.now())
	if err := h.inode(b, true); err != nil {
		return err
	}
	return r.stamp(a)
}

func (r *rename) stamp(a *inode) error {
	a.ctime.Store(a.fs.now())
	if err := r.h.inode(a, true); err != nil {
		return err
	}
	if r.to != r.from {
		if err := r.to.stamp(r.h); err != nil {
			return err
		}
	}
	return r.from.stamp(r.h)
}

// setParent changes "..". Caller holds i.mu.
func (i *inode) setParent(h *handle, parent uint32) error {
	if i.flags&flInline != 0 {
		le.PutUint32(i.raw[inBlock:], parent)
		return h.inode(i, true)
	}
	b, err := i.dirBlock(0)
	if err != nil {
		return err
	}
	e, ok := direntAt(b.data, 12)
	if !ok || string(e.name) != ".." {
		return i.badDir(b.no, 12)
	}
	h.change(b)
	le.PutUint32(b.data[12:], parent)
	return nil
}

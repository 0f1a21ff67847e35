package vfs

import (
	"strings"
	"syscall"
)

// makeNode makes name in dir, after the checks of who may, and the dentry of it.
func (t *Tree) makeNode(c *Context, dir *Dentry, name string, n NewNode) (*Dentry, error) {
	dir.mu.Lock()
	d, err := t.makeLocked(c, dir, name, n)
	dir.mu.Unlock()
	if err == nil {
		t.emit(dir, name, d.node, d.typ, syscall.IN_CREATE, 0)
	}
	return d, err
}

func (t *Tree) makeLocked(c *Context, dir *Dentry, name string, n NewNode) (*Dentry, error) {
	d, err := t.lookupLocked(dir, name)
	if err != nil {
		return nil, err
	}
	if d.node != nil {
		return nil, syscall.EEXIST
	}
	if err := mayCreate(c.Creds, dir); err != nil {
		return nil, err
	}
	if n, err = inherit(c, dir.node, n); err != nil {
		return nil, err
	}
	node, err := dir.node.Make(name, n)
	if err != nil {
		return nil, err
	}
	d = t.newDentry(dir, strings.Clone(name), node, n.Type)
	if !dir.vola {
		t.cache.add(dir, name, d)
	}
	return d, nil
}

// inherit fills in the owner, applies the umask and passes on the set-group-ID bit
// of the directory.
func inherit(c *Context, dir Node, n NewNode) (NewNode, error) {
	if n.Type != TypeLink {
		n.Mode &^= c.Umask()
	}
	n.UID, n.GID = c.Creds.FSUID, c.Creds.FSGID
	a, err := dir.Attr()
	if err != nil {
		return n, err
	}
	if a.Mode&syscall.S_ISGID != 0 {
		n.GID = a.GID
		if n.Type == TypeDir {
			n.Mode |= syscall.S_ISGID
		} else if n.Mode&(syscall.S_ISGID|0o010) == syscall.S_ISGID|0o010 &&
			!c.Creds.InGroup(a.GID) && !c.Creds.Has(CapFSetID) {
			n.Mode &^= syscall.S_ISGID
		}
	}
	return n, nil
}

// make is what mkdir, mknod and symlink have in common.
func makeAt(c *Context, dir Path, path string, n NewNode) (Path, error) {
	var w walker
	if err := w.parent(c, dir, path); err != nil {
		return Path{}, err
	}
	if w.kind != kindName {
		return Path{}, syscall.EEXIST
	}
	d, err := w.child(w.at.D, w.last)
	if err != nil {
		return Path{}, err
	}
	switch {
	case d.node != nil:
		return Path{}, syscall.EEXIST
	case w.trailing && n.Type != TypeDir:
		return Path{}, syscall.ENOENT
	case w.at.M.readOnly():
		return Path{}, syscall.EROFS
	}
	d, err = w.t.makeNode(c, w.at.D, w.last, n)
	return Path{w.at.M, d}, err
}

// MkdirAt is mkdirat(2); mode is before the umask.
func MkdirAt(c *Context, dir Path, path string, mode uint32) error {
	_, err := makeAt(c, dir, path, NewNode{Type: TypeDir, Mode: mode & 0o1777})
	return err
}

// MknodAt is mknodat(2): a regular file, device, FIFO or socket. The result is its
// place, for bind(2) of a UNIX socket.
func MknodAt(c *Context, dir Path, path string, typ Type, mode uint32, rdev uint64) (Path, error) {
	switch typ {
	case 0:
		typ = TypeFile
	case TypeFile, TypePipe, TypeSocket:
	case TypeChar, TypeBlock:
		if !c.Creds.Has(CapMknod) {
			return Path{}, syscall.EPERM
		}
	case TypeDir:
		return Path{}, syscall.EPERM
	default:
		return Path{}, syscall.EINVAL
	}
	return makeAt(c, dir, path, NewNode{Type: typ, Mode: mode & 0o7777, Rdev: rdev})
}

// SymlinkAt is symlinkat(2): a link at path with the text target.
func SymlinkAt(c *Context, target string, dir Path, path string) error {
	switch {
	case target == "":
		return syscall.ENOENT
	case len(target) >= PathMax:
		return syscall.ENAMETOOLONG
	}
	_, err := makeAt(c, dir, path, NewNode{Type: TypeLink, Mode: 0o777, Target: strings.Clone(target)})
	return err
}

// LinkAt is linkat(2). flags may hold Follow (AT_SYMLINK_FOLLOW) and EmptyPath.
func LinkAt(c *Context, oldDir Path, oldPath string, newDir Path, newPath string, flags Flags) error {
	if flags&EmptyPath != 0 && oldPath == "" && !c.Creds.Has(CapDACReadSearch) {
		return syscall.ENOENT
	}
	old, err := Walk(c, oldDir, oldPath, flags&(Follow|EmptyPath))
	if err != nil {
		return err
	}
	var w walker
	if err := w.parent(c, newDir, newPath); err != nil {
		return err
	}
	if w.kind != kindName {
		return syscall.EEXIST
	}
	dir, name := w.at.D, w.last
	n := old.D.node
	err = func() error {
		dir.mu.Lock()
		defer dir.mu.Unlock()
		d, err := w.t.lookupLocked(dir, name)
		if err != nil {
			return err
		}
		switch {
		case d.node != nil:
			return syscall.EEXIST
		case w.trailing:
			return syscall.ENOENT
		case w.at.M.readOnly():
			return syscall.EROFS
		case old.M != w.at.M:
			return syscall.EXDEV
		}
		if err := w.t.mayLink(c.Creds, old); err != nil {
			return err
		}
		if err := mayCreate(c.Creds, dir); err != nil {
			return err
		}
		if old.D.typ == TypeDir {
			return syscall.EPERM
		}
		a, err := n.Attr()
		if err != nil {
			return err
		}
		if a.Nlink == 0 && !old.D.tmp.Load() {
			return syscall.ENOENT
		}
		if err := dir.node.Link(name, n); err != nil {
			return err
		}
		old.D.tmp.Store(false)
		if !dir.vola {
			w.t.cache.add(dir, name, w.t.newDentry(dir, strings.Clone(name), n, old.D.typ))
		}
		return nil
	}()
	if err == nil {
		w.t.Emit(old, syscall.IN_ATTRIB)
		w.t.emit(dir, name, n, old.D.typ, syscall.IN_CREATE, 0)
	}
	return err
}

// mayLink is what /proc/sys/fs/protected_hardlinks asks for, where it is set: that
// the file is the caller's own, or an ordinary one that he may read and write.
func (t *Tree) mayLink(c *Creds, old Path) error {
	if !t.protectedLinks || c.Has(CapFOwner) {
		return nil
	}
	a, err := old.D.node.Attr()
	if err != nil || a.UID == c.FSUID {
		return err
	}
	if old.D.typ != TypeFile || killed(a.Mode) != 0 ||
		CheckAccess(c, a.Type, a.Mode, a.UID, a.GID, MayRead|MayWrite) != nil {
		return syscall.EPERM
	}
	return nil
}

// UnlinkAt is unlinkat(2); rmdir is AT_REMOVEDIR.
func UnlinkAt(c *Context, dir Path, path string, rmdir bool) error {
	var w walker
	if err := w.parent(c, dir, path); err != nil {
		return err
	}
	switch {
	case w.kind == kindName:
	case !rmdir:
		return syscall.EISDIR
	case w.kind == kindDot:
		return syscall.EINVAL
	case w.kind == kindDotDot:
		return syscall.ENOTEMPTY
	default:
		return syscall.EBUSY
	}
	if w.at.M.readOnly() {
		return syscall.EROFS
	}
	d, err := w.t.remove(c, w.at.D, w.last, rmdir, w.trailing)
	if err == nil {
		if !rmdir {
			w.t.emit(nil, "", d.node, d.typ, syscall.IN_ATTRIB, 0)
			w.t.emitGone(d)
		} else {
			w.t.emit(nil, "", d.node, 0, syscall.IN_DELETE_SELF, 0) // without IN_ISDIR, as Linux
		}
		w.t.emit(w.at.D, w.last, d.node, d.typ, syscall.IN_DELETE, 0)
	}
	return err
}

func (t *Tree) remove(c *Context, dir *Dentry, name string, rmdir, trailing bool) (*Dentry, error) {
	dir.mu.Lock()
	defer dir.mu.Unlock()
	d, err := t.lookupLocked(dir, name)
	if err != nil {
		return nil, err
	}
	switch {
	case d.node == nil:
		return nil, syscall.ENOENT
	case trailing && !rmdir && d.typ == TypeDir:
		return nil, syscall.EISDIR
	case trailing && !rmdir:
		return nil, syscall.ENOTDIR
	}
	if err := mayDelete(c.Creds, dir, d, rmdir); err != nil {
		return nil, err
	}
	if d.mounts.Load() != 0 {
		return nil, syscall.EBUSY
	}
	if rmdir {
		d.mu.Lock()
		defer d.mu.Unlock()
	}
	if err := dir.node.Remove(name, rmdir); err != nil {
		return nil, err
	}
	t.removed(dir, name, d)
	return d, nil
}

// removed notes that name in dir, which was d, is nothing now. Caller holds dir.mu.
func (t *Tree) removed(dir *Dentry, name string, d *Dentry) {
	d.dead.Store(true)
	if !dir.vola {
		n := strings.Clone(name)
		t.cache.add(dir, n, t.newDentry(dir, n, nil, 0))
	}
}

// ReadlinkAt is readlinkat(2); with path "" it reads the link dir itself, which was
// opened with O_PATH. EINVAL where it is no link.
func ReadlinkAt(c *Context, dir Path, path string) (string, error) {
	p, err := Walk(c, dir, path, EmptyPath)
	if err != nil {
		return "", err
	}
	if path == "" && (dir.IsZero() || p.D.typ != TypeLink) {
		return "", syscall.ENOENT
	}
	return Readlink(c, p)
}

// Readlink is the text of the link at p.
func Readlink(c *Context, p Path) (string, error) {
	switch {
	case p.D.typ != TypeLink:
		return "", syscall.EINVAL
	case p.D.magic:
		return p.D.node.(Magic).Text(c)
	}
	return p.D.readLink()
}

// AccessAt is faccessat2(2). flags may hold Follow, EmptyPath and EffectiveIDs.
func AccessAt(c *Context, dir Path, path string, want uint32, flags Flags) error {
	if want&^7 != 0 {
		return syscall.EINVAL
	}
	w := walker{creds: c.Creds}
	if flags&effectiveID == 0 {
		w.creds = c.Creds.real()
	}
	if err := w.start(c, dir, path, flags&^effectiveID); err != nil {
		return err
	}
	if path != "" {
		if err := w.walk(path); err != nil {
			return err
		}
		if err := w.finish(); err != nil {
			return err
		}
	}
	if want == 0 {
		return nil
	}
	// access(2) tells of a mount that is read-only last.
	typ := w.at.D.typ
	if want&MayExec != 0 && typ == TypeFile && w.at.M.Flags()&MountNoExec != 0 {
		return syscall.EACCES
	}
	if err := access(w.creds, w.at.D.node, typ, want); err != nil {
		return err
	}
	if want&MayWrite != 0 && w.at.M.readOnly() && (typ == TypeFile || typ == TypeDir || typ == TypeLink) {
		return syscall.EROFS
	}
	return nil
}

package vfs

import (
	"syscall"
	"time"
)

// StatAt is fstatat(2) and statx(2); flags may hold Follow and EmptyPath. The place
// is for the mount ID and root bit of statx.
func StatAt(c *Context, dir Path, path string, flags Flags) (Attr, Path, error) {
	p, err := Walk(c, dir, path, flags)
	if err != nil {
		return Attr{}, p, err
	}
	a, err := p.D.node.Attr()
	return a, p, err
}

// MountRoot says whether p is the root of a mount (STATX_ATTR_MOUNT_ROOT).
func (p Path) MountRoot() bool { return p.M.root == p.D }

// StatFS is statfs(2) of the file system at p, with the mount's flags.
func StatFSOf(p Path) (StatFS, error) {
	if p.M.fs == nil {
		return StatFS{Magic: 0x50495045, BlockSize: 4096, NameMax: NameMax}, nil // PIPEFS_MAGIC
	}
	s, err := p.M.fs.StatFS()
	f := p.M.Flags()
	s.ReadOnly = s.ReadOnly || f&MountReadOnly != 0
	s.NoExec = s.NoExec || f&MountNoExec != 0
	s.NoDev = s.NoDev || f&MountNoDev != 0
	return s, err
}

// Chmod is fchmod(2) of what is at p; of a symbolic link EOPNOTSUPP.
func Chmod(c *Context, p Path, mode uint32) error {
	if p.M.readOnly() {
		return syscall.EROFS
	}
	if p.D.typ == TypeLink {
		return syscall.EOPNOTSUPP
	}
	a, err := p.D.node.Attr()
	if err != nil {
		return err
	}
	if a.UID != c.Creds.FSUID && !c.Creds.Has(CapFOwner) {
		return syscall.EPERM
	}
	mode &= 0o7777
	if !c.Creds.InGroup(a.GID) && !c.Creds.Has(CapFSetID) {
		mode &^= syscall.S_ISGID
	}
	return setAttr(c, p, SetMode, Attr{Mode: mode})
}

// NoID leaves an owner as it is, in Chown.
const NoID = ^uint32(0)

// Chown is fchown(2) of what is at p. It takes set-ID bits away from files that are
// not directories.
func Chown(c *Context, p Path, uid, gid uint32) error {
	if p.M.readOnly() {
		return syscall.EROFS
	}
	a, err := p.D.node.Attr()
	if err != nil {
		return err
	}
	own := a.UID == c.Creds.FSUID
	if uid != NoID && !(own && uid == a.UID) && !c.Creds.Has(CapChown) {
		return syscall.EPERM
	}
	if gid != NoID && !(own && (gid == a.GID || c.Creds.InGroup(gid))) && !c.Creds.Has(CapChown) {
		return syscall.EPERM
	}
	var set Set
	n := Attr{UID: uid, GID: gid}
	if uid != NoID {
		set |= SetUID
	}
	if gid != NoID {
		set |= SetGID
	}
	if k := dropped(c.Creds, a); p.D.typ != TypeDir && k != 0 {
		if !own && !c.Creds.Has(CapFOwner) {
			return syscall.EPERM
		}
		n.Mode = a.Mode &^ k
		set |= SetMode
	}
	if set == 0 {
		return nil
	}
	return setAttr(c, p, set, n)
}

// Utimes is utimensat(2) of what is at p: nil leaves a time as it is. now says that
// both are the present time, for which the right to write is enough.
func Utimes(c *Context, p Path, atime, mtime *time.Time, now bool) error {
	if p.M.readOnly() {
		return syscall.EROFS
	}
	if atime == nil && mtime == nil {
		return nil
	}
	a, err := p.D.node.Attr()
	if err != nil {
		return err
	}
	if a.UID != c.Creds.FSUID && !c.Creds.Has(CapFOwner) {
		if !now {
			return syscall.EPERM
		}
		if err := access(c.Creds, p.D.node, p.D.typ, MayWrite); err != nil {
			return err
		}
	}
	var set Set
	var n Attr
	if atime != nil {
		set, n.Atime = set|SetAtime, *atime
	}
	if mtime != nil {
		set, n.Mtime = set|SetMtime, *mtime
	}
	return setAttr(c, p, set, n)
}

// Truncate is truncate(2) of what is at p: it asks for the right to write.
func Truncate(c *Context, p Path, size int64) error {
	switch {
	case size < 0:
		return syscall.EINVAL
	case p.D.typ == TypeDir:
		return syscall.EISDIR
	case p.D.typ != TypeFile:
		return syscall.EINVAL
	case p.M.readOnly():
		return syscall.EROFS
	}
	if err := access(c.Creds, p.D.node, p.D.typ, MayWrite); err != nil {
		return err
	}
	return c.Tree.truncate(c.Creds, p, size)
}

// TruncateOpen is ftruncate(2): the file is open for writing, which was all the
// permission needed.
func TruncateOpen(c *Context, p Path, size int64) error {
	if size < 0 || p.D.typ != TypeFile {
		return syscall.EINVAL
	}
	return c.Tree.truncate(c.Creds, p, size)
}

func (t *Tree) truncate(c *Creds, p Path, size int64) error {
	set := SetSize
	n := Attr{Size: size}
	if !c.Has(CapFSetID) {
		if a, err := p.D.node.Attr(); err == nil {
			if m := a.Mode &^ killed(a.Mode); m != a.Mode {
				n.Mode, set = m, set|SetMode
			}
		}
	}
	if err := p.D.node.SetAttr(set, n); err != nil {
		return err
	}
	t.Emit(p, syscall.IN_MODIFY)
	return nil
}

// killed are the set-ID bits that a write takes away.
func killed(mode uint32) uint32 {
	k := mode & syscall.S_ISUID
	if mode&0o010 != 0 {
		k |= mode & syscall.S_ISGID
	}
	return k
}

// dropped are the set-ID bits that a change of owner takes away: set-group-ID without
// the group's x only from those outside the group.
func dropped(c *Creds, a Attr) uint32 {
	k := killed(a.Mode)
	if a.Mode&syscall.S_ISGID != 0 && !c.InGroup(a.GID) && !c.Has(CapFSetID) {
		k |= syscall.S_ISGID
	}
	return k
}

// Written takes away set-ID bits after a write by someone without the right to keep
// them. Whoever serves write(2) calls it; it is one comparison for most.
func Written(c *Creds, n Node) error {
	if c.Has(CapFSetID) {
		return nil
	}
	var mode uint32
	if p, ok := n.(Permer); ok {
		mode, _, _ = p.Perm()
	} else {
		a, err := n.Attr()
		if err != nil {
			return err
		}
		mode = a.Mode
	}
	if k := killed(mode); k != 0 {
		return n.SetAttr(SetMode, Attr{Mode: mode &^ k})
	}
	return nil
}

func setAttr(c *Context, p Path, set Set, a Attr) error {
	if err := p.D.node.SetAttr(set, a); err != nil {
		return err
	}
	c.Tree.Emit(p, syscall.IN_ATTRIB|isDir(p.D.typ))
	return nil
}

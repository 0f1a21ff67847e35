package vfs

import "syscall"

// Rights asked of a file, the bits of access(2).
const (
	MayExec  uint32 = 1 // of a directory: search
	MayWrite uint32 = 2
	MayRead  uint32 = 4
)

// Permer is a Node that tells the three things permissions are decided by more
// cheaply than Attr does. Path walks ask it of every directory.
type Permer interface {
	Perm() (mode, uid, gid uint32)
}

// CheckAccess is the decision of path_resolution(7): owner, group or others by the
// first that applies, with capabilities above that; EACCES.
func CheckAccess(c *Creds, typ Type, mode, uid, gid, want uint32) error {
	bits := mode
	switch {
	case c.FSUID == uid:
		bits >>= 6
	case c.InGroup(gid):
		bits >>= 3
	}
	if want&^bits&7 == 0 {
		return nil
	}
	if typ == TypeDir {
		if c.Has(CapDACOverride) || want&MayWrite == 0 && c.Has(CapDACReadSearch) {
			return nil
		}
		return syscall.EACCES
	}
	if c.Has(CapDACOverride) && (want&MayExec == 0 || mode&0o111 != 0) {
		return nil
	}
	if want == MayRead && c.Has(CapDACReadSearch) {
		return nil
	}
	return syscall.EACCES
}

// access checks want of n.
func access(c *Creds, n Node, typ Type, want uint32) error {
	// Who has all rights over directories needs no look at the inode.
	if typ == TypeDir && c.Has(CapDACOverride) {
		return nil
	}
	if p, ok := n.(Permer); ok {
		mode, uid, gid := p.Perm()
		return CheckAccess(c, typ, mode, uid, gid, want)
	}
	a, err := n.Attr()
	if err != nil {
		return err
	}
	return CheckAccess(c, typ, a.Mode, a.UID, a.GID, want)
}

// MayAccess is access(2) of a file found already: rights, read-only and noexec
// mounts. The caller's file system IDs decide; AccessAt uses the real ones.
func MayAccess(c *Creds, p Path, want uint32) error {
	typ := p.D.typ
	if want&MayWrite != 0 && p.M.readOnly() && (typ == TypeFile || typ == TypeDir || typ == TypeLink) {
		return syscall.EROFS
	}
	if want&MayExec != 0 && typ == TypeFile && p.M.flags.Load()&uint32(MountNoExec) != 0 {
		return syscall.EACCES
	}
	return access(c, p.D.node, typ, want)
}

// sticky is EPERM where the sticky bit of dir keeps c from taking away n.
func sticky(c *Creds, dir, n Node) error {
	if c.Has(CapFOwner) {
		return nil
	}
	da, err := dir.Attr()
	if err != nil {
		return err
	}
	if da.Mode&syscall.S_ISVTX == 0 || da.UID == c.FSUID {
		return nil
	}
	a, err := n.Attr()
	if err != nil {
		return err
	}
	if a.UID == c.FSUID {
		return nil
	}
	return syscall.EPERM
}

// mayCreate is what making a name in dir needs.
func mayCreate(c *Creds, dir *Dentry) error {
	if dir.dead.Load() {
		return syscall.ENOENT
	}
	return access(c, dir.node, TypeDir, MayWrite|MayExec)
}

// mayDelete is what taking d away from dir needs.
func mayDelete(c *Creds, dir, d *Dentry, isDir bool) error {
	if err := access(c, dir.node, TypeDir, MayWrite|MayExec); err != nil {
		return err
	}
	if err := sticky(c, dir.node, d.node); err != nil {
		return err
	}
	switch {
	case isDir && d.typ != TypeDir:
		return syscall.ENOTDIR
	case !isDir && d.typ == TypeDir:
		return syscall.EISDIR
	case dir.dead.Load():
		return syscall.ENOENT
	}
	return nil
}

package vfs

import "syscall"

// ReadDir reads the directory at p from the position off on, as getdents64(2) does:
// "." and ".." first, then the file system's entries. f gets the position after each
// (d_off) and ends it by returning false. ENOENT in a removed directory.
func ReadDir(p Path, off int64, f func(e DirEntry, next int64) bool) error {
	if p.D.typ != TypeDir {
		return syscall.ENOTDIR
	}
	if p.D.dead.Load() {
		return syscall.ENOENT
	}
	if off < 0 {
		return syscall.EINVAL
	}
	if off == 0 {
		a, err := p.D.node.Attr()
		if err != nil {
			return err
		}
		if !f(DirEntry{Name: ".", Ino: a.Ino, Type: TypeDir}, 1) {
			return nil
		}
		off = 1
	}
	if off == 1 {
		up := Path{p.M, p.D}
		for up.D == up.M.root && up.M.point().M != nil {
			up = up.M.point()
		}
		if q := up.D.Parent(); q != nil && up.D != up.M.root {
			up.D = q
		}
		a, err := up.D.node.Attr()
		if err != nil {
			return err
		}
		if !f(DirEntry{Name: "..", Ino: a.Ino, Type: TypeDir}, 2) {
			return nil
		}
		off = 2
	}
	return p.D.node.ReadDir(off-2, func(e DirEntry, next int64) bool { return f(e, next+2) })
}

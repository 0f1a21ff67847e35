package file

import (
	"syscall"

	"osv/kernel/linux/mm"
	"osv/kernel/linux/sys"
	"osv/kernel/linux/task"
	"osv/kernel/vfs"
)

// one runs f with the path that dirfd and addr name.
func one(t *task.Task, dirfd, addr uint64, f func(dir vfs.Path, name string) error) (uint64, error) {
	name, p, err := pathAt(t, dirfd, addr)
	if err == nil {
		err = f(p.Path, name)
	}
	p.done()
	return 0, err
}

// two runs f with two paths.
func two(t *task.Task, dirA, addrA, dirB, addrB uint64, f func(da vfs.Path, a string, db vfs.Path, b string) error) (uint64, error) {
	return one(t, dirA, addrA, func(da vfs.Path, na string) error {
		_, err := one(t, dirB, addrB, func(db vfs.Path, nb string) error { return f(da, na, db, nb) })
		return err
	})
}

func mkdirAt(t *task.Task, dirfd, addr, mode uint64) (uint64, error) {
	return one(t, dirfd, addr, func(dir vfs.Path, name string) error { return vfs.MkdirAt(t.FS(), dir, name, uint32(mode)) })
}

func mkdir(t *task.Task, a *sys.Args) (uint64, error)   { return mkdirAt(t, atFdcwdArg, a[0], a[1]) }
func mkdirat(t *task.Task, a *sys.Args) (uint64, error) { return mkdirAt(t, a[0], a[1], a[2]) }

func unlinkAt(t *task.Task, dirfd, addr uint64, dir bool) (uint64, error) {
	return one(t, dirfd, addr, func(at vfs.Path, name string) error { return vfs.UnlinkAt(t.FS(), at, name, dir) })
}

func rmdir(t *task.Task, a *sys.Args) (uint64, error)  { return unlinkAt(t, atFdcwdArg, a[0], true) }
func unlink(t *task.Task, a *sys.Args) (uint64, error) { return unlinkAt(t, atFdcwdArg, a[0], false) }

func unlinkat(t *task.Task, a *sys.Args) (uint64, error) {
	if a[2]&^atRemovedir != 0 {
		return 0, syscall.EINVAL
	}
	return unlinkAt(t, a[0], a[1], a[2] != 0)
}

func renameAt(t *task.Task, dirA, addrA, dirB, addrB, flags uint64) (uint64, error) {
	if flags&^7 != 0 || flags&4 != 0 {
		return 0, syscall.EINVAL
	}
	return two(t, dirA, addrA, dirB, addrB, func(da vfs.Path, na string, db vfs.Path, nb string) error {
		return vfs.RenameAt(t.FS(), da, na, db, nb, uint32(flags))
	})
}

func rename(t *task.Task, a *sys.Args) (uint64, error) {
	return renameAt(t, atFdcwdArg, a[0], atFdcwdArg, a[1], 0)
}

func renameat(t *task.Task, a *sys.Args) (uint64, error) {
	return renameAt(t, a[0], a[1], a[2], a[3], 0)
}

func renameat2(t *task.Task, a *sys.Args) (uint64, error) {
	return renameAt(t, a[0], a[1], a[2], a[3], uint64(uint32(a[4])))
}

func linkAt(t *task.Task, dirA, addrA, dirB, addrB, flags uint64) (uint64, error) {
	if flags&^(atSymlinkFollow|atEmptyPath) != 0 {
		return 0, syscall.EINVAL
	}
	var f vfs.Flags
	if flags&atSymlinkFollow != 0 {
		f |= vfs.Follow
	}
	if flags&atEmptyPath != 0 {
		f |= vfs.EmptyPath
	}
	return two(t, dirA, addrA, dirB, addrB, func(da vfs.Path, na string, db vfs.Path, nb string) error {
		return vfs.LinkAt(t.FS(), da, na, db, nb, f)
	})
}

func link(t *task.Task, a *sys.Args) (uint64, error) {
	return linkAt(t, atFdcwdArg, a[0], atFdcwdArg, a[1], 0)
}

func linkat(t *task.Task, a *sys.Args) (uint64, error) {
	return linkAt(t, a[0], a[1], a[2], a[3], uint64(uint32(a[4])))
}

func symlinkAt(t *task.Task, target, dirfd, addr uint64) (uint64, error) {
	text, err := path(t, target)
	if err != nil {
		return 0, err
	}
	return one(t, dirfd, addr, func(dir vfs.Path, name string) error { return vfs.SymlinkAt(t.FS(), text, dir, name) })
}

func symlink(t *task.Task, a *sys.Args) (uint64, error)   { return symlinkAt(t, a[0], atFdcwdArg, a[1]) }
func symlinkat(t *task.Task, a *sys.Args) (uint64, error) { return symlinkAt(t, a[0], a[1], a[2]) }

func mknodAt(t *task.Task, dirfd, addr, mode, dev uint64) (uint64, error) {
	m := uint32(mode)
	// The argument is the old form of a device number, 32 bits: as stat tells it.
	return one(t, dirfd, addr, func(dir vfs.Path, name string) error {
		_, err := vfs.MknodAt(t.FS(), dir, name, vfs.Type(m)&vfs.TypeMask, m&0o7777, uint64(uint32(dev)))
		return err
	})
}

func mknod(t *task.Task, a *sys.Args) (uint64, error) {
	return mknodAt(t, atFdcwdArg, a[0], a[1], a[2])
}
func mknodat(t *task.Task, a *sys.Args) (uint64, error) { return mknodAt(t, a[0], a[1], a[2], a[3]) }

func readlinkAt(t *task.Task, dirfd, addr, buf, size uint64) (uint64, error) {
	n := int(int32(size))
	if n <= 0 {
		return 0, syscall.EINVAL
	}
	name, p, err := pathAt(t, dirfd, addr)
	defer p.done()
	if err != nil {
		return 0, err
	}
	var text string
	if name == "" && p.o != nil {
		// "" of a descriptor is the link itself, opened with O_PATH and O_NOFOLLOW.
		if p.IsZero() || p.Path.Type() != vfs.TypeLink {
			return 0, syscall.ENOENT
		}
		text, err = vfs.Readlink(t.FS(), p.Path)
	} else {
		text, err = vfs.ReadlinkAt(t.FS(), p.Path, name)
	}
	if err != nil {
		return 0, err
	}
	return putString(t, buf, text[:min(len(text), n)])
}

// putString writes s without a zero, and returns its length.
func putString(t *task.Task, addr uint64, s string) (uint64, error) {
	b := buffers.Get().(*[64 << 10]byte)
	defer buffers.Put(b)
	n := copy(b[:], s)
	if err := t.Mem().CopyOut(addr, b[:n]); err != nil {
		return 0, err
	}
	return uint64(n), nil
}

func readlink(t *task.Task, a *sys.Args) (uint64, error) {
	return readlinkAt(t, atFdcwdArg, a[0], a[1], a[2])
}
func readlinkat(t *task.Task, a *sys.Args) (uint64, error) {
	return readlinkAt(t, a[0], a[1], a[2], a[3])
}

func getcwd(t *task.Task, a *sys.Args) (uint64, error) {
	s, err := t.FS().Getcwd()
	if err != nil {
		return 0, err
	}
	if uint64(len(s))+1 > a[1] {
		return 0, syscall.ERANGE
	}
	n, err := putString(t, a[0], s)
	if err != nil {
		return 0, err
	}
	return n + 1, t.Mem().CopyOut(a[0]+n, []byte{0})
}

func chdir(t *task.Task, a *sys.Args) (uint64, error) {
	return one(t, atFdcwdArg, a[0], func(dir vfs.Path, name string) error {
		p, err := vfs.Walk(t.FS(), dir, name, vfs.Follow|vfs.Directory)
		if err == nil {
			err = vfs.MayAccess(t.Creds(), p, vfs.MayExec)
		}
		if err == nil {
			t.FS().Dirs.SetCwd(p)
		}
		return err
	})
}

func fchdir(t *task.Task, a *sys.Args) (uint64, error) {
	o, err := t.Files().GetAny(int(int32(a[0])))
	if err != nil {
		return 0, err
	}
	defer o.Release()
	p := o.Where()
	if p.IsZero() || p.Type() != vfs.TypeDir {
		return 0, syscall.ENOTDIR
	}
	if err := vfs.MayAccess(t.Creds(), p, vfs.MayExec); err != nil {
		return 0, err
	}
	t.FS().Dirs.SetCwd(p)
	return 0, nil
}

func chroot(t *task.Task, a *sys.Args) (uint64, error) {
	return one(t, atFdcwdArg, a[0], func(dir vfs.Path, name string) error {
		p, err := vfs.Walk(t.FS(), dir, name, vfs.Follow|vfs.Directory)
		if err == nil {
			err = vfs.MayAccess(t.Creds(), p, vfs.MayExec)
		}
		if err == nil && !t.Creds().Has(vfs.CapSysChroot) {
			err = syscall.EPERM
		}
		if err == nil {
			t.FS().Dirs.SetRoot(p)
		}
		return err
	})
}

func umask(t *task.Task, a *sys.Args) (uint64, error) {
	return uint64(t.FS().Dirs.SetUmask(uint32(a[0]))), nil
}

// getdents reads a directory, with records as encode lays them out.
func getdents(t *task.Task, a *sys.Args, encode func(b []byte, e *vfs.DirEntry, next int64) int) (uint64, error) {
	o, err := t.Files().Get(int(int32(a[0])))
	if err != nil {
		return 0, err
	}
	defer o.Release()
	p := o.Where()
	if p.IsZero() || p.Type() != vfs.TypeDir {
		return 0, syscall.ENOTDIR
	}
	size := int(min(a[2]&0xffffffff, 64<<10))
	b := buffers.Get().(*[64 << 10]byte)
	defer buffers.Put(b)
	n, full := 0, false
	err = o.WithPos(func(pos int64) (int64, error) {
		err := vfs.ReadDir(p, pos, func(e vfs.DirEntry, next int64) bool {
			k := encode(b[n:size], &e, next)
			if k == 0 {
				full = true
				return false
			}
			n += k
			pos = next
			return true
		})
		return pos, err
	})
	if n == 0 && full {
		return 0, syscall.EINVAL
	}
	if n == 0 {
		return 0, err
	}
	if !inUser(a[1], uint64(n)) || a[1] >= mm.TaskSize {
		return 0, syscall.EFAULT
	}
	if err := t.Mem().CopyOut(a[1], b[:n]); err != nil {
		return 0, err
	}
	return uint64(n), nil
}

// dtype is d_type of a type.
func dtype(t vfs.Type) byte { return byte(t >> 12) }

func dirent64(b []byte, e *vfs.DirEntry, next int64) int {
	n := (19 + len(e.Name) + 1 + 7) &^ 7
	if n > len(b) {
		return 0
	}
	clear(b[:n])
	le.PutUint64(b, e.Ino)
	le.PutUint64(b[8:], uint64(next))
	le.PutUint16(b[16:], uint16(n))
	b[18] = dtype(e.Type)
	copy(b[19:], e.Name)
	return n
}

func direntOld(b []byte, e *vfs.DirEntry, next int64) int {
	n := (18 + len(e.Name) + 2 + 7) &^ 7
	if n > len(b) {
		return 0
	}
	clear(b[:n])
	le.PutUint64(b, e.Ino)
	le.PutUint64(b[8:], uint64(next))
	le.PutUint16(b[16:], uint16(n))
	copy(b[18:], e.Name)
	b[n-1] = dtype(e.Type)
	return n
}

func getdents64(t *task.Task, a *sys.Args) (uint64, error) { return getdents(t, a, dirent64) }
func getdentsOld(t *task.Task, a *sys.Args) (uint64, error) {
	return getdents(t, a, direntOld)
}

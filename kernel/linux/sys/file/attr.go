package file

import (
	"syscall"
	"time"

	"osv/kernel/linux/abi"
	"osv/kernel/linux/fd"
	"osv/kernel/linux/sys"
	"osv/kernel/linux/task"
	"osv/kernel/vfs"
)

// change runs f with the place that a path leads to.
func change(t *task.Task, dirfd, addr, flags uint64, f func(p vfs.Path) error) (uint64, error) {
	return one(t, dirfd, addr, func(dir vfs.Path, name string) error {
		p, err := vfs.Walk(t.FS(), dir, name, followFlags(flags))
		if err != nil {
			return err
		}
		return f(p)
	})
}

// changeOpen runs f with a descriptor's place, EBADF for one of O_PATH. What has no
// place, a pipe or a socket, keeps no attributes: the change is taken and forgotten.
func changeOpen(t *task.Task, n uint64, f func(p vfs.Path) error) (uint64, error) {
	return withPath(t, n, func(o *fd.Open, p vfs.Path) error {
		switch {
		case o.IsPath():
			return syscall.EBADF
		case p.IsZero():
			return nil
		}
		return f(p)
	})
}

func chmodAt(t *task.Task, dirfd, addr, mode, flags uint64) (uint64, error) {
	return change(t, dirfd, addr, flags, func(p vfs.Path) error { return vfs.Chmod(t.FS(), p, uint32(mode)&0o7777) })
}

func chmod(t *task.Task, a *sys.Args) (uint64, error) { return chmodAt(t, atFdcwdArg, a[0], a[1], 0) }
func fchmodat(t *task.Task, a *sys.Args) (uint64, error) {
	return chmodAt(t, a[0], a[1], a[2], 0)
}

func fchmodat2(t *task.Task, a *sys.Args) (uint64, error) {
	if a[3]&^(atSymlinkNofollow|atEmptyPath) != 0 {
		return 0, syscall.EINVAL
	}
	return chmodAt(t, a[0], a[1], a[2], a[3])
}

func fchmod(t *task.Task, a *sys.Args) (uint64, error) {
	return changeOpen(t, a[0], func(p vfs.Path) error { return vfs.Chmod(t.FS(), p, uint32(a[1])&0o7777) })
}

func chownAt(t *task.Task, dirfd, addr, uid, gid, flags uint64) (uint64, error) {
	return change(t, dirfd, addr, flags, func(p vfs.Path) error { return vfs.Chown(t.FS(), p, uint32(uid), uint32(gid)) })
}

func chown(t *task.Task, a *sys.Args) (uint64, error) {
	return chownAt(t, atFdcwdArg, a[0], a[1], a[2], 0)
}

func lchown(t *task.Task, a *sys.Args) (uint64, error) {
	return chownAt(t, atFdcwdArg, a[0], a[1], a[2], atSymlinkNofollow)
}

func fchownat(t *task.Task, a *sys.Args) (uint64, error) {
	if a[4]&^(atSymlinkNofollow|atEmptyPath) != 0 {
		return 0, syscall.EINVAL
	}
	return chownAt(t, a[0], a[1], a[2], a[3], a[4])
}

func fchown(t *task.Task, a *sys.Args) (uint64, error) {
	return changeOpen(t, a[0], func(p vfs.Path) error { return vfs.Chown(t.FS(), p, uint32(a[1]), uint32(a[2])) })
}

// Special nanoseconds of utimensat.
const (
	utimeNow  = 1<<30 - 1
	utimeOmit = 1<<30 - 2
)

// stamps are the times of a utimensat call: nil leaves one alone; now is for both, and
// asks for less permission.
type stamps struct {
	atime, mtime *time.Time
	now          bool
}

// utimes sets the times of a path, or where addr is 0 of a descriptor.
func utimes(t *task.Task, dirfd, addr, flags uint64, s stamps) (uint64, error) {
	if !s.now && s.atime == nil && s.mtime == nil {
		return 0, nil
	}
	set := func(p vfs.Path) error { return vfs.Utimes(t.FS(), p, s.atime, s.mtime, s.now) }
	if addr == 0 && int32(dirfd) != atFdcwd {
		if flags != 0 {
			return 0, syscall.EINVAL
		}
		return changeOpen(t, dirfd, set)
	}
	return change(t, dirfd, addr, flags, set)
}

func utimensat(t *task.Task, a *sys.Args) (uint64, error) {
	s := stamps{now: true}
	if a[2] != 0 {
		var b [32]byte
		if err := t.Mem().CopyIn(b[:], a[2]); err != nil {
			return 0, err
		}
		now := time.Now()
		s.now = le.Uint64(b[8:]) == utimeNow && le.Uint64(b[24:]) == utimeNow
		for i, p := range [...]**time.Time{&s.atime, &s.mtime} {
			sec, nsec := int64(le.Uint64(b[16*i:])), int64(le.Uint64(b[16*i+8:]))
			switch {
			case nsec == utimeOmit:
			case nsec == utimeNow:
				*p = &now
			case nsec < 0 || nsec >= 1e9:
				return 0, syscall.EINVAL
			default:
				x := time.Unix(sec, nsec)
				*p = &x
			}
		}
	}
	if a[3]&^(atSymlinkNofollow|atEmptyPath) != 0 {
		return 0, syscall.EINVAL
	}
	return utimes(t, a[0], a[1], a[3], s)
}

// readTimevals reads two struct timeval.
func readTimevals(t *task.Task, addr uint64) (stamps, error) {
	if addr == 0 {
		return stamps{now: true}, nil
	}
	var b [32]byte
	if err := t.Mem().CopyIn(b[:], addr); err != nil {
		return stamps{}, err
	}
	var x [2]time.Time
	for i := range x {
		sec, usec := int64(le.Uint64(b[16*i:])), int64(le.Uint64(b[16*i+8:]))
		if usec < 0 || usec >= 1e6 {
			return stamps{}, syscall.EINVAL
		}
		x[i] = time.Unix(sec, usec*1000)
	}
	return stamps{atime: &x[0], mtime: &x[1]}, nil
}

func utimesOld(t *task.Task, a *sys.Args) (uint64, error) {
	s, err := readTimevals(t, a[1])
	if err != nil {
		return 0, err
	}
	return change(t, atFdcwdArg, a[0], 0, func(p vfs.Path) error { return vfs.Utimes(t.FS(), p, s.atime, s.mtime, s.now) })
}

func futimesat(t *task.Task, a *sys.Args) (uint64, error) {
	s, err := readTimevals(t, a[2])
	if err != nil {
		return 0, err
	}
	return utimes(t, a[0], a[1], 0, s)
}

func utime(t *task.Task, a *sys.Args) (uint64, error) {
	s := stamps{now: true}
	if a[1] != 0 {
		var b [16]byte
		if err := t.Mem().CopyIn(b[:], a[1]); err != nil {
			return 0, err
		}
		x, y := time.Unix(int64(le.Uint64(b[:])), 0), time.Unix(int64(le.Uint64(b[8:])), 0)
		s = stamps{atime: &x, mtime: &y}
	}
	return change(t, atFdcwdArg, a[0], 0, func(p vfs.Path) error { return vfs.Utimes(t.FS(), p, s.atime, s.mtime, s.now) })
}

// accessAt is faccessat2(2): permissions of the real user.
func accessAt(t *task.Task, dirfd, addr, mode, flags uint64) (uint64, error) {
	if mode&^7 != 0 || flags&^(atEaccess|atSymlinkNofollow|atEmptyPath) != 0 {
		return 0, syscall.EINVAL
	}
	f := followFlags(flags)
	if flags&atEaccess != 0 {
		f |= vfs.EffectiveIDs
	}
	return one(t, dirfd, addr, func(dir vfs.Path, name string) error {
		return vfs.AccessAt(t.FS(), dir, name, uint32(mode), f)
	})
}

func access(t *task.Task, a *sys.Args) (uint64, error) {
	return accessAt(t, atFdcwdArg, a[0], a[1]&0xffffffff, 0)
}
func faccessat(t *task.Task, a *sys.Args) (uint64, error) {
	return accessAt(t, a[0], a[1], a[2]&0xffffffff, 0)
}
func faccessat2(t *task.Task, a *sys.Args) (uint64, error) {
	return accessAt(t, a[0], a[1], a[2]&0xffffffff, a[3]&0xffffffff)
}

// tooLong is EFBIG with SIGXFSZ for a size beyond RLIMIT_FSIZE.
func tooLong(t *task.Task, size int64) error {
	if lim := t.Proc().Limit(abi.RLIMIT_FSIZE).Cur; uint64(size) > lim {
		_ = t.Send(abi.Siginfo{Signo: int32(syscall.SIGXFSZ), Code: abi.SI_USER, PID: int32(t.Proc().PID()), UID: t.Creds().UID})
		return syscall.EFBIG
	}
	return nil
}

func truncate(t *task.Task, a *sys.Args) (uint64, error) {
	size := int64(a[1])
	if size < 0 {
		return 0, syscall.EINVAL
	}
	return change(t, atFdcwdArg, a[0], 0, func(p vfs.Path) error {
		switch p.Type() {
		case vfs.TypeDir:
			return syscall.EISDIR
		case vfs.TypeFile:
		default:
			return syscall.EINVAL
		}
		if err := tooLong(t, size); err != nil {
			return err
		}
		return vfs.Truncate(t.FS(), p, size)
	})
}

func ftruncate(t *task.Task, a *sys.Args) (uint64, error) {
	size := int64(a[1])
	if size < 0 {
		return 0, syscall.EINVAL
	}
	o, err := t.Files().Get(int(int32(a[0])))
	if err != nil {
		return 0, err
	}
	defer o.Release()
	at, err := o.Attr()
	switch {
	case err != nil:
		return 0, err
	case at.Type != vfs.TypeFile || !o.CanWrite():
		return 0, syscall.EINVAL
	}
	if err := tooLong(t, size); err != nil {
		return 0, err
	}
	if m := o.Memfd(); m != nil {
		return no(m.Truncate(size))
	}
	return no(vfs.TruncateOpen(t.FS(), o.Where(), size))
}

// Modes of fallocate.
const (
	fallocKeep  = 1
	fallocPunch = 2
	fallocZero  = 16
)

func fallocate(t *task.Task, a *sys.Args) (uint64, error) {
	off, n := int64(a[2]), int64(a[3])
	o, err := t.Files().Get(int(int32(a[0])))
	if err != nil {
		return 0, err
	}
	defer o.Release()
	if off < 0 || n <= 0 {
		return 0, syscall.EINVAL
	}
	if a[1]&^0x7f != 0 || a[1]&(fallocPunch|fallocZero) == fallocPunch|fallocZero || a[1]&(fallocPunch|fallocKeep) == fallocPunch {
		return 0, syscall.EOPNOTSUPP
	}
	if !o.CanWrite() {
		return 0, syscall.EBADF
	}
	if o.IsPipe() {
		return 0, syscall.ESPIPE
	}
	at, err := o.Attr()
	switch {
	case err != nil:
		return 0, err
	case at.Type == vfs.TypeDir:
		return 0, syscall.EISDIR
	case at.Type != vfs.TypeFile:
		return 0, syscall.ENODEV
	case off+n < 0:
		return 0, syscall.EFBIG
	}
	f, ok := o.File().(vfs.Allocator)
	if !ok {
		return 0, syscall.EOPNOTSUPP
	}
	if err := tooLong(t, off+n); err != nil && a[1]&1 == 0 {
		return 0, err
	}
	return no(f.Allocate(uint32(a[1]), off, n))
}

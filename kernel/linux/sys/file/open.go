package file

import (
	"syscall"

	"osv/kernel/linux/fd"
	"osv/kernel/linux/sys"
	"osv/kernel/linux/task"
	"osv/kernel/vfs"
)

const (
	oLargefile = 0x8000
	// validOpen are the bits of open(2) that Linux knows.
	validOpen = syscall.O_ACCMODE | syscall.O_CREAT | syscall.O_EXCL | syscall.O_NOCTTY | syscall.O_TRUNC |
		syscall.O_APPEND | syscall.O_NONBLOCK | syscall.O_SYNC | syscall.O_DSYNC | syscall.O_ASYNC | syscall.O_DIRECT |
		oLargefile | syscall.O_DIRECTORY | syscall.O_NOFOLLOW | syscall.O_NOATIME | syscall.O_CLOEXEC | vfs.OPath | vfs.OTmpfile
)

func open(t *task.Task, a *sys.Args) (uint64, error) {
	return openPath(t, atFdcwdArg, a[0], a[1], a[2])
}

func openat(t *task.Task, a *sys.Args) (uint64, error) { return openPath(t, a[0], a[1], a[2], a[3]) }

func creat(t *task.Task, a *sys.Args) (uint64, error) {
	return openPath(t, atFdcwdArg, a[0], syscall.O_CREAT|syscall.O_WRONLY|syscall.O_TRUNC, a[1])
}

// atFdcwdArg is AT_FDCWD as an argument.
const atFdcwdArg = 0xffffff9c

// openPath is open(2), which ignores bits that it does not know.
func openPath(t *task.Task, dirfd, addr, flags, mode uint64) (uint64, error) {
	f := int(int32(flags)) & validOpen
	if f&vfs.OPath != 0 {
		f &= vfs.OPath | syscall.O_DIRECTORY | syscall.O_NOFOLLOW | syscall.O_CLOEXEC
	}
	return openFlags(t, dirfd, addr, f, uint32(mode)&0o7777, 0)
}

// Bits of open_how.resolve.
const (
	resolveNoXdev       = 1
	resolveNoMagiclinks = 2
	resolveNoSymlinks   = 4
	resolveBeneath      = 8
	resolveInRoot       = 16
	resolveCached       = 32
)

func openat2(t *task.Task, a *sys.Args) (uint64, error) {
	const size = 24
	n := a[3]
	if n < size {
		return 0, syscall.EINVAL
	}
	if n > 4096 {
		return 0, syscall.E2BIG
	}
	how := make([]byte, n)
	if err := t.Mem().CopyIn(how, a[2]); err != nil {
		return 0, err
	}
	for _, b := range how[size:] {
		if b != 0 {
			return 0, syscall.E2BIG
		}
	}
	flags, mode, resolve := le.Uint64(how), le.Uint64(how[8:]), le.Uint64(how[16:])
	f := int(flags)
	switch {
	case flags&^validOpen != 0, resolve&^63 != 0,
		resolve&resolveBeneath != 0 && resolve&resolveInRoot != 0,
		mode&^0o7777 != 0,
		mode != 0 && f&syscall.O_CREAT == 0 && f&vfs.OTmpfile != vfs.OTmpfile,
		f&vfs.OPath != 0 && f&^(vfs.OPath|syscall.O_DIRECTORY|syscall.O_NOFOLLOW|syscall.O_CLOEXEC) != 0:
		return 0, syscall.EINVAL
	case resolve&resolveCached != 0 && f&(syscall.O_TRUNC|syscall.O_CREAT) != 0:
		return 0, syscall.EAGAIN
	}
	var r vfs.Flags
	for _, k := range [...]struct {
		bit  uint64
		flag vfs.Flags
	}{{resolveNoXdev, vfs.NoXDev}, {resolveNoMagiclinks, vfs.NoMagic}, {resolveNoSymlinks, vfs.NoSymlinks},
		{resolveBeneath, vfs.Beneath}, {resolveInRoot, vfs.InRoot}, {resolveCached, vfs.Cached}} {
		if resolve&k.bit != 0 {
			r |= k.flag
		}
	}
	return openFlags(t, a[0], a[1], f, uint32(mode), r)
}

func openFlags(t *task.Task, dirfd, addr uint64, flags int, mode uint32, resolve vfs.Flags) (uint64, error) {
	name, p, err := pathAt(t, dirfd, addr)
	defer p.done()
	if err != nil {
		return 0, err
	}
	files := t.Files()
	n, err := files.Reserve(0, flags&syscall.O_CLOEXEC != 0)
	if err != nil {
		return 0, err
	}
	o, err := openIn(t, p.Path, name, flags, mode, resolve)
	if err != nil {
		files.Unreserve(n)
		return 0, err
	}
	files.Set(n, o)
	return uint64(n), nil
}

// openIn opens a path; a FIFO waits for its other end.
func openIn(t *task.Task, dir vfs.Path, name string, flags int, mode uint32, resolve vfs.Flags) (*fd.Open, error) {
	v, err := vfs.OpenAt(t.FS(), dir, name, flags, mode, resolve)
	if err != nil {
		return nil, err
	}
	if err := fd.MeetFIFO(t, v.File, flags); err != nil {
		_ = v.Close()
		return nil, err
	}
	if v.Flags&vfs.OPath == 0 {
		v.Flags |= oLargefile
	}
	o := fd.NewOpenAt(v)
	openedTTY(t, o, flags)
	return o, nil
}

func closeFile(t *task.Task, a *sys.Args) (uint64, error) {
	err := t.Files().Close(int(int32(a[0])))
	if e, ok := err.(syscall.Errno); ok && e >= 512 {
		err = syscall.EINTR // a close is never begun again
	}
	return no(err)
}

// Flags of close_range.
const (
	closeRangeUnshare = 2
	closeRangeCloexec = 4
)

func closeRange(t *task.Task, a *sys.Args) (uint64, error) {
	first, last, flags := uint(uint32(a[0])), uint(uint32(a[1])), a[2]
	if flags&^(closeRangeUnshare|closeRangeCloexec) != 0 || first > last {
		return 0, syscall.EINVAL
	}
	if flags&closeRangeUnshare != 0 && !t.Files().Unshared() {
		t.SetFiles(t.Files().Clone())
	}
	if flags&closeRangeCloexec != 0 {
		return no(t.Files().SetCloexecRange(first, last))
	}
	return no(t.Files().CloseRange(first, last))
}

func dup(t *task.Task, a *sys.Args) (uint64, error) {
	n, err := t.Files().Dup(int(int32(a[0])), 0, false)
	return num(n, err)
}

func dup2(t *task.Task, a *sys.Args) (uint64, error) {
	from, to := int(int32(a[0])), int(int32(a[1]))
	if from == to {
		o, err := t.Files().GetAny(from)
		if err != nil {
			return 0, err
		}
		_ = o.Release()
		return uint64(to), nil
	}
	n, err := t.Files().DupTo(from, to, false)
	return num(n, err)
}

func dup3(t *task.Task, a *sys.Args) (uint64, error) {
	if a[2]&^syscall.O_CLOEXEC != 0 {
		return 0, syscall.EINVAL
	}
	n, err := t.Files().DupTo(int(int32(a[0])), int(int32(a[1])), a[2] != 0)
	return num(n, err)
}

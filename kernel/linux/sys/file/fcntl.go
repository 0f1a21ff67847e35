package file

import (
	"syscall"

	"osv/kernel/linux/abi"
	"osv/kernel/linux/fd"
	"osv/kernel/linux/sys"
	"osv/kernel/linux/task"
	"osv/kernel/vfs"
)

// Commands of fcntl that package syscall lacks.
const (
	fSetsig          = 10
	fGetsig          = 11
	fSetownEx        = 15
	fGetownEx        = 16
	fOfdGetlk        = 36
	fOfdSetlk        = 37
	fOfdSetlkw       = 38
	fNotify          = 1026
	fCancellk        = 1029
	fDupfdCloexec    = 1030
	fSetpipeSz       = 1031
	fGetpipeSz       = 1032
	fAddSeals        = 1033
	fGetSeals        = 1034
	fGetRwHint       = 1035
	fSetRwHint       = 1036
	fGetFileRwHint   = 1037
	fSetFileRwHint   = 1038
	fdCloexec        = 1
	writeLifeExtreme = 5
)

func fcntl(t *task.Task, a *sys.Args) (uint64, error) {
	n, cmd, arg := int(int32(a[0])), int(int32(a[1])), a[2]
	files := t.Files()
	o, err := files.GetAny(n)
	if err != nil {
		return 0, err
	}
	defer o.Release()
	if o.IsPath() {
		switch cmd {
		case syscall.F_DUPFD, fDupfdCloexec, syscall.F_GETFD, syscall.F_SETFD, syscall.F_GETFL:
		default:
			return 0, syscall.EBADF
		}
	}
	switch cmd {
	case syscall.F_DUPFD, fDupfdCloexec:
		if arg > 1<<30 {
			return 0, syscall.EINVAL
		}
		m, err := files.Dup(n, int(arg), cmd == fDupfdCloexec)
		return num(m, err)
	case syscall.F_GETFD:
		on, err := files.Cloexec(n)
		if on {
			return fdCloexec, err
		}
		return 0, err
	case syscall.F_SETFD:
		return no(files.SetCloexec(n, arg&fdCloexec != 0))
	case syscall.F_GETFL:
		return uint64(o.Flags()), nil
	case syscall.F_SETFL:
		return no(setFlags(t, o, int(int32(arg))))
	case syscall.F_GETLK, fOfdGetlk:
		return no(getLock(t, o, arg, cmd == fOfdGetlk))
	case syscall.F_SETLK, syscall.F_SETLKW, fOfdSetlk, fOfdSetlkw:
		ofd := cmd == fOfdSetlk || cmd == fOfdSetlkw
		return no(setLock(t, o, arg, ofd, cmd == syscall.F_SETLKW || cmd == fOfdSetlkw))
	case syscall.F_SETOWN:
		if !exists(t, int32(arg)) {
			return 0, syscall.ESRCH
		}
		o.Owner().Store(int32(arg))
		return 0, nil
	case syscall.F_GETOWN:
		return uint64(int64(o.Owner().Load())), nil
	case fSetownEx, fGetownEx:
		return no(ownerEx(t, o, arg, cmd == fSetownEx))
	case fSetsig:
		if arg > abi.NSIG {
			return 0, syscall.EINVAL
		}
		o.Signal().Store(int32(arg))
		return 0, nil
	case fGetsig:
		return uint64(o.Signal().Load()), nil
	case syscall.F_SETLEASE:
		return 0, syscall.EINVAL
	case syscall.F_GETLEASE:
		return syscall.F_UNLCK, nil
	case fSetpipeSz:
		m, err := o.SetPipeSize(int(int32(arg)))
		return num(m, err)
	case fGetpipeSz:
		m, err := o.PipeSize()
		return num(m, err)
	case fAddSeals, fGetSeals:
		return seals(o, cmd == fAddSeals, uint32(arg))
	case fGetRwHint, fGetFileRwHint:
		return no(t.Mem().CopyOut(arg, le.AppendUint64(nil, uint64(o.Hint().Load()))))
	case fSetRwHint, fSetFileRwHint:
		var b [8]byte
		if err := t.Mem().CopyIn(b[:], arg); err != nil {
			return 0, err
		}
		h := le.Uint64(b[:])
		if h > writeLifeExtreme {
			return 0, syscall.EINVAL
		}
		o.Hint().Store(int64(h))
		return 0, nil
	}
	return 0, syscall.EINVAL
}

// setFlags is F_SETFL.
func setFlags(t *task.Task, o *fd.Open, flags int) error {
	node := o.File().Node()
	if flags&syscall.O_NOATIME != 0 && o.Flags()&syscall.O_NOATIME == 0 && node != nil && !t.Creds().Has(vfs.CapFOwner) {
		if a, err := node.Attr(); err == nil && a.UID != t.Creds().FSUID {
			return syscall.EPERM
		}
	}
	if flags&syscall.O_DIRECT != 0 && o.Stream() && !o.IsPipe() {
		return syscall.EINVAL
	}
	o.SetFlags(flags)
	return nil
}

// exists says whether there is a thread or process id, or where it is negative a group;
// 0 is nobody.
func exists(t *task.Task, id int32) bool {
	k := t.Kernel()
	if id < 0 {
		return len(k.Members(int(-id))) > 0
	}
	return id == 0 || k.Task(int(id)) != nil || k.Process(int(id)) != nil
}

// ownerEx is F_SETOWN_EX and F_GETOWN_EX: struct f_owner_ex with type and number.
func ownerEx(t *task.Task, o *fd.Open, addr uint64, set bool) error {
	const thread, process, group = 0, 1, 2
	var b [8]byte
	if set {
		if err := t.Mem().CopyIn(b[:], addr); err != nil {
			return err
		}
		id := int32(le.Uint32(b[4:]))
		switch le.Uint32(b[:]) {
		case thread, process:
		case group:
			id = -id
		default:
			return syscall.EINVAL
		}
		if !exists(t, id) {
			return syscall.ESRCH
		}
		o.Owner().Store(id)
		return nil
	}
	id, kind := o.Owner().Load(), uint32(process)
	if id < 0 {
		id, kind = -id, group
	}
	le.PutUint32(b[:], kind)
	le.PutUint32(b[4:], uint32(id))
	return t.Mem().CopyOut(addr, b[:])
}

func seals(o *fd.Open, add bool, s uint32) (uint64, error) {
	m := o.Memfd()
	if m == nil {
		return 0, syscall.EINVAL
	}
	if !add {
		return uint64(m.Seals()), nil
	}
	if !o.CanWrite() {
		return 0, syscall.EPERM
	}
	return no(m.AddSeals(s))
}

const flockSize = 32

// readLock reads a struct flock and counts its start from the front of the file.
func readLock(t *task.Task, o *fd.Open, addr uint64, ofd bool) (fd.Lock, [flockSize]byte, error) {
	var b [flockSize]byte
	if err := t.Mem().CopyIn(b[:], addr); err != nil {
		return fd.Lock{}, b, err
	}
	typ, whence := int16(le.Uint16(b[0:])), int16(le.Uint16(b[2:]))
	start, length := int64(le.Uint64(b[8:])), int64(le.Uint64(b[16:]))
	if ofd && le.Uint32(b[24:]) != 0 {
		return fd.Lock{}, b, syscall.EINVAL
	}
	base := int64(0)
	switch whence {
	case 0:
	case 1:
		if !o.Stream() {
			base = o.Pos()
		}
	case 2:
		a, err := o.Attr()
		if err != nil {
			return fd.Lock{}, b, err
		}
		base = a.Size
	default:
		return fd.Lock{}, b, syscall.EINVAL
	}
	if start > 0 && base > 1<<63-1-start {
		return fd.Lock{}, b, syscall.EOVERFLOW
	}
	l, err := fd.NewLock(typ, base+start, length, int32(t.Proc().PID()))
	return l, b, err
}

func getLock(t *task.Task, o *fd.Open, addr uint64, ofd bool) error {
	l, b, err := readLock(t, o, addr, ofd)
	if err != nil {
		return err
	}
	if l.Type == syscall.F_UNLCK && !ofd {
		return syscall.EINVAL
	}
	found, blocked, err := fd.TestLock(t.Files(), o, l, ofd)
	if err != nil {
		return err
	}
	if !blocked {
		le.PutUint16(b[0:], syscall.F_UNLCK)
		return t.Mem().CopyOut(addr, b[:])
	}
	le.PutUint16(b[0:], uint16(found.Type))
	le.PutUint16(b[2:], 0)
	le.PutUint64(b[8:], uint64(found.Start))
	le.PutUint64(b[16:], uint64(found.Length()))
	le.PutUint32(b[24:], uint32(found.PID))
	return t.Mem().CopyOut(addr, b[:])
}

func setLock(t *task.Task, o *fd.Open, addr uint64, ofd, wait bool) error {
	l, _, err := readLock(t, o, addr, ofd)
	if err != nil {
		return err
	}
	return fd.SetLock(t, t.Files(), o, l, ofd, wait)
}

// Operations of flock.
const (
	lockSh = 1
	lockEx = 2
	lockNb = 4
	lockUn = 8
)

func flock(t *task.Task, a *sys.Args) (uint64, error) {
	o, err := t.Files().Get(int(int32(a[0])))
	if err != nil {
		return 0, err
	}
	defer o.Release()
	var typ int16
	switch a[1] &^ lockNb {
	case lockSh:
		typ = syscall.F_RDLCK
	case lockEx:
		typ = syscall.F_WRLCK
	case lockUn:
		typ = syscall.F_UNLCK
	default:
		return 0, syscall.EINVAL
	}
	return no(fd.Flock(t, o, typ, a[1]&lockNb == 0))
}

package file

import (
	"sync"
	"syscall"
	"time"

	"osv/kernel/linux/abi"
	"osv/kernel/linux/fd"
	"osv/kernel/linux/signal"
	"osv/kernel/linux/sys"
	"osv/kernel/linux/task"
	"osv/kernel/vfs"
	"osv/kernel/vfs/poll"
	"osv/kernel/vfs/tmpfs"
)

// install gives a new description a number, or ends it.
func install(t *task.Task, o *fd.Open, cloexec bool) (uint64, error) {
	n, err := t.Files().Install(o, 0, cloexec)
	if err != nil {
		_ = o.Release()
		return 0, err
	}
	return uint64(n), nil
}

func makePipe(t *task.Task, addr uint64, flags int) (uint64, error) {
	if flags&^(syscall.O_CLOEXEC|syscall.O_NONBLOCK|syscall.O_DIRECT) != 0 {
		return 0, syscall.EINVAL
	}
	files, cloexec := t.Files(), flags&syscall.O_CLOEXEC != 0
	r, err := files.Reserve(0, cloexec)
	if err != nil {
		return 0, err
	}
	w, err := files.Reserve(0, cloexec)
	if err != nil {
		files.Unreserve(r)
		return 0, err
	}
	var b [8]byte
	le.PutUint32(b[0:], uint32(r))
	le.PutUint32(b[4:], uint32(w))
	if err := t.Mem().CopyOut(addr, b[:]); err != nil {
		files.Unreserve(r)
		files.Unreserve(w)
		return 0, err
	}
	ro, wo := fd.NewPipe(flags)
	files.Set(r, ro)
	files.Set(w, wo)
	return 0, nil
}

func pipe(t *task.Task, a *sys.Args) (uint64, error)  { return makePipe(t, a[0], 0) }
func pipe2(t *task.Task, a *sys.Args) (uint64, error) { return makePipe(t, a[0], int(int32(a[1]))) }

func newEventFD(t *task.Task, initial uint64, flags int) (uint64, error) {
	o, err := fd.NewEventFD(uint32(initial), flags)
	if err != nil {
		return 0, err
	}
	return install(t, o, flags&syscall.O_CLOEXEC != 0)
}

func eventfd(t *task.Task, a *sys.Args) (uint64, error) { return newEventFD(t, a[0], 0) }
func eventfd2(t *task.Task, a *sys.Args) (uint64, error) {
	return newEventFD(t, a[0], int(int32(a[1])))
}

func timerfdCreate(t *task.Task, a *sys.Args) (uint64, error) {
	flags := int(int32(a[1]))
	o, err := fd.NewTimerFD(int(int32(a[0])), flags)
	if err != nil {
		return 0, err
	}
	return install(t, o, flags&syscall.O_CLOEXEC != 0)
}

// timer finds a timerfd: EBADF, EINVAL.
func timer(t *task.Task, n uint64) (*fd.Open, *fd.TimerFD, error) {
	o, err := t.Files().Get(int(int32(n)))
	if err != nil {
		return nil, nil, err
	}
	if f := o.Timer(); f != nil {
		return o, f, nil
	}
	_ = o.Release()
	return nil, nil, syscall.EINVAL
}

func timerfdSettime(t *task.Task, a *sys.Args) (uint64, error) {
	var b [32]byte
	if err := t.Mem().CopyIn(b[:], a[2]); err != nil {
		return 0, err
	}
	var v [4]int64
	for i := range v {
		v[i] = int64(le.Uint64(b[8*i:]))
	}
	flags := a[1]
	if flags&^(fd.TFDTimerAbstime|fd.TFDTimerCancelOnSet) != 0 || v[0] < 0 || v[2] < 0 ||
		v[1] < 0 || v[1] >= 1e9 || v[3] < 0 || v[3] >= 1e9 {
		return 0, syscall.EINVAL
	}
	o, f, err := timer(t, a[0])
	if err != nil {
		return 0, err
	}
	defer o.Release()
	var first time.Time
	if v[2] != 0 || v[3] != 0 {
		first = point(f.Clock(), duration(v[2], v[3]), flags&fd.TFDTimerAbstime != 0)
	}
	left, interval := f.Set(first, duration(v[0], v[1]))
	if a[3] == 0 {
		return 0, nil
	}
	return 0, putTimer(t, a[3], left, interval)
}

// point is when a timer of a clock expires: after d, or with abs at d.
func point(clock int, d time.Duration, abs bool) time.Time {
	switch {
	case !abs:
		return task.After(d)
	case clock == fd.ClockRealtime || clock == fd.ClockRealtimeAlarm:
		return task.AtRealtime(d)
	}
	return task.AtMonotonic(d)
}

func putTimer(t *task.Task, addr uint64, left, interval time.Duration) error {
	var b [32]byte
	putTime(b[:], interval)
	putTime(b[16:], left)
	return t.Mem().CopyOut(addr, b[:])
}

func timerfdGettime(t *task.Task, a *sys.Args) (uint64, error) {
	o, f, err := timer(t, a[0])
	if err != nil {
		return 0, err
	}
	defer o.Release()
	left, interval := f.Left()
	return 0, putTimer(t, a[1], left, interval)
}

// taskSignals is a task as signalfd sees it.
type taskSignals struct{ t *task.Task }

func (s taskSignals) Take(set uint64) (abi.Siginfo, bool) { return s.t.TakeSignal(signal.Set(set)) }
func (s taskSignals) Pending(set uint64) uint64           { return uint64(s.t.Pending()) & set }
func (s taskSignals) WatchSignals(w *poll.Waiter)         { s.t.Proc().WatchSignals(w) }
func (s taskSignals) UnwatchSignals(w *poll.Waiter)       { s.t.Proc().UnwatchSignals(w) }

func makeSignalFD(t *task.Task, n, mask, size uint64, flags int) (uint64, error) {
	if size != 8 {
		return 0, syscall.EINVAL
	}
	var b [8]byte
	if err := t.Mem().CopyIn(b[:], mask); err != nil {
		return 0, err
	}
	if flags&^(syscall.O_CLOEXEC|syscall.O_NONBLOCK) != 0 {
		return 0, syscall.EINVAL
	}
	set := le.Uint64(b[:])
	if int32(n) == -1 {
		o := fd.NewSignalFD(set, flags, taskSignals{t}, func(s fd.Sleeper) fd.Signals {
			if reader, ok := s.(*task.Task); ok {
				return taskSignals{reader}
			}
			return taskSignals{t}
		})
		return install(t, o, flags&syscall.O_CLOEXEC != 0)
	}
	o, err := t.Files().Get(int(int32(n)))
	if err != nil {
		return 0, err
	}
	defer o.Release()
	f := o.SignalFD()
	if f == nil {
		return 0, syscall.EINVAL
	}
	f.SetMask(set)
	return n & 0xffffffff, nil
}

func signalfd(t *task.Task, a *sys.Args) (uint64, error) {
	return makeSignalFD(t, a[0], a[1], a[2], 0)
}
func signalfd4(t *task.Task, a *sys.Args) (uint64, error) {
	return makeSignalFD(t, a[0], a[1], a[2], int(int32(a[3])))
}

func inotifyInit(t *task.Task, a *sys.Args) (uint64, error) { return newInotify(t, 0) }
func inotifyInit1(t *task.Task, a *sys.Args) (uint64, error) {
	return newInotify(t, int(int32(a[0])))
}

func newInotify(t *task.Task, flags int) (uint64, error) {
	if flags&^(syscall.O_CLOEXEC|syscall.O_NONBLOCK) != 0 {
		return 0, syscall.EINVAL
	}
	t.FS().Tree.SetHook(fd.TellEvent)
	return install(t, fd.NewInotify(flags), flags&syscall.O_CLOEXEC != 0)
}

func inotifyAddWatch(t *task.Task, a *sys.Args) (uint64, error) {
	mask := uint32(a[2])
	const known = syscall.IN_ALL_EVENTS | syscall.IN_UNMOUNT | syscall.IN_Q_OVERFLOW | syscall.IN_IGNORED | syscall.IN_ONLYDIR |
		syscall.IN_DONT_FOLLOW | 0x4000000 | 0x10000000 | syscall.IN_MASK_ADD | syscall.IN_ISDIR | syscall.IN_ONESHOT
	const maskCreate = 0x10000000
	if mask&known == 0 || mask&syscall.IN_ALL_EVENTS == 0 {
		return 0, syscall.EINVAL
	}
	o, err := t.Files().Get(int(int32(a[0])))
	if err != nil {
		return 0, err
	}
	defer o.Release()
	if mask&syscall.IN_MASK_ADD != 0 && mask&maskCreate != 0 {
		return 0, syscall.EINVAL
	}
	in := o.Inotify()
	if in == nil {
		return 0, syscall.EINVAL
	}
	f := vfs.Follow
	if mask&syscall.IN_DONT_FOLLOW != 0 {
		f = 0
	}
	if mask&syscall.IN_ONLYDIR != 0 {
		f |= vfs.Directory
	}
	wd := int32(0)
	_, err = one(t, atFdcwdArg, a[1], func(dir vfs.Path, name string) error {
		p, err := vfs.Walk(t.FS(), dir, name, f)
		if err == nil {
			err = vfs.MayAccess(t.Creds(), p, vfs.MayRead)
		}
		if err == nil {
			wd, err = in.Add(p.Node(), mask)
		}
		return err
	})
	return uint64(wd), err
}

func inotifyRmWatch(t *task.Task, a *sys.Args) (uint64, error) {
	o, err := t.Files().Get(int(int32(a[0])))
	if err != nil {
		return 0, err
	}
	defer o.Release()
	in := o.Inotify()
	if in == nil {
		return 0, syscall.EINVAL
	}
	return no(in.Remove(int32(a[1])))
}

// memfds is the file system that memory files are on.
var memfds = struct {
	mu sync.Mutex
	fs *tmpfs.FS
}{}

// SetMemfdFS says what memory files are made of: a tmpfs on the machine's frames. Without
// it they are on the Go heap.
func SetMemfdFS(fs *tmpfs.FS) {
	memfds.mu.Lock()
	defer memfds.mu.Unlock()
	memfds.fs = fs
}

func memfdFS() *tmpfs.FS {
	memfds.mu.Lock()
	defer memfds.mu.Unlock()
	if memfds.fs == nil {
		memfds.fs = tmpfs.New(tmpfs.Options{})
	}
	return memfds.fs
}

// Flags of memfd_create.
const (
	mfdCloexec      = 1
	mfdAllowSealing = 2
	mfdHugetlb      = 4
	mfdNoexecSeal   = 8
	mfdExec         = 16
)

func memfdCreate(t *task.Task, a *sys.Args) (uint64, error) {
	flags := a[1]
	if flags&^(mfdCloexec|mfdAllowSealing|mfdHugetlb|mfdNoexecSeal|mfdExec|0xfc000000) != 0 || flags&mfdHugetlb == 0 && flags>>26 != 0 {
		return 0, syscall.EINVAL
	}
	const nameMax = 249
	name, err := t.Mem().String(a[0], nameMax+1)
	if err == syscall.ENAMETOOLONG {
		return 0, syscall.EINVAL
	}
	if err != nil {
		return 0, err
	}
	n, err := memfdFS().Root().(vfs.TmpFiler).TmpFile(vfs.NewNode{Type: vfs.TypeFile, Mode: 0o777, UID: t.Creds().FSUID, GID: t.Creds().FSGID})
	if err != nil {
		return 0, err
	}
	f, err := n.Open(syscall.O_RDWR)
	if err != nil {
		return 0, err
	}
	p, err := t.FS().Tree.Anon(n, "/memfd:"+name+" (deleted)")
	if err != nil {
		_ = f.Close()
		return 0, err
	}
	m := fd.NewMemfd(f, flags&mfdAllowSealing == 0)
	o := fd.NewOpenPlace(m, syscall.O_RDWR|oLargefile, p)
	return install(t, o, flags&mfdCloexec != 0)
}

package proc

import (
	"strconv"
	"syscall"

	"osv/kernel/linux/abi"
	"osv/kernel/linux/fd"
	"osv/kernel/linux/sys"
	"osv/kernel/linux/task"
	"osv/kernel/vfs"
	"osv/kernel/vfs/poll"
)

// pidFile is a file that stands for a process (pidfd_open(2)): readable once that has
// ended.
type pidFile struct{ p *task.Process }

func (f *pidFile) Ready() poll.Events                             { return f.p.EndedReady() }
func (f *pidFile) Watch(w *poll.Waiter)                           { f.p.WatchEnd(w) }
func (f *pidFile) Unwatch(w *poll.Waiter)                         { f.p.UnwatchEnd(w) }
func (f *pidFile) Node() vfs.Node                                 { return nil }
func (f *pidFile) Read(vfs.Dst, int64) (int, error)               { return 0, syscall.EINVAL }
func (f *pidFile) Write(vfs.Src, int64, bool) (int, int64, error) { return 0, 0, syscall.EINVAL }
func (f *pidFile) Seekable() bool                                 { return false }
func (f *pidFile) Sync(bool) error                                { return syscall.EINVAL }
func (f *pidFile) Close() error                                   { return nil }
func (f *pidFile) String() string                                 { return "anon_inode:[pidfd]" }

func itoa(n int) string { return strconv.Itoa(n) }

func installPidfd(t *task.Task, p *task.Process, flags int) (int, error) {
	o := fd.NewOpen(&pidFile{p}, syscall.O_RDWR|flags&syscall.O_NONBLOCK)
	n, err := t.Files().Install(o, 0, true)
	if err != nil {
		o.Release()
	}
	return n, err
}

// pidfd is the process that a descriptor stands for: EBADF.
func pidfd(t *task.Task, n int) (p *task.Process, nonblock bool, err error) {
	o, err := t.Files().Get(n)
	if err != nil {
		return nil, false, err
	}
	defer o.Release()
	f, ok := o.File().(*pidFile)
	if !ok {
		return nil, false, syscall.EBADF
	}
	return f.p, o.Nonblock(), nil
}

func pidfdOpen(t *task.Task, a *sys.Args) (uint64, error) {
	pid, flags := number(a[0]), number(a[1])
	if flags&^syscall.O_NONBLOCK != 0 || pid <= 0 {
		return 0, syscall.EINVAL
	}
	p := t.Kernel().Process(pid)
	if p == nil {
		if t.Kernel().Task(pid) != nil {
			return 0, syscall.EINVAL
		}
		return 0, syscall.ESRCH
	}
	n, err := installPidfd(t, p, flags)
	return uint64(n), err
}

func pidfdSendSignal(t *task.Task, a *sys.Args) (uint64, error) {
	if a[3] != 0 {
		return 0, syscall.EINVAL
	}
	p, _, err := pidfd(t, number(a[0]))
	if err != nil {
		return 0, err
	}
	sig := number(a[1])
	i := user(t, sig, abi.SI_USER)
	if a[2] != 0 {
		if i, err = queued(t, sig, a[2]); err != nil {
			return 0, err
		}
		if int(i.Signo) != sig {
			return 0, syscall.EINVAL
		}
		if p != t.Proc() && (i.Code >= 0 || i.Code == abi.SI_TKILL) {
			return 0, syscall.EPERM
		}
	}
	if p.EndedReady() != 0 {
		return 0, syscall.ESRCH
	}
	return 0, send(t, p, nil, i)
}

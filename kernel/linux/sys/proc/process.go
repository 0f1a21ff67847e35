package proc

import (
	"syscall"

	"osv/kernel/linux/abi"
	"osv/kernel/linux/sys"
	"osv/kernel/linux/task"
	"osv/kernel/vfs"
)

func clone(t *task.Task, a *sys.Args) (uint64, error) {
	c := task.CloneArgs{
		Flags: a[0] &^ abi.CSIGNAL & 0xffffffff, ExitSignal: int(a[0] & abi.CSIGNAL),
		Stack: a[1], ParentTID: a[2], ChildTID: a[3], TLS: a[4],
	}
	if c.Flags&abi.CLONE_PIDFD != 0 && c.Flags&abi.CLONE_PARENT_SETTID != 0 {
		return 0, syscall.EINVAL
	}
	if c.Flags&abi.CLONE_THREAD != 0 {
		c.ExitSignal = 0
	}
	return start(t, c, a[2])
}

// start makes the child; pidfd is where its descriptor goes with CLONE_PIDFD.
func start(t *task.Task, c task.CloneArgs, pidfd uint64) (uint64, error) {
	if c.Flags&abi.CLONE_PIDFD != 0 {
		c.PIDFD = func(p *task.Process) error {
			n, err := installPidfd(t, p, 0)
			if err != nil {
				return err
			}
			var b [4]byte
			le.PutUint32(b[:], uint32(n))
			return t.Mem().CopyOut(pidfd, b[:])
		}
	}
	n, err := t.Clone(c)
	return uint64(n), err
}

func clone3(t *task.Task, a *sys.Args) (uint64, error) {
	size := a[1]
	switch {
	case size > 4096:
		return 0, syscall.E2BIG
	case size < abi.CLONE_ARGS_SIZE_VER0:
		return 0, syscall.EINVAL
	}
	b := make([]byte, max(size, abi.CLONE_ARGS_SIZE_VER2))
	if err := t.Mem().CopyIn(b[:size], a[0]); err != nil {
		return 0, err
	}
	for _, c := range b[abi.CLONE_ARGS_SIZE_VER2:] {
		if c != 0 {
			return 0, syscall.E2BIG
		}
	}
	w := func(n int) uint64 { return le.Uint64(b[8*n:]) }
	flags, stack, stackSize, setTID, setTIDSize := w(0), w(5), w(6), w(8), w(9)
	const known = 0x3ffffffff
	switch {
	case flags&^known != 0 || flags&(abi.CSIGNAL|abi.CLONE_DETACHED) != 0:
		return 0, syscall.EINVAL
	case w(4)&^uint64(abi.CSIGNAL) != 0:
		return 0, syscall.EINVAL
	case flags&(abi.CLONE_THREAD|abi.CLONE_PARENT) != 0 && w(4) != 0:
		return 0, syscall.EINVAL
	case (stack == 0) != (stackSize == 0):
		return 0, syscall.EINVAL
	case (setTID == 0) != (setTIDSize == 0):
		return 0, syscall.EINVAL
	case setTID != 0:
		return 0, syscall.EPERM
	}
	c := task.CloneArgs{Flags: flags, ExitSignal: int(w(4)), ParentTID: w(3), ChildTID: w(2), TLS: w(7)}
	if stack != 0 {
		c.Stack = stack + stackSize
	}
	return start(t, c, w(1))
}

func fork(t *task.Task, _ *sys.Args) (uint64, error) {
	return start(t, task.CloneArgs{ExitSignal: int(syscall.SIGCHLD)}, 0)
}

func vfork(t *task.Task, _ *sys.Args) (uint64, error) {
	return start(t, task.CloneArgs{Flags: abi.CLONE_VM | abi.CLONE_VFORK, ExitSignal: int(syscall.SIGCHLD)}, 0)
}

func execve(t *task.Task, a *sys.Args) (uint64, error) {
	path, err := t.Mem().String(a[0], vfs.PathMax)
	if err != nil {
		return 0, err
	}
	return exec(t, task.ExecArgs{Path: path, Flags: vfs.Follow}, a[1], a[2])
}

const (
	atFdcwd           = -100
	atSymlinkNofollow = 0x100
	atEmptyPath       = 0x1000
)

func execveat(t *task.Task, a *sys.Args) (uint64, error) {
	path, err := t.Mem().String(a[1], vfs.PathMax)
	if err != nil {
		return 0, err
	}
	flags := a[4]
	if path == "" && flags&atEmptyPath == 0 {
		return 0, syscall.ENOENT
	}
	if flags&^(atSymlinkNofollow|atEmptyPath) != 0 {
		return 0, syscall.EINVAL
	}
	x := task.ExecArgs{Path: path}
	if flags&atSymlinkNofollow == 0 {
		x.Flags |= vfs.Follow
	}
	if flags&atEmptyPath != 0 {
		x.Flags |= vfs.EmptyPath
	}
	n := number(a[0])
	if n != atFdcwd && (path == "" || path[0] != '/') {
		o, err := t.Files().GetAny(n)
		if err != nil {
			return 0, err
		}
		defer o.Release()
		if x.Dir = o.Where(); x.Dir.IsZero() {
			return 0, syscall.EACCES
		}
		x.Name = "/dev/fd/" + itoa(n)
		if path != "" {
			x.Name += "/" + path
		}
	}
	return exec(t, x, a[2], a[3])
}

func exec(t *task.Task, x task.ExecArgs, argv, env uint64) (uint64, error) {
	var err error
	if x.Argv, err = list(t, argv); err != nil {
		return 0, err
	}
	if x.Env, err = list(t, env); err != nil {
		return 0, err
	}
	return 0, t.Exec(x)
}

// maxList bounds what is read of a list of strings before its size is checked.
const (
	maxString = 32 * 4096
	maxList   = 6 << 20
)

// list reads a list of strings that ends in a null pointer; address 0 is the empty one.
func list(t *task.Task, addr uint64) ([]string, error) {
	if addr == 0 {
		return nil, nil
	}
	var out []string
	var b [8]byte
	for sum := 0; ; addr += 8 {
		if err := t.Mem().CopyIn(b[:], addr); err != nil {
			return nil, err
		}
		p := le.Uint64(b[:])
		if p == 0 {
			return out, nil
		}
		s, err := t.Mem().String(p, maxString)
		if err == syscall.ENAMETOOLONG {
			err = syscall.E2BIG
		}
		if err != nil {
			return nil, err
		}
		if sum += len(s) + 9; sum > maxList {
			return nil, syscall.E2BIG
		}
		out = append(out, s)
	}
}

func exit(t *task.Task, a *sys.Args) (uint64, error) {
	t.Exit(number(a[0]))
	return 0, nil
}

func exitGroup(t *task.Task, a *sys.Args) (uint64, error) {
	t.ExitGroup(number(a[0]))
	return 0, nil
}

func wait4(t *task.Task, a *sys.Args) (uint64, error) {
	pid, opt := number(a[0]), number(a[2])
	if opt&^(abi.WNOHANG|abi.WUNTRACED|abi.WCONTINUED|abi.WNOTHREAD|abi.WALL|abi.WCLONE) != 0 && uint32(opt)&^uint32(abi.WNOHANG|abi.WUNTRACED|abi.WCONTINUED|abi.WNOTHREAD|abi.WALL|abi.WCLONE) != 0 {
		return 0, syscall.EINVAL
	}
	w := task.WaitFor{Options: int(uint32(opt)) | abi.WEXITED}
	switch {
	case pid == -1<<31:
		return 0, syscall.ESRCH
	case pid < -1:
		w.Kind, w.ID = abi.P_PGID, -pid
	case pid == 0:
		w.Kind, w.ID = abi.P_PGID, t.Proc().PGID()
	case pid > 0:
		w.Kind, w.ID = abi.P_PID, pid
	}
	r, err := t.Wait(w)
	if err != nil || r.PID == 0 {
		return 0, err
	}
	if a[1] != 0 {
		var b [4]byte
		le.PutUint32(b[:], uint32(r.Wait))
		if err := t.Mem().CopyOut(a[1], b[:]); err != nil {
			return 0, err
		}
	}
	if a[3] != 0 {
		b := encodeUsage(r.Usage)
		if err := t.Mem().CopyOut(a[3], b[:]); err != nil {
			return 0, err
		}
	}
	return uint64(r.PID), nil
}

func waitid(t *task.Task, a *sys.Args) (uint64, error) {
	kind, id, opt := number(a[0]), number(a[1]), uint32(a[3])
	const known = abi.WNOHANG | abi.WNOWAIT | abi.WEXITED | abi.WSTOPPED | abi.WCONTINUED | abi.WNOTHREAD | abi.WALL | abi.WCLONE
	if opt&^uint32(known) != 0 || opt&(abi.WEXITED|abi.WSTOPPED|abi.WCONTINUED) == 0 {
		return 0, syscall.EINVAL
	}
	w := task.WaitFor{Kind: kind, ID: id, Options: int(opt)}
	switch kind {
	case abi.P_ALL:
	case abi.P_PID:
		if id <= 0 {
			return 0, syscall.EINVAL
		}
	case abi.P_PGID:
		if id < 0 {
			return 0, syscall.EINVAL
		}
		if id == 0 {
			w.ID = t.Proc().PGID()
		}
	case abi.P_PIDFD:
		p, nonblock, err := pidfd(t, id)
		if err != nil {
			return 0, err
		}
		w.Kind, w.ID = abi.P_PID, p.PID()
		if nonblock && opt&abi.WNOHANG == 0 {
			w.Options |= abi.WNOHANG
			r, err := waitInfo(t, a, w)
			if err == nil && r.PID == 0 {
				err = syscall.EAGAIN
			}
			return 0, err
		}
	default:
		return 0, syscall.EINVAL
	}
	_, err := waitInfo(t, a, w)
	return 0, err
}

func waitInfo(t *task.Task, a *sys.Args, w task.WaitFor) (task.Waited, error) {
	r, err := t.Wait(w)
	if err != nil {
		return r, err
	}
	if a[4] != 0 && r.PID != 0 {
		b := encodeUsage(r.Usage)
		if err := t.Mem().CopyOut(a[4], b[:]); err != nil {
			return r, err
		}
	}
	if a[2] == 0 {
		return r, nil
	}
	var i abi.Siginfo
	if r.PID != 0 {
		i = abi.Siginfo{Signo: int32(syscall.SIGCHLD), Code: r.Code, PID: int32(r.PID), UID: r.UID, Status: r.Status}
	}
	var b [abi.SiginfoSize]byte
	i.Encode(&b)
	// The call writes the fields alone that it has.
	return r, t.Mem().CopyOut(a[2], b[:28])
}

func getpid(t *task.Task, _ *sys.Args) (uint64, error)  { return uint64(t.Proc().PID()), nil }
func getppid(t *task.Task, _ *sys.Args) (uint64, error) { return uint64(t.Proc().PPID()), nil }
func gettid(t *task.Task, _ *sys.Args) (uint64, error)  { return uint64(t.TID()), nil }

func setpgid(t *task.Task, a *sys.Args) (uint64, error) {
	return 0, t.Proc().SetPGID(number(a[0]), number(a[1]))
}

// process finds a process for a call that takes 0 for the caller's: ESRCH.
func process(t *task.Task, pid int) (*task.Process, error) {
	if pid == 0 {
		return t.Proc(), nil
	}
	if p := t.Kernel().Process(pid); p != nil {
		return p, nil
	}
	if o := t.Kernel().Task(pid); o != nil {
		return o.Proc(), nil
	}
	return nil, syscall.ESRCH
}

func getpgid(t *task.Task, a *sys.Args) (uint64, error) {
	p, err := process(t, number(a[0]))
	if err != nil {
		return 0, err
	}
	return uint64(p.PGID()), nil
}

func getpgrp(t *task.Task, _ *sys.Args) (uint64, error) { return uint64(t.Proc().PGID()), nil }

func setsid(t *task.Task, _ *sys.Args) (uint64, error) {
	n, err := t.Proc().SetSID()
	return uint64(n), err
}

func getsid(t *task.Task, a *sys.Args) (uint64, error) {
	p, err := process(t, number(a[0]))
	if err != nil {
		return 0, err
	}
	return uint64(p.SID()), nil
}

func unshare(t *task.Task, a *sys.Args) (uint64, error) { return 0, t.Unshare(a[0]) }

func setTidAddress(t *task.Task, a *sys.Args) (uint64, error) {
	t.ClearChildTID = a[0]
	return uint64(t.TID()), nil
}

// maxUser is the end of user addresses.
const maxUser = 1<<47 - 4096

func archPrctl(t *task.Task, a *sys.Args) (uint64, error) {
	r := t.Regs()
	var b [8]byte
	switch a[0] {
	case abi.ARCH_SET_FS, abi.ARCH_SET_GS:
		if a[1] >= maxUser {
			return 0, syscall.EPERM
		}
		if a[0] == abi.ARCH_SET_FS {
			r.FSBase = a[1]
		} else {
			r.GSBase = a[1]
		}
		return 0, nil
	case abi.ARCH_GET_FS:
		le.PutUint64(b[:], r.FSBase)
	case abi.ARCH_GET_GS:
		le.PutUint64(b[:], r.GSBase)
	default:
		return 0, syscall.EINVAL
	}
	return out(t, a[1], b[:])
}

package proc

import (
	"syscall"
	"time"

	"osv/kernel/linux/abi"
	"osv/kernel/linux/signal"
	"osv/kernel/linux/sys"
	"osv/kernel/linux/task"
	"osv/kernel/vfs"
)

func rtSigaction(t *task.Task, a *sys.Args) (uint64, error) {
	sig := number(a[0])
	if a[3] != signal.SetSize || sig < 1 || sig > abi.NSIG {
		return 0, syscall.EINVAL
	}
	p := t.Proc()
	old := p.Action(sig)
	if a[1] != 0 {
		var b [signal.ActionSize]byte
		if err := t.Mem().CopyIn(b[:], a[1]); err != nil {
			return 0, err
		}
		if signal.Unblockable.Has(sig) {
			return 0, syscall.EINVAL
		}
		old = p.SetAction(sig, signal.DecodeAction(&b))
	}
	if a[2] == 0 {
		return 0, nil
	}
	var b [signal.ActionSize]byte
	old.Encode(&b)
	return out(t, a[2], b[:])
}

// set reads a signal set.
func set(t *task.Task, addr, size uint64) (signal.Set, error) {
	if size != signal.SetSize {
		return 0, syscall.EINVAL
	}
	w, err := t.Mem().Word(addr)
	return signal.Set(w), err
}

func putSet(t *task.Task, addr uint64, s signal.Set) error {
	return t.Mem().PutWord(addr, uint64(s))
}

func rtSigprocmask(t *task.Task, a *sys.Args) (uint64, error) {
	if a[3] != signal.SetSize {
		return 0, syscall.EINVAL
	}
	old := t.Mask()
	if a[1] != 0 {
		s, err := set(t, a[1], a[3])
		if err != nil {
			return 0, err
		}
		switch number(a[0]) {
		case abi.SIG_BLOCK:
			t.SetMask(old | s)
		case abi.SIG_UNBLOCK:
			t.SetMask(old &^ s)
		case abi.SIG_SETMASK:
			t.SetMask(s)
		default:
			return 0, syscall.EINVAL
		}
	}
	if a[2] != 0 {
		return 0, putSet(t, a[2], old)
	}
	return 0, nil
}

func rtSigreturn(t *task.Task, _ *sys.Args) (uint64, error) { return t.SigReturn() }

func rtSigpending(t *task.Task, a *sys.Args) (uint64, error) {
	if a[1] > signal.SetSize {
		return 0, syscall.EINVAL
	}
	var b [8]byte
	le.PutUint64(b[:], uint64(t.Pending()&t.Mask()))
	return out(t, a[0], b[:a[1]])
}

func rtSigtimedwait(t *task.Task, a *sys.Args) (uint64, error) {
	s, err := set(t, a[0], a[3])
	if err != nil {
		return 0, err
	}
	deadline := time.Time{}
	if a[2] != 0 {
		d, err := duration(t, a[2])
		if err != nil {
			return 0, err
		}
		deadline = task.After(d)
	}
	i, err := t.AwaitSignal(s&^signal.Unblockable, deadline)
	if err != nil {
		return 0, err
	}
	if a[1] != 0 {
		var b [abi.SiginfoSize]byte
		i.Encode(&b)
		if err := t.Mem().CopyOut(a[1], b[:]); err != nil {
			return 0, err
		}
	}
	return uint64(i.Signo), nil
}

func rtSigsuspend(t *task.Task, a *sys.Args) (uint64, error) {
	s, err := set(t, a[0], a[1])
	if err != nil {
		return 0, err
	}
	t.SetSavedMask(s)
	return pause(t, a)
}

func pause(t *task.Task, _ *sys.Args) (uint64, error) {
	err := t.Sleep(nil, time.Time{})
	if err == abi.ERESTARTSYS {
		err = abi.ERESTARTNOHAND
	}
	return 0, err
}

func restartSyscall(t *task.Task, _ *sys.Args) (uint64, error) { return t.RestartSyscall() }

func sigaltstack(t *task.Task, a *sys.Args) (uint64, error) {
	old, sp := t.AltStack(), t.Regs().RSP
	var b [signal.StackSize]byte
	if a[0] != 0 {
		if err := t.Mem().CopyIn(b[:], a[0]); err != nil {
			return 0, err
		}
		s := signal.DecodeStack(b[:])
		mode := s.Flags &^ uint32(abi.SS_AUTODISARM)
		switch {
		case old.Contains(sp):
			return 0, syscall.EPERM
		case mode != 0 && mode != abi.SS_ONSTACK && mode != abi.SS_DISABLE:
			return 0, syscall.EINVAL
		case mode == abi.SS_DISABLE:
			s.SP, s.Size = 0, 0
		case s.Size < abi.MINSIGSTKSZ:
			return 0, syscall.ENOMEM
		}
		s.Flags &^= abi.SS_ONSTACK
		t.SetAltStack(s)
	}
	if a[1] == 0 {
		return 0, nil
	}
	old.Encode(b[:], sp)
	return out(t, a[1], b[:])
}

// user is the siginfo of a signal that t sends.
func user(t *task.Task, sig int, code int32) abi.Siginfo {
	return abi.Siginfo{Signo: int32(sig), Code: code, PID: int32(t.Proc().PID()), UID: t.Creds().UID}
}

// mayKill is the rule of kill(2): EPERM.
func mayKill(t *task.Task, p *task.Process, sig int) error {
	if p == t.Proc() {
		return nil
	}
	c, d := t.Creds(), p.Creds()
	switch {
	case c.Has(vfs.Cap(5)): // CAP_KILL
	case c.EUID == d.SUID || c.EUID == d.UID || c.UID == d.SUID || c.UID == d.UID:
	case syscall.Signal(sig) == syscall.SIGCONT && p.SID() == t.Proc().SID():
	default:
		return syscall.EPERM
	}
	return nil
}

// send sends i to a process, or to one of its threads, after the checks of kill(2).
func send(t *task.Task, p *task.Process, to *task.Task, i abi.Siginfo) error {
	sig := int(i.Signo)
	if sig < 0 || sig > abi.NSIG {
		return syscall.EINVAL
	}
	if err := mayKill(t, p, sig); err != nil {
		return err
	}
	if sig == 0 {
		return nil
	}
	return t.SendTo(p, to, i)
}

func kill(t *task.Task, a *sys.Args) (uint64, error) {
	pid, sig := number(a[0]), number(a[1])
	i := user(t, sig, abi.SI_USER)
	switch {
	case pid > 0:
		p, err := process(t, pid)
		if err != nil {
			return 0, err
		}
		return 0, send(t, p, nil, i)
	case pid == 0:
		return 0, sendAll(t, t.Kernel().Members(t.Proc().PGID()), i)
	case pid == -1:
		var all []*task.Process
		for _, p := range t.Kernel().Processes() {
			if p.PID() > 1 && p != t.Proc() {
				all = append(all, p)
			}
		}
		return 0, sendAll(t, all, i)
	case pid == -1<<31:
		return 0, syscall.ESRCH
	}
	return 0, sendAll(t, t.Kernel().Members(-pid), i)
}

// sendAll is success where one could be sent to.
func sendAll(t *task.Task, list []*task.Process, i abi.Siginfo) error {
	result := error(syscall.ESRCH)
	for n, p := range list {
		err := send(t, p, nil, i)
		if n == 0 || err == nil {
			if result != nil {
				result = err
			}
		}
	}
	return result
}

// thread finds a thread, of process tgid where that is not 0: ESRCH.
func thread(t *task.Task, tgid, tid int) (*task.Task, error) {
	if tid == t.TID() && tgid == t.Proc().PID() {
		return t, nil
	}
	o := t.Kernel().Task(tid)
	if o == nil || tgid != 0 && o.Proc().PID() != tgid {
		return nil, syscall.ESRCH
	}
	return o, nil
}

func tkill(t *task.Task, a *sys.Args) (uint64, error) {
	return toThread(t, 0, number(a[0]), number(a[1]))
}

func tgkill(t *task.Task, a *sys.Args) (uint64, error) {
	if number(a[0]) <= 0 {
		return 0, syscall.EINVAL
	}
	return toThread(t, number(a[0]), number(a[1]), number(a[2]))
}

func toThread(t *task.Task, tgid, tid, sig int) (uint64, error) {
	if tid <= 0 {
		return 0, syscall.EINVAL
	}
	o, err := thread(t, tgid, tid)
	if err != nil {
		return 0, err
	}
	return 0, send(t, o.Proc(), o, user(t, sig, abi.SI_TKILL))
}

// queued reads a siginfo for sig that the caller has made up.
func queued(t *task.Task, sig int, addr uint64) (abi.Siginfo, error) {
	var b [abi.SiginfoSize]byte
	if err := t.Mem().CopyIn(b[:], addr); err != nil {
		return abi.Siginfo{}, err
	}
	return abi.DecodeSiginfo(&b), nil
}

func rtSigqueueinfo(t *task.Task, a *sys.Args) (uint64, error) {
	pid, sig := number(a[0]), number(a[1])
	i, err := queued(t, sig, a[2])
	if err != nil {
		return 0, err
	}
	// Nobody may pretend that it was the kernel, or kill.
	if (i.Code >= 0 || i.Code == abi.SI_TKILL) && pid != t.Proc().PID() {
		return 0, syscall.EPERM
	}
	p, err := process(t, pid)
	if err != nil || pid <= 0 {
		return 0, syscall.ESRCH
	}
	i.Signo = int32(sig)
	return 0, send(t, p, nil, i)
}

func rtTgsigqueueinfo(t *task.Task, a *sys.Args) (uint64, error) {
	tgid, tid, sig := number(a[0]), number(a[1]), number(a[2])
	if tgid <= 0 || tid <= 0 {
		return 0, syscall.EINVAL
	}
	i, err := queued(t, sig, a[3])
	if err != nil {
		return 0, err
	}
	if (i.Code >= 0 || i.Code == abi.SI_TKILL) && tgid != t.Proc().PID() {
		return 0, syscall.EPERM
	}
	o, err := thread(t, tgid, tid)
	if err != nil {
		return 0, err
	}
	i.Signo = int32(sig)
	return 0, send(t, o.Proc(), o, i)
}

package task

import (
	"errors"
	"syscall"

	"osv/kernel/linux/abi"
	"osv/kernel/linux/mm"
)

// run is the thread: signals, user mode, what it came back with, until the end.
func (t *Task) run() {
	t.k.load.busy.Add(1)
	for !t.dead {
		if t.work.Load() != 0 || t.hasSaved || t.restart != 0 {
			if !t.deliver() {
				break
			}
			if t.work.Load() != 0 {
				continue // a further handler, or there was no stack for this one
			}
		}
		t.calls++
		if t.calls&(sampleEvery-1) == 0 {
			t.sampled()
			continue
		}
		if r := t.enter(); r.Kind == Syscall {
			t.syscall()
		} else {
			t.left(r)
		}
	}
	t.end()
}

// sampled is one turn of run with a look at where the time goes.
func (t *Task) sampled() {
	t0 := t.CPUTime()
	r := t.enter()
	t1 := t.CPUTime()
	if r.Kind == Syscall {
		t.syscall()
	} else {
		t.left(r)
	}
	t.acct.user.Add(int64(t1 - t0))
	t.acct.sys.Add(int64(t.CPUTime() - t1))
}

// left is what to do where user mode has ended without a call.
func (t *Task) left(r Reason) {
	if r.Kind == Fault {
		t.faulted(r)
		return
	}
	t.acct.involuntary.Add(1)
	if t.k.slots.want.Load() > 0 {
		t.k.cfg.Yield()
	}
}

// enter is one stay in user mode.
func (t *Task) enter() Reason {
	if t.k.live.Load() <= t.k.slots.n {
		return t.cpu.Enter(t.mem.Root())
	}
	t.k.slots.enter(t.turn)
	r := t.cpu.Enter(t.mem.Root())
	t.k.slots.leave()
	return r
}

// syscall serves the call that the registers hold.
func (t *Task) syscall() {
	r := t.regs
	nr := r.RAX
	t.nr = nr
	t.args = [6]uint64{r.RDI, r.RSI, r.RDX, r.R10, r.R8, r.R9}
	var v uint64
	var err error
	if c := t.k.cfg.Calls; nr < uint64(len(c)) && c[nr] != nil {
		v, err = c[nr](t, &t.args)
	} else {
		v, err = t.k.cfg.Dispatch(t, nr, &t.args)
	}
	if err == nil {
		r.RAX = v
		return
	}
	t.failed(err)
}

// failed ends a call with an error.
func (t *Task) failed(err error) {
	e, ok := err.(syscall.Errno)
	if !ok {
		e = t.unusual(err)
	}
	switch e {
	case abi.ERESTARTSYS, abi.ERESTARTNOINTR, abi.ERESTARTNOHAND, abi.ERESTART_RESTARTBLOCK:
		t.restart = e
	}
	t.regs.RAX = negative(e)
}

// unusual turns an error that is no errno into one.
func (t *Task) unusual(err error) syscall.Errno {
	var e syscall.Errno
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, mm.ErrOOM):
		t.outOfMemory()
		return syscall.ENOMEM
	}
	t.k.Printf("linux: system call %d of %s[%d]: %v", t.nr, t.Comm(), t.TID(), err)
	return syscall.EIO
}

// outOfMemory kills the program that needs a page that is not to be had.
func (t *Task) outOfMemory() {
	t.k.Printf("linux: out of memory: %s[%d] is killed, %d MiB are free", t.Comm(), t.p.pid, t.k.cfg.Machine.FreeBytes()>>20)
	t.p.Send(abi.Siginfo{Signo: int32(sigkill), Code: abi.SI_KERNEL})
}

// SetRestart says what restart_syscall(2) does, for a call that is about to return
// ERESTART_RESTARTBLOCK.
func (t *Task) SetRestart(f func(t *Task) (uint64, error)) { t.restartFn = f }

// RestartSyscall is restart_syscall(2).
func (t *Task) RestartSyscall() (uint64, error) {
	f := t.restartFn
	t.restartFn = nil
	if f == nil {
		return 0, syscall.EINTR
	}
	return f(t)
}

// negative is an error as RAX holds it.
func negative(e syscall.Errno) uint64 { return -uint64(e) }

// instruction is the length of SYSCALL in bytes.
const instruction = 2

// resume arranges that an interrupted system call is begun again, or fails with
// EINTR. handler says whether a handler runs first, again whether it has SA_RESTART.
func (t *Task) resume(handler, again bool) {
	e := t.restart
	if e == 0 {
		return
	}
	t.restart = 0
	r := t.regs
	switch {
	case handler && (e == abi.ERESTARTNOHAND || e == abi.ERESTART_RESTARTBLOCK || e == abi.ERESTARTSYS && !again):
		r.RAX = negative(syscall.EINTR)
	case e == abi.ERESTART_RESTARTBLOCK:
		r.RAX = syscall.SYS_RESTART_SYSCALL
		r.RIP -= instruction
	default:
		r.RAX = t.nr
		r.RIP -= instruction
	}
}

// faulted serves an exception of user mode: a page is brought in, or the thread gets
// a signal.
func (t *Task) faulted(r Reason) {
	if r.Vector == abi.VectorPF {
		err := t.mem.Fault(r.Addr, r.Err)
		if err == nil {
			return
		}
		t.fault = faultState{err: uint64(r.Err), trap: uint64(r.Vector), cr2: r.Addr}
		if s, ok := err.(*mm.Signal); ok {
			t.Force(abi.Siginfo{Signo: int32(s.Sig), Code: s.Code, Addr: s.Addr})
			return
		}
		if errors.Is(err, mm.ErrOOM) {
			t.outOfMemory()
			return
		}
		t.Force(abi.Siginfo{Signo: int32(syscall.SIGBUS), Code: abi.BUS_ADRERR, Addr: r.Addr})
		return
	}
	t.fault.err, t.fault.trap = uint64(r.Err), uint64(r.Vector)
	t.Force(t.exception(r))
}

// exception is the signal of an exception other than a page fault (Linux's
// arch/x86/kernel/traps.c).
func (t *Task) exception(r Reason) abi.Siginfo {
	rip := t.regs.RIP
	i := abi.Siginfo{Signo: int32(syscall.SIGSEGV), Code: abi.SI_KERNEL}
	switch r.Vector {
	case abi.VectorDE:
		i = abi.Siginfo{Signo: int32(syscall.SIGFPE), Code: abi.FPE_INTDIV, Addr: rip}
	case abi.VectorDB:
		i = abi.Siginfo{Signo: int32(syscall.SIGTRAP), Code: abi.TRAP_TRACE, Addr: rip}
		t.regs.RFlags &^= abi.FlagTF
	case abi.VectorBP:
		i = abi.Siginfo{Signo: int32(syscall.SIGTRAP), Code: abi.SI_KERNEL}
	case abi.VectorUD:
		i = abi.Siginfo{Signo: int32(syscall.SIGILL), Code: abi.ILL_ILLOPN, Addr: rip}
	case abi.VectorNP, abi.VectorSS:
		i = abi.Siginfo{Signo: int32(syscall.SIGBUS), Code: abi.SI_KERNEL}
	case abi.VectorAC:
		i = abi.Siginfo{Signo: int32(syscall.SIGBUS), Code: abi.BUS_ADRALN}
	case abi.VectorMF:
		x := t.cpu.XState()
		i = abi.Siginfo{Signo: int32(syscall.SIGFPE), Code: floatCode(uint32(le.Uint16(x[2:])) &^ uint32(le.Uint16(x[0:]))), Addr: rip}
	case abi.VectorXM:
		m := le.Uint32(t.cpu.XState()[24:])
		i = abi.Siginfo{Signo: int32(syscall.SIGFPE), Code: floatCode(m &^ (m >> 7)), Addr: rip}
	}
	return i
}

// floatCode is si_code for the exceptions that are set and not masked (fpu__exception_code).
func floatCode(e uint32) int32 {
	switch {
	case e&0x01 != 0:
		return abi.FPE_FLTINV
	case e&0x04 != 0:
		return abi.FPE_FLTDIV
	case e&0x08 != 0:
		return abi.FPE_FLTOVF
	case e&0x12 != 0: // denormal, underflow
		return abi.FPE_FLTUND
	case e&0x20 != 0:
		return abi.FPE_FLTRES
	}
	return abi.SI_KERNEL
}

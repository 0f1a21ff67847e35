package task

import (
	"encoding/binary"
	"syscall"

	"osv/kernel/linux/abi"
	"osv/kernel/linux/signal"
)

var le = binary.LittleEndian

// deliver does what is to be done before user mode: it takes part in a stop, takes
// signals, and sets up the frame of at most one handler. False: the thread ends.
func (t *Task) deliver() bool {
	p := t.p
	p.mu.Lock()
	for {
		if p.exiting || t.killed.Load() {
			p.mu.Unlock()
			return false
		}
		if p.stop.sig != 0 && !t.stopped {
			t.takePart() // unlocks while it is stopped
			continue
		}
		i, ok := t.pending.Take(^t.mask)
		if !ok {
			i, ok = p.pending.Take(^t.mask)
		}
		if !ok {
			break
		}
		p.timers.taken(&i)
		sig := int(i.Signo)
		a := p.actions[sig]
		switch {
		case a.Handler == abi.SIG_IGN:
			continue
		case a.Handler != abi.SIG_DFL:
			if a.Flags&abi.SA_RESETHAND != 0 {
				p.actions[sig].Handler = abi.SIG_DFL
			}
			p.mu.Unlock()
			t.handle(&i, &a)
			return true
		}
		switch signal.Default(sig) {
		case signal.Ignore:
		case signal.StopAll:
			t.stopAll(sig) // unlocks for a look at the process group
		case signal.Core:
			p.mu.Unlock()
			t.report(&i)
			p.mu.Lock()
			p.exit(int32(sig))
		default:
			p.exit(int32(sig))
		}
	}
	if t.hasSaved {
		t.hasSaved = false
		t.setMask(t.saved)
	}
	t.recalc()
	again := t.work.Load() != 0 // the mask that came back lets one through
	p.mu.Unlock()
	t.resume(false, false)
	if again {
		return t.deliver()
	}
	return true
}

// handle sets up the frame for a handler.
func (t *Task) handle(i *abi.Siginfo, a *signal.Action) {
	sig := int(i.Signo)
	t.resume(true, a.Flags&abi.SA_RESTART != 0)
	p := t.p
	p.mu.Lock()
	f := &t.sigframe
	*f = signal.Frame{
		Regs: *t.regs, Info: *i, Mask: t.mask, Stack: t.alt, Err: t.fault.err, Trap: t.fault.trap, CR2: t.fault.cr2,
		Features: t.k.cfg.Features, XState: t.cpu.XState(),
	}
	if t.hasSaved {
		f.Mask = t.saved
	}
	p.mu.Unlock()
	at, fp, overflow := f.Place(t.regs.RSP, a.Flags&abi.SA_ONSTACK != 0)
	if overflow || a.Flags&abi.SA_RESTORER == 0 || f.Write(t.mem, at, fp, a.Restorer, t.frame[:]) != nil {
		// There is no way to call the handler: SIGSEGV instead, and not by its handler
		// where that was the one.
		if syscall.Signal(sig) == syscall.SIGSEGV {
			p.SetAction(sig, signal.Action{})
		}
		t.Force(abi.Siginfo{Signo: int32(syscall.SIGSEGV), Code: abi.SI_KERNEL})
		return
	}
	if t.alt.Flags&abi.SS_AUTODISARM != 0 {
		t.alt = signal.Stack{Flags: abi.SS_DISABLE}
	}
	signal.Enter(t.regs, sig, a.Handler, at)
	signal.InitXState(f.XState)
	p.mu.Lock()
	t.hasSaved = false
	m := t.mask | a.Mask
	if a.Flags&abi.SA_NODEFER == 0 {
		m |= signal.Bit(sig)
	}
	t.setMask(m)
	p.mu.Unlock()
}

// SigReturn is rt_sigreturn(2): it puts back what the frame holds and returns what is
// in RAX then. A frame that cannot be read, or that holds what the processor would not
// take, is SIGSEGV.
func (t *Task) SigReturn() (uint64, error) {
	f := &t.sigframe
	f.Regs, f.Features = *t.regs, t.k.cfg.Features
	err := f.Read(t.mem, t.regs.RSP, t.cpu.XState(), t.frame[:])
	t.restart = 0
	if err != nil {
		t.k.Printf("linux: %s[%d]: bad frame at rt_sigreturn: rip %#x, rsp %#x", t.Comm(), t.TID(), t.regs.RIP, t.regs.RSP)
		t.Force(abi.Siginfo{Signo: int32(syscall.SIGSEGV), Code: abi.SI_KERNEL})
		return t.regs.RAX, nil
	}
	*t.regs = f.Regs
	if !f.Stack.Contains(t.regs.RSP) || !t.alt.Contains(t.regs.RSP) {
		if f.Stack.Flags&abi.SS_DISABLE != 0 || f.Stack.Size >= abi.MINSIGSTKSZ {
			t.alt = f.Stack
			t.alt.Flags &^= abi.SS_ONSTACK
		}
	}
	t.SetMask(f.Mask)
	if t.regs.RIP >= maxUser {
		t.Force(abi.Siginfo{Signo: int32(syscall.SIGSEGV), Code: abi.SI_KERNEL})
		t.regs.RIP = maxUser - 1
	}
	return t.regs.RAX, nil
}

// maxUser is the end of user addresses.
const maxUser = 1<<47 - 4096

// report says on the console why a program is about to die.
func (t *Task) report(i *abi.Siginfo) {
	r := t.regs
	t.k.Printf("linux: %s[%d/%d] dies of %s, code %d, address %#x\n"+
		"  rip %016x rsp %016x rbp %016x flags %x fs %x trap %d err %x cr2 %x\n"+
		"  rax %016x rbx %016x rcx %016x rdx %016x rsi %016x rdi %016x\n"+
		"  r8  %016x r9  %016x r10 %016x r11 %016x r12 %016x r13 %016x r14 %016x r15 %016x\n  %s",
		t.Comm(), t.p.pid, t.TID(), abi.SignalName(int(i.Signo)), i.Code, i.Addr,
		r.RIP, r.RSP, r.RBP, r.RFlags, r.FSBase, t.fault.trap, t.fault.err, t.fault.cr2,
		r.RAX, r.RBX, r.RCX, r.RDX, r.RSI, r.RDI,
		r.R8, r.R9, r.R10, r.R11, r.R12, r.R13, r.R14, r.R15, t.code(r.RIP))
}

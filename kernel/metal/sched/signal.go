package sched

import (
	"sync/atomic"
	"unsafe"

	"osv/kernel/metal/arch"
	"osv/kernel/metal/cpu"
	"osv/kernel/metal/vm"
)

// Signals, as far as the runtime needs them: SIGURG for preemption, SIGSEGV,
// SIGBUS, SIGFPE and SIGTRAP for faults of Go code, SIGTERM and friends to ask
// the program to end. The frame is that of Linux on x86-64 (struct rt_sigframe:
// restorer, ucontext, siginfo; FXSAVE area above it).

// Signal numbers used by name.
const (
	SIGQUIT = 3
	SIGILL  = 4
	SIGTRAP = 5
	SIGBUS  = 7
	SIGFPE  = 8
	SIGSEGV = 11
	SIGURG  = 23

	numSignals = 64
	saDefault  = 0
	saIgnore   = 1
	saNoDefer  = 0x40000000
	saOnStack  = 0x08000000

	siTKill  = 0xfffffffa // SI_TKILL
	siKernel = 0x80
	segvMap  = 1 // SEGV_MAPERR; FPE_INTDIV has the same value
)

// Action is struct sigaction of the kernel's ABI.
type Action struct{ Handler, Flags, Restorer, Mask uintptr }

var actions [numSignals + 1]Action

// SetAction is rt_sigaction. old and act are addresses, 0 = not wanted.
func SetAction(sig int, act, old uintptr) bool {
	if sig < 1 || sig > numSignals {
		return false
	}
	if old != 0 {
		*(*Action)(unsafe.Pointer(old)) = actions[sig]
	}
	if act != 0 {
		actions[sig] = *(*Action)(unsafe.Pointer(act))
	}
	return true
}

// HasHandler says whether the program catches sig.
func HasHandler(sig int) bool { return actions[sig].Handler > saIgnore }

// Mask returns and replaces t's signal mask.
func (t *Thread) Mask() uint64     { return t.mask }
func (t *Thread) SetMask(m uint64) { t.mask = m }

// AltStack returns t's alternate stack; SetAltStack replaces it.
func (t *Thread) AltStack() (sp, size uintptr) { return t.altSP, t.altSize }
func (t *Thread) SetAltStack(sp, size uintptr) { t.altSP, t.altSize = sp, size }

func deliverable(t *Thread) uint64 { return atomic.LoadUint64(&t.pending) &^ t.mask }

// interrupted says that t must not block, because a signal waits for it.
func interrupted(t *Thread) bool { return deliverable(t) != 0 }

// Kill marks sig pending for thread id. A blocked thread wakes with EINTR, one
// that runs elsewhere is interrupted. It reports false where there is no such
// thread.
func Kill(c *cpu.CPU, id uint32, sig int) bool {
	sleep.Lock()
	if id == none || id > nthread || byID(id).state == uint32(Dead) {
		sleep.Unlock()
		return false
	}
	t := byID(id)
	if actions[sig].Handler == saIgnore || actions[sig].Handler == saDefault && sig == SIGURG {
		sleep.Unlock()
		return true
	}
	atomic.OrUint64(&t.pending, 1<<(sig-1))
	if deliverable(t) != 0 {
		switch State(atomic.LoadUint32(&t.state)) {
		case Blocked:
			wakeUp(t, eINTR)
		case Running:
			if k := atomic.LoadInt32(&t.cpu); k != c.ID {
				cpu.SendIPI(cpu.All(int(k)), cpu.VectorIPI)
			}
		}
	}
	sleep.Unlock()
	return true
}

// Deliver makes the thread that is about to resume on c enter the handler of a
// pending signal. It returns the number of a signal whose default action is to
// end the program, else 0.
func Deliver(c *cpu.CPU) (fatal int) {
	t := Current(c)
	if t.idle {
		return 0
	}
	for {
		p := deliverable(t)
		if p == 0 {
			return 0
		}
		sig := 1
		for p>>(sig-1)&1 == 0 {
			sig++
		}
		atomic.AndUint64(&t.pending, ^(uint64(1) << (sig - 1)))
		switch actions[sig].Handler {
		case saIgnore:
		case saDefault:
			return sig
		default:
			c.Stats.Signals++
			if !pushFrame(t, sig, siTKill, 0) {
				return sig
			}
			return 0
		}
	}
}

// RaiseFault turns a fault of Go code into a signal for the current thread, whose
// registers are saved in full. It reports false where the program has no handler
// or no stack to run it on.
func RaiseFault(c *cpu.CPU, sig int, addr uintptr) bool {
	if !HasHandler(sig) {
		return false
	}
	c.Stats.Signals++
	return pushFrame(Current(c), sig, segvMap, addr)
}

// Layout of the frame, offsets from its start; struct ucontext and siginfo of
// Linux on x86-64.
const (
	frUContext = 8
	frSigInfo  = frUContext + ucBytes
	frBytes    = frSigInfo + siBytes
	ucBytes    = 424 // up to and with the 128-byte mask, rounded up
	siBytes    = 128
	fxBytes    = 512

	ucStackSP   = 16
	ucStackSize = 32
	ucRegs      = 40
	ucFX        = ucRegs + 23*8
	ucMask      = 296
)

// Indexes into the register array (enum in sys/ucontext.h).
const (
	regR8 = iota
	regR9
	regR10
	regR11
	regR12
	regR13
	regR14
	regR15
	regDI
	regSI
	regBP
	regBX
	regDX
	regAX
	regCX
	regSP
	regIP
	regFlags
	regCSGSFS
	regErr
	regTrapNo
	regOldMask
	regCR2
)

// pushFrame builds the signal frame on t's alternate stack and points t at the
// handler. It touches only memory that Ensure has mapped: it may run on the
// fault stack, where a second fault would overwrite the first's frame.
func pushFrame(t *Thread, sig int, code uint32, addr uintptr) bool {
	a := &actions[sig]
	sp := t.RSP
	if a.Flags&saOnStack != 0 && t.altSP != 0 && (sp < t.altSP || sp >= t.altSP+t.altSize) {
		sp = t.altSP + t.altSize
	} else {
		sp -= 128 // red zone
	}
	fx := (sp - fxBytes) &^ 63
	fr := (fx-frBytes)&^15 - 8 // as after a CALL
	if !vm.Ensure(fr, sp-fr) {
		return false
	}
	uc, si := fr+frUContext, fr+frSigInfo
	arch.Zero(fr, frBytes)
	if t.Full != 0 {
		arch.Copy(fx, uintptr(unsafe.Pointer(&t.FX)), fxBytes)
	} else {
		initFX(t)
		arch.Copy(fx, uintptr(unsafe.Pointer(&t.FX)), fxBytes)
	}
	*arch.Ptr(fr) = a.Restorer
	*arch.Ptr(uc + ucStackSP) = t.altSP
	*arch.Ptr(uc + ucStackSize) = t.altSize
	m := (*[23]uintptr)(unsafe.Pointer(uc + ucRegs))
	m[regR8], m[regR9], m[regR10], m[regR11] = t.R8, t.R9, t.R10, t.R11
	m[regR12], m[regR13], m[regR14], m[regR15] = t.R12, t.R13, t.R14, t.R15
	m[regDI], m[regSI], m[regBP], m[regBX] = t.RDI, t.RSI, t.RBP, t.RBX
	m[regDX], m[regAX], m[regCX], m[regSP] = t.RDX, t.RAX, t.RCX, t.RSP
	m[regIP], m[regFlags], m[regCSGSFS], m[regCR2] = t.RIP, t.RFlags, 0x33, addr
	if t.Full == 0 { // SYSCALL left RIP in RCX and RFLAGS in R11
		m[regCX], m[regR11] = t.RIP, t.RFlags
	}
	*arch.Ptr(uc + ucFX) = fx
	*arch.U64(uc + ucMask) = t.mask
	*arch.U32(si) = uint32(sig)
	*arch.U32(si + 8) = code
	if code != siTKill {
		*arch.Ptr(si + 16) = addr
	}
	t.mask |= uint64(a.Mask)
	if a.Flags&saNoDefer == 0 {
		t.mask |= 1 << (sig - 1)
	}
	t.RDI, t.RSI, t.RDX, t.RAX = uintptr(sig), si, uc, 0
	t.RSP, t.RIP = fr, a.Handler
	t.RFlags = arch.FlagIF | 2
	t.Full = 1
	return true
}

// flagsAllowed are the RFLAGS bits that a handler may change: arithmetic,
// direction.
const flagsAllowed = 0xcd5

// SigReturn is rt_sigreturn: the current thread continues as its frame says.
func SigReturn(t *Thread) {
	uc := t.RSP // the handler's RET took the restorer off
	m := (*[23]uintptr)(unsafe.Pointer(uc + ucRegs))
	t.R8, t.R9, t.R10, t.R11 = m[regR8], m[regR9], m[regR10], m[regR11]
	t.R12, t.R13, t.R14, t.R15 = m[regR12], m[regR13], m[regR14], m[regR15]
	t.RDI, t.RSI, t.RBP, t.RBX = m[regDI], m[regSI], m[regBP], m[regBX]
	t.RDX, t.RAX, t.RCX, t.RSP = m[regDX], m[regAX], m[regCX], m[regSP]
	t.RIP, t.RFlags = m[regIP], m[regFlags]&flagsAllowed|arch.FlagIF|2
	if fx := *arch.Ptr(uc + ucFX); fx != 0 {
		arch.Copy(uintptr(unsafe.Pointer(&t.FX)), fx, fxBytes)
	}
	t.mask = *arch.U64(uc + ucMask)
	t.Full = 1
}

// SignalPending says whether the current thread of c has a signal to take.
func SignalPending(c *cpu.CPU) bool {
	t := Current(c)
	return !t.idle && deliverable(t) != 0
}

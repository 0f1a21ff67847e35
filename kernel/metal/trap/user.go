package trap

import (
	"sync/atomic"
	"unsafe"

	"osv/kernel/metal/arch"
	"osv/kernel/metal/cpu"
	"osv/kernel/metal/sched"
)

// Ring 3 is entered by a call, not a trap: all of the kernel is in ring 0. The way
// there and the way back of a system call are assembly only (user_amd64.s); what
// else ends a stay in ring 3 comes here.
//
// While a thread is in ring 3 its frame says where Enter returns to. An interrupt
// that changes nothing goes straight back; one that ends a time slice saves the
// registers in the User and the thread is resumed in ring 3 later. A signal of the
// Go runtime for the thread makes Enter return, and is delivered there: a handler's
// frame is never pushed while ring 3 runs.

// Enter runs the program whose registers are in the cpu.User at u, until it makes a
// system call, faults or is kicked; u says which. The caller keeps its P meanwhile.
//
//go:noescape
func Enter(u uintptr)

// prepareFn is how userGo reaches Go code; see syscallFn.
var prepareFn = prepareUser

func prepareUser(c *cpu.CPU, u *cpu.User) { cpu.PrepareUser(c, u) }

func userOf(t *sched.Thread) *cpu.User { return (*cpu.User)(unsafe.Pointer(t.User)) }

// fromUser says whether f is of a program in ring 3.
func fromUser(f *Frame) bool { return f.CS&3 != 0 }

// flagVM is virtual-8086 mode, which is not there in long mode: IRET of a program
// would fault (SDM vol. 2, IRET). QEMU 7.2's TCG enters it, with a CS that looks like
// ring 0's.
const flagVM = 1 << 17

// normalize makes such a frame that of a program in 64-bit mode, which then runs into
// whatever is there.
func normalize(f *Frame) {
	if f.RFlags&flagVM != 0 {
		f.CS, f.SS, f.RFlags = cpu.SelUserCode, cpu.SelUserData, arch.FlagIF|2
	}
}

// saveUser copies the interrupted registers of a program into its User.
func saveUser(u *cpu.User, f *Frame, fx uintptr) {
	u.RAX, u.RBX, u.RCX, u.RDX = uint64(f.RAX), uint64(f.RBX), uint64(f.RCX), uint64(f.RDX)
	u.RSI, u.RDI, u.RBP = uint64(f.RSI), uint64(f.RDI), uint64(f.RBP)
	u.R8, u.R9, u.R10, u.R11 = uint64(f.R8), uint64(f.R9), uint64(f.R10), uint64(f.R11)
	u.R12, u.R13, u.R14, u.R15 = uint64(f.R12), uint64(f.R13), uint64(f.R14), uint64(f.R15)
	u.RIP, u.RFlags, u.RSP = uint64(f.RIP), uint64(f.RFlags), uint64(f.RSP)
	u.FSBase, u.GSBase = uint64(f.FSBase), uint64(f.GSBase)
	u.MXCSR = *arch.U32(fx + fxMXCSR)
	arch.Copy(uintptr(unsafe.Pointer(&u.X))+fxXMM, fx+fxXMM, xmmBytes)
	atomic.StoreInt32(&u.CPU, -1)
}

// Parts of the layout of FXSAVE (SDM vol. 1 table 10-2).
const (
	fxMXCSR  = 24
	fxXMM    = 160
	xmmBytes = 256
)

// userFault makes the current thread's Enter return a fault.
func userFault(c *cpu.CPU, f *Frame, fx, v uintptr) {
	t := sched.Current(c)
	u := userOf(t)
	saveUser(u, f, fx)
	u.Kind, u.Vector, u.Err, u.Addr = cpu.UserFault, uint32(v), uint32(f.Err), 0
	if v == vecPageFault {
		c.Stats.PageFaults++
		u.Addr = uint64(arch.ReadCR2())
	}
	t.Full = sched.FrameCall
	deliver(c)
}

// kickPending says whether the program that was interrupted is to come back.
func kickPending(c *cpu.CPU) bool {
	return atomic.LoadUint32(&userOf(sched.Current(c)).Kick) != 0
}

// leaveIfKicked makes Enter of a thread that was preempted in ring 3 return where
// somebody wants it back, or a signal of the runtime waits.
func leaveIfKicked(c *cpu.CPU, t *sched.Thread) {
	u := userOf(t)
	if atomic.SwapUint32(&u.Kick, 0) == 0 && !sched.SignalPending(c) {
		return
	}
	u.Kind = cpu.UserKick
	t.Full = sched.FrameCall
}

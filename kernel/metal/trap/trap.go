// Package trap is where the processor enters metal: system calls of the Go
// runtime, exceptions, interrupts. It saves, dispatches and restores; policy is
// in sched, vm and shim.
//
// Spec: Intel SDM vol. 3A (2024-06) chapter 6 (interrupts and exceptions), vol.
// 2 SYSCALL and IRET. Who may call it: the processor, and kernel/metal/boot for
// Init. Every vector uses an interrupt stack (IST): nothing is ever pushed on a
// goroutine's stack, which may end anywhere.
//
// The handlers are ordinary Go code on a fake g (cpu/stack.go). They run with
// interrupts off. Start reading at entry_amd64.s.
package trap

import (
	"sync/atomic"
	"unsafe"

	"osv/kernel/metal/arch"
	"osv/kernel/metal/cpu"
	"osv/kernel/metal/sched"
	"osv/kernel/metal/shim"
	"osv/kernel/metal/vm"
)

// Frame is what trapCommon leaves on the interrupt stack.
type Frame struct {
	RAX, RBX, RCX, RDX, RSI, RDI, RBP    uintptr
	R8, R9, R10, R11, R12, R13, R14, R15 uintptr
	FSBase, GSBase                       uintptr
	Stub                                 uintptr // return address of the stub
	Err, RIP, CS, RFlags, RSP, SS        uintptr
}

// Exception vectors (SDM vol. 3A table 6-1).
const (
	vecDivide     = 0
	vecDebug      = 1
	vecNMI        = 2
	vecBreakpoint = 3
	vecOverflow   = 4
	vecInvalidOp  = 6
	vecDouble     = 8
	vecStackSeg   = 12
	vecProtection = 13
	vecPageFault  = 14
	vecX87        = 16
	vecAlign      = 17
	vecMachine    = 18
	vecSIMD       = 19
	vecExceptions = 32

	pfPresent = 1 << 0 // page-fault error code: a protection violation
	stubBytes = 7
)

// The entry code reaches the handlers through these: assembly cannot name an
// ABIInternal function.
var (
	syscallFn = handleSyscall
	trapFn    = handleTrap
)

func addresses() (syscall, stub0, idle uintptr)

var (
	idt   [256][2]uint64
	idtr  [10]byte
	stub0 uintptr
	idle  uintptr
)

// dumpWanted is set by an NMI (QMP inject-nmi, the monitor's nmi command) and
// served as SIGQUIT to the first thread, outside of NMI context.
var dumpWanted uint32

const mainThread = 1

// IdlePC is the address of the idle loop.
func IdlePC() uintptr { return idle }

// Init builds the IDT. Once, by the boot processor.
func Init() {
	_, stub0, idle = addresses()
	for v := uintptr(0); v < 256; v++ {
		ist := uint64(cpu.ISTIRQ)
		switch {
		case v == vecNMI || v == vecDouble || v == vecMachine:
			ist = cpu.ISTFatal
		case v < vecExceptions:
			ist = cpu.ISTFault
		}
		p := uint64(stub0 + v*stubBytes)
		// 64-bit interrupt gate (SDM vol. 3A figure 6-8). Programs may use INT 3 and INT 4.
		gate := uint64(0x8e)
		if v == vecBreakpoint || v == vecOverflow {
			gate |= 3 << 5
		}
		idt[v][0] = p&0xffff | cpu.SelCode<<16 | ist<<32 | gate<<40 | (p>>16&0xffff)<<48
		idt[v][1] = p >> 32
	}
	d := uintptr(unsafe.Pointer(&idtr))
	*arch.U16(d) = uint16(unsafe.Sizeof(idt) - 1)
	a := uint64(uintptr(unsafe.Pointer(&idt)))
	*arch.U32(d + 2), *arch.U32(d + 6) = uint32(a), uint32(a>>32)
}

// InitCPU loads IDT and SYSCALL registers on this processor.
func InitCPU() {
	sysEntry, _, _ := addresses()
	arch.LoadIDT(uintptr(unsafe.Pointer(&idtr)))
	arch.WriteMSR(arch.MSRSTAR, uint64(cpu.SelCode)<<32|uint64(0x18)<<48)
	arch.WriteMSR(arch.MSRLSTAR, uint64(sysEntry))
	arch.WriteMSR(arch.MSRCSTAR, uint64(sysEntry)) // of code that is not 64-bit, which there is not
	arch.WriteMSR(arch.MSRFMASK, arch.FlagIF|arch.FlagTF|arch.FlagDF|arch.FlagAC|arch.FlagNT|arch.FlagRF)
	arch.WriteMSR(arch.MSRKernelGSBase, uint64(cpu.Current().Self))
	protect()
	if m, _, _, _ := arch.CPUID(0x80000000, 0); m >= 0x80000001 {
		if _, _, _, edx := arch.CPUID(0x80000001, 0); edx>>27&1 != 0 {
			arch.WriteMSR(arch.MSRTSCAux, uint64(cpu.Current().ID)) // what RDTSCP tells programs
		}
	}
}

// protect turns on what keeps the kernel from running or touching a program's
// memory, and a program from reading where descriptor tables are, where the
// processor can (SDM vol. 2, CPUID leaf 7).
func protect() {
	// NE and MP: x87 errors are exceptions; AM: alignment checks for who asks for them.
	arch.WriteCR0(arch.ReadCR0() | arch.CR0MP | arch.CR0NE | arch.CR0AM)
	maxLeaf, _, _, _ := arch.CPUID(0, 0)
	if maxLeaf < 7 {
		return
	}
	_, ebx, ecx, _ := arch.CPUID(7, 0)
	cr4 := arch.ReadCR4()
	if ebx>>7&1 != 0 {
		cr4 |= arch.CR4SMEP
	}
	if ebx>>20&1 != 0 {
		cr4 |= arch.CR4SMAP
	}
	if ecx>>2&1 != 0 {
		cr4 |= arch.CR4UMIP
	}
	arch.WriteCR4(cr4)
}

func handleSyscall(c *cpu.CPU) {
	c.Stats.Syscalls++
	shim.Call(c)
	if c.Gone != 0 {
		sched.Schedule(c)
	}
	deliver(c)
}

func deliver(c *cpu.CPU) {
	if t := sched.Current(c); t.Full == sched.FrameUser {
		leaveIfKicked(c, t)
		if t.Full == sched.FrameUser {
			return
		}
	}
	if sig := sched.Deliver(c); sig != 0 {
		shim.ExitBySignal(sig)
	}
}

// handleTrap returns true where the current thread of c is to be resumed from
// its saved registers, false to go back to what was interrupted.
func handleTrap(c *cpu.CPU, f *Frame, fx uintptr) bool {
	v := (f.Stub-stub0)/stubBytes - 1
	normalize(f)
	if v < vecExceptions {
		if fromUser(f) && v != vecNMI && v != vecDouble && v != vecMachine {
			userFault(c, f, fx, v)
			return true
		}
		return exception(c, f, fx, v)
	}
	c.Stats.Interrupts++
	resched := false
	switch v {
	case cpu.VectorTimer:
		cpu.EOI()
		c.Stats.Timer++
		resched = sched.Tick(c)
	case cpu.VectorIPI:
		cpu.EOI()
		cpu.PollTLB()
		if atomic.SwapUint32(&dumpWanted, 0) != 0 {
			sched.Kill(c, mainThread, sched.SIGQUIT)
		}
		resched = sched.Kick(c)
	case cpu.VectorSpurious:
	default:
		resched = sched.Interrupt(c, uint32(v))
		cpu.EOI()
	}
	if fromUser(f) && atomic.LoadUint32(&c.Urgent) != 0 {
		resched = true
	}
	if !resched && !sched.SignalPending(c) && !(fromUser(f) && kickPending(c)) {
		return false
	}
	save(c, f, fx)
	if resched {
		sched.Schedule(c)
	}
	deliver(c)
	return true
}

// save copies the interrupted registers into the current thread.
func save(c *cpu.CPU, f *Frame, fx uintptr) {
	t := sched.Current(c)
	if fromUser(f) {
		saveUser(userOf(t), f, fx)
		t.Full = sched.FrameUser
		return
	}
	g := &t.Frame
	g.RAX, g.RBX, g.RCX, g.RDX, g.RSI, g.RDI, g.RBP = f.RAX, f.RBX, f.RCX, f.RDX, f.RSI, f.RDI, f.RBP
	g.R8, g.R9, g.R10, g.R11, g.R12, g.R13, g.R14, g.R15 = f.R8, f.R9, f.R10, f.R11, f.R12, f.R13, f.R14, f.R15
	g.RIP, g.RFlags, g.RSP, g.FSBase, g.Full = f.RIP, f.RFlags, f.RSP, f.FSBase, sched.FrameFull
	arch.Copy(uintptr(unsafe.Pointer(&g.FX)), fx, unsafe.Sizeof(g.FX))
}

func exception(c *cpu.CPU, f *Frame, fx, v uintptr) bool {
	switch v {
	case vecPageFault:
		c.Stats.PageFaults++
		a := arch.ReadCR2()
		if vm.LockHeld() {
			die(c, f, v, a)
		}
		if f.Err&pfPresent == 0 {
			switch vm.Fault(a) {
			case vm.OK:
				return false
			case vm.NoMemory:
				shim.OutOfMemory(a)
			}
		}
		return fault(c, f, fx, v, sched.SIGSEGV, a)
	case vecProtection, vecStackSeg:
		return fault(c, f, fx, v, sched.SIGSEGV, 0)
	case vecDivide, vecX87, vecSIMD:
		return fault(c, f, fx, v, sched.SIGFPE, f.RIP)
	case vecInvalidOp:
		return fault(c, f, fx, v, sched.SIGILL, f.RIP)
	case vecBreakpoint:
		return fault(c, f, fx, v, sched.SIGTRAP, f.RIP)
	case vecAlign:
		return fault(c, f, fx, v, sched.SIGBUS, f.RIP)
	case vecNMI:
		if dying != 0 {
			arch.Halt()
		}
		// The host's operator wants to know what the guest is doing: have the runtime
		// print all goroutines. Locks may be held here, so only ask for it.
		atomic.StoreUint32(&dumpWanted, 1)
		cpu.SendSelf(cpu.VectorIPI)
		return false
	}
	die(c, f, v, arch.ReadCR2())
	return false
}

// fault makes a signal of a fault of the program, or dies: of one in metal, or
// where the program cannot take it.
func fault(c *cpu.CPU, f *Frame, fx, v uintptr, sig int, addr uintptr) bool {
	if c.InMetal(f.RSP) || sched.Current(c) == nil {
		die(c, f, v, addr)
	}
	save(c, f, fx)
	if !sched.RaiseFault(c, sig, addr) {
		die(c, f, v, addr)
	}
	return true
}

package shim

import (
	"unsafe"

	"osv/kernel/metal/arch"
	"osv/kernel/metal/cpu"
	"osv/kernel/metal/klog"
	"osv/kernel/metal/phys"
	"osv/kernel/metal/rand"
	"osv/kernel/metal/sched"
	"osv/kernel/metal/vm"
)

// Private calls: what the kernel above the runtime asks of metal, by way of
// kernel/hw/gate, their only caller.
const (
	callBase = 0x1000

	CallNop        = callBase + iota - 1
	CallIRQAlloc   // (processor) → vector
	CallIRQFree    // (vector)
	CallIRQLevel   // (vector, IOAPIC window, pin): masked until the first wait
	CallIOAPIC     // (window, register, write, value) → value
	CallIRQWait    // (vector); blocks
	CallIRQRaise   // (vector)
	CallFrames     // (count, alignment in frames, 1: as they are, else zeroed) → physical address
	CallFreeFrames // (physical address, count)
	CallMapDevice  // (physical address, bytes) → virtual address
	CallMapRAM     // (physical address, bytes): adds firmware tables to the direct map
	CallPowerOff   // (kind, address, value, address2, value2)
	CallSetReset   // (kind, address, value)
	CallExit       // (status)
	CallReset      // ()
	CallMix        // (address, bytes): randomness from a device
	CallLogRead    // (position, address, bytes) → bytes; position is updated in RSI's word
	CallConsole    // (targets)
	CallCounts     // (address of 4 words): frames all, free, least free; bytes committed
	CallUserNew    // () → address of a cpu.User
	CallUserFree   // (cpu.User)
	CallUserKick   // (cpu.User): interrupt the processor that it is in ring 3 on
	CallUserTake   // (cpu.User): complete its image of the FPU
	CallRootNew    // () → physical address of a page table for a program
	CallRootFree   // (root): nothing is mapped in it any more
	CallFlush      // (root, addresses, count): the processors' translations
	CallFrameList  // (words, count, order): fills in frames
	CallFreeList   // (words, count, order)
	CallThreads    // (number, address of sched.InfoBatch Infos): fills them → number to go on with << 8 | how many
	CallExitHook   // (address of 5 words): see SetExitHook
	CallEndProgram // (status): what the program's own end does without a hook
)

func private(c *cpu.CPU, t *sched.Thread, nr uintptr) {
	f := &t.Frame
	a, b, d := f.RDI, f.RSI, f.RDX
	r := uintptr(0)
	switch nr {
	case CallNop:
	case CallIRQAlloc:
		if a >= uintptr(cpu.Count()) {
			r = eINVAL
		} else if r = uintptr(sched.AllocVector(int(a))); r == 0 {
			r = eNOMEM
		}
	case CallIRQFree:
		if !deviceVector(a) {
			r = eINVAL
		} else {
			sched.FreeVector(uint32(a))
		}
	case CallIRQLevel:
		if !deviceVector(a) {
			r = eINVAL
		} else {
			sched.SetLevel(uint32(a), b, uint32(d))
		}
	case CallIOAPIC:
		r = uintptr(sched.IOAPIC(a, uint32(b), d != 0, uint32(f.R10)))
	case CallIRQWait:
		if deviceVector(a) {
			sched.IRQWait(c, uint32(a))
			return
		}
		r = eINVAL
	case CallIRQRaise:
		if !deviceVector(a) {
			r = eINVAL
		} else {
			sched.IRQRaise(uint32(a))
		}
	case CallFrames:
		if d == 1 {
			r = phys.AllocRun(a, b)
		} else {
			r = phys.AllocContiguous(a, b)
		}
		if r == phys.None {
			r = eNOMEM
		}
	case CallFreeFrames:
		phys.FreeRun(a, a+b*phys.FrameSize)
	case CallMapDevice:
		if r = vm.MapDevice(a, b); r == 0 {
			r = eNOMEM
		}
	case CallMapRAM:
		if !vm.AddDirect(a, b) {
			r = eNOMEM
		}
	case CallPowerOff:
		SetPowerOff(a, b, d, f.R10, f.R8)
	case CallSetReset:
		SetReset(a, b, d)
	case CallExit:
		Exit(int(a))
	case CallReset:
		Reset()
	case CallMix:
		rand.Mix(a, b)
	case CallLogRead:
		r = readLog(a, b, d)
	case CallConsole:
		klog.SetTarget(klog.Console(a))
	case CallCounts:
		counts(a)
	case CallExitHook:
		SetExitHook(*arch.Ptr(a), *arch.Ptr(a + 8), *arch.Ptr(a + 16), *arch.Ptr(a + 24), *arch.Ptr(a + 32))
	case CallEndProgram:
		ExitProgram(int(int32(a)))
	case CallThreads:
		n, next := sched.Infos(uint32(a), (*[sched.InfoBatch]sched.Info)(unsafe.Pointer(b)))
		r = uintptr(next)<<8 | uintptr(n)
	default:
		if nr >= CallUserNew && nr <= CallFreeList {
			r = userCall(c, nr, a, b, d)
			break
		}
		unknown(nr, f.RIP)
		r = eNOSYS
	}
	f.RAX = r
}

func deviceVector(v uintptr) bool {
	return v >= cpu.VectorFirstDevice && v <= cpu.VectorLastDevice
}

// readLog copies from the log ring at the position that the word at pos holds,
// and moves it. The destination is touched first, so that the copy cannot fault
// while it races with writers longer than it must.
func readLog(pos, p, n uintptr) uintptr {
	copied, next := klog.Read(*arch.U64(pos), p, n)
	*arch.U64(pos) = next
	return copied
}

func counts(p uintptr) {
	all, now, least := phys.Counts()
	*arch.Ptr(p), *arch.Ptr(p + 8), *arch.Ptr(p + 16) = all, now, least
	*arch.Ptr(p + 24) = vm.Committed()
}

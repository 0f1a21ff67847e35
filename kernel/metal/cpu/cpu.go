// Package cpu owns what each processor has for itself: the per-CPU block that
// GS points at, its descriptor tables and trap stacks, its local APIC, the spin
// lock, and TLB shootdown.
//
// Spec: Intel SDM vol. 3A (2024-06), chapters 2, 3, 7 (task management), 11
// (APIC). Who may call it: kernel/metal with interrupts off. It may not know
// threads. Start reading at CPU, then trap stacks in stack.go.
package cpu

import (
	"sync/atomic"
	"unsafe"

	"osv/kernel/metal/arch"
)

// Max is the number of processors that are used; more are left halted.
const Max = 64

// CPU is the per-CPU block. Its head is known to the assembly in kernel/metal/trap
// by offset.
type CPU struct {
	Self     uintptr // 0  address of this block, so that code can load it from GS
	Cur      uintptr // 8  *sched.Thread that runs here
	SysStack uintptr // 16 top of the stack that SYSCALL switches to
	Scratch  uintptr // 24 one word for the entry code
	User     uintptr // 32 *User that was entered here last
	FPOwner  uintptr // 40 *User whose x87 and upper YMM registers are in this processor, 0 = nobody's
	CR3      uintptr // 48 atomic; what CR3 holds, and rootBits; see LoadRoot
	ID       int32   // 56 index in All

	APIC   uint32
	Online uint32 // atomic; 1 once it can take interrupts
	Idle   uint32 // atomic; 1 while it halts or is about to
	Gone   uint32 // 1 from when the current thread blocked or died until sched picks the next
	Urgent uint32 // atomic; 1 once a thread was woken here that ring 3 is to give way to

	stacksLo, stacksHi uintptr // the trap stacks; see InMetal
	tlbSeen            uint64  // atomic; the last generation this CPU flushed for

	xcr0 uint64 // what XCR0 was set to here, 0 = not yet

	gdt [9]uint64
	_   [6]byte
	gdr [10]byte
	tss [104]byte
	_   [8]byte

	Stats Stats
}

// Stats counts events of one CPU. Written by that CPU only.
type Stats struct {
	Syscalls, Interrupts, Timer, IPIs, PageFaults, Switches, Signals, Idles, Shootdowns uint64
}

var (
	all   [Max]CPU
	count int32 = 1
)

// All returns the block of processor i.
func All(i int) *CPU { return &all[i] }

// Count is the number of processors that were started.
func Count() int { return int(atomic.LoadInt32(&count)) }

// Add makes the next processor's block current for counting; it is called by
// the boot processor after the new one reported in.
func Add() { atomic.AddInt32(&count, 1) }

func current() uintptr // the word at GS:0

// Current returns the block of the processor this runs on. Interrupts are off.
func Current() *CPU { return (*CPU)(unsafe.Pointer(current())) }

// Segment selectors. The order of user data and user code is what SYSRET wants,
// though we return by IRET (SDM vol. 2, SYSRET).
const (
	SelCode     = 0x08
	SelData     = 0x10
	SelUserData = 0x20 | 3
	SelUserCode = 0x28 | 3
	selTSS      = 0x30
	// SelNumber is a segment that nothing uses but its limit: the processor's number,
	// for programs that ask by LSL (kernel/linux/vdso).
	SelNumber = 0x40 | 3
)

// Prepare fills in block id with its trap stacks, which occupy StacksBytes at
// stacks (aligned to StackSize).
func Prepare(id int, apic uint32, stacks uintptr) *CPU {
	c := &all[id]
	c.Self = uintptr(unsafe.Pointer(c))
	c.ID, c.APIC = int32(id), apic
	c.stacksLo, c.stacksHi = stacks, stacks+StacksBytes
	for i := uintptr(0); i < stackCount; i++ {
		prepareStack(stacks+i*StackSize, c.Self)
	}
	c.SysStack = stackTop(stacks, stackSyscall)
	return c
}

// Load makes c this processor's block: GS, GDT, TSS with its interrupt stacks.
func (c *CPU) Load() {
	// SDM vol. 3A §3.4.5: segment descriptors; §7.7: 64-bit TSS.
	c.gdt = [9]uint64{
		1: 0x00af9b000000ffff, // code, 64-bit, DPL 0
		2: 0x00cf93000000ffff, // data, DPL 0
		4: 0x00cff3000000ffff, // data, DPL 3
		5: 0x00affb000000ffff, // code, 64-bit, DPL 3
	}
	tss := uintptr(unsafe.Pointer(&c.tss))
	b := uint64(tss)
	c.gdt[6] = (uint64(len(c.tss)) - 1) | (b&0xffffff)<<16 | 0x89<<40 | (b>>24&0xff)<<56
	c.gdt[7] = b >> 32
	c.gdt[8] = 0x0040f10000000000 | uint64(c.ID)&0xffff       // data, read-only, DPL 3, limit in bytes
	putU64(tss+4, uint64(stackTop(c.stacksLo, stackSyscall))) // RSP0
	for i := uintptr(ISTFault); i <= ISTFatal; i++ {
		putU64(tss+36+(i-1)*8, uint64(stackTop(c.stacksLo, i)))
	}
	*arch.U16(tss + 102) = uint16(len(c.tss)) // no I/O permission map
	g := uintptr(unsafe.Pointer(&c.gdr))
	*arch.U16(g) = uint16(unsafe.Sizeof(c.gdt) - 1)
	putU64(g+2, uint64(uintptr(unsafe.Pointer(&c.gdt))))
	arch.LoadGDT(g)
	arch.LoadTR(selTSS)
	// IRET to ring 3 empties segment registers that hold ring 0's descriptors, and
	// with FS and GS their bases: so let them hold none (SDM vol. 2, IRET).
	arch.NullSegments()
	arch.WriteGSBase(c.Self)
}

// putU64 stores at an address that is only 4- or 2-aligned.
func putU64(a uintptr, v uint64) {
	*arch.U32(a) = uint32(v)
	*arch.U32(a + 4) = uint32(v >> 32)
}

// InMetal says whether sp lies on this processor's trap stacks: what was
// interrupted there is metal itself, not the program.
func (c *CPU) InMetal(sp uintptr) bool { return sp >= c.stacksLo && sp < c.stacksHi }

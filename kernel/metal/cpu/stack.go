package cpu

import "osv/kernel/metal/arch"

// Trap stacks. Each processor has four, one after the other, each aligned to
// its size. Handlers are ordinary compiled Go, so they need a g: a zeroed block
// at the base of each stack plays it. From any SP the g is SP &^ (StackSize-1),
// which is how the entry code in kernel/metal/trap finds it:
//
//	base          fake g: stack.lo, stack.hi, stackguard0, stackguard1, m = nil…
//	base+gBytes   the word that TLS names: -8(FS) holds the g; then the address of
//	              the CPU block, for entries that cannot trust GS
//	base+1024     stack.lo; overflow below stackguard0 calls morestack, which
//	              faults on the nil m and ends in a panic that names the stack
//	base+StackSize  top
const (
	StackSize   = 16 << 10
	stackCount  = 4
	StacksBytes = stackCount * StackSize

	stackSyscall = 0
	ISTFault     = 1 // exceptions
	ISTIRQ       = 2 // interrupts
	ISTFatal     = 3 // double fault, NMI, machine check

	gBytes     = 512
	stackLo    = 1024
	stackGuard = 928 // runtime: abi.StackSmall plus what nosplit chains may use
)

func prepareStack(base, self uintptr) {
	// Word by word: the boot processor runs on this very stack already.
	arch.Zero(base+32, gBytes-32)
	*arch.Ptr(base) = base + stackLo
	*arch.Ptr(base + 8) = base + StackSize
	*arch.Ptr(base + 16) = base + stackLo + stackGuard
	*arch.Ptr(base + 24) = base + stackLo + stackGuard
	*arch.Ptr(base + gBytes) = base
	*arch.Ptr(base + gBytes + 8) = self
}

// stackTop is 64 bytes below the end, so that SP &^ (StackSize-1) of an empty
// stack is its own base.
func stackTop(stacks, i uintptr) uintptr { return stacks + (i+1)*StackSize - 64 }

package shim

import (
	"unsafe"

	"osv/kernel/metal/arch"
	"osv/kernel/metal/cpu"
	"osv/kernel/metal/phys"
	"osv/kernel/metal/sched"
	"osv/kernel/metal/vm"
)

// maxList is how many blocks a call allocates or frees at most: interrupts are off
// meanwhile.
const maxList = 512

// userCall serves what programs in ring 3 need of metal. Entering it is not here:
// that is no system call (trap.Enter).
func userCall(c *cpu.CPU, nr, a, b, d uintptr) uintptr {
	switch nr {
	case CallUserNew:
		p := phys.AllocZero(0)
		if p == phys.None {
			return eNOMEM
		}
		cpu.InitUser((*cpu.User)(unsafe.Pointer(phys.ToVirt(p))))
		return phys.ToVirt(p)
	case CallUserFree:
		cpu.TakeFP(c, (*cpu.User)(unsafe.Pointer(a)))
		if !phys.Free(a-phys.ToVirt(0), 0) {
			return eINVAL
		}
	case CallUserKick:
		sched.KickUser(c, (*cpu.User)(unsafe.Pointer(a)))
	case CallUserTake:
		cpu.TakeFP(c, (*cpu.User)(unsafe.Pointer(a)))
	case CallRootNew:
		r := vm.NewRoot()
		if r == phys.None {
			return eNOMEM
		}
		return r
	case CallRootFree:
		vm.FreeRoot(c, a)
	case CallFlush:
		cpu.FlushPages(c, a, b, d)
	case CallFrameList:
		if b > maxList {
			return eINVAL
		}
		touch(a, b*8)
		if !phys.AllocList(a, b, uint(d)) {
			return eNOMEM
		}
	case CallFreeList:
		if b > maxList || !phys.FreeList(a, b, uint(d)) {
			return eINVAL
		}
	}
	return 0
}

// touch writes to each page of a list, so that no lock is held when it faults.
func touch(p, n uintptr) {
	for a := p; a < p+n; a = (a + phys.FrameSize) &^ (phys.FrameSize - 1) {
		*arch.Ptr(a &^ 7) = 0
	}
}

package task

import "osv/kernel/linux/abi"

// CPU is a thread's state in user mode and the way there: kernel/hw/gate's User in a
// guest, Go functions that play a program in tests. Only the thread's goroutine calls
// it, except for Kick.
type CPU interface {
	// Regs are the registers, valid outside of Enter.
	Regs() *abi.Regs
	// Enter runs the program until there is something for the kernel to do. root is
	// the address space's table.
	Enter(root uint64) Reason
	// Kick makes the present Enter return, or the next one.
	Kick()
	// XState is the XSAVE image in standard format, valid outside of Enter.
	XState() []byte
	// CopyFrom makes registers and XSAVE image those of another.
	CopyFrom(other CPU)
	// Free ends it.
	Free()
}

// ReasonKind is why a program has stopped.
type ReasonKind uint8

const (
	Syscall ReasonKind = iota // RAX is the number, RIP after the instruction
	Fault                     // Vector, Err and Addr say which; RIP is where
	Kick                      // somebody wants the thread
)

// Reason is what ended an Enter.
type Reason struct {
	Kind   ReasonKind
	Vector uint32
	Err    uint32
	Addr   uint64 // CR2 of a page fault
}

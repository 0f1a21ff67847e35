package shim

import (
	"osv/kernel/metal/arch"
	"osv/kernel/metal/sched"
)

// exitHook is where threads go on that end the program in the ordinary way, 0: nowhere.
// That is told from their caller: the Go functions that lie at [from, to).
var exitHook struct{ entry, from1, to1, from2, to2 uintptr }

// SetExitHook has a thread that asks for the end of the program out of either range of
// addresses go on at entry, as if the one who asked had called it, with the status in
// RDI. entry must be a function that does not return.
func SetExitHook(entry, from1, to1, from2, to2 uintptr) {
	h := &exitHook
	h.from1, h.to1, h.from2, h.to2, h.entry = from1, to1, from2, to2, entry
}

// diverted sends a thread that asks for the end of the program to the hook, where it
// is one of those. The Go runtime asks through a function without a frame, so that the
// return address on top of the stack is in that one's caller: runtime.main and
// syscall.Exit run on goroutines, which may go on; a panic and a fatal error run on the
// stack of the scheduler, where no Go code may wait, and have other callers.
func diverted(f *sched.Frame) bool {
	h := &exitHook
	if h.entry == 0 {
		return false
	}
	pc := *arch.Ptr(f.RSP)
	if (pc < h.from1 || pc >= h.to1) && (pc < h.from2 || pc >= h.to2) {
		return false
	}
	f.RSP -= 8
	*arch.Ptr(f.RSP) = f.RIP
	f.RIP = h.entry
	return true
}

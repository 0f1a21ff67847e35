// Package sys is the table of Linux system calls: number, name, how far each is
// supported, and the function that serves it. The functions are in packages below
// it, one per topic (sys/file, sys/proc, sys/memory, sys/net, …), each with a list of
// Entries; they decode, call kernel/linux's other packages, and encode.
//
// Spec: Linux 6.1, arch/x86/entry/syscalls/syscall_64.tbl, and man-pages 6.03. Start
// reading at Entry.
package sys

import "osv/kernel/linux/task"

// Args are a call's six arguments, in order: RDI, RSI, RDX, R10, R8, R9.
type Args = [6]uint64

// Fn serves a call. The error is a syscall.Errno, or one of abi's restart codes where
// a signal came in between (abi.ERESTARTSYS and its kin).
type Fn = task.Call

// Level is how far a call is supported.
type Level uint8

const (
	None    Level = iota // ENOSYS
	Partial              // Note says what is missing
	Full
)

// Entry is one system call.
type Entry struct {
	Nr    uint16
	Name  string
	Level Level
	Note  string // of Partial and None: what is missing and what it costs
	Fn    Fn
	// Sig says how strace prints the arguments, a letter each: d int, l long, u
	// unsigned, x hex, p pointer, s string, f descriptor, a dirfd, m mode, b buffer
	// whose length is the next argument, B buffer that the call fills with as many bytes
	// as it returns; further letters are sets of flags: flagSets in traceflags.go.
	Sig string
}

// String is the level's name.
func (l Level) String() string {
	switch l {
	case Full:
		return "full"
	case Partial:
		return "partial"
	}
	return "none"
}

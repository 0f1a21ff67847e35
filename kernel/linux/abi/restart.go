// Package abi is Linux's numbers and structs for x86-64: data only, no behaviour.
//
// Spec: the uapi headers of Linux 6.1. What package syscall has (Errno, O_*, S_*,
// SIG*) is used from there; this package has what it lacks. A leaf: all may import it.
package abi

import "syscall"

// What a call returns that a signal interrupted, before the handler is known
// (Linux's include/linux/errno.h; never seen by programs).
const (
	ERESTARTSYS           = syscall.Errno(512) // again if SA_RESTART or no handler, else EINTR
	ERESTARTNOINTR        = syscall.Errno(513) // always again
	ERESTARTNOHAND        = syscall.Errno(514) // again only if there is no handler
	ERESTART_RESTARTBLOCK = syscall.Errno(516) // by restart_syscall where there is no handler, else EINTR
)

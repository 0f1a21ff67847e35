// Package task is Linux's processes and threads: a Task is a goroutine that runs a
// user program and serves its system calls, a Process what its tasks share.
package task

import "time"

// Sleeper is a thread that may wait; Task is one. Waiting is in one place so that
// signals, timeouts and exit end every wait.
type Sleeper interface {
	// Sleep returns nil once c has been signalled (a channel of capacity 1, or closed),
	// syscall.ETIMEDOUT at the deadline (the zero time is none), abi.ERESTARTSYS where
	// a signal is to be handled or the task is to die. What is ready already wins.
	Sleep(c <-chan struct{}, deadline time.Time) error
}

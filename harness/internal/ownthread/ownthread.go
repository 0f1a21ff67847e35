// Package ownthread runs a function on an operating-system thread of its own that
// ends with it. What the function does to its thread (enter a namespace, fork
// with a parent-death signal) cannot leak to other goroutines.
//
// Who may use it: packages of harness.
package ownthread

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// Go runs f on a new thread and returns at once.
func Go(f func()) {
	go func() {
		runtime.LockOSThread() // never unlocked for f: the thread ends with the goroutine
		if unix.Gettid() != unix.Getpid() {
			f()
			return
		}
		// The main thread cannot end: it would stay for ever in whatever
		// namespace f entered. Keep it busy while another thread is found.
		done := make(chan struct{})
		Go(func() { defer close(done); f() })
		<-done
		runtime.UnlockOSThread()
	}()
}

// Do runs f on a new thread and waits for it.
func Do(f func() error) error {
	done := make(chan error, 1)
	Go(func() { done <- f() })
	return <-done
}

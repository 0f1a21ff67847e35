// Package clock is time as the network stack sees it: a monotonic reading and
// timers, behind an interface so that every protocol runs under a fake clock in
// tests (kernel/ktest/clock).
//
// Who may use it: all of kernel/net. May not: know wall-clock time. Start
// reading at Clock.
package clock

import "time"

// Clock is a monotonic clock with timers.
type Clock interface {
	// Now is the monotonic time in nanoseconds, from an arbitrary origin.
	Now() int64
	// AfterFunc calls f once, in a goroutine of its own or (fake clock) in the
	// goroutine that advances time, d from now. f must not block for long.
	AfterFunc(d time.Duration, f func()) Timer
}

// Timer is one pending call of a Clock.
type Timer interface {
	// Stop cancels the call and reports whether it did: false means that f has
	// been started already, or that the timer was stopped before.
	Stop() bool
	// Reset moves the call to d from now, whether or not it has run, and reports
	// whether it was pending.
	Reset(d time.Duration) bool
}

// System is the Clock of the machine, through the Go runtime's own timers.
// The zero value is ready.
type System struct{}

var origin = time.Now()

// Now is the nanoseconds since the program started.
func (System) Now() int64 { return int64(time.Since(origin)) }

// AfterFunc is time.AfterFunc.
func (System) AfterFunc(d time.Duration, f func()) Timer { return time.AfterFunc(d, f) }

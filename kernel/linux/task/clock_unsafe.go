package task

import (
	"syscall"
	"time"
	"unsafe"

	"osv/kernel/linux/abi"
)

// The kernel's own clocks are the runtime's. CLOCK_MONOTONIC of a program is the clock
// that the vDSO reads, so base is taken once from both.
var (
	base     = time.Now()
	baseMono = rawMonotonic()
)

// rawMonotonic asks what is below the runtime: metal in a guest, Linux hosted.
func rawMonotonic() time.Duration {
	var ts syscall.Timespec
	syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, abi.CLOCK_MONOTONIC, uintptr(unsafe.Pointer(&ts)), 0)
	return time.Duration(ts.Nano())
}

// nanotime is the runtime's monotonic clock, as time.Since reads it.
//
//go:linkname nanotime runtime.nanotime
func nanotime() int64

// monoOffset is what CLOCK_MONOTONIC is ahead of nanotime, or some ns less: a time that has
// come must not be in the future.
var monoOffset = int64(baseMono) + int64(time.Since(base)) - nanotime()

// mono is the time on CLOCK_MONOTONIC.
func mono() time.Duration { return time.Duration(nanotime() + monoOffset) }

// Monotonic is the time on CLOCK_MONOTONIC, which began at boot.
func Monotonic() time.Duration { return mono() }

// AtMonotonic is the point in time at which CLOCK_MONOTONIC is d, for deadlines.
func AtMonotonic(d time.Duration) time.Time {
	if d > 1<<62 {
		return time.Time{}
	}
	return base.Add(d - baseMono)
}

// AtRealtime is the point in time at which CLOCK_REALTIME is d after 1970. It follows
// the wall clock; what is too far away is the zero time, no deadline.
func AtRealtime(d time.Duration) time.Time {
	if d > 1<<62 {
		return time.Time{}
	}
	return time.Unix(0, int64(d))
}

// After is the point in time d from now, the zero time for one too far away.
func After(d time.Duration) time.Time {
	if d > 1<<61 {
		return time.Time{}
	}
	return time.Now().Add(d)
}

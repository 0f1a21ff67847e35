package server

import "syscall"

// cpuTime is the CPU time that the process has used, in microseconds; 0 in a
// guest, where there is no such thing.
func cpuTime() (user, system int64) {
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) != nil {
		return 0, 0
	}
	return r.Utime.Nano() / 1e3, r.Stime.Nano() / 1e3
}

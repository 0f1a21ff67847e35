package sched

import (
	"sync/atomic"

	"osv/kernel/metal/cpu"
)

// KickUser interrupts the processor that is in ring 3 with u, after u.Kick was set.
// A thread that was preempted in ring 3 finds Kick when it is resumed.
func KickUser(c *cpu.CPU, u *cpu.User) {
	if k := atomic.LoadInt32(&u.CPU); k >= 0 && k != c.ID {
		cpu.SendIPI(cpu.All(int(k)), cpu.VectorIPI)
	}
}

package sched

import (
	"sync/atomic"

	"osv/kernel/metal/arch"
	"osv/kernel/metal/cpu"
)

// Each thread's account: what it used of the processors. Written by the processor
// that the thread leaves or comes to, while nobody else can come by the thread.
type account struct {
	// clock is, in one word so that it can be read at any time, the TSC ticks that the
	// thread ran, less the TSC's value at which it came to its processor while it is
	// on one. That is below zero then, since no thread has run longer than the TSC.
	clock       int64
	switches    uint64 // times that it came to a processor
	preemptions uint64 // times that it left one though it could have gone on
	migrations  uint64 // times that it came to another processor than its last
}

// left is, for each processor, the TSC when its last thread blocked or died: what
// comes next is charged from there on.
var left [cpu.Max]uint64

// leave ends t's time on c, of which it is taken by block or death.
func (t *Thread) leave(c *cpu.CPU) {
	now := arch.ReadTSC()
	left[c.ID] = now
	t.clock += int64(now)
}

// ticks is the TSC ticks that t was on a processor, up to now.
func (t *Thread) ticks() uint64 {
	n := atomic.LoadInt64(&t.clock)
	if n < 0 {
		n += int64(arch.ReadTSC())
	}
	return uint64(max(0, n)) // another processor's TSC may be a little behind
}

// Info is what is known of a thread. kernel/hw/gate reads it.
type Info struct {
	ID     uint32 // of idle threads IdleID and up
	State  uint32 // State
	Wait   uint32 // WaitNone or what a blocked thread waits for
	Vector uint32 // with WaitIRQ
	CPU    uint64 // where it runs or ran last
	Ticks  uint64 // of the TSC, on processors

	Switches, Preemptions, Migrations uint64
}

const (
	// IdleID is the number of processor 0's idle thread; the others' follow.
	IdleID = maxThreads
	// InfoBatch bounds what one call of Infos tells, since it has interrupts off.
	InfoBatch = 16
)

// Infos fills out with the threads from number from on, first those that the runtime
// made, then the idle ones. It returns how many they are, and the number to go on with.
// The caller has made sure that out is mapped.
func Infos(from uint32, out *[InfoBatch]Info) (n int, next uint32) {
	sleep.Lock()
	id := max(from, 1)
	for ; id <= nthread && n < InfoBatch; id++ {
		if t := byID(id); atomic.LoadUint32(&t.state) != uint32(Dead) {
			t.info(&out[n], id)
			n++
		}
	}
	sleep.Unlock()
	if id <= nthread {
		return n, id
	}
	for id = max(id, IdleID); int(id)-IdleID < cpu.Count() && n < InfoBatch; id++ {
		t := &idle[id-IdleID]
		t.info(&out[n], id)
		if Current(cpu.All(int(id-IdleID))) != t {
			out[n].State = uint32(Blocked) // until nobody else wants its processor
		}
		n++
	}
	return n, id
}

// info tells of t. Caller holds sleep unless t is an idle thread.
func (t *Thread) info(i *Info, id uint32) {
	*i = Info{
		ID: id, State: atomic.LoadUint32(&t.state), Wait: t.wait, CPU: uint64(atomic.LoadInt32(&t.cpu)), Ticks: t.ticks(),
		Switches: atomic.LoadUint64(&t.switches), Preemptions: atomic.LoadUint64(&t.preemptions), Migrations: atomic.LoadUint64(&t.migrations),
	}
	if t.wait == WaitIRQ {
		i.Vector = t.vector
	}
}

package sched

import (
	"sync/atomic"

	"osv/kernel/metal/clock"
	"osv/kernel/metal/cpu"
)

// Linux error numbers that waiting can end with, as raw results.
const (
	eINTR     = ^uintptr(4 - 1)
	eAGAIN    = ^uintptr(11 - 1)
	eTIMEDOUT = ^uintptr(110 - 1)
	futexHash = 256
)

// Sleepers of each processor, earliest first; guarded by sleep. firstWake
// mirrors the head's deadline for rearm.
var (
	sleepers  [cpu.Max]uint32
	firstWake [cpu.Max]int64
	buckets   [futexHash]uint32 // waiting threads, newest last
	tails     [futexHash]uint32
)

// block takes the current thread off its processor until something wakes it or
// the deadline (0 = none) passes. Caller holds sleep, sets the kind's own
// fields, and schedules after releasing it. result is what the system call
// returns unless the waker says otherwise.
func block(c *cpu.CPU, t *Thread, kind uint32, deadline int64, result uintptr) {
	t.wait, t.RAX = kind, result
	atomic.StoreUint32(&t.state, uint32(Blocked))
	t.leave(c)
	c.Gone = 1
	if deadline != 0 {
		addTimer(c, t, deadline)
	}
}

// wakeUp makes a blocked thread ready with the given result. Caller holds sleep.
func wakeUp(t *Thread, result uintptr) {
	if t.timerCPU >= 0 {
		removeTimer(t)
	}
	switch t.wait {
	case WaitFutex:
		unlinkFutex(t)
	case WaitPoll:
		if poller == t.id {
			poller = none
		}
	case WaitIRQ:
		if lines[t.vector].waiter == t.id {
			lines[t.vector].waiter = none
		}
	}
	t.wait, t.RAX = WaitNone, result
	makeReady(t)
}

func addTimer(c *cpu.CPU, t *Thread, at int64) {
	t.wake, t.timerCPU = at, c.ID
	prev, next := uint32(none), sleepers[c.ID]
	for next != none && byID(next).wake <= at {
		prev, next = next, byID(next).timerNext
	}
	t.timerPrev, t.timerNext = prev, next
	if prev == none {
		sleepers[c.ID] = t.id
		atomic.StoreInt64(&firstWake[c.ID], at)
	} else {
		byID(prev).timerNext = t.id
	}
	if next != none {
		byID(next).timerPrev = t.id
	}
}

// removeTimer takes t off its list. The other processor's timer may then fire
// for nothing once, which is cheaper than telling it.
func removeTimer(t *Thread) {
	k := t.timerCPU
	if t.timerPrev == none {
		sleepers[k] = t.timerNext
		first := int64(0)
		if t.timerNext != none {
			first = byID(t.timerNext).wake
		}
		atomic.StoreInt64(&firstWake[k], first)
	} else {
		byID(t.timerPrev).timerNext = t.timerNext
	}
	if t.timerNext != none {
		byID(t.timerNext).timerPrev = t.timerPrev
	}
	t.timerCPU, t.wake, t.timerNext, t.timerPrev = -1, 0, none, none
}

// expire wakes the sleepers of c whose time has come.
func expire(c *cpu.CPU, now int64) {
	if w := atomic.LoadInt64(&firstWake[c.ID]); w == 0 || w > now {
		return
	}
	sleep.Lock()
	for sleepers[c.ID] != none {
		t := byID(sleepers[c.ID])
		if t.wake > now {
			break
		}
		r := uintptr(0)
		if t.wait == WaitFutex || t.wait == WaitIRQ {
			r = eTIMEDOUT
		}
		wakeUp(t, r)
	}
	sleep.Unlock()
}

// Sleep blocks the current thread for ns nanoseconds.
func Sleep(c *cpu.CPU, ns int64) {
	t := Current(c)
	sleep.Lock()
	if !interrupted(t) {
		block(c, t, WaitSleep, max(1, clock.Now()+ns), 0)
	} else {
		t.RAX = eINTR
	}
	sleep.Unlock()
}

func bucket(a uintptr) uintptr { return (a>>2 ^ a>>10 ^ a>>18) % futexHash }

func unlinkFutex(t *Thread) {
	b := bucket(t.futex)
	if t.waitPrev == none {
		buckets[b] = t.waitNext
	} else {
		byID(t.waitPrev).waitNext = t.waitNext
	}
	if t.waitNext == none {
		tails[b] = t.waitPrev
	} else {
		byID(t.waitNext).waitPrev = t.waitPrev
	}
	t.waitNext, t.waitPrev, t.futex = none, none, 0
}

// FutexWait blocks the current thread until a FutexWake on addr, if the word
// there is still val. ns < 0 means no timeout. The caller has made sure that
// addr is mapped: sleep is held here, and a page fault would take vm's lock
// inside it, which the lock order allows.
func FutexWait(c *cpu.CPU, addr uintptr, word *uint32, val uint32, ns int64) {
	t := Current(c)
	sleep.Lock()
	switch {
	case atomic.LoadUint32(word) != val:
		t.RAX = eAGAIN
	case interrupted(t):
		t.RAX = eINTR
	default:
		deadline := int64(0)
		if ns >= 0 {
			deadline = max(1, clock.Now()+ns)
		}
		b := bucket(addr)
		t.futex, t.waitNext, t.waitPrev = addr, none, tails[b]
		if tails[b] == none {
			buckets[b] = t.id
		} else {
			byID(tails[b]).waitNext = t.id
		}
		tails[b] = t.id
		block(c, t, WaitFutex, deadline, 0)
	}
	sleep.Unlock()
}

// FutexWake wakes up to n threads that wait on addr, oldest first, and returns
// how many it woke.
func FutexWake(addr uintptr, n uintptr) uintptr {
	woken := uintptr(0)
	sleep.Lock()
	for id := buckets[bucket(addr)]; id != none && woken < n; {
		t := byID(id)
		id = t.waitNext
		if t.futex == addr {
			wakeUp(t, 0)
			woken++
		}
	}
	sleep.Unlock()
	return woken
}

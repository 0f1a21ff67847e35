package sched

import (
	"sync/atomic"
	"unsafe"

	"osv/kernel/metal/arch"
	"osv/kernel/metal/clock"
	"osv/kernel/metal/cpu"
)

// sliceNS is how long a thread runs while another waits for its processor.
const sliceNS = 4000000

// Those whose slice was over wait at most agedNS behind ones that are woken again and
// again, and then have calmNS in which nothing that is woken makes ring 3 give way.
const (
	agedNS = sliceNS
	calmNS = sliceNS / 2
)

// runq is one processor's queue of ready threads. Those that were woken come first:
// they serve a driver or a timer, or have slept, and mostly soon block again. Then
// those whose time was over, unless one of them has waited for long. Each list is
// first in first out.
type runq struct {
	mu    cpu.SpinLock
	woken list
	spent list
	since int64 // when the first of spent got its place, ns
	n     int32 // atomic
	_     [32]byte
}

// list links threads by next.
type list struct{ head, tail uint32 }

func (l *list) push(t *Thread) {
	t.next = none
	if l.tail == none {
		l.head = t.id
	} else {
		byID(l.tail).next = t.id
	}
	l.tail = t.id
}

func (l *list) pushFront(t *Thread) {
	t.next = l.head
	l.head = t.id
	if l.tail == none {
		l.tail = t.id
	}
}

func (l *list) pop() *Thread {
	t := byID(l.head)
	l.head = t.next
	if l.head == none {
		l.tail = none
	}
	return t
}

var (
	queues [cpu.Max]runq
	idle   [cpu.Max]Thread // each processor's own: STI; HLT
	armed  [cpu.Max]int64  // deadline its timer is set for, 0 = off
	slice  [cpu.Max]int64  // end of the running thread's slice, 0 = none
	calm   [cpu.Max]int64  // atomic; until when ring 3 there gives way to nothing
	idlePC uintptr
)

// InitCPU readies this processor to schedule: its idle thread becomes current.
// pc is the idle loop.
func InitCPU(c *cpu.CPU, pc uintptr) {
	t := &idle[c.ID]
	t.idle, t.cpu, t.state, t.timerCPU = true, c.ID, uint32(Running), -1
	idlePC = pc
	resetIdle(c, t)
	initFX(t)
	c.Cur = uintptr(unsafe.Pointer(t))
	t.clock -= int64(arch.ReadTSC())
}

// BusyNS is the time that all processors together have not been idle since boot.
func BusyNS() int64 {
	n, idle := cpu.Count(), uint64(0)
	for i := 0; i < n; i++ {
		idle += IdleTSC(i)
	}
	return max(0, int64(n)*clock.Now()-int64(clock.ToNS(idle)))
}

// IdleTSC is how many TSC ticks processor i was idle since boot, the time that it is
// idle now included.
func IdleTSC(i int) uint64 { return idle[i].ticks() }

func resetIdle(c *cpu.CPU, t *Thread) {
	t.RIP, t.RFlags, t.RSP, t.Full = idlePC, 2, c.SysStack, 1
}

// put queues a thread that was woken.
func (q *runq) put(t *Thread) {
	q.mu.Lock()
	q.woken.push(t)
	atomic.AddInt32(&q.n, 1)
	q.mu.Unlock()
}

// putBack queues one that ran and could go on: behind the others like it, or before
// them where its turn is not over.
func (q *runq) putBack(t *Thread, front bool) {
	q.mu.Lock()
	if q.spent.head == none {
		q.since = clock.Now()
	}
	if front {
		q.spent.pushFront(t)
	} else {
		q.spent.push(t)
	}
	atomic.AddInt32(&q.n, 1)
	q.mu.Unlock()
}

// take returns the next thread, or nil; aged says that it had to wait too long.
func (q *runq) take() (t *Thread, aged bool) {
	if atomic.LoadInt32(&q.n) == 0 {
		return nil, false
	}
	q.mu.Lock()
	aged = q.woken.head != none && q.spent.head != none && clock.Now()-q.since >= agedNS
	switch {
	case q.woken.head != none && !aged:
		t = q.woken.pop()
	case q.spent.head != none:
		t = q.spent.pop()
		if q.spent.head != none {
			q.since = clock.Now()
		}
	default:
		q.mu.Unlock()
		return nil, false
	}
	atomic.AddInt32(&q.n, -1)
	q.mu.Unlock()
	return t, aged
}

// makeReady queues t where it will run soonest: the processor it last ran on if
// that is idle, else any idle one, else its last. An idle processor elsewhere is
// woken. A program in ring 3 gives way at once: what is woken is the Go runtime, with
// a driver or a timer to serve, or a program that has slept.
func makeReady(t *Thread) {
	t.state = uint32(Ready)
	me := cpu.Current()
	target := int(t.cpu)
	n := cpu.Count()
	if !isIdle(target) {
		for k := 1; k < n; k++ {
			i := (target + k) % n
			if isIdle(i) {
				target = i
				break
			}
		}
	}
	c := cpu.All(target)
	queues[target].put(t)
	if c.InRing3() && clock.Now() >= atomic.LoadInt64(&calm[target]) {
		atomic.StoreUint32(&c.Urgent, 1)
		if c == me {
			rearm(me)
		} else {
			cpu.SendIPI(c, cpu.VectorIPI)
		}
		return
	}
	if c == me {
		// Whoever runs here now gets a slice; see rearm.
		rearm(me)
		return
	}
	if atomic.LoadUint32(&c.Idle) != 0 {
		cpu.SendIPI(c, cpu.VectorIPI)
	} else if atomic.LoadInt64(&slice[target]) == 0 {
		cpu.SendIPI(c, cpu.VectorIPI) // make it start a slice
	}
}

func isIdle(i int) bool {
	c := cpu.All(i)
	return atomic.LoadUint32(&c.Online) != 0 && atomic.LoadUint32(&c.Idle) != 0 && atomic.LoadInt32(&queues[i].n) == 0
}

// Schedule makes another thread current on c, or the same one if none waits and
// it can go on. c.Gone says that the current thread blocked or died: from that
// moment it belongs to whoever wakes it, may already run elsewhere, and is not
// looked at here.
func Schedule(c *cpu.CPU) {
	old := Current(c)
	stays := c.Gone == 0 && !old.idle
	urgent := atomic.SwapUint32(&c.Urgent, 0) != 0
	gone := c.Gone != 0
	c.Gone = 0
	if old.idle {
		resetIdle(c, old)
	}
	t, aged := pick(c)
	if t == nil {
		if stays {
			rearm(c)
			return
		}
		// Say that we idle before the last look, so that whoever queues a thread
		// after it sees us and sends an interrupt, which STI; HLT cannot miss.
		atomic.StoreUint32(&c.Idle, 1)
		t, aged = pick(c)
		if t == nil {
			t = &idle[c.ID]
			if t != old {
				c.Stats.Idles++
				cpu.Rest(c)
				t.switches++
				t.clock -= int64(left[c.ID])
			}
			c.Cur = uintptr(unsafe.Pointer(t))
			rearm(c)
			return
		}
	}
	atomic.StoreUint32(&c.Idle, 0)
	now := left[c.ID]
	if !gone {
		now = arch.ReadTSC()
		old.clock += int64(now)
	}
	if stays {
		old.preemptions++
		atomic.StoreUint32(&old.state, uint32(Ready))
		queues[c.ID].putBack(old, urgent && old.Full == FrameUser)
	}
	if t != old {
		c.Stats.Switches++
	}
	t.clock -= int64(now)
	t.switches++
	if t.cpu != c.ID {
		t.migrations++
		atomic.StoreInt32(&t.cpu, c.ID)
	}
	atomic.StoreUint32(&t.state, uint32(Running))
	c.Cur = uintptr(unsafe.Pointer(t))
	end := int64(0)
	if aged {
		end = clock.Now() + calmNS
		atomic.StoreInt64(&calm[c.ID], end)
	}
	atomic.StoreInt64(&slice[c.ID], end)
	rearm(c)
}

// pick takes the next ready thread: ours, else one that waits elsewhere.
func pick(c *cpu.CPU) (t *Thread, aged bool) {
	if t, aged = queues[c.ID].take(); t != nil {
		return t, aged
	}
	n := cpu.Count()
	for k := 1; k < n; k++ {
		if t, aged = queues[(int(c.ID)+k)%n].take(); t != nil {
			return t, aged
		}
	}
	return nil, false
}

// rearm sets this processor's timer to the earlier of its first sleeper and the
// end of the slice. A thread that nobody waits behind has no slice, and an idle
// processor no tick.
func rearm(c *cpu.CPU) {
	at := atomic.LoadInt64(&firstWake[c.ID])
	cur := Current(c)
	if !cur.idle && atomic.LoadInt32(&queues[c.ID].n) > 0 {
		if slice[c.ID] == 0 {
			atomic.StoreInt64(&slice[c.ID], clock.Now()+sliceNS)
		}
		if at == 0 || slice[c.ID] < at {
			at = slice[c.ID]
		}
	}
	if armed[c.ID] == at {
		return
	}
	armed[c.ID] = at
	if at == 0 {
		cpu.ArmTimer(0)
		return
	}
	cpu.ArmTimer(clock.TSCAt(at))
}

// Tick serves the timer interrupt: wakes sleepers, and ends the slice if it is
// over. It reports whether the current thread should give way.
func Tick(c *cpu.CPU) (resched bool) {
	armed[c.ID] = 0
	now := clock.Now()
	expire(c, now)
	s := slice[c.ID]
	resched = Current(c).idle || s != 0 && now >= s
	if s != 0 && now >= s {
		atomic.StoreInt64(&slice[c.ID], 0)
	}
	if !resched {
		rearm(c)
	}
	return resched
}

// Kick serves the rescheduling interrupt.
func Kick(c *cpu.CPU) (resched bool) {
	if Current(c).idle {
		return true
	}
	rearm(c)
	return false
}

// Yield puts the current thread behind those that wait.
func Yield(c *cpu.CPU) { Schedule(c) }

package sched

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"

	"osv/kernel/ktest/hostcpu"
	"osv/kernel/metal/arch"
)

// futexWait lets what runs on processor i wait, and schedules.
func (m *machine) futexWait(i int, word *uint32, val uint32, ns int64) *Thread {
	m.on(i)
	th := Current(m.c[i])
	FutexWait(m.c[i], uintptr(unsafe.Pointer(word)), word, val, ns)
	if m.c[i].Gone != 0 {
		Schedule(m.c[i])
	}
	return th
}

func wake(word *uint32, n uintptr) uintptr { return FutexWake(uintptr(unsafe.Pointer(word)), n) }

func TestFutexValueDiffers(t *testing.T) {
	m := fresh(t)
	th := m.spawn(0)
	word := uint32(5)
	m.futexWait(0, &word, 4, -1)
	m.wantRunning(0, th)
	if th.RAX != eAGAIN {
		t.Errorf("result %d, want EAGAIN", int(th.RAX))
	}
}

// Threads that wait on a word wake oldest first, as many as asked for; those on
// another word of the same bucket stay.
func TestFutexWakeOrder(t *testing.T) {
	m := fresh(t)
	// Two words whose addresses share a bucket.
	words, _ := hostcpu.Arena(t, 1<<20)
	a, b := arch.U32(words), (*uint32)(nil)
	for off := uintptr(4); b == nil; off += 4 {
		if bucket(words+off) == bucket(words) {
			b = arch.U32(words + off)
		}
	}
	var waiters []*Thread
	for i := range 6 {
		m.spawn(0)
		w := a
		if i%2 == 1 {
			w = b
		}
		waiters = append(waiters, m.futexWait(0, w, 0, -1))
	}
	m.wantRunning(0, nil)
	if n := wake(a, 0); n != 0 {
		t.Errorf("woke %d, want none", n)
	}
	if n := wake(a, 2); n != 2 {
		t.Errorf("woke %d, want 2", n)
	}
	for i, want := range []State{Ready, Blocked, Ready, Blocked, Blocked, Blocked} {
		m.wantState(waiters[i], want)
	}
	if n := wake(b, 100); n != 3 {
		t.Errorf("woke %d, want 3", n)
	}
	if n := wake(a, 100); n != 1 {
		t.Errorf("woke %d, want 1", n)
	}
	if n := wake(a, 100); n != 0 {
		t.Errorf("woke %d, want none", n)
	}
	for _, th := range waiters {
		if th.RAX != 0 || th.wait != WaitNone || th.futex != 0 || th.state != uint32(Ready) {
			t.Errorf("thread %d: result %d, waits for %d", th.id, int(th.RAX), th.wait)
		}
	}
	k := bucket(words)
	if buckets[k] != none || tails[k] != none {
		t.Errorf("bucket goes from %d to %d", buckets[k], tails[k])
	}
}

// The newest waiter gives up; one that comes after it still queues behind the rest.
func TestFutexNewestGivesUp(t *testing.T) {
	m := fresh(t)
	word := uint32(0)
	var waiters []*Thread
	for i := range 4 {
		m.spawn(0)
		ns := int64(-1)
		if i == 2 {
			ns = 100
		}
		waiters = append(waiters, m.futexWait(0, &word, 0, ns))
		if i == 2 {
			expire(m.c[0], 100)
			Schedule(m.c[0])
			m.wantRunning(0, waiters[2])
		}
	}
	for _, i := range []int{0, 1, 3} {
		m.wantState(waiters[i], Blocked)
		if n := wake(&word, 1); n != 1 {
			t.Fatalf("woke %d, want 1", n)
		}
		m.wantState(waiters[i], Ready)
	}
}

func TestFutexTimeout(t *testing.T) {
	m := fresh(t)
	word := uint32(0)
	m.spawn(0)
	slow := m.futexWait(0, &word, 0, 5000)
	m.spawn(0)
	quick := m.futexWait(0, &word, 0, 1000)
	if firstWake[0] != 1000 || armed[0] != 1000 {
		t.Errorf("first deadline %d, timer %d, want 1000", firstWake[0], armed[0])
	}
	expire(m.c[0], 999)
	m.wantState(quick, Blocked)
	expire(m.c[0], 1000)
	m.wantState(quick, Ready)
	m.wantState(slow, Blocked)
	if quick.RAX != eTIMEDOUT || firstWake[0] != 5000 {
		t.Errorf("result %d, next deadline %d", int(quick.RAX), firstWake[0])
	}
	// A thread that is woken in time has no deadline left.
	if n := wake(&word, 10); n != 1 || slow.RAX != 0 || slow.timerCPU != -1 || firstWake[0] != 0 {
		t.Errorf("woke %d: result %d, deadline %d", n, int(slow.RAX), firstWake[0])
	}
	expire(m.c[0], 1<<60)
	// A timeout of 0 is a deadline that has passed, not none.
	m.spawn(0)
	m.futexWait(0, &word, 0, 0)
	if firstWake[0] != 1 {
		t.Errorf("deadline %d, want 1", firstWake[0])
	}
}

// Random sets and removals of deadlines on two processors: expire wakes those
// whose time has come, in order, and nobody else.
func TestTimersAgainstModel(t *testing.T) {
	for seed := range uint64(10) {
		rng := rand.New(rand.NewPCG(seed, 1))
		m := fresh(t)
		m.c[0].Idle, m.c[1].Idle = 0, 0
		type entry struct {
			th  *Thread
			cpu int
			at  int64
		}
		var waiting []entry
		now := int64(0)
		for range 400 {
			switch k := rng.IntN(10); {
			case k < 5: // a new sleeper
				sleep.Lock()
				th := newThread()
				i := rng.IntN(2)
				th.cpu = int32(i)
				at := now + 1 + rng.Int64N(50)
				block(m.c[i], th, WaitSleep, at, 0)
				sleep.Unlock()
				waiting = append(waiting, entry{th, i, at})
			case k < 7 && len(waiting) > 0: // one wakes early
				j := rng.IntN(len(waiting))
				sleep.Lock()
				wakeUp(waiting[j].th, 7)
				sleep.Unlock()
				waiting = slices.Delete(waiting, j, j+1)
			default: // time goes on
				now += rng.Int64N(20)
				expire(m.c[0], now)
				expire(m.c[1], now)
				waiting = slices.DeleteFunc(waiting, func(e entry) bool {
					if due := e.at <= now; due != (e.th.state == uint32(Ready)) {
						t.Fatalf("seed %d: at %d, a sleeper until %d is in state %d", seed, now, e.at, e.th.state)
					}
					return e.at <= now
				})
			}
			for i := range m.c {
				least, n := int64(0), 0
				for _, e := range waiting {
					if e.cpu == i {
						if n++; least == 0 || e.at < least {
							least = e.at
						}
					}
				}
				got, before := 0, int64(0)
				for id, prev := sleepers[i], uint32(none); id != none; id, prev = byID(id).timerNext, id {
					th := byID(id)
					if th.wake < before || th.timerPrev != prev || th.timerCPU != int32(i) {
						t.Fatalf("seed %d: list of processor %d is out of order or ill linked at thread %d", seed, i, id)
					}
					before = th.wake
					got++
				}
				if got != n || firstWake[i] != least {
					t.Fatalf("seed %d: processor %d has %d sleepers, first at %d; want %d, %d", seed, i, got, firstWake[i], n, least)
				}
			}
		}
	}
}

func TestSleep(t *testing.T) {
	m := fresh(t)
	th := m.spawn(0)
	th.RAX = 99
	Sleep(m.c[0], 700)
	Schedule(m.c[0])
	m.wantRunning(0, nil)
	if armed[0] != 700 {
		t.Errorf("timer is set for %d, want 700", armed[0])
	}
	expire(m.c[0], 700)
	Schedule(m.c[0])
	m.wantRunning(0, th)
	if th.RAX != 0 || armed[0] != 0 {
		t.Errorf("result %d, timer %d", int(th.RAX), armed[0])
	}
}

func TestVectors(t *testing.T) {
	fresh(t)
	var all []uint32
	for v := AllocVector(1); v != 0; v = AllocVector(1) {
		if v < 0x30 || v > 0xef || slices.Contains(all, v) || lines[v].cpu != 1 {
			t.Fatalf("vector %#x", v)
		}
		all = append(all, v)
	}
	if len(all) != 0xef-0x30+1 {
		t.Errorf("%d vectors, want %d", len(all), 0xef-0x30+1)
	}
	lines[0x77].fired = 3
	FreeVector(0x77)
	if v := AllocVector(0); v != 0x77 || lines[v].fired != 0 {
		t.Errorf("vector %#x, want 0x77, with no firings of its last owner (%d)", v, lines[v].fired)
	}
}

// An interrupt wakes the waiter; those before a wait are not lost, and are one.
func TestIRQWait(t *testing.T) {
	m := fresh(t)
	v := AllocVector(0)
	th := m.spawn(0)
	Interrupt(m.c[0], v)
	IRQRaise(v)
	IRQWait(m.c[0], v)
	if m.c[0].Gone != 0 || th.RAX != 0 || lines[v].fired != 0 {
		t.Errorf("a wait after two firings: gone %d, result %d, %d firings left", m.c[0].Gone, int(th.RAX), lines[v].fired)
	}
	IRQWait(m.c[0], v)
	Schedule(m.c[0])
	m.wantRunning(0, nil)

	// A line has one waiter.
	other := m.spawn(0)
	IRQWait(m.c[0], v)
	if m.c[0].Gone != 0 || int(other.RAX) != -16 {
		t.Errorf("a second waiter: gone %d, result %d, want EBUSY", m.c[0].Gone, int(other.RAX))
	}
	Exit(m.c[0])
	Schedule(m.c[0])
	if !Interrupt(m.c[0], v) {
		t.Error("an interrupt on an idle processor does not make it look for work")
	}
	Schedule(m.c[0])
	m.wantRunning(0, th)
	if th.RAX != 0 || lines[v].waiter != none || lines[v].fired != 0 {
		t.Errorf("result %d, waiter %d, %d firings left", int(th.RAX), lines[v].waiter, lines[v].fired)
	}
	if Interrupt(m.c[0], v) {
		t.Error("an interrupt makes a busy processor give way")
	}
	IRQWait(m.c[0], v)
	IRQWait(m.c[0], v)
	Schedule(m.c[0])
	IRQRaise(v)
	m.wantState(th, Ready)
}

// A level-triggered pin is masked from the interrupt, or from the start, until
// the next wait.
func TestIRQLevel(t *testing.T) {
	m := fresh(t)
	io, _ := hostcpu.Arena(t, 4096)
	sel, win := arch.U32(io), arch.U32(io+0x10)
	v := AllocVector(0)
	SetLevel(v, io, 5)
	th := m.spawn(0)
	*win = 1<<16 | 0x8000 | v // as whoever routed the pin left it
	want := func(what string, masked bool) {
		t.Helper()
		if *sel != 0x10+2*5 || (*win&(1<<16) != 0) != masked || *win&^(1<<16) != 0x8000|v {
			t.Errorf("%s: register %#x is %#x, want masked %v", what, *sel, *win, masked)
		}
	}
	IRQWait(m.c[0], v)
	want("first wait", false)
	Schedule(m.c[0])
	Interrupt(m.c[0], v)
	want("interrupt", true)
	m.wantState(th, Ready)
	Schedule(m.c[0])
	IRQWait(m.c[0], v)
	want("second wait", false)
	Schedule(m.c[0])
	IRQRaise(v) // by software: the pin stays open
	want("raise", false)
}

func TestIOAPICRegisters(t *testing.T) {
	fresh(t)
	io, _ := hostcpu.Arena(t, 4096)
	IOAPIC(io, 0x12, true, 0xabc)
	if *arch.U32(io) != 0x12 || *arch.U32(io + 0x10) != 0xabc || IOAPIC(io, 1, false, 0) != 0xabc || *arch.U32(io) != 1 {
		t.Errorf("select %#x, window %#x", *arch.U32(io), *arch.U32(io + 0x10))
	}
}

// The runtime's poller: woken by its own eventfd, or by time.
func TestPoll(t *testing.T) {
	m := fresh(t)
	events, _ := hostcpu.Arena(t, 4096)
	th := m.spawn(0)
	event := func() string {
		return fmt.Sprintf("%x %x %x", *arch.U32(events), *arch.U32(events + 4), *arch.U32(events + 8))
	}
	PollRegister(0x1122334455667788)
	PollWait(m.c[0], events, 0)
	if m.c[0].Gone != 0 || th.RAX != 0 {
		t.Errorf("a wait of 0 ms: gone %d, result %d", m.c[0].Gone, int(th.RAX))
	}
	if EventRead() {
		t.Error("the event is set")
	}
	EventWrite()
	PollWait(m.c[0], events, -1)
	if m.c[0].Gone != 0 || th.RAX != 1 || event() != "1 55667788 11223344" {
		t.Errorf("a wait when the event is set: gone %d, result %d, event %s", m.c[0].Gone, int(th.RAX), event())
	}
	if !EventRead() || EventRead() {
		t.Error("the event is read not once")
	}
	*arch.U64(events) = 0
	PollWait(m.c[0], events, -1)
	Schedule(m.c[0])
	m.wantRunning(0, nil)
	if armed[0] != 0 {
		t.Errorf("a wait for ever has deadline %d", armed[0])
	}
	EventWrite()
	m.wantState(th, Ready)
	if th.RAX != 1 || event() != "1 55667788 11223344" || poller != none {
		t.Errorf("woken: result %d, event %s, poller %d", int(th.RAX), event(), poller)
	}
	EventRead()
	Schedule(m.c[0])
	PollWait(m.c[0], events, 3)
	Schedule(m.c[0])
	if armed[0] != 3000000 {
		t.Errorf("a wait of 3 ms has deadline %d", armed[0])
	}
	expire(m.c[0], 3000000)
	m.wantState(th, Ready)
	if th.RAX != 0 || poller != none {
		t.Errorf("timed out: result %d, poller %d", int(th.RAX), poller)
	}
}

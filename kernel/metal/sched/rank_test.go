package sched

import (
	"testing"
	"unsafe"

	"osv/kernel/ktest/hostcpu"
	"osv/kernel/metal/cpu"
)

// queued makes a thread that nobody runs yet. All threads of a test live.
func queued(t *testing.T) *Thread {
	t.Helper()
	if !Spawn(0x100, 0x200) {
		t.Fatal("no room for a thread")
	}
	return byID(uint32(Live()))
}

// Woken threads run before those whose slice was over, but not for ever.
func TestWokenFirst(t *testing.T) {
	m := fresh(t)
	m.c[1].Idle = 0 // nothing is to be queued there
	a, b := queued(t), queued(t)
	Schedule(m.c[0])
	m.wantRunning(0, a)
	Yield(m.c[0])
	m.wantRunning(0, b)
	wake := func(th *Thread) {
		sleep.Lock()
		makeReady(th)
		sleep.Unlock()
	}
	c := queued(t) // behind a in time, before it in rank
	Yield(m.c[0])
	m.wantRunning(0, c)
	want := list{a.id, b.id}
	if queues[0].spent != want {
		t.Errorf("queue %+v, want %+v", queues[0].spent, want)
	}
	// c blocks and is woken again and again; a has waited for long.
	m.c[0].Gone = 1
	Schedule(m.c[0])
	m.wantRunning(0, a)
	wake(c)
	queues[0].since = -agedNS
	Yield(m.c[0])
	m.wantRunning(0, b)
	if calm[0] != calmNS || slice[0] != calmNS {
		t.Errorf("calm until %d, slice ends at %d; want %d", calm[0], slice[0], calmNS)
	}
	Yield(m.c[0])
	m.wantRunning(0, c)
}

// A program in ring 3 gives way to what is woken, and then goes on before others.
func TestRing3GivesWay(t *testing.T) {
	m := fresh(t)
	m.c[1].Idle = 0 // nothing is to be queued there
	a, b := queued(t), queued(t)
	Schedule(m.c[0])
	Yield(m.c[0])
	m.wantRunning(0, b)
	at, _ := hostcpu.Arena(t, 4096)
	u := (*cpu.User)(unsafe.Pointer(at))
	u.CPU = 0
	m.c[0].User = at
	defer func() { m.c[0].User = 0 }()
	if !m.c[0].InRing3() {
		t.Fatal("not in ring 3")
	}
	c := queued(t)
	if m.c[0].Urgent != 1 {
		t.Fatal("ring 3 is not to give way")
	}
	b.Full = FrameUser
	u.CPU = -1 // as trap saves it
	Schedule(m.c[0])
	m.wantRunning(0, c)
	if want := (list{b.id, a.id}); queues[0].spent != want || m.c[0].Urgent != 0 {
		t.Errorf("queue %+v, want %+v", queues[0].spent, want)
	}
	// Elsewhere, too, by an interrupt; but not in its time of calm.
	m.c[1].User, u.CPU = at, 1
	defer func() { m.c[1].User = 0 }()
	m.c[1].Idle = 0
	for _, calmUntil := range []int64{0, 1} {
		calm[1] = calmUntil
		slice[1] = 1
		m.c[1].Urgent = 0
		m.ipi()
		queues[1] = runq{}
		a.cpu = 1
		sleep.Lock()
		makeReady(a)
		sleep.Unlock()
		if got := m.ipi() != 0; got != (calmUntil == 0) || got != (m.c[1].Urgent == 1) {
			t.Errorf("calm until %d: interrupt %v, urgent %d", calmUntil, got, m.c[1].Urgent)
		}
	}
}

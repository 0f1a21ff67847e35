package sched

import (
	"testing"

	"osv/kernel/metal/arch"
)

func TestIdleMachine(t *testing.T) {
	m := fresh(t)
	for i := range m.c {
		m.wantRunning(i, nil)
		// The idle loop starts on the processor's own stack, interrupts off: it turns
		// them on with the HLT.
		if th := Current(m.c[i]); th.RIP != idleRIP || th.RSP != m.c[i].SysStack || th.RFlags != 2 || th.Full != 1 {
			t.Errorf("idle thread of processor %d: RIP %#x, RSP %#x, flags %#x", i, th.RIP, th.RSP, th.RFlags)
		}
	}
	if Live() != 0 {
		t.Errorf("%d threads live", Live())
	}
}

func TestSpawn(t *testing.T) {
	m := fresh(t)
	if !Spawn(0x1234, 0x5678) {
		t.Fatal("no room")
	}
	Schedule(m.c[0])
	th := Current(m.c[0])
	m.wantRunning(0, th)
	m.wantState(th, Running)
	if th.id != 1 || th.RIP != 0x1234 || th.RSP != 0x5678 || th.RFlags != arch.FlagIF|2 || th.Full != 1 {
		t.Errorf("thread %d: RIP %#x, RSP %#x, flags %#x", th.id, th.RIP, th.RSP, th.RFlags)
	}
	// FNINIT and the reset value of MXCSR, in the layout of FXSAVE.
	if fx := th.FX; fx[0] != 0x7f || fx[1] != 3 || fx[24] != 0x80 || fx[25] != 0x1f {
		t.Errorf("FPU state: control word %x, MXCSR %x", fx[:2], fx[24:28])
	}
}

// Ready threads take turns, first in first out.
func TestYieldIsRoundRobin(t *testing.T) {
	m := fresh(t)
	a := m.spawn(0)
	Spawn(2, 0)
	Spawn(3, 0)
	b, c := byID(2), byID(3)
	// Processor 1 was idle: the second went there, the third stays behind a.
	m.wantState(b, Ready)
	if queues[1].n != 1 || queues[0].n != 1 {
		t.Fatalf("%d and %d threads queued, want one each", queues[0].n, queues[1].n)
	}
	Schedule(m.c[1])
	m.wantRunning(1, b)
	for _, want := range []*Thread{c, a, c, a} {
		Yield(m.c[0])
		m.wantRunning(0, want)
	}
	m.wantState(c, Ready)
	if queues[0].n != 1 || queues[0].spent != (list{c.id, c.id}) {
		t.Errorf("%d queued, from %d to %d", queues[0].n, queues[0].spent.head, queues[0].spent.tail)
	}
}

// A thread alone goes on when it yields, and has no slice to end.
func TestYieldAlone(t *testing.T) {
	m := fresh(t)
	a := m.spawn(0)
	before := m.c[0].Stats.Switches
	Yield(m.c[0])
	m.wantRunning(0, a)
	if m.c[0].Stats.Switches != before || slice[0] != 0 || armed[0] != 0 {
		t.Errorf("%d switches, slice %d, timer %d", m.c[0].Stats.Switches-before, slice[0], armed[0])
	}
}

// A ready thread goes where it last ran if that is idle, else to any idle
// processor, which is woken. TestSliceStarts has the case that none is.
func TestMakeReadyChoosesTheProcessor(t *testing.T) {
	m := fresh(t)
	block1 := func(i int) *Thread {
		th := m.spawn(i)
		sleep.Lock()
		block(m.c[i], th, WaitSleep, 0, 0)
		sleep.Unlock()
		Schedule(m.c[i])
		m.wantRunning(i, nil)
		return th
	}
	wake := func(th *Thread) {
		sleep.Lock()
		wakeUp(th, 0)
		sleep.Unlock()
	}
	th := block1(0)
	th.cpu = 1
	m.ipi()
	m.on(0)
	wake(th)
	if m.ipi() != 11 || queues[1].n != 1 {
		t.Error("a thread that last ran on idle processor 1 did not wake it")
	}
	Schedule(m.c[1])
	m.wantRunning(1, th)

	// Its own processor is busy, the other idle.
	th2 := block1(0)
	th2.cpu = 1
	m.ipi()
	wake(th2)
	if apic := m.ipi(); apic != 0 || queues[0].n != 1 {
		t.Errorf("a thread did not come to the idle processor that woke it: interrupt to %d", apic)
	}
	Schedule(m.c[0])
	m.wantRunning(0, th2)
}

// Whoever queues a thread behind a running one starts its slice, and arms the
// timer for its end.
func TestSliceStarts(t *testing.T) {
	m := fresh(t)
	m.spawn(0)
	m.spawn(1)
	m.on(0)
	m.ipi()
	Spawn(3, 0) // both are busy: processor 0, where a new thread says it last was
	if queues[0].n != 1 || slice[0] != sliceNS || armed[0] != sliceNS {
		t.Errorf("%d queued, slice ends at %d, timer at %d; want 1, %d, %d", queues[0].n, slice[0], armed[0], sliceNS, sliceNS)
	}
	if m.ipi() != 0 {
		t.Error("a processor interrupts itself")
	}
	// From elsewhere, the running processor is interrupted to do so.
	byID(3).cpu = 1
	Yield(m.c[0]) // 3 runs on 0 now
	byID(1).cpu = 1
	queues[0] = runq{}
	sleep.Lock()
	makeReady(byID(1))
	sleep.Unlock()
	if m.ipi() != 11 || queues[1].n != 1 {
		t.Error("processor 1, which runs a thread, was not told of another")
	}
	m.on(1)
	if Kick(m.c[1]) || slice[1] != sliceNS || armed[1] != sliceNS {
		t.Errorf("after the interrupt: slice %d, timer %d", slice[1], armed[1])
	}
	// The slice is over: give way.
	slice[1] = -1
	if !Tick(m.c[1]) || slice[1] != 0 {
		t.Error("a slice that is over does not end")
	}
	Schedule(m.c[1])
	m.wantRunning(1, byID(1))
}

// An idle processor takes what waits elsewhere.
func TestIdleProcessorSteals(t *testing.T) {
	m := fresh(t)
	a := m.spawn(0)
	m.c[1].Idle = 0 // busy, as far as makeReady sees
	Spawn(2, 0)
	m.c[1].Idle = 1
	if queues[0].n != 1 {
		t.Fatal("the second thread is not queued on processor 0")
	}
	if !Kick(m.c[1]) {
		t.Error("an idle processor that is kicked does not look for work")
	}
	m.on(1)
	Schedule(m.c[1])
	m.wantRunning(1, byID(2))
	m.wantRunning(0, a)
	if byID(2).cpu != 1 {
		t.Errorf("thread 2 says that it runs on %d", byID(2).cpu)
	}
}

func TestClone(t *testing.T) {
	m := fresh(t)
	p := m.spawn(0)
	p.Frame = Frame{RAX: 56, RBX: 2, RCX: 3, RDX: 4, RSI: 5, RDI: 6, RBP: 7, R8: 8, R9: 9, R10: 10, R11: 11, R12: 12, R13: 13, R14: 14, R15: 15, RIP: 16, RFlags: 17, RSP: 18, FSBase: 19}
	p.mask = 0xff00
	id, ok := Clone(p, 0x7000, 0x8000, true)
	if !ok || id != 2 {
		t.Fatalf("Clone: %d, %v", id, ok)
	}
	c := byID(id)
	want := p.Frame
	want.RAX, want.RSP, want.FSBase, want.Full, want.FX = 0, 0x7000, 0x8000, 0, c.FX
	if c.Frame != want || c.mask != p.mask || c.pending != 0 {
		t.Errorf("child: %+v, mask %#x", c.Frame, c.mask)
	}
	id, _ = Clone(p, 0x7000, 0x8000, false)
	if byID(id).FSBase != 19 {
		t.Error("without CLONE_SETTLS, the child has not its parent's FS base")
	}
}

// Exit gives the ID back; when all are in use, Clone fails and nothing else does.
func TestExitAndThreadLimit(t *testing.T) {
	m := fresh(t)
	p := m.spawn(0)
	n := 1
	for {
		id, ok := Clone(p, 0, 0, false)
		if !ok {
			break
		}
		if n++; id == none || int(id) >= maxThreads || byID(id).id != id {
			t.Fatalf("thread %d of %d has ID %d", n, maxThreads, id)
		}
	}
	if n < maxThreads-8 || n != Live() {
		t.Errorf("room for %d threads, %d live", n, Live())
	}
	Exit(m.c[0])
	m.wantState(p, Dead)
	Schedule(m.c[0])
	next := Current(m.c[0])
	if next == p {
		t.Fatal("a dead thread runs")
	}
	if Live() != n-1 {
		t.Errorf("%d live, want %d", Live(), n-1)
	}
	id, ok := Clone(next, 0, 0, false)
	if !ok || byID(id) != p || p.RFlags != next.RFlags {
		t.Errorf("the ID of the dead thread is not used again: %d, %v", id, ok)
	}
	if _, ok := Clone(next, 0, 0, false); ok {
		t.Error("one thread too many")
	}
}

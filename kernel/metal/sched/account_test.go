package sched

import (
	"testing"

	"osv/kernel/metal/arch"
)

// pass lets some ticks of the TSC go by, and returns how many at least.
func pass() uint64 {
	begin := arch.ReadTSC()
	for arch.ReadTSC()-begin < 10000 {
	}
	return 10000
}

// infoOf is what Infos tells of the thread with a number.
func infoOf(t *testing.T, id uint32) Info {
	t.Helper()
	var b [InfoBatch]Info
	for from := uint32(0); ; {
		n, next := Infos(from, &b)
		for _, i := range b[:n] {
			if i.ID == id {
				return i
			}
		}
		if n < InfoBatch {
			t.Fatalf("no thread %d", id)
		}
		from = next
	}
}

// A thread's time is what it spent as the current one, and is told while it runs too;
// what of all time is nobody's, is idle.
func TestTicks(t *testing.T) {
	m := fresh(t)
	begin := arch.ReadTSC()
	th := m.spawn(0)
	idle0 := infoOf(t, IdleID)
	least := pass()
	if got := th.ticks(); got < least {
		t.Errorf("%d ticks after %d as the current thread", got, least)
	}
	sleep.Lock()
	block(m.c[0], th, WaitSleep, 0, 0)
	sleep.Unlock()
	got := th.ticks()
	pass()
	Schedule(m.c[0])
	m.wantRunning(0, nil)
	pass()
	if th.ticks() != got || infoOf(t, th.id).Ticks != got {
		t.Errorf("%d ticks, after the thread blocked with %d", th.ticks(), got)
	}
	idle1 := infoOf(t, IdleID)
	if idle1.Ticks < idle0.Ticks+2*least { // from the time that the thread blocked
		t.Errorf("idle for %d ticks, before %d", idle1.Ticks, idle0.Ticks)
	}
	if idle1.State != uint32(Running) || idle0.State != uint32(Blocked) || idle1.Switches != idle0.Switches+1 {
		t.Errorf("idle thread: %+v, before %+v", idle1, idle0)
	}
	sleep.Lock()
	wakeUp(th, 0)
	sleep.Unlock()
	Schedule(m.c[0])
	pass()
	sum := infoOf(t, IdleID).Ticks + th.ticks()
	if all := arch.ReadTSC() - begin; th.ticks() < got+least || sum > all+idle0.Ticks {
		t.Errorf("ran %d ticks, with the idle thread %d of %d", th.ticks(), sum, all)
	}
}

// Each way to leave a processor and to come to one counts.
func TestCounts(t *testing.T) {
	m := fresh(t)
	a := m.spawn(0)
	m.c[1].Idle = 0 // nothing is to be queued there
	b := queued(t)
	want := func(what string, th *Thread, switches, preemptions, migrations uint64, s State) {
		t.Helper()
		i := infoOf(t, th.id)
		if i.Switches != switches || i.Preemptions != preemptions || i.Migrations != migrations || i.State != uint32(s) || i.CPU != uint64(th.cpu) {
			t.Errorf("%s: %+v, want %d switches, %d preemptions, %d migrations, state %d", what, i, switches, preemptions, migrations, s)
		}
	}
	want("at first", a, 1, 0, 0, Running)
	want("at first", b, 0, 0, 0, Ready)
	Yield(m.c[0])
	want("after a yield", a, 1, 1, 0, Ready)
	want("after a yield", b, 1, 0, 0, Running)
	ran := b.ticks()
	m.on(1)
	Schedule(m.c[1]) // which takes a
	m.wantRunning(1, a)
	want("elsewhere", a, 2, 1, 1, Running)
	m.on(0)
	v := AllocVector(0)
	IRQWait(m.c[0], v)
	Schedule(m.c[0])
	want("blocked", b, 1, 0, 0, Blocked)
	if i := infoOf(t, b.id); i.Wait != WaitIRQ || i.Vector != v || i.Ticks < ran {
		t.Errorf("a thread that waits for vector %#x: %+v", v, i)
	}
	Interrupt(m.c[0], v)
	Schedule(m.c[0])
	want("woken", b, 2, 0, 0, Running)
	if i := infoOf(t, b.id); i.Wait != WaitNone || i.Vector != 0 {
		t.Errorf("a thread that runs: %+v", i)
	}
	Exit(m.c[0])
	Schedule(m.c[0])
	var batch [InfoBatch]Info
	if n, next := Infos(0, &batch); n != 3 || batch[0].ID != a.id || batch[1].ID != IdleID || batch[2].ID != IdleID+1 || next != IdleID+2 {
		t.Errorf("after an end: %d threads, %+v, next %d", n, batch, next)
	}
	if c := queued(t); c.id != b.id || c.clock != 0 || c.switches != 0 {
		t.Errorf("a new thread has the account of an old one: %+v", c.account)
	}
}

// More threads than one call tells of are told of by several, each once.
func TestInfosInBatches(t *testing.T) {
	m := fresh(t)
	const threads = 2*InfoBatch - 2 // with the two idle ones just two batches
	for range threads {
		queued(t)
	}
	m.on(0)
	seen := map[uint32]bool{}
	var batch [InfoBatch]Info
	var sizes []int
	for from := uint32(0); ; {
		n, next := Infos(from, &batch)
		sizes = append(sizes, n)
		for _, i := range batch[:n] {
			if seen[i.ID] {
				t.Errorf("thread %d is told of twice", i.ID)
			}
			seen[i.ID] = true
		}
		if n < InfoBatch {
			break
		}
		from = next
	}
	if len(seen) != threads+2 || len(sizes) != 3 || sizes[2] != 0 {
		t.Errorf("%d threads, in batches of %v", len(seen), sizes)
	}
}

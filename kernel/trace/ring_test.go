package trace

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestRingKeepsTheLastEvents(t *testing.T) {
	r := newRing(4)
	for i := range uint64(10) {
		r.emit(7, time.Duration(i), []uint64{i, i * i})
	}
	got := r.snapshot()
	if len(got) != 4 || r.emitted() != 10 || r.lostEvents() != 0 {
		t.Fatalf("%d events held, %d emitted, %d lost; want 4, 10, 0", len(got), r.emitted(), r.lostEvents())
	}
	for k, e := range got {
		i := uint64(6 + k)
		if e.seq != i || e.at != time.Duration(i) || e.point != 7 || e.n != 2 || e.args != [MaxArgs]uint64{i, i * i} {
			t.Errorf("event %d: %+v", i, e)
		}
	}
}

func TestTracerSizeIsRoundedUp(t *testing.T) {
	for size, want := range map[int]int{-1: 1, 0: 1, 1: 1, 3: 4, 4: 4, 4097: 8192} {
		if got := NewTracer(now, size).size; got != want {
			t.Errorf("NewTracer(%d) holds %d events, want %d", size, got, want)
		}
	}
}

// An emitter is stopped between claim and publish while others go once round.
func TestRingStalledEmitter(t *testing.T) {
	r := newRing(2)
	stalled := r.claim(r.next.Add(1) - 1) // event 0
	stalled.fill(1, 0, []uint64{100})
	if n := len(r.snapshot()); n != 0 {
		t.Errorf("%d events visible, one is half written", n)
	}
	r.emit(2, 1, nil) // event 1, other slot
	r.emit(2, 2, nil) // event 2 finds slot 0 being written
	if r.lostEvents() != 1 {
		t.Errorf("%d lost, want 1", r.lostEvents())
	}
	stalled.seq.Store(2)
	if got := r.snapshot(); len(got) != 2 || got[0].seq != 0 || got[0].args[0] != 100 || got[1].seq != 1 {
		t.Errorf("after publish: %+v", got)
	}
	r.emit(3, 3, nil) // event 3 takes slot 1
	r.emit(3, 4, nil) // event 4 takes slot 0
	if got := r.snapshot(); len(got) != 2 || got[0].seq != 3 || got[1].seq != 4 {
		t.Errorf("after another round: %+v", got)
	}
}

// An emitter that drew its number and was overtaken must not put an old event
// over a newer one.
func TestRingOvertakenEmitter(t *testing.T) {
	r := newRing(2)
	old := r.next.Add(1) - 1 // event 0, not yet claimed
	r.emit(1, 1, nil)
	r.emit(1, 2, nil) // event 2, same slot as 0
	if r.claim(old) != nil {
		t.Error("event 0 may overwrite event 2")
	}
	if got := r.snapshot(); len(got) != 2 || got[1].seq != 2 {
		t.Errorf("ring: %+v", got)
	}
}

// A reader that is overtaken while it copies drops what it has: one slot, one
// emitter that never stops, and a reader that looks at nothing else.
func TestRingOvertakenReader(t *testing.T) {
	r := newRing(1)
	s := &r.slot[0]
	r.emit(0, 0, make([]uint64, MaxArgs))
	var stop atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for x := uint64(1); !stop.Load(); x++ {
			r.emit(uint32(x), time.Duration(x), []uint64{x, x, x, x})
		}
	})
	whole := 0
	for range 2000000 {
		e, ok := s.read()
		if !ok {
			continue
		}
		whole++
		if x := e.args[0]; e.args != [MaxArgs]uint64{x, x, x, x} || uint64(e.at) != x || e.point != uint32(x) || e.seq != x {
			t.Errorf("torn event: %+v", e)
			break
		}
	}
	stop.Store(true)
	wg.Wait()
	if whole == 0 {
		t.Error("no event was read")
	}
}

// Emitters and readers at full speed on a ring so small that everybody meets
// everybody: each event read is one that was emitted, whole, at most once.
func TestRingUnderFire(t *testing.T) {
	const emitters, each = 4, 20000
	r := newRing(4)
	var running atomic.Int32
	running.Store(emitters)
	var wg sync.WaitGroup
	for k := range uint64(emitters) {
		wg.Go(func() {
			defer running.Add(-1)
			for i := range uint64(each) {
				x := k<<32 | i
				r.emit(uint32(i), time.Duration(x), []uint64{x, ^x, x * 31, x ^ 0x5555}[:1+i%MaxArgs])
			}
		})
	}
	check := func() {
		last := int64(-1)
		for _, e := range r.snapshot() {
			x := e.args[0]
			want := [MaxArgs]uint64{x, ^x, x * 31, x ^ 0x5555}
			for i := e.n; i < MaxArgs; i++ {
				want[i] = 0
			}
			if e.args != want || uint64(e.at) != x || e.point != uint32(x) || e.n != int(1+x&0xffffffff%MaxArgs) {
				t.Errorf("torn event: %+v", e)
			}
			if int64(e.seq) <= last {
				t.Errorf("event %d follows event %d", e.seq, last)
			}
			last = int64(e.seq)
		}
	}
	for range 2 {
		wg.Go(func() {
			for running.Load() > 0 && !t.Failed() {
				check()
			}
		})
	}
	wg.Wait()
	check()
	if r.emitted() != emitters*each {
		t.Errorf("%d emitted, want %d", r.emitted(), emitters*each)
	}
	if r.lostEvents() > emitters*each/2 {
		t.Errorf("%d of %d events lost", r.lostEvents(), emitters*each)
	}
}

// Points may be switched, registered and read while others emit.
func TestTracerConcurrent(t *testing.T) {
	tr := NewTracer(now, 64)
	p := tr.NewPoint("a.b", "%d %d")
	var stop atomic.Bool
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for i := uint64(0); !stop.Load(); i++ {
				if p.On() {
					p.Emit(i, ^i)
				}
			}
		})
	}
	for i := range 200 {
		if _, err := tr.Enable("a.*"); err != nil {
			t.Fatal(err)
		}
		tr.NewPoint("a.x"+string(rune('a'+i%26)), "")
		for _, e := range tr.Snapshot() {
			if e.Point == p && e.Args[1] != ^e.Args[0] {
				t.Errorf("torn event: %+v", e)
			}
		}
		tr.Disable("a.*")
	}
	stop.Store(true)
	wg.Wait()
}

package task

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"osv/kernel/linux/abi"
)

// No more than there are slots are in, and none that waits is forgotten.
func TestSlots(t *testing.T) {
	var s slots
	s.init(3)
	var in, most atomic.Int32
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			c := make(chan struct{}, 1)
			for range 500 {
				s.enter(c)
				n := in.Add(1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				in.Add(-1)
				s.leave()
			}
		})
	}
	wg.Wait()
	if m := most.Load(); m > 3 {
		t.Errorf("%d were in at once", m)
	}
	if s.used.Load() != 0 || s.want.Load() != 0 || len(s.queue) != 0 {
		t.Errorf("used %d, want %d", s.used.Load(), s.want.Load())
	}
}

// Who came first gets the slot first.
func TestSlotsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s slots
		s.init(1)
		s.enter(make(chan struct{}, 1))
		var order []int
		var mu sync.Mutex
		for i := range 5 {
			go func() {
				s.enter(make(chan struct{}, 1))
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
				s.leave()
			}()
			synctest.Wait()
		}
		s.leave()
		synctest.Wait()
		for i, v := range order {
			if i != v {
				t.Fatalf("order %v", order)
			}
		}
		if len(order) != 5 {
			t.Errorf("order %v", order)
		}
	})
}

func TestFloatCode(t *testing.T) {
	for e, want := range map[uint32]int32{
		1: abi.FPE_FLTINV, 4: abi.FPE_FLTDIV, 8: abi.FPE_FLTOVF, 2: abi.FPE_FLTUND, 0x10: abi.FPE_FLTUND, 0x20: abi.FPE_FLTRES, 0: abi.SI_KERNEL,
	} {
		if got := floatCode(e); got != want {
			t.Errorf("%#x: %d, want %d", e, got, want)
		}
	}
}

func TestClock(t *testing.T) {
	if a, b := Monotonic(), Monotonic(); a <= 0 || b < a {
		t.Errorf("%v, %v", a, b)
	}
	for name, tm := range map[string]bool{
		"monotonic": AtMonotonic(1<<63 - 1).IsZero(), "realtime": AtRealtime(1<<63 - 1).IsZero(), "after": After(1<<63 - 1).IsZero(),
	} {
		if !tm {
			t.Errorf("%s: the end of time is a deadline", name)
		}
	}
	d := Monotonic()
	if at := AtMonotonic(d); After(0).Sub(at) < 0 {
		t.Error("a time that has come is in the future")
	}
}

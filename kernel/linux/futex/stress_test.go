package futex

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// A mutex of futexes (Drepper, "Futexes are tricky", mutex 2) under many threads, with
// signals and timeouts in between: no wake-up is lost and nobody is in twice.
func TestStress(t *testing.T) {
	m, a := space(t)
	tb := NewTable(2)
	const threads, rounds = 16, 300
	var in, total atomic.Int32
	var wg sync.WaitGroup
	list := make([]*thread, threads)
	for i := range list {
		list[i] = newThread()
	}
	stop := make(chan struct{})
	var noise sync.WaitGroup
	noise.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			case list[n%threads].signal <- struct{}{}:
			default:
			}
			time.Sleep(10 * time.Microsecond) // paces the signals; nothing depends on it
		}
	})
	cas := func(old, new uint32) bool {
		ok, err := m.CompareAndSwap32(a, old, new)
		if err != nil {
			t.Error(err)
		}
		return ok
	}
	for _, th := range list {
		wg.Go(func() {
			for r := range rounds {
				if !cas(0, 1) {
					for {
						if v, _ := m.Load32(a); v == 2 || v == 1 && cas(1, 2) {
							d := time.Time{}
							if r%3 == 0 {
								d = time.Now().Add(time.Duration(rand.IntN(100)) * time.Microsecond)
							}
							if err := tb.Wait(th, &th.Waiter, m, a, false, 2, any, d); err == syscall.EFAULT {
								t.Error(err)
							}
						}
						if cas(0, 2) {
							break
						}
					}
				}
				if in.Add(1) != 1 {
					t.Error("two are in")
				}
				total.Add(1)
				in.Add(-1)
				if !cas(1, 0) {
					for {
						v, _ := m.Load32(a)
						if cas(v, 0) {
							break
						}
					}
					if _, err := tb.Wake(m, a, false, 1, any); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	close(stop)
	noise.Wait()
	if total.Load() != threads*rounds {
		t.Errorf("%d rounds", total.Load())
	}
}

type asleep struct{}

func (asleep) Sleep(c <-chan struct{}, _ time.Time) error {
	select {
	case <-c:
		return nil
	default:
		return syscall.ETIMEDOUT
	}
}

func TestNoAllocs(t *testing.T) {
	m, a := space(t)
	tb := NewTable(1)
	w := new(Waiter)
	w.Init()
	var mem Memory = m
	var s Sleeper = asleep{}
	if err := m.Store32(a, 0); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(1000, func() {
		if err := tb.Wait(s, w, mem, a, false, 0, any, time.Time{}); err != syscall.ETIMEDOUT {
			t.Fatal(err)
		}
		if _, err := tb.Wake(mem, a, false, 1, any); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

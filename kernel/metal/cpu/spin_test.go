package cpu

import (
	"sync"
	"testing"
)

// Each goroutine that became a processor sees its own block, also when others
// run in between.
func TestCurrentIsPerThread(t *testing.T) {
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			c := become(t, i)
			for range 10000 {
				if Current() != c {
					t.Errorf("processor %d sees block %d", i, Current().ID)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestSpinLockExcludes(t *testing.T) {
	const each = 5000
	var l SpinLock
	var wg sync.WaitGroup
	a, b := 0, 0 // equal whenever the lock is free
	for i := range 3 {
		wg.Go(func() {
			become(t, i)
			for range each {
				l.Lock()
				if a != b || !l.HeldHere() {
					t.Error("two processors hold the lock")
				}
				a++
				b++
				l.Unlock()
			}
		})
	}
	wg.Wait()
	if a != 3*each || l.word != 0 {
		t.Errorf("counted to %d, want %d; lock word %d", a, 3*each, l.word)
	}
}

func TestHeldHereNamesTheOwner(t *testing.T) {
	var l SpinLock
	become(t, 2)
	if l.HeldHere() {
		t.Error("a free lock is held")
	}
	l.Lock()
	if !l.HeldHere() {
		t.Error("the owner does not hold the lock")
	}
	become(t, 1)
	if l.HeldHere() {
		t.Error("processor 1 holds the lock of processor 2")
	}
	l.Unlock()
}

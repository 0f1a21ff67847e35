package stack

import (
	"sync"
	"time"

	"osv/kernel/net/clock"
)

// timers are calls to come that end with their interface.
type timers struct {
	clock clock.Clock

	mu      sync.Mutex // guards all below; not held while a call runs
	live    map[*timer]struct{}
	stopped bool
}

type timer struct{ t clock.Timer }

// after runs f after d, unless stop comes first.
func (ts *timers) after(d time.Duration, f func()) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.stopped {
		return
	}
	if ts.live == nil {
		ts.live = map[*timer]struct{}{}
	}
	t := &timer{}
	ts.live[t] = struct{}{}
	t.t = ts.clock.AfterFunc(d, func() {
		ts.mu.Lock()
		_, ok := ts.live[t]
		delete(ts.live, t)
		ts.mu.Unlock()
		if ok {
			f()
		}
	})
}

func (ts *timers) stop() {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ts.stopped = true
	for t := range ts.live {
		t.t.Stop()
	}
	clear(ts.live)
}

// Package clock is a deterministic clock for tests: time stands still until the
// test advances it, and timers run in the goroutine that advances it, in order
// of their time and, at equal times, of their setting.
//
// Who may use it: tests only. Start reading at Fake.
package clock

import (
	"container/heap"
	"sync"
	"time"

	"osv/kernel/net/clock"
)

// Fake is a clock.Clock that only Advance moves. The zero value is ready and
// stands at 0.
type Fake struct {
	mu    sync.Mutex // guards all below; not held while a timer's function runs
	now   int64
	seq   uint64
	queue timerQueue
}

var _ clock.Clock = (*Fake)(nil)

// Now is the fake time in nanoseconds.
func (f *Fake) Now() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

// AfterFunc arranges for fn to run in the Advance that passes d from now. A d
// of 0 or less runs in the next Advance, even one of 0.
func (f *Fake) AfterFunc(d time.Duration, fn func()) clock.Timer {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := &fakeTimer{clock: f, fn: fn, pos: -1}
	f.arm(t, d)
	return t
}

// arm queues t. Caller must hold mu.
func (f *Fake) arm(t *fakeTimer, d time.Duration) {
	f.seq++
	t.at, t.seq = f.now+int64(max(d, 0)), f.seq
	heap.Push(&f.queue, t)
}

// Advance moves time forward by d and runs every timer that comes due, also
// those that are set while it runs. Each timer's function sees its own time as
// Now. It returns how many ran.
func (f *Fake) Advance(d time.Duration) int {
	f.mu.Lock()
	end := f.now + int64(d)
	n := 0
	for len(f.queue) > 0 && f.queue[0].at <= end {
		t := heap.Pop(&f.queue).(*fakeTimer)
		f.now = max(f.now, t.at)
		f.mu.Unlock()
		t.fn()
		n++
		f.mu.Lock()
	}
	f.now = max(f.now, end)
	f.mu.Unlock()
	return n
}

// Next is the time from now until the earliest timer, and whether there is one.
func (f *Fake) Next() (time.Duration, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.queue) == 0 {
		return 0, false
	}
	return time.Duration(f.queue[0].at - f.now), true
}

// Pending is the number of timers set: what is left of it at the end of a test
// is a leak.
func (f *Fake) Pending() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.queue)
}

type fakeTimer struct {
	clock *Fake
	fn    func()
	at    int64
	seq   uint64
	pos   int // index in the queue, -1 when not pending
}

func (t *fakeTimer) Stop() bool {
	t.clock.mu.Lock()
	defer t.clock.mu.Unlock()
	if t.pos < 0 {
		return false
	}
	heap.Remove(&t.clock.queue, t.pos)
	return true
}

func (t *fakeTimer) Reset(d time.Duration) bool {
	t.clock.mu.Lock()
	defer t.clock.mu.Unlock()
	was := t.pos >= 0
	if was {
		heap.Remove(&t.clock.queue, t.pos)
	}
	t.clock.arm(t, d)
	return was
}

// timerQueue is a heap by (at, seq).
type timerQueue []*fakeTimer

func (q timerQueue) Len() int { return len(q) }
func (q timerQueue) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].seq < q[j].seq
}
func (q timerQueue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].pos, q[j].pos = i, j
}
func (q *timerQueue) Push(x any) {
	t := x.(*fakeTimer)
	t.pos = len(*q)
	*q = append(*q, t)
}
func (q *timerQueue) Pop() any {
	old := *q
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	t.pos = -1
	return t
}

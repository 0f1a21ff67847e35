package fd

import (
	"sync"
	"syscall"
	"time"

	"osv/kernel/vfs"
	"osv/kernel/vfs/poll"
)

// Clocks of timerfd_create.
const (
	ClockRealtime      = 0
	ClockMonotonic     = 1
	ClockBoottime      = 7
	ClockRealtimeAlarm = 8
	ClockBoottimeAlarm = 9
)

// Flags of timerfd_settime.
const (
	TFDTimerAbstime     = 1
	TFDTimerCancelOnSet = 2
)

// TimerFD is timerfd_create(2). The clock of a guest is not set while it runs, so that
// a point of CLOCK_REALTIME is a point of the monotonic clock.
type TimerFD struct {
	anon
	clock int

	mu       sync.Mutex
	timer    *time.Timer
	next     time.Time // when it expires next, zero: disarmed
	interval time.Duration
	expired  uint64 // not read yet
	list     poll.List
}

// NewTimerFD is timerfd_create(2): EINVAL for clocks that it does not have.
func NewTimerFD(clock, flags int) (*Open, error) {
	switch clock {
	case ClockRealtime, ClockMonotonic, ClockBoottime, ClockRealtimeAlarm, ClockBoottimeAlarm:
	default:
		return nil, syscall.EINVAL
	}
	if flags&^(syscall.O_NONBLOCK|syscall.O_CLOEXEC) != 0 {
		return nil, syscall.EINVAL
	}
	return NewOpen(&TimerFD{clock: clock}, syscall.O_RDWR|flags&syscall.O_NONBLOCK), nil
}

// Timer is the timer that o is, nil if it is none.
func (o *Open) Timer() *TimerFD {
	t, _ := o.file.(*TimerFD)
	return t
}

// Clock is the clock that it runs by.
func (t *TimerFD) Clock() int { return t.clock }

// Set is timerfd_settime(2): it expires first at the point first (zero: never), then
// every interval (0: not again). It returns what was left, as Left does.
func (t *TimerFD) Set(first time.Time, interval time.Duration) (left, oldInterval time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	left, oldInterval = t.left()
	t.expired = 0
	t.next, t.interval = first, interval
	if t.timer != nil {
		t.timer.Stop()
	}
	if first.IsZero() {
		return left, oldInterval
	}
	d := max(time.Until(first), 0)
	if t.timer == nil {
		t.timer = time.AfterFunc(d, t.fire)
	} else {
		t.timer.Reset(d)
	}
	return left, oldInterval
}

// Left is timerfd_gettime(2): the time until it expires next, 0 for one that does not.
func (t *TimerFD) Left() (left, interval time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.left()
}

// Caller must hold mu.
func (t *TimerFD) left() (left, interval time.Duration) {
	t.count()
	if !t.next.IsZero() {
		left = max(time.Until(t.next), 1)
	}
	return left, t.interval
}

// count adds the expirations up to now. Caller must hold mu.
func (t *TimerFD) count() {
	if t.next.IsZero() {
		return
	}
	late := time.Since(t.next)
	if late < 0 {
		return
	}
	t.expired++
	if t.interval <= 0 {
		t.next = time.Time{}
		return
	}
	k := uint64(late / t.interval)
	t.expired += k
	t.next = t.next.Add(time.Duration(k+1) * t.interval)
}

// fire is what the clock calls.
func (t *TimerFD) fire() {
	t.mu.Lock()
	t.count()
	ready := t.expired > 0
	if !t.next.IsZero() && (!ready || t.interval > 0) {
		t.timer.Reset(max(time.Until(t.next), 0))
	}
	t.mu.Unlock()
	if ready {
		t.list.Notify(poll.In)
	}
}

// Read is the number of expirations since the last read: EAGAIN for none.
func (t *TimerFD) Read(d vfs.Dst, _ int64) (int, error) {
	if d.Room() < 8 {
		return 0, syscall.EINVAL
	}
	t.mu.Lock()
	t.count()
	n := t.expired
	t.expired = 0
	t.mu.Unlock()
	if n == 0 {
		return 0, syscall.EAGAIN
	}
	return putWord(d, n)
}

// Ready is In where it has expired.
func (t *TimerFD) Ready() poll.Events {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.count(); t.expired > 0 {
		return poll.In
	}
	return 0
}

// Watch has w told of expirations.
func (t *TimerFD) Watch(w *poll.Waiter) { t.list.Add(w) }

// Unwatch ends that.
func (t *TimerFD) Unwatch(w *poll.Waiter) { t.list.Remove(w) }

// Close stops it.
func (t *TimerFD) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.next = time.Time{}
	if t.timer != nil {
		t.timer.Stop()
	}
	return nil
}

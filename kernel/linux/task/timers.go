package task

import (
	"sync"
	"syscall"
	"time"

	"osv/kernel/linux/abi"
)

// timers are a process's interval timers and POSIX timers. Its lock may be taken with
// Process.mu held, never the other way round.
type timers struct {
	p     *Process
	mu    sync.Mutex
	inter [3]*timer
	posix map[int32]*timer
	next  int32
	over  bool
}

// timer is one of them: armed where at is not 0. Those of processor time are looked at
// when they could have expired at the earliest, and again where they have not.
type timer struct {
	ts       *timers
	clock    TimerClock
	send     func(i abi.Siginfo) // nil: tells nobody
	info     abi.Siginfo
	id       int32
	cpus     int
	at       time.Duration // on its clock, 0: not armed
	interval time.Duration
	alarm    *time.Timer
	gen      uint64 // of settings: an alarm of an older one does nothing

	pending bool  // its signal is queued
	overrun int64 // expirations since
	last    int64 // overrun of the signal delivered last
}

// TimerClock is a clock that a timer runs by.
type TimerClock struct {
	Now func() time.Duration
	// When is the point in time at which Now is d; nil for clocks of processor time.
	When func(d time.Duration) time.Time
}

// Realtime and MonotonicClock are the clocks that always run.
var (
	MonotonicClock = TimerClock{Now: mono, When: AtMonotonic}
	RealtimeClock  = TimerClock{
		Now:  func() time.Duration { return time.Duration(time.Now().UnixNano()) },
		When: AtRealtime,
	}
)

// set arms t for at on its clock (0: not at all). The caller holds mu.
func (t *timer) set(at, interval time.Duration) {
	t.gen++
	t.at, t.interval = at, interval
	t.overrun, t.last = 0, 0
	if t.alarm != nil {
		t.alarm.Stop()
	}
	if at == 0 || t.ts.over {
		return
	}
	t.arm()
}

// arm sets the alarm. The caller holds mu.
func (t *timer) arm() {
	var d time.Duration
	if t.clock.When != nil {
		w := t.clock.When(t.at)
		if w.IsZero() {
			return // in centuries
		}
		d = time.Until(w)
	} else {
		// The clock runs at most as fast as there are processors.
		d = max((t.at-t.clock.Now())/time.Duration(max(t.cpus, 1)), time.Millisecond)
	}
	gen := t.gen
	t.alarm = time.AfterFunc(max(d, 0), func() { t.ring(gen) })
}

// ring is the alarm.
func (t *timer) ring(gen uint64) {
	ts := t.ts
	ts.mu.Lock()
	if t.gen != gen || ts.over || t.at == 0 {
		ts.mu.Unlock()
		return
	}
	now := t.clock.Now()
	if now < t.at {
		t.arm()
		ts.mu.Unlock()
		return
	}
	var n int64 = 1
	if t.interval > 0 {
		n += int64((now - t.at) / t.interval)
		t.at += time.Duration(n) * t.interval
		t.arm()
	} else {
		t.at = 0
	}
	send, i := t.expire(n)
	ts.mu.Unlock()
	if send != nil {
		send(i)
	}
}

// expire notes n expirations, and returns the signal to be sent: none while the one
// before is pending. The caller holds mu.
func (t *timer) expire(n int64) (func(abi.Siginfo), abi.Siginfo) {
	if t.send == nil {
		return nil, abi.Siginfo{}
	}
	if t.pending {
		t.overrun += n
		return nil, abi.Siginfo{}
	}
	if t.id >= 0 {
		t.pending = true
	}
	t.overrun = n - 1
	return t.send, t.info
}

// taken is told of each signal that is delivered: one of a timer carries how often it
// has expired since. Process.mu is held.
func (ts *timers) taken(i *abi.Siginfo) {
	if i.Code != abi.SI_TIMER {
		return
	}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if t := ts.posix[i.Timer]; t != nil {
		t.pending = false
		t.last = t.overrun
		i.Overrun = int32(min(t.overrun, 1<<31-1))
		t.overrun = 0
	}
}

// left is the time to the next expiration; the caller holds mu.
func (t *timer) left() (left, interval time.Duration) {
	if t == nil || t.at == 0 {
		if t != nil {
			interval = t.interval
		}
		return 0, interval
	}
	return max(t.at-t.clock.Now(), 1), t.interval
}

// itimer is the interval timer of a kind, made when it is first used. The caller holds
// mu.
func (ts *timers) itimer(which int) *timer {
	t := ts.inter[which]
	if t == nil {
		p := ts.p
		sig := [...]syscall.Signal{syscall.SIGALRM, syscall.SIGVTALRM, syscall.SIGPROF}[which]
		t = &timer{ts: ts, id: -1, cpus: p.k.cfg.CPUs, clock: MonotonicClock}
		switch which {
		case abi.ITIMER_VIRTUAL:
			t.clock = TimerClock{Now: p.UserTime}
		case abi.ITIMER_PROF:
			t.clock = TimerClock{Now: p.CPUTime}
		}
		t.info = abi.Siginfo{Signo: int32(sig), Code: abi.SI_KERNEL}
		t.send = func(i abi.Siginfo) { _ = p.Send(i) }
		ts.inter[which] = t
	}
	return t
}

// ITimer tells an interval timer: getitimer(2).
func (p *Process) ITimer(which int) (left, interval time.Duration) {
	p.timers.mu.Lock()
	defer p.timers.mu.Unlock()
	return p.timers.inter[which].left()
}

// SetITimer sets one and tells what it was: setitimer(2). value 0 stops it.
func (p *Process) SetITimer(which int, value, interval time.Duration) (left, oldInterval time.Duration) {
	ts := &p.timers
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t := ts.itimer(which)
	left, oldInterval = t.left()
	at := time.Duration(0)
	if value > 0 {
		at = t.clock.Now() + value
	}
	t.set(at, interval)
	if value == 0 {
		t.interval = 0
	}
	return left, oldInterval
}

// maxTimers bounds a process's POSIX timers.
const maxTimers = 1 << 16

// NewTimer makes a POSIX timer: timer_create(2). notify is SIGEV_*; the signal goes to
// t's process, or to thread to where that is not nil.
func (t *Task) NewTimer(c TimerClock, notify int, sig int, value uint64, hasValue bool, to *Task) (int32, error) {
	p := t.p
	ts := &p.timers
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if len(ts.posix) >= maxTimers {
		return 0, syscall.EAGAIN
	}
	if ts.posix == nil {
		ts.posix = map[int32]*timer{}
	}
	for ts.posix[ts.next] != nil {
		ts.next = (ts.next + 1) & (1<<31 - 1)
	}
	id := ts.next
	ts.next = (ts.next + 1) & (1<<31 - 1)
	if !hasValue {
		value = uint64(id)
	}
	tm := &timer{ts: ts, id: id, clock: c, cpus: p.k.cfg.CPUs}
	tm.info = abi.Siginfo{Signo: int32(sig), Code: abi.SI_TIMER, Timer: id, Value: value}
	if notify != abi.SIGEV_NONE {
		tm.send = func(i abi.Siginfo) {
			var err error
			if to != nil {
				err = to.Send(i)
			} else {
				err = p.Send(i)
			}
			if err != nil || !p.queued(id, int(i.Signo), to) {
				// It is ignored, or there was no room: nobody will take it.
				ts.mu.Lock()
				tm.pending = false
				ts.mu.Unlock()
			}
		}
	}
	ts.posix[id] = tm
	return id, nil
}

// queued says whether the signal of a timer waits to be taken.
func (p *Process) queued(id int32, sig int, to *Task) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := &p.pending
	if to != nil {
		q = &to.pending
	}
	return q.Find(sig, func(i *abi.Siginfo) bool { return i.Code == abi.SI_TIMER && i.Timer == id }) != nil
}

// SetTimer arms a POSIX timer (at 0: stops it) and tells what was left: at is on its
// clock where abs is set, else from now. EINVAL where there is no such timer.
func (p *Process) SetTimer(id int32, value, interval time.Duration, abs bool) (left, oldInterval time.Duration, err error) {
	ts := &p.timers
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t := ts.posix[id]
	if t == nil {
		return 0, 0, syscall.EINVAL
	}
	left, oldInterval = t.left()
	at := value
	if value > 0 && !abs {
		at += t.clock.Now()
	}
	t.set(at, interval)
	return left, oldInterval, nil
}

// Timer tells a POSIX timer: timer_gettime(2).
func (p *Process) Timer(id int32) (left, interval time.Duration, err error) {
	ts := &p.timers
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t := ts.posix[id]
	if t == nil {
		return 0, 0, syscall.EINVAL
	}
	left, interval = t.left()
	return left, interval, nil
}

// Overrun is timer_getoverrun(2).
func (p *Process) Overrun(id int32) (int64, error) {
	ts := &p.timers
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t := ts.posix[id]
	if t == nil {
		return 0, syscall.EINVAL
	}
	return min(t.last, 1<<31-1), nil
}

// DeleteTimer is timer_delete(2).
func (p *Process) DeleteTimer(id int32) error {
	ts := &p.timers
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t := ts.posix[id]
	if t == nil {
		return syscall.EINVAL
	}
	t.set(0, 0)
	delete(ts.posix, id)
	return nil
}

// exec deletes POSIX timers, which a new program does not have.
func (ts *timers) exec() {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	for _, t := range ts.posix {
		t.set(0, 0)
	}
	ts.posix = nil
}

// end stops all of them.
func (ts *timers) end() {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ts.over = true
	for _, t := range ts.inter {
		if t != nil {
			t.set(0, 0)
		}
	}
	for _, t := range ts.posix {
		t.set(0, 0)
	}
	ts.posix = nil
}

package proc

import (
	"syscall"
	"time"

	"osv/kernel/linux/abi"
	"osv/kernel/linux/sys"
	"osv/kernel/linux/task"
)

// duration reads a struct timespec: EINVAL where it makes no sense.
func duration(t *task.Task, addr uint64) (time.Duration, error) {
	var b [abi.TimespecSize]byte
	if err := t.Mem().CopyIn(b[:], addr); err != nil {
		return 0, err
	}
	d, ok := abi.Timespec(b[:])
	if !ok {
		return 0, syscall.EINVAL
	}
	return d, nil
}

func putTimespec(t *task.Task, addr uint64, d time.Duration) error {
	return t.Mem().PutWords(addr, uint64(d/time.Second), uint64(d%time.Second))
}

// coarse is the step of the coarse clocks: a tick of a kernel with HZ 250.
const coarse = 4 * time.Millisecond

// perThread is the bit of a negative clock id that makes it a thread's.
const perThread = 4

// noTimers says which clocks can be read, if at all, but not be waited for: the raw
// and coarse ones, and those that would wake a machine by a real-time clock.
func noTimers(id int32) bool {
	switch id {
	case abi.CLOCK_MONOTONIC_RAW, abi.CLOCK_REALTIME_COARSE, abi.CLOCK_MONOTONIC_COARSE, abi.CLOCK_REALTIME_ALARM, abi.CLOCK_BOOTTIME_ALARM:
		return true
	}
	return false
}

// clock is a clock by its id: EINVAL. Negative ids are the processor time of a process
// or thread (CPUCLOCK_* of linux/posix-timers_types.h).
func clock(t *task.Task, id int32) (c task.TimerClock, err error) {
	switch id {
	case abi.CLOCK_REALTIME, abi.CLOCK_TAI:
		return task.RealtimeClock, nil
	case abi.CLOCK_REALTIME_COARSE:
		return task.TimerClock{Now: func() time.Duration { return task.RealtimeClock.Now().Truncate(coarse) }}, nil
	case abi.CLOCK_MONOTONIC, abi.CLOCK_MONOTONIC_RAW, abi.CLOCK_BOOTTIME:
		return task.MonotonicClock, nil
	case abi.CLOCK_MONOTONIC_COARSE:
		return task.TimerClock{Now: func() time.Duration { return task.Monotonic().Truncate(coarse) }}, nil
	case abi.CLOCK_PROCESS_CPUTIME_ID:
		return task.TimerClock{Now: t.Proc().CPUTime}, nil
	case abi.CLOCK_THREAD_CPUTIME_ID:
		return task.TimerClock{Now: t.CPUTime}, nil
	}
	if id >= 0 {
		return c, syscall.EINVAL
	}
	const kind, sched, fdClock = 3, 2, 3
	pid := int(^(id >> 3))
	if id&kind == fdClock {
		return c, syscall.EINVAL
	}
	var o *task.Task
	var p *task.Process
	if id&perThread != 0 {
		if o = t; pid != 0 {
			if o = t.Kernel().Task(pid); o == nil || o.Proc() != t.Proc() {
				return c, syscall.EINVAL
			}
		}
		if id&kind == sched {
			return task.TimerClock{Now: o.CPUTime}, nil
		}
		if id&kind == 1 {
			return task.TimerClock{Now: func() time.Duration { return o.Usage().User }}, nil
		}
		return task.TimerClock{Now: o.CPUTime}, nil
	}
	if p = t.Proc(); pid != 0 {
		if p = t.Kernel().Process(pid); p == nil {
			return c, syscall.EINVAL
		}
	}
	if id&kind == 1 {
		return task.TimerClock{Now: p.UserTime}, nil
	}
	return task.TimerClock{Now: p.CPUTime}, nil
}

func clockGettime(t *task.Task, a *sys.Args) (uint64, error) {
	// The two that every program reads need no closure.
	switch int32(a[0]) {
	case abi.CLOCK_MONOTONIC:
		return 0, putTimespec(t, a[1], task.Monotonic())
	case abi.CLOCK_REALTIME:
		return 0, putTimespec(t, a[1], time.Duration(time.Now().UnixNano()))
	case abi.CLOCK_THREAD_CPUTIME_ID:
		return 0, putTimespec(t, a[1], t.CPUTime())
	case abi.CLOCK_PROCESS_CPUTIME_ID:
		return 0, putTimespec(t, a[1], t.Proc().CPUTime())
	}
	c, err := clock(t, int32(a[0]))
	if err != nil {
		return 0, err
	}
	return 0, putTimespec(t, a[1], c.Now())
}

func clockGetres(t *task.Task, a *sys.Args) (uint64, error) {
	id := int32(a[0])
	if _, err := clock(t, id); err != nil {
		return 0, err
	}
	if a[1] == 0 {
		return 0, nil
	}
	d := time.Duration(1)
	if id == abi.CLOCK_REALTIME_COARSE || id == abi.CLOCK_MONOTONIC_COARSE {
		d = coarse
	}
	return 0, putTimespec(t, a[1], d)
}

func clockSettime(t *task.Task, a *sys.Args) (uint64, error) {
	if int32(a[0]) != abi.CLOCK_REALTIME {
		return 0, syscall.EINVAL
	}
	if _, err := duration(t, a[1]); err != nil {
		return 0, err
	}
	return 0, syscall.EPERM
}

func nanosleep(t *task.Task, a *sys.Args) (uint64, error) {
	d, err := duration(t, a[0])
	if err != nil {
		return 0, err
	}
	return sleep(t, task.MonotonicClock, after(task.MonotonicClock, d), a[1])
}

// after is the time d from now on a clock, or the largest.
func after(c task.TimerClock, d time.Duration) time.Duration {
	if now := c.Now(); d < 1<<63-1-now {
		return now + d
	}
	return 1<<63 - 1
}

func clockNanosleep(t *task.Task, a *sys.Args) (uint64, error) {
	id := int32(a[0])
	if noTimers(id) {
		return 0, syscall.EOPNOTSUPP
	}
	c, err := clock(t, id)
	if err != nil {
		return 0, err
	}
	if id == abi.CLOCK_THREAD_CPUTIME_ID || id < 0 && id&perThread != 0 && (^(id>>3) == 0 || int(^(id>>3)) == t.TID()) {
		return 0, syscall.EINVAL // nobody sleeps until it has run
	}
	d, err := duration(t, a[2])
	if err != nil {
		return 0, err
	}
	if a[1]&abi.TIMER_ABSTIME != 0 {
		if c.When == nil {
			return 0, notAgain(sleepCPU(t, c, d))
		}
		// A handler that ends it: the program knows how long it was to be.
		return 0, notAgain(until(t, c.When(d), d))
	}
	if c.When == nil {
		return 0, notAgain(sleepCPU(t, c, after(c, d)))
	}
	// A relative time is not moved by setting a clock.
	return sleep(t, task.MonotonicClock, after(task.MonotonicClock, d), a[3])
}

func notAgain(err error) error {
	if err == abi.ERESTARTSYS {
		return abi.ERESTARTNOHAND
	}
	return err
}

// until sleeps up to a point in time; the zero time with d at the end of all times.
func until(t *task.Task, w time.Time, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	err := t.SleepUntil(w)
	if err == syscall.ETIMEDOUT {
		err = nil
	}
	return err
}

// sleep sleeps up to at on a clock; a signal that has a handler ends it, with the rest
// at rem where that is not 0.
func sleep(t *task.Task, c task.TimerClock, at time.Duration, rem uint64) (uint64, error) {
	err := until(t, c.When(at), at)
	if err != abi.ERESTARTSYS {
		return 0, err
	}
	left := at - c.Now()
	if left <= 0 {
		return 0, nil
	}
	if rem != 0 {
		if err := putTimespec(t, rem, left); err != nil {
			return 0, err
		}
	}
	t.SetRestart(func(t *task.Task) (uint64, error) { return sleep(t, c, at, rem) })
	return 0, abi.ERESTART_RESTARTBLOCK
}

// sleepCPU sleeps until others have used so much of the processors.
func sleepCPU(t *task.Task, c task.TimerClock, at time.Duration) error {
	for {
		left := at - c.Now()
		if left <= 0 {
			return nil
		}
		step := max(left/time.Duration(t.Kernel().CPUs()), time.Millisecond)
		if err := t.SleepUntil(task.After(step)); err != syscall.ETIMEDOUT {
			return err
		}
	}
}

func gettimeofday(t *task.Task, a *sys.Args) (uint64, error) {
	if a[0] != 0 {
		var b [abi.TimespecSize]byte
		abi.PutTimeval(b[:], time.Duration(time.Now().UnixNano()))
		if err := t.Mem().CopyOut(a[0], b[:]); err != nil {
			return 0, err
		}
	}
	if a[1] != 0 {
		var b [8]byte // UTC, no daylight saving time
		return out(t, a[1], b[:])
	}
	return 0, nil
}

func timeCall(t *task.Task, a *sys.Args) (uint64, error) {
	s := uint64(time.Now().Unix())
	if a[0] != 0 {
		var b [8]byte
		le.PutUint64(b[:], s)
		if err := t.Mem().CopyOut(a[0], b[:]); err != nil {
			return 0, err
		}
	}
	return s, nil
}

func ticks(d time.Duration) uint64 { return uint64(d / (time.Second / abi.USER_HZ)) }

func times(t *task.Task, a *sys.Args) (uint64, error) {
	if a[0] != 0 {
		u, c := t.Proc().Usage(), t.Proc().ChildUsage()
		var b [32]byte
		for n, d := range [...]time.Duration{u.User, u.Sys, c.User, c.Sys} {
			le.PutUint64(b[8*n:], ticks(d))
		}
		if err := t.Mem().CopyOut(a[0], b[:]); err != nil {
			return 0, err
		}
	}
	return ticks(task.Monotonic()), nil
}

// usageSize is the size of struct rusage in bytes.
const usageSize = 144

func encodeUsage(u task.Usage) (b [usageSize]byte) {
	abi.PutTimeval(b[0:], u.User)
	abi.PutTimeval(b[16:], u.Sys)
	le.PutUint64(b[32:], uint64(u.MaxRSS>>10))
	le.PutUint64(b[64:], uint64(u.MinorFaults))
	le.PutUint64(b[72:], uint64(u.MajorFaults))
	le.PutUint64(b[128:], uint64(u.Voluntary))
	le.PutUint64(b[136:], uint64(u.Involuntary))
	return b
}

func getrusage(t *task.Task, a *sys.Args) (uint64, error) {
	var u task.Usage
	switch number(a[0]) {
	case abi.RUSAGE_SELF:
		u = t.Proc().Usage()
	case abi.RUSAGE_CHILDREN:
		u = t.Proc().ChildUsage()
	case abi.RUSAGE_THREAD:
		u = t.Usage()
	default:
		return 0, syscall.EINVAL
	}
	b := encodeUsage(u)
	return out(t, a[1], b[:])
}

package fd

import (
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"osv/kernel/vfs/poll"
)

// wait is one thread's wait for one source. Waits are pooled with their channel and
// their closure, so that waiting allocates nothing.
type wait struct {
	w    poll.Waiter
	c    chan struct{}
	want atomic.Uint32
}

var waits = sync.Pool{New: func() any {
	w := &wait{c: make(chan struct{}, 1)}
	w.w.Notify = w.notify
	return w
}}

// notify wakes the thread; it has taken the event if it was not woken already.
func (w *wait) notify(e poll.Events) bool {
	if uint32(e)&w.want.Load() == 0 {
		return false
	}
	select {
	case w.c <- struct{}{}:
		return true
	default:
		return false
	}
}

// hander is a file whose changes wake one waiting thread: it hands on to the next what
// a woken one does not take.
type hander interface{ handOn(want poll.Events) }

func handsOn(p poll.Pollable) bool {
	_, ok := p.(hander)
	return ok
}

// startWait puts the caller on p's list for the events want.
func startWait(p poll.Pollable, want poll.Events, exclusive bool) *wait {
	w := waits.Get().(*wait)
	select {
	case <-w.c: // a notification of the last wait that came late
	default:
	}
	w.want.Store(uint32(want | always))
	w.w.Exclusive = exclusive
	p.Watch(&w.w)
	return w
}

// end takes the caller off the list.
func (w *wait) end(p poll.Pollable) {
	p.Unwatch(&w.w)
	if w.w.Exclusive {
		select {
		case <-w.c: // woken after it had what it wanted
			p.(hander).handOn(poll.Events(w.want.Load()))
		default:
		}
	}
	waits.Put(w)
}

// WaitFor waits until p is ready for one of want, or has an error or an end to tell.
// It returns nil then, syscall.ETIMEDOUT at the deadline (the zero time is none), and
// abi.ERESTARTSYS if a signal comes first. Several threads that wait for one source
// are all woken.
func WaitFor(s Sleeper, p poll.Pollable, want poll.Events, deadline time.Time) error {
	w := startWait(p, want, false)
	var err error
	for p.Ready()&(want|always) == 0 && err == nil {
		err = s.Sleep(w.c, deadline)
	}
	w.end(p)
	return err
}

// Retry calls f until it returns something else than EAGAIN, and waits for want of p
// in between as WaitFor does. The deadline's error is EAGAIN, as SO_RCVTIMEO wants it,
// and with a deadline a signal is EINTR, else abi.ERESTARTSYS. f is called once more
// before either is returned: what has come in between is not lost. The first call of
// f is the caller's: Retry is for after it has said EAGAIN.
func Retry(s Sleeper, p poll.Pollable, want poll.Events, deadline time.Time, f func() error) error {
	w := startWait(p, want, false)
	defer w.end(p)
	var stop error
	for {
		err := f()
		if err != syscall.EAGAIN {
			return err
		}
		if stop != nil {
			return stop
		}
		stop = sleepError(s.Sleep(w.c, deadline), deadline)
	}
}

// sleepError is what a call returns whose wait ended with err.
func sleepError(err error, deadline time.Time) error {
	if err == syscall.ETIMEDOUT {
		return syscall.EAGAIN
	}
	return interrupted(err, !deadline.IsZero())
}

// after is the deadline of a timeout, none for zero.
func after(d time.Duration) time.Time {
	if d <= 0 {
		return time.Time{}
	}
	return time.Now().Add(d)
}

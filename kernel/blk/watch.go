package blk

import "time"

// Watch finds commands that a device does not answer, without reading a clock for
// each: it counts ticks while there is something under way, and a command is late
// once ticksLate of them have passed. An idle device costs no timer.
//
// All methods but Stop are called with the driver's lock held.
type Watch struct {
	period time.Duration
	timer  *time.Timer
	armed  bool
	tick   uint32
}

const ticksLate = 4

// NewWatch makes a Watch by which commands are late after timeout, and at most a
// quarter more. f is called without any lock; it takes the driver's, calls Tick,
// and looks for late commands.
func NewWatch(timeout time.Duration, f func()) *Watch {
	w := &Watch{period: max(timeout/ticksLate, time.Millisecond)}
	w.timer = time.AfterFunc(time.Hour, f)
	w.timer.Stop()
	return w
}

// Begin is called for each command under way: it arms the timer, and returns what
// Late is asked with.
func (w *Watch) Begin() uint32 {
	if !w.armed {
		w.armed = true
		w.timer.Reset(w.period)
	}
	return w.tick
}

// Tick notes that the timer has fired. Where more is set, it is armed again.
func (w *Watch) Tick(more bool) {
	w.tick++
	if w.armed = more; more {
		w.timer.Reset(w.period)
	}
}

// Late says whether a command that began at that tick is overdue.
func (w *Watch) Late(began uint32) bool { return w.tick-began > ticksLate }

// Stop ends the timer; f may be running, and may run no more after.
func (w *Watch) Stop() { w.timer.Stop() }

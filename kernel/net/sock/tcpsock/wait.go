package tcpsock

import (
	"sync/atomic"
	"time"

	"osv/kernel/net/clock"
)

// waiter is where one goroutine sleeps until something may have changed.
type waiter struct {
	waiting atomic.Bool   // somebody sleeps, or is about to
	sema    chan struct{} // of capacity 1: a token says "look again"
}

func (w *waiter) init() { w.sema = make(chan struct{}, 1) }

// wake wakes who sleeps, and reports whether somebody did. It never blocks.
func (w *waiter) wake() bool {
	if !w.waiting.Load() {
		return false
	}
	select {
	case w.sema <- struct{}{}:
	default:
	}
	return true
}

// deadline ends the calls of one direction at a time. Conn.mu guards it.
type deadline struct {
	at    int64 // ns on the host's clock; 0 for none
	armed int64 // when timer fires; 0 for not
	timer clock.Timer
}

// set moves the deadline to t, the zero Time for none; fire is called when it
// may have passed. A timer that fires early is set again by check.
func (d *deadline) set(c clock.Clock, t time.Time, fire func()) {
	if t.IsZero() {
		d.at = 0
		return
	}
	now, wait := c.Now(), time.Until(t)
	d.at = now + max(int64(wait), 0)
	d.arm(c, now, fire)
}

func (d *deadline) arm(c clock.Clock, now int64, fire func()) {
	if d.at == 0 || d.at <= now || d.armed != 0 && d.armed <= d.at {
		return
	}
	d.armed = d.at
	if d.timer == nil {
		d.timer = c.AfterFunc(time.Duration(d.at-now), fire)
	} else {
		d.timer.Reset(time.Duration(d.at - now))
	}
}

// passed reports that the time is over.
func (d *deadline) passed(now int64) bool { return d.at != 0 && now >= d.at }

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
	}
}

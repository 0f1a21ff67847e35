// Package nic holds what the drivers of network cards share above their
// registers: where a receive goroutine sleeps, the gate that keeps it out while the
// card is reset or closed, what went wrong, and what frames ask of cards that must be told where
// headers are.
//
// Who may use it: packages under kernel/drivers. It may not know a card.
// Start reading at Waiter.
package nic

import (
	"runtime"
	"sync/atomic"

	"osv/kernel/irq"
)

// Waiter is where the receive goroutine of one queue sleeps: on the queue's own
// line, if others can wake that too, else on a channel that the line's goroutine
// feeds.
type Waiter struct {
	line irq.Line  // nil: ch
	wakr irq.Waker // line's
	ch   chan struct{}
}

// Init makes w ready. l is the queue's own line, nil where it shares one. It
// reports whether somebody must wait on l and Wake w.
func (w *Waiter) Init(l irq.Line) (pump bool) {
	if k, ok := l.(irq.Waker); ok {
		w.line, w.wakr = l, k
		return false
	}
	w.ch = make(chan struct{}, 1)
	return l != nil
}

// Wait blocks until Wake, or until the line fired. It returns an error where the
// line was closed.
func (w *Waiter) Wait() error {
	if w.line == nil {
		<-w.ch
		return nil
	}
	return w.line.Wait()
}

// Wake makes the current Wait, or the next one, return. It never blocks.
func (w *Waiter) Wake() {
	if w.line != nil {
		w.wakr.Wake()
		return
	}
	select {
	case w.ch <- struct{}{}:
	default:
	}
}

// Gate is passed by the one goroutine of a queue, and held or shut by those who
// reset or close the card. Passing costs one uncontended exchange. The zero value
// is open.
type Gate struct{ v atomic.Uint32 }

const (
	open = iota
	busy
	shut
)

// Enter takes the gate. It reports false where the gate is held or shut.
func (g *Gate) Enter() bool { return g.v.CompareAndSwap(open, busy) }

// Leave gives back what Enter or Hold took.
func (g *Gate) Leave() { g.v.Store(open) }

// Hold takes the gate as soon as it is free. It reports false where it is shut.
func (g *Gate) Hold() bool {
	for !g.v.CompareAndSwap(open, busy) {
		if g.v.Load() == shut {
			return false
		}
		runtime.Gosched()
	}
	return true
}

// Shut waits until the gate is free and keeps all out from then on.
func (g *Gate) Shut() {
	if g.Hold() {
		g.v.Store(shut)
	}
}

// Health is what went wrong with a card; the zero value is that of one that works.
type Health struct{ failure, fault atomic.Pointer[error] }

// Err says why the card stopped, nil while it works.
func (h *Health) Err() error { return get(&h.failure) }

// Fault is the latest wrong that the card did and that its use survived.
func (h *Health) Fault() error { return get(&h.fault) }

// Note makes err the latest fault.
func (h *Health) Note(err error) { h.fault.Store(&err) }

// Fail notes why the card stops. It reports false where another reason came first,
// which stays.
func (h *Health) Fail(err error) bool { return h.failure.CompareAndSwap(nil, &err) }

func get(p *atomic.Pointer[error]) error {
	if e := p.Load(); e != nil {
		return *e
	}
	return nil
}

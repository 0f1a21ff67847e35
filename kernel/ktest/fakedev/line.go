package fakedev

import (
	"sync"

	"osv/kernel/irq"
)

// Line is an irq.Line that the test fires. Firings before a Wait are merged, as
// with real lines. It is also an irq.Waker.
type Line struct {
	once  sync.Once
	ready sync.Once
	fire  chan struct{}
	done  chan struct{}
}

func (l *Line) init() {
	l.ready.Do(func() {
		l.fire = make(chan struct{}, 1)
		l.done = make(chan struct{})
	})
}

// Fire raises the interrupt.
func (l *Line) Fire() {
	l.init()
	select {
	case l.fire <- struct{}{}:
	default:
	}
}

// Wake is Fire: the waiter cannot tell the difference.
func (l *Line) Wake() { l.Fire() }

// Wait blocks until Fire or Close.
func (l *Line) Wait() error {
	l.init()
	select {
	case <-l.done:
		return irq.ErrClosed
	default:
	}
	select {
	case <-l.fire:
		return nil
	case <-l.done:
		return irq.ErrClosed
	}
}

// Close ends all waiting.
func (l *Line) Close() error {
	l.init()
	l.once.Do(func() { close(l.done) })
	return nil
}

package vhost

import (
	"runtime"
	"sync/atomic"
)

// gate keeps the control goroutine and a port's goroutine out of each other's way
// without a lock on the port's side. The port's side enters and leaves around
// each batch; the control side shuts it, changes what the port uses, and opens it.
//
// Each side writes its own flag and then reads the other's. Go's atomics are
// sequentially consistent, so at least one of two that meet sees the other.
type gate struct {
	busy atomic.Bool // the port is inside; written by the port
	shut atomic.Bool // the port must stay out; written by control
}

func (g *gate) enter() bool {
	g.busy.Store(true)
	if g.shut.Load() {
		g.busy.Store(false)
		return false
	}
	return true
}

func (g *gate) leave() { g.busy.Store(false) }

// close waits until the port is out; wake interrupts a port that sleeps inside.
func (g *gate) close(wake func()) {
	g.shut.Store(true)
	wake()
	for g.busy.Load() {
		runtime.Gosched()
	}
}

func (g *gate) open() { g.shut.Store(false) }

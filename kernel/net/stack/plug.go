package stack

import (
	"sync"
	"sync/atomic"

	"osv/kernel/pkt"
)

// plug holds back what is sent on one transmit queue while the receive loop ends
// a batch: handlers of many flows then answer one after the other, by their own
// calls of Route.Send, and all answers go out with one doorbell. Others who send
// on the queue meanwhile find their frames in the same batch, in order.
type plug struct {
	in   atomic.Bool // set and cleared by the receive loop, under mu
	mu   sync.Mutex  // guards held
	held []*pkt.Buf  // at most its capacity
}

// take accepts frames while the plug is in, and returns how many; none when it
// is out.
func (p *plug) take(frames []*pkt.Buf) int {
	if !p.in.Load() {
		return 0
	}
	p.mu.Lock()
	n := 0
	if p.in.Load() {
		at := len(p.held)
		n = min(len(frames), cap(p.held)-at)
		p.held = p.held[:at+n]
		for i, b := range frames[:n] { // most of the time one
			p.held[at+i] = b
		}
	}
	p.mu.Unlock()
	return n
}

func (p *plug) put() {
	p.mu.Lock()
	p.in.Store(true)
	p.mu.Unlock()
}

// pull takes the plug out and appends what was held to c's batch.
func (p *plug) pull(c *RxContext) {
	p.mu.Lock()
	for i, b := range p.held {
		c.add(b)
		p.held[i] = nil
	}
	p.held = p.held[:0]
	p.in.Store(false)
	p.mu.Unlock()
}

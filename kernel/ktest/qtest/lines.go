package qtest

import (
	"sync"
	"sync/atomic"
	"time"

	"osv/kernel/irq"
)

// Pin is all level-triggered pins of the machine as one irq.Line: Wait returns
// while any of them is up.
type Pin struct {
	mu     sync.Mutex
	change *sync.Cond
	up     map[int]bool
	woken  bool
	closed bool
	raised int
}

func (p *Pin) init() {
	p.change = sync.NewCond(&p.mu)
	p.up = map[int]bool{}
}

func (p *Pin) set(n int, up bool) {
	if n == 0 || n == 2 || n == 8 {
		return // the timers tick along
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if up {
		p.up[n] = true
		p.raised++
	} else {
		delete(p.up, n)
	}
	p.change.Broadcast()
}

// Wait is irq.Line's.
func (p *Pin) Wait() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.up) == 0 && !p.closed {
		p.change.Wait()
	}
	if p.closed {
		return irq.ErrClosed
	}
	return nil
}

// Close is irq.Line's.
func (p *Pin) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.change.Broadcast()
	return nil
}

// Raised is how often a pin went up.
func (p *Pin) Raised() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.raised
}

// MSI is one message-signalled interrupt as an irq.Line and irq.Waker: the device
// writes a word of memory, which is looked at every pollEvery.
type MSI struct {
	word  *uint32
	fired chan struct{}
	done  chan struct{}
	ended chan struct{} // word is not looked at any more
	once  sync.Once
	count atomic.Int64
}

const pollEvery = 20 * time.Microsecond

func newMSI(word *uint32) *MSI {
	l := &MSI{word: word, fired: make(chan struct{}, 1), done: make(chan struct{}), ended: make(chan struct{})}
	go func() {
		defer close(l.ended)
		for {
			select {
			case <-l.done:
				return
			case <-time.After(pollEvery):
			}
			if atomic.SwapUint32(l.word, 0) != 0 {
				l.count.Add(1)
				l.Wake()
			}
		}
	}()
	return l
}

// Wake is irq.Waker's.
func (l *MSI) Wake() {
	select {
	case l.fired <- struct{}{}:
	default:
	}
}

// Wait is irq.Line's.
func (l *MSI) Wait() error {
	select {
	case <-l.fired:
		return nil
	case <-l.done:
		return irq.ErrClosed
	}
}

// Close is irq.Line's.
func (l *MSI) Close() error {
	l.once.Do(func() { close(l.done) })
	<-l.ended
	return nil
}

// Count is how many messages were seen; several close together count once.
func (l *MSI) Count() int { return int(l.count.Load()) }

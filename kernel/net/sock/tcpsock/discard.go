package tcpsock

import (
	"io"
	"sync/atomic"
)

// Discard reads and forgets until the end of the stream, which is no error, and
// adds to n what came, as it comes. It takes all octets that are there in one
// step, where Read copies them and WriteTo goes from buffer to buffer.
func (c *Conn) Discard(n *atomic.Uint64) error {
	c.rdMu.Lock()
	defer c.rdMu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		k, err := c.tryDiscard()
		n.Add(uint64(k))
		switch {
		case err == ErrWouldBlock:
			c.sleep(&c.rd)
		case err == io.EOF:
			return nil
		case err != nil:
			return opError("read", c.local, c.remote, err)
		}
		// Others want the lock too: writers, the timer.
		c.mu.Unlock()
		c.mu.Lock()
	}
}

// tryDiscard is tryRead without a buffer. Caller must hold mu.
func (c *Conn) tryDiscard() (int, error) {
	now := c.h.clock.Now()
	c.pull(now)
	switch {
	case c.closed:
		return 0, errClosed
	case c.rdl.passed(now):
		return 0, errDeadline
	}
	n, err := c.core.Discard(now)
	c.settle(now)
	if n == 0 && err == nil {
		err = ErrWouldBlock
	}
	return n, err
}

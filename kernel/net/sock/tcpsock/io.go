package tcpsock

import (
	"io"
	"net"
	"sync"
	"time"

	"osv/kernel/net/tcp"
)

// Read moves received octets to p: at least one, or none with an error. At the
// end of the stream the error is io.EOF.
func (c *Conn) Read(p []byte) (int, error) {
	c.rdMu.Lock()
	defer c.rdMu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(p) == 0 {
		return 0, nil
	}
	for {
		n, err := c.tryRead(p)
		if err != ErrWouldBlock {
			return n, opError("read", c.local, c.remote, err)
		}
		c.sleep(&c.rd)
	}
}

// tryRead is one attempt. Caller must hold mu.
func (c *Conn) tryRead(p []byte) (int, error) {
	now := c.h.clock.Now()
	c.pull(now)
	switch {
	case c.closed:
		return 0, errClosed
	case c.rdl.passed(now):
		return 0, errDeadline
	}
	n, err := c.core.Recv(now, p)
	c.settle(now)
	if n == 0 && err == nil {
		err = ErrWouldBlock
	}
	return n, err
}

// sleep waits until w is woken. A segment that came in after the last pull is
// not slept over. Caller must hold mu, which is free meanwhile.
func (c *Conn) sleep(w *waiter) {
	w.waiting.Store(true)
	if now := c.h.clock.Now(); c.pull(now) {
		w.waiting.Store(false)
		c.settle(now)
		return
	}
	c.mu.Unlock()
	<-w.sema
	c.mu.Lock()
	w.waiting.Store(false)
}

// Write gives all of p to be sent. It returns when the last octet is in the send
// buffer, which is not to say that the peer has it.
func (c *Conn) Write(p []byte) (int, error) {
	c.wrMu.Lock()
	defer c.wrMu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	done := 0
	for {
		n, err := c.tryWrite(p[done:])
		done += n
		if err != nil && err != ErrWouldBlock {
			return done, opError("write", c.local, c.remote, err)
		}
		if done == len(p) {
			return done, nil
		}
		if n == 0 {
			c.sleep(&c.wr)
		}
	}
}

// tryWrite is one attempt; ErrWouldBlock says that nothing of p was taken.
// Caller must hold mu.
func (c *Conn) tryWrite(p []byte) (int, error) {
	now := c.h.clock.Now()
	c.pull(now)
	switch {
	case c.closed:
		return 0, errClosed
	case c.wdl.passed(now):
		return 0, errDeadline
	}
	n, err := c.core.Send(now, p)
	c.settle(now)
	if n == 0 && err == nil && len(p) > 0 {
		err = ErrWouldBlock
	}
	return n, err
}

// TryRead is a Read that returns ErrWouldBlock instead of waiting.
func (c *Conn) TryRead(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, err := c.tryRead(p)
	return n, opError("read", c.local, c.remote, err)
}

// TryWrite is a Write that takes what there is room for, and returns
// ErrWouldBlock where that is nothing.
func (c *Conn) TryWrite(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, err := c.tryWrite(p)
	return n, opError("write", c.local, c.remote, err)
}

// WriteTo writes all octets that come in to w, out of the buffers they came in.
func (c *Conn) WriteTo(w io.Writer) (int64, error) {
	c.rdMu.Lock()
	defer c.rdMu.Unlock()
	var total int64
	for {
		c.mu.Lock()
		_, err := c.tryRead(nil)
		for err == ErrWouldBlock && c.core.Readable() == 0 {
			c.sleep(&c.rd)
			_, err = c.tryRead(nil)
		}
		b := c.core.Take(c.h.clock.Now())
		c.settle(c.h.clock.Now())
		c.mu.Unlock()
		if b == nil {
			if err == io.EOF {
				err = nil
			}
			return total, opError("read", c.local, c.remote, err)
		}
		n, err := w.Write(b.Bytes())
		total += int64(n)
		if err == nil && n < b.Len() {
			err = io.ErrShortWrite
		}
		b.Put()
		if err != nil {
			return total, err
		}
	}
}

// copyBufs are buffers for ReadFrom.
var copyBufs = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// ReadFrom sends all octets of r.
func (c *Conn) ReadFrom(r io.Reader) (int64, error) {
	p := copyBufs.Get().(*[64 << 10]byte)
	defer copyBufs.Put(p)
	var total int64
	for {
		n, err := r.Read(p[:])
		if n > 0 {
			k, werr := c.Write(p[:n])
			total += int64(k)
			if werr != nil {
				return total, werr
			}
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// LocalAddr is this end, a *net.TCPAddr.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr is the peer, a *net.TCPAddr.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// Close ends both directions. What was written is still sent, in the background,
// unless SetLinger said otherwise; a peer that sends more is told by a RST.
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return opError("close", c.local, c.remote, errClosed)
	}
	now := c.h.clock.Now()
	c.pull(now)
	c.closed = true
	c.rdl.stop()
	c.wdl.stop()
	c.notify.Store(nil)
	c.arrival.Store(nil)
	if c.linger == 0 {
		c.core.Abort(now)
	}
	c.core.Close(now)
	if !c.detached && c.flow == nil {
		// Nobody comes any more to read the channel.
		c.h.stack.ReplaceFlow(c.core.Tuple(), tcp.Flow{Slow: c})
		c.pull(now)
	}
	c.settle(now)
	c.rd.wake()
	c.wr.wake()
	if c.linger > 0 {
		c.lingerOn(now + int64(c.linger))
	}
	return nil
}

// lingerOn waits until the peer has all octets, and gives up at end. Caller must
// hold mu.
func (c *Conn) lingerOn(end int64) {
	c.wdl.at, c.wdl.armed = end, 0
	c.wdl.arm(c.h.clock, c.h.clock.Now(), c.onWriteDeadline)
	for !c.detached && c.core.FinPending() {
		now := c.h.clock.Now()
		if now >= end {
			c.core.Abort(now)
			c.settle(now)
			break
		}
		c.sleep(&c.wr)
	}
	c.wdl.stop()
}

// CloseRead ends reading: what comes in is acknowledged and dropped.
func (c *Conn) CloseRead() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return opError("close", c.local, c.remote, errClosed)
	}
	now := c.h.clock.Now()
	c.pull(now)
	c.core.CloseRead(now)
	c.settle(now)
	c.rd.wake()
	return nil
}

// CloseWrite ends writing: the peer sees the end of the stream after all that
// was written.
func (c *Conn) CloseWrite() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return opError("close", c.local, c.remote, errClosed)
	}
	now := c.h.clock.Now()
	c.pull(now)
	err := c.core.CloseWrite(now)
	c.settle(now)
	c.wr.wake()
	return opError("close", c.local, c.remote, err)
}

// SetDeadline sets both deadlines: the zero Time is none.
func (c *Conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// SetReadDeadline ends calls of Read at t with os.ErrDeadlineExceeded.
func (c *Conn) SetReadDeadline(t time.Time) error {
	return c.setDeadline(&c.rdl, &c.rd, t, c.onReadDeadline)
}

// SetWriteDeadline ends calls of Write at t with os.ErrDeadlineExceeded.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	return c.setDeadline(&c.wdl, &c.wr, t, c.onWriteDeadline)
}

func (c *Conn) setDeadline(d *deadline, w *waiter, t time.Time, fire func()) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return opError("set", c.local, c.remote, errClosed)
	}
	d.set(c.h.clock, t, fire)
	if d.passed(c.h.clock.Now()) {
		w.wake()
	}
	return nil
}

func (c *Conn) onReadDeadline()  { c.onDeadline(&c.rdl, &c.rd, c.onReadDeadline) }
func (c *Conn) onWriteDeadline() { c.onDeadline(&c.wdl, &c.wr, c.onWriteDeadline) }

func (c *Conn) onDeadline(d *deadline, w *waiter, fire func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d.armed = 0
	now := c.h.clock.Now()
	if d.passed(now) {
		w.wake()
		return
	}
	d.arm(c.h.clock, now, fire)
}

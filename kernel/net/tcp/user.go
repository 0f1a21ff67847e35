package tcp

import (
	"io"

	"osv/kernel/pkt"
)

// The user's calls: RFC 9293 §3.9.1 and §3.10. Each returns at once; what it
// causes to be sent waits for Flush unless it says otherwise.

// Send takes octets of p to be sent and returns how many: fewer than len(p)
// where the buffer is full, EvWritable then tells of room. It may be called
// before the connection is established.
func (c *Conn) Send(now int64, p []byte) (int, error) {
	c.now = now
	if err := c.sendErr(); err != nil {
		return 0, err
	}
	n := len(p)
	if c.snd.len+n > min(c.sndLimit, sendFloor) { // within the floor there is room in any case
		n = min(n, c.SendRoom())
	}
	done := c.snd.append(p[:n])
	if done < n {
		c.memAt = now + stallWait // the timer tells when to try again
	}
	return done, nil
}

// sendErr is why nothing can be given to Send, nil where something can.
func (c *Conn) sendErr() error {
	switch {
	case c.state == StateClosed && c.err != nil:
		return c.err
	case c.state == StateClosed || c.state == StateListen:
		return ErrNotOpen
	case c.finQueued || !c.state.maySend() && c.state != StateSynSent && c.state != StateSynReceived:
		return ErrClosing
	}
	return nil
}

// SendRoom is how many octets Send would take now.
func (c *Conn) SendRoom() int { return max(0, c.sendLimit()-c.snd.len) }

// Writable reports that a waiting writer has a reason to try: a third of the
// buffer is free, or there is an error to return.
func (c *Conn) Writable() bool {
	return c.finQueued || !c.state.maySend() && c.state != StateSynSent && c.state != StateSynReceived ||
		c.state.maySend() && (c.snd.len == 0 || c.snd.len <= c.sendLimit()*2/3)
}

// HungUp reports that the peer sends no more, or that no more is taken.
func (c *Conn) HungUp() bool { return c.finTaken || c.rdShut || c.state == StateClosed }

// FinTaken reports that the peer's FIN has come, after all octets before it.
func (c *Conn) FinTaken() bool { return c.finTaken }

// FinPending reports that the user has closed and the peer does not have all
// octets yet.
func (c *Conn) FinPending() bool {
	return c.state == StateFinWait1 || c.state == StateClosing || c.state == StateLastAck
}

// Unsent and Unacked are octets given to Send that wait to be sent, and that
// were sent and not acknowledged.
func (c *Conn) Unsent() int { return max(0, c.dataEnd().Sub(c.sndNxt)) }

// Unacked is the octets sent and not acknowledged.
func (c *Conn) Unacked() int { return c.snd.len - c.Unsent() }

// Recv moves received octets to dst and returns how many; 0 and no error says
// that none are there. After the last octet it returns io.EOF, or the error that
// ended the connection. Octets that came before the error are still read.
func (c *Conn) Recv(now int64, dst []byte) (int, error) {
	c.now = now
	if c.rcv.len > 0 {
		n := c.rcv.read(dst)
		c.consumed(n)
		c.charge()
		c.afterRead()
		return n, nil
	}
	return 0, c.recvEnd()
}

// recvEnd is what Recv returns when there are no octets.
func (c *Conn) recvEnd() error {
	switch {
	case c.finTaken || c.rdShut:
		return io.EOF
	case c.state == StateClosed && c.err != nil:
		return c.err
	case c.state == StateClosed || c.state == StateListen:
		return ErrNotOpen
	}
	return nil
}

// Peek returns the received octets that lie in one piece at the front, without
// a copy, and the end of the stream as Recv does. They stay valid until the next
// call of c that is not Consume.
func (c *Conn) Peek() ([]byte, error) {
	if c.rcv.len > 0 {
		return c.rcv.peek(), nil
	}
	return nil, c.recvEnd()
}

// PeekMore brings more octets into the piece that Peek returns, and reports
// whether it could: it cannot where all are in, or the piece has the size of a
// packet buffer.
func (c *Conn) PeekMore() bool { return c.rcv.pull() }

// Consume ends the first n octets that Peek returned.
func (c *Conn) Consume(now int64, n int) {
	c.now = now
	c.rcv.consume(n)
	c.consumed(n)
	c.charge()
	c.afterRead()
}

// Take is a Recv without a copy: it hands over the first buffer of received
// octets, nil where there are none. The buffer is the caller's.
func (c *Conn) Take(now int64) *pkt.Buf {
	c.now = now
	b := c.rcv.take()
	if b != nil {
		c.consumed(b.Len())
		c.charge()
		c.afterRead()
	}
	return b
}

// Readable is how many octets Recv has to give.
func (c *Conn) Readable() int { return c.rcv.len }

// CloseWrite is the CLOSE of RFC 9293 §3.10.4: the peer gets a FIN after all
// that was given to Send; octets can still be received.
func (c *Conn) CloseWrite(now int64) error {
	c.now = now
	if c.finQueued && c.state != StateClosed {
		return ErrClosing
	}
	switch c.state {
	case StateClosed:
		return ErrNotOpen
	case StateListen, StateSynSent:
		c.fail(ErrAborted)
	case StateSynReceived:
		c.finQueued = true
		if c.snd.len == 0 {
			c.enter(StateFinWait1)
		}
	case StateEstablished:
		c.finQueued = true
		c.enter(StateFinWait1)
	case StateCloseWait:
		c.finQueued = true
		c.enter(StateLastAck)
	default:
		return ErrClosing
	}
	return nil
}

// CloseRead says that the user reads no more: what has come and will come is
// acknowledged and dropped.
func (c *Conn) CloseRead(now int64) {
	c.now = now
	if c.rdShut {
		return
	}
	c.rdShut = true
	n := c.rcv.len
	c.rcv.release()
	c.consumed(n)
	c.charge()
	c.afterRead()
	c.ev |= EvReadable
}

// Close ends both directions, and the user's interest: a peer that sends more
// gets a RST, as it does when octets were not read (RFC 9293 §3.6.1, RFC 2525
// §2.17). c lives on until EvClosed.
func (c *Conn) Close(now int64) {
	c.now = now
	if c.orphan {
		return
	}
	c.orphan = true
	unread := c.rcv.len > 0
	c.rcv.release()
	c.charge()
	if unread && c.state.synchronized() && c.state != StateTimeWait {
		c.Abort(now)
		return
	}
	if !c.finQueued {
		_ = c.CloseWrite(now) // in all other states there is nothing left to close
	}
	if c.state == StateFinWait2 {
		c.armFinWait2()
	}
}

// Abort is the ABORT of RFC 9293 §3.10.5: the connection ends at once, and the
// peer is told by a RST.
func (c *Conn) Abort(now int64) {
	c.now = now
	switch c.state {
	case StateSynReceived, StateEstablished, StateFinWait1, StateFinWait2, StateCloseWait:
		c.sendAbort()
	}
	c.fail(ErrAborted)
}

// SetOptions changes the user's settings.
func (c *Conn) SetOptions(now int64, o Options) {
	c.now = now
	c.opt = o
	if c.state.synchronized() {
		c.armKeepalive()
	}
}

// SetPath tells c of a way to the peer that has changed.
func (c *Conn) SetPath(p Path) {
	c.path = p
	c.setMSS()
}

// SetRecvBuffer and SetSendBuffer fix the sizes of the buffers, in octets, within
// the host's bounds; they do not grow by themselves any more beyond them.
func (c *Conn) SetRecvBuffer(n int) { c.rcvLimit = min(max(n, 2*c.mss), c.cfg.RcvBufMax) }

// SetSendBuffer is described at SetRecvBuffer.
func (c *Conn) SetSendBuffer(n int) { c.sndLimit = min(max(n, 2*c.mss), c.cfg.SndBufMax) }

package tcp

import "osv/kernel/pkt"

// The user's calls for memory that only its owner can reach: octets are handed over
// piece by piece, and copied once, to or from where they stay.

// Dst takes received octets. Put copies from p and returns how much it took; less
// than len(p) only with an error.
type Dst interface {
	Room() int
	Put(p []byte) (int, error)
}

// Src gives octets to be sent. Take fills p from it and returns how much that was;
// less than len(p), where that is no more than Left, only with an error.
type Src interface {
	Left() int
	Take(p []byte) (int, error)
}

// RecvTo is Recv into d. An error of d is returned where it took nothing.
func (c *Conn) RecvTo(now int64, d Dst) (int, error) {
	c.now = now
	if c.rcv.len == 0 {
		return 0, c.recvEnd()
	}
	n, err := c.rcv.readTo(d)
	if n > 0 {
		err = nil
		c.consumed(n)
		c.charge()
		c.afterRead()
	}
	return n, err
}

// PeekTo copies octets from the skip-th on to d, as RecvTo, and leaves them where
// they are.
func (c *Conn) PeekTo(d Dst, skip int) (int, error) {
	if c.rcv.len <= skip {
		return 0, c.recvEnd()
	}
	return c.rcv.peekTo(d, skip)
}

// SendFrom is Send of all that s has left.
func (c *Conn) SendFrom(now int64, s Src) (int, error) {
	c.now = now
	if err := c.sendErr(); err != nil {
		return 0, err
	}
	n := s.Left()
	if c.snd.len+n > min(c.sndLimit, sendFloor) {
		n = min(n, c.SendRoom())
	}
	done, err := c.snd.appendFrom(s, n)
	if done < n && err == nil {
		c.memAt = now + stallWait
	}
	if done > 0 {
		err = nil
	}
	return done, err
}

// SetCork keeps octets that do not fill a segment back, or sends them from the next
// Flush on.
func (c *Conn) SetCork(on bool) { c.opt.Cork = on }

// doneBatch is how many buffers readTo empties before it gives them back.
const doneBatch = 32

// readTo moves octets to d until it is full, or fails.
func (q *rcvQueue) readTo(d Dst) (int, error) {
	n, room := 0, d.Room()
	var err error
	for q.head != nil && room > 0 && err == nil {
		first := q.head
		var last *pkt.Buf // of those that are empty
		mem := 0
		b := first
		for i := 0; b != nil && i < doneBatch; i++ {
			p := b.Bytes()
			if len(p) > room {
				p = p[:room]
			}
			var k int
			k, err = d.Put(p)
			b.Head += k
			n, room = n+k, room-k
			if b.Head != b.Tail {
				break
			}
			mem += len(b.Mem.Bytes)
			last, b = b, b.Next
			if err != nil || room == 0 {
				break
			}
		}
		if last != nil {
			q.head, last.Next = b, nil
			q.mem -= mem
			first.Put()
			q.skipEmpty()
		}
	}
	q.len -= n
	return n, err
}

// peekTo copies octets from the skip-th on to d.
func (q *rcvQueue) peekTo(d Dst, skip int) (int, error) {
	n, room := 0, d.Room()
	for b := q.head; b != nil && room > 0; b = b.Next {
		p := b.Bytes()
		if skip >= len(p) {
			skip -= len(p)
			continue
		}
		p, skip = p[skip:], 0
		if len(p) > room {
			p = p[:room]
		}
		k, err := d.Put(p)
		n, room = n+k, room-k
		if err != nil {
			if n > 0 {
				err = nil
			}
			return n, err
		}
	}
	return n, nil
}

// appendFrom copies n octets of s to the end, and returns how many went in: fewer
// where the source of chunks is empty, or s failed.
func (q *sendBuf) appendFrom(s Src, n int) (int, error) {
	done := 0
	for done < n {
		pos := q.skip + q.len
		if q.n == 0 || pos == q.n*q.size {
			if !q.grow() {
				break
			}
			pos = q.skip + q.len
		}
		i := pos / q.size
		to := q.chunk(i).Mem.Bytes[pos-i*q.size : q.size]
		if len(to) > n-done {
			to = to[:n-done]
		}
		k, err := s.Take(to)
		q.len += k
		done += k
		if err != nil || k < len(to) {
			if q.len == 0 {
				q.release() // an empty buffer holds no chunk
			}
			return done, err
		}
	}
	return done, nil
}

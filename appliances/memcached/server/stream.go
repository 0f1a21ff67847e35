package server

import (
	"sync"

	"osv/appliances/memcached/proto"
)

// Streams that must not block: engines batch and channel. Requests are run as
// long as the connection takes the replies. What it does not take is kept: at
// most one reply buffer and one pinned item, however many requests follow, as
// those are not taken before it is gone.

// stream is a connection of such an engine.
type stream struct {
	conn
	left []byte // reply bytes that the connection did not take
	// write takes what fits the connection and returns how much that was.
	write func([]byte) int
}

// reply is what a stream works with while it is busy.
type reply struct {
	buf [replyBuf]byte
	o   proto.Out
}

var replyPool = sync.Pool{New: func() any { return new(reply) }}

// step sends what is left, resumes what is held back, and runs the requests in p.
// It returns how many bytes of p it has dealt with, and whether the connection
// goes on.
func (c *stream) step(p []byte, s *Server) (n int, open bool) {
	c.last.Store(int64(s.store.Now()))
	if len(c.left) > 0 && !c.drain() {
		return 0, true
	}
	b := replyPool.Get().(*reply)
	defer replyPool.Put(b)
	o := &b.o
	for n < len(p) || c.proto.Pending() || c.proto.Closed() {
		*o = proto.Out{B: b.buf[:0], Hold: true}
		switch {
		case c.proto.Pending():
			c.proto.Resume(o)
		case c.proto.Closed():
			return n, false
		default:
			k, _ := c.proto.FeedHold(p[n:], o)
			n += k
		}
		if len(o.B) == 0 {
			continue
		}
		if m := c.write(o.B); m < len(o.B) {
			c.left = append(c.left[:0], o.B[m:]...)
			return n, true
		}
	}
	return n, true
}

// drain sends what is left and reports whether that was all.
func (c *stream) drain() bool {
	m := c.write(c.left)
	if m < len(c.left) {
		c.left = c.left[:copy(c.left, c.left[m:])]
		return false
	}
	if cap(c.left) > replyBuf {
		c.left = nil // a dump's
	}
	c.left = c.left[:0]
	return true
}

// waiting reports that the connection has replies to send before it takes
// requests.
func (c *stream) waiting() bool { return len(c.left) > 0 || c.proto.Pending() }

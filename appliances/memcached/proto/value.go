package proto

import "osv/appliances/memcached/store"

// Values on their way out. A value that fits the buffer is copied at once, inside
// the reader section. One that does not is pinned, so that the section can end:
// then it is sent in parts through the Sink, which may block as long as the
// client likes, or, where the engine must not block, held back until it resumes.

// heldValue is what is still to be sent of a value.
type heldValue struct {
	active bool
	it     store.Item
	left   int          // bytes
	piece  store.Cursor // of a chunked item: the piece at hand
	off    int          // bytes of it, or of the value, that are sent
}

// moreKeys are the keys of a get that are still to be answered.
type moreKeys struct {
	keys     []byte
	active   bool
	cas      bool
	touch    bool
	deadline uint32
}

// stopped reports that no further command or key may be answered into o.
func (c *Conn) stopped(o *Out) bool {
	return o.Hold && (c.held.active || c.more.active || o.room() < HeaderMax)
}

// Pending reports that a reply is held back: Resume is to be called.
func (c *Conn) Pending() bool { return c.held.active || c.more.active }

// value puts the value of it, "\r\n" included if crlf is set. The Item may be
// invalid afterwards.
func (c *Conn) value(o *Out, it store.Item, crlf bool) {
	n := it.Len()
	if crlf {
		n += 2
	}
	if v := it.Value(); v != nil && n <= o.room() {
		o.B = append(o.B, v[:n]...)
		return
	}
	if !it.Pin() {
		// Thousands of slow readers of this one item: the stream cannot go on.
		o.Err = errTooManyPins
		return
	}
	c.w.Leave()
	h := heldValue{active: true, it: it, left: n}
	if o.Hold {
		c.held = h
		return
	}
	for h.left > 0 && o.Err == nil {
		o.put(h.next(h.left))
	}
	it.Unpin()
}

// next takes at most max bytes of what is left, as they lie in one piece.
func (h *heldValue) next(max int) []byte {
	var p []byte
	after := h.piece
	if v := h.it.Value(); v != nil {
		p = v
	} else {
		p, after = h.it.Piece(h.piece)
	}
	p = p[h.off:]
	p = p[:min(len(p), h.left, max)]
	h.off += len(p)
	h.left -= len(p)
	if after != h.piece {
		full, _ := h.it.Piece(h.piece)
		if h.off == len(full) {
			h.piece, h.off = after, 0
		}
	}
	return p
}

// Resume goes on with a reply that was held back, as far as o has room, and
// reports whether it is complete. It must not be called with an Out that is
// full already.
func (c *Conn) Resume(o *Out) bool {
	before := o.Written()
	for c.held.active && o.room() > 0 {
		o.B = append(o.B, c.held.next(o.room())...)
		if c.held.left == 0 {
			c.held.active = false
			c.held.it.Unpin()
		}
	}
	if c.more.active && !c.held.active && o.room() >= HeaderMax {
		m := c.more
		c.more.active = false
		// getRest may keep what is left of the keys in the place they are in.
		c.getRest(m.keys, o, m.cas, m.touch, m.deadline)
		c.w.Leave()
		if !c.more.active && c.charged > 0 {
			c.more.keys = nil
			c.charge(0)
		}
	}
	c.w.Count(countBytesWritten, o.Written()-before)
	return !c.Pending()
}

// Closed reports that the connection is to be closed once nothing is Pending.
func (c *Conn) Closed() bool { return c.state == stateClosed }

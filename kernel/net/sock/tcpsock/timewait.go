package tcpsock

import (
	"sync"
	"time"

	"osv/kernel/net/clock"
	"osv/kernel/net/tcp"
	"osv/kernel/pkt"
)

// timeWaits holds the connections in TIME-WAIT: about 200 bytes each in place of
// a whole connection, in a bounded number.
type timeWaits struct {
	h   *Host
	max int

	mu      sync.Mutex // guards what follows
	head    *waiting   // the first to expire
	tail    *waiting
	n       int
	timer   clock.Timer
	armed   bool
	scratch tcp.Conn
	closed  bool
}

// waiting is one of them: the Endpoint of its tuple's segments.
type waiting struct {
	tws        *timeWaits
	w          tcp.TimeWait
	prev, next *waiting
	gone       bool
}

func (t *timeWaits) init(h *Host, limit int) { t.h, t.max = h, limit }

func (t *timeWaits) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.n
}

// add takes over the tuple of w.
func (t *timeWaits) add(w tcp.TimeWait) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := &waiting{tws: t, w: w}
	if t.closed {
		t.h.stack.RemoveFlow(&w.Tuple)
		return
	}
	t.h.stack.ReplaceFlow(&w.Tuple, tcp.Flow{Slow: e})
	t.link(e)
	if t.n > t.max {
		t.h.Stats.TimeWaitDropped.Add(1)
		t.end(t.head)
	}
	t.arm()
}

// link puts e at the end: all wait equally long, so the order is that of expiry.
// Caller must hold mu, as for all below.
func (t *timeWaits) link(e *waiting) {
	e.prev, e.next = t.tail, nil
	if t.tail == nil {
		t.head = e
	} else {
		t.tail.next = e
	}
	t.tail = e
	t.n++
}

func (t *timeWaits) unlink(e *waiting) {
	if e.prev == nil {
		t.head = e.next
	} else {
		e.prev.next = e.next
	}
	if e.next == nil {
		t.tail = e.prev
	} else {
		e.next.prev = e.prev
	}
	t.n--
}

// end forgets e.
func (t *timeWaits) end(e *waiting) {
	t.unlink(e)
	e.gone = true
	t.h.stack.RemoveFlow(&e.w.Tuple)
}

func (t *timeWaits) arm() {
	if t.head == nil || t.armed {
		return
	}
	t.armed = true
	wait := time.Duration(max(t.head.w.Expire-t.h.clock.Now(), 0))
	if t.timer == nil {
		t.timer = t.h.clock.AfterFunc(wait, t.expire)
	} else {
		t.timer.Reset(wait)
	}
}

func (t *timeWaits) expire() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.armed = false
	now := t.h.clock.Now()
	for t.head != nil && t.head.w.Expire <= now {
		t.end(t.head)
	}
	if !t.closed {
		t.arm()
	}
}

func (t *timeWaits) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for t.head != nil {
		t.end(t.head)
	}
	if t.timer != nil {
		t.timer.Stop()
	}
}

// Segment answers what still comes in.
func (e *waiting) Segment(tu *tcp.Tuple, b *pkt.Buf) {
	t := e.tws
	var s tcp.Segment
	if !t.h.parse(tu, b, &s) {
		return
	}
	t.mu.Lock()
	if e.gone { // found just before its end; as in Conn.Segment
		t.mu.Unlock()
		s.Drop()
		return
	}
	now := t.h.clock.Now()
	expire := e.w.Expire
	v := e.w.Input(now, &s)
	var l *Listener
	if v == tcp.TimeWaitOpen {
		if l = t.h.listenerFor(tu); l == nil {
			// The peer's RST in answer to the ACK ends the wait, and its next SYN is
			// refused (RFC 5961 §4.2).
			v = e.w.Challenge(now)
		}
	}
	if e.w.Expire != expire {
		t.unlink(e)
		t.link(e)
	}
	switch v {
	case tcp.TimeWaitAck:
		r := &t.h.refuseOut
		r.mu.Lock()
		e.w.Ack(now, &t.h.cfg, &t.scratch)
		r.mu.Unlock()
	case tcp.TimeWaitEnd:
		t.end(e)
	case tcp.TimeWaitOpen:
		t.end(e)
		t.h.Stats.TimeWaitReused.Add(1)
		t.mu.Unlock()
		l.reopen(tu, &s, e.w.LastSeq())
		return
	}
	t.mu.Unlock()
	s.Drop()
}

// ICMP is of no interest any more.
func (e *waiting) ICMP(*tcp.Tuple, tcp.ICMPError) {}

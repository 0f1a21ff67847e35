package tcp

import (
	"osv/kernel/net/seq"
	"osv/kernel/net/wire"
)

// Urgent data: RFC 9293 §3.8.5, as RFC 6093 reads it. Octets are always in line;
// the pointer is that of the octet after the last urgent one. The mechanism is
// here because a TCP must have it, and new applications should not use it.

// MarkUrgent makes all octets given to Send so far urgent.
func (c *Conn) MarkUrgent(now int64) {
	c.now = now
	if c.dataEnd().Sub(c.sndUna) > 0 {
		c.sndUp, c.sndUrgent = c.dataEnd(), true
	}
}

// Urgent is how many octets there are up to the end of the urgent ones, those
// still to come from the peer counted; 0 when the user has read them all.
func (c *Conn) Urgent() int {
	if !c.rcvUrgent {
		return 0
	}
	return max(0, c.rcvUp.Sub(c.rcvNxt)+c.rcv.len)
}

// urgentField sets the pointer of a segment at s.
func (c *Conn) urgentField(f *wire.TCPFields, s seq.Num) {
	if !c.sndUrgent {
		return
	}
	if d := c.sndUp.Sub(s); d > 0 {
		f.Flags |= wire.TCPUrg
		f.Urgent = uint16(min(d, 0xffff))
	}
}

// inputUrgent is the sixth check of RFC 9293 §3.10.7.4.
func (c *Conn) inputUrgent(s *Segment) {
	if !s.has(wire.TCPUrg) || !c.state.mayReceive() {
		return
	}
	up := s.Seq.Add(int(s.Urgent))
	if c.rcvUrgent && up.LessEq(c.rcvUp) || !c.rcvUrgent && up.LessEq(c.rcvNxt) {
		return
	}
	c.rcvUp, c.rcvUrgent = up, true
	c.ev |= EvUrgent
}

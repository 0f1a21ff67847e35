package tcp

import (
	"osv/kernel/net/seq"
	"osv/kernel/net/wire"
	"osv/kernel/pkt"
)

// The receive window: RFC 9293 §3.8.6.2.2 (silly windows), RFC 7323 §2 (scale),
// and a buffer that grows with what the user consumes in a round trip.

// quickAcksAtStart is how many ACKs of a new connection are not delayed: the
// peer's slow start waits for each.
const quickAcksAtStart = 16

// After octets that came again, so many ACKs are not delayed: the peer is
// recovering, and learns by them whether it had to. After any disorder, so many
// segments in order are acknowledged each by itself or with one other, though
// more are processed together: a peer that measures the path by ACKs, and may
// lose or reorder some of them, needs all that RFC 5681 §4.2 promises it.
const (
	quickAcksAfterDup    = 16
	ownAcksAfterDisorder = 64
)

// maxWindow is the largest window that the field and the shift can express.
func (c *Conn) maxWindow() int { return 0xffff << c.rcvScale }

// windowField moves the right edge of the window as far as it may go now, and
// returns the window field of a segment to be sent. The edge never moves back
// (SHLD-14): octets up to it are taken however the field was rounded.
func (c *Conn) windowField(syn bool) uint16 {
	if syn { // never scaled
		wnd := min(c.rcvFree(), 0xffff)
		c.rcvAdv = c.rcvNxt.Add(wnd)
		return uint16(wnd)
	}
	if !c.promisedAll() {
		edge := c.rcvNxt.Add(min(c.rcvFree(), c.maxWindow()))
		if edge.Sub(c.rcvAdv) >= c.windowStep() {
			c.rcvAdv = edge
		}
	}
	return uint16(min(c.rcvAdv.Sub(c.rcvNxt)>>c.rcvScale, 0xffff))
}

// windowStep is by how much the edge must move to be worth telling (RFC 9293
// §3.8.6.2.2).
func (c *Conn) windowStep() int { return min(c.rcvLimit/2, c.rcvMSS) }

// promisedAll reports that the edge is where it cannot move by a step, however
// much of the buffer is free: it need not be asked.
func (c *Conn) promisedAll() bool { return c.rcvLimit-c.rcvAdv.Sub(c.rcvNxt) < c.windowStep() }

// rcvFree is how many octets the buffer takes beyond RCV.NXT. Small segments
// that the user does not read count by the memory that holds them.
func (c *Conn) rcvFree() int {
	used := max(c.rcv.len, c.rcv.mem/4)
	return max(0, min(c.rcvLimit-used, c.memoryBound()))
}

// afterRead tells the peer of room that the user has made, when that is worth a
// segment: the window that it knows of has shrunk to less than half of what it
// could be (RFC 9293 §3.8.6.2.2).
func (c *Conn) afterRead() {
	if !c.state.mayReceive() || c.rcvFin {
		return
	}
	if c.promisedAll() {
		return
	}
	known := c.rcvAdv.Sub(c.rcvNxt)
	could := min(c.rcvFree(), c.maxWindow())
	if could-known < c.windowStep() {
		return
	}
	if known < c.rcvMSS || 2*known <= could {
		c.ackNow = true
	}
}

// tuner grows the receive buffer so that it never is what bounds the peer: to
// twice what the user consumes in a round trip (dynamic right-sizing, as
// measured by the receiver).
type tuner struct {
	from     int64 // ns, when this round began
	consumed int   // octets in this round
	last     int   // octets in the largest round yet
	rtt      int64 // ns, the receiver's estimate; 0 for none
	echo     uint32
	edge     seq.Num // the round trip without timestamps ends when this is reached
	edgeAt   int64
}

// tuneRTT takes a round-trip time as a receiver of data sees it: from an echoed
// timestamp, else from how long one window takes to arrive.
func (c *Conn) tuneRTT(s *Segment) {
	t := &c.tune
	if c.tsOK && s.Opt.Have&wire.TCPOptTimestamp != 0 {
		if s.Opt.TSEcr == t.echo || s.Opt.TSEcr == 0 {
			return
		}
		t.echo = s.Opt.TSEcr
		if ms := int32(c.tsClock(c.now) - s.Opt.TSEcr); ms >= 0 && ms < 1<<16 {
			t.smooth(max(int64(ms)*1e6, 1e6))
		}
		return
	}
	if t.edgeAt == 0 || t.edge.LessEq(c.rcvNxt) {
		if t.edgeAt != 0 {
			t.smooth(max(c.now-t.edgeAt, 1))
		}
		t.edge, t.edgeAt = c.rcvAdv, c.now
	}
}

// smooth follows falls at once and rises slowly: a queue at the peer is not a
// longer path.
func (t *tuner) smooth(rtt int64) {
	if t.rtt == 0 || rtt < t.rtt {
		t.rtt = rtt
	} else {
		t.rtt += (rtt - t.rtt) / 8
	}
}

// consumed takes note of n octets that the user has read.
func (c *Conn) consumed(n int) {
	if c.rcvUrgent && c.rcvUp.Sub(c.rcvNxt)+c.rcv.len <= 0 {
		c.rcvUrgent = false
	}
	t := &c.tune
	t.consumed += n
	if t.rtt == 0 || c.now-t.from < t.rtt {
		return
	}
	if t.consumed > t.last && !c.memoryShort() {
		// A peer in slow start sends twice as much in the next round.
		want := 2*t.consumed + 16*c.rcvMSS
		if t.last > 0 {
			want += 2 * int(int64(want)*int64(t.consumed-t.last)/int64(t.last))
		}
		c.rcvLimit = max(c.rcvLimit, min(want, c.cfg.RcvBufMax))
		t.last = t.consumed
	}
	t.consumed, t.from = 0, c.now
}

// rcvScaleFor is the shift count that lets the window reach the largest buffer.
func rcvScaleFor(cfg *Config) uint8 {
	var s uint8
	for s < wire.TCPMaxWScale && cfg.RcvBufMax>>s > 0xffff {
		s++
	}
	return s
}

// learnRcvMSS follows the peer's segment size.
func (c *Conn) learnRcvMSS(s *Segment) {
	n := s.n
	if s.Buf.GSO != pkt.GSONone && s.Buf.GSOSize > 0 {
		n = int(s.Buf.GSOSize)
	}
	if n > c.rcvMSS {
		c.rcvMSS = min(n, c.pathMSS())
	}
}

// wantAck decides when octets that have come in are acknowledged: at once for
// every second segment, else when the delay is over (RFC 9293 §3.8.6.3, RFC
// 5681 §4.2).
func (c *Conn) wantAck() {
	if c.rcvNxt.Sub(c.lastAckSent) >= 2*c.rcvMSS {
		c.ackNow = true
		return
	}
	if c.quickAcks > 0 && (!c.interactive() || c.ownAcks > 0) {
		c.quickAcks--
		c.ackNow = true
		return
	}
	if c.delackAt == 0 {
		c.delackAt = c.now + int64(c.cfg.DelayedAck)
	}
}

// interactive reports that the user answers what comes in, so that an ACK will
// find a segment to ride on.
func (c *Conn) interactive() bool {
	return c.lastSndAt != 0 && c.now-c.lastSndAt < int64(c.cfg.DelayedAck)
}

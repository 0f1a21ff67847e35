package tcp

import "osv/kernel/net/seq"

// Loss recovery of the sender: RFC 5681 §3.2, RFC 6675 §5 with the loss marks of
// RACK in place of its own, RFC 6582 for peers without SACK, RFC 6937 for how
// much may be sent, RFC 4015 for taking a needless reduction back.

// dupThresh is DupThresh of RFC 6675 and the three duplicate ACKs of RFC 5681.
const dupThresh = 3

type recState uint8

const (
	recOpen recState = iota // no loss known
	recFast                 // fast recovery
	recLoss                 // after a retransmission timeout
)

type recovery struct {
	state      recState
	point      seq.Num // RecoveryPoint: SND.NXT when it began
	pointSet   bool
	lossUna    seq.Num // SND.UNA at the last timeout
	dupAcks    int
	renoSacked int  // octets that duplicate ACKs stand for, without SACK
	force      bool // the first retransmission goes out whatever the window is

	// RFC 6937.
	prrDelivered, prrOut, prrFlight int

	// RFC 4015: what to go back to if the loss turns out to be none.
	undo      bool
	undoCC    congestion
	undoUna   seq.Num
	undoRetx  int    // octets sent again that no duplicate SACK has reported yet
	retxStamp uint32 // timestamp of the first retransmission
	retxSent  bool
}

// senderAck is what the sender does about an ACK that has said something.
func (c *Conn) senderAck(s *Segment, r *ackResult, dup bool) {
	if r.advanced {
		c.cc.round(c.sndUna, c.sndNxt)
		c.renoAdvance(r)
	} else if dup && !c.sackOK {
		c.renoDupAck(r)
	}
	if r.dsack && c.sackOK {
		c.rackTooSoon()
	}
	c.tlpAck(s, r)
	undone := c.tryUndo(r)

	wasLost := c.lostBytes
	var wait int64
	if c.sackOK && !undone {
		wait = c.rackDetect()
	}
	newLoss := c.lostBytes > wasLost

	switch c.rec.state {
	case recOpen:
		if c.lostBytes > 0 {
			c.enterRecovery(r)
		} else if r.acked > 0 && c.wasLimited(r.acked) {
			c.cc.acked(r.acked, c.now, c.rtt.srtt)
		}
	case recFast:
		if c.recovered() {
			c.endRecovery()
		} else {
			c.prr(r, newLoss)
		}
	case recLoss:
		if c.recovered() {
			c.endRecovery()
		} else if r.acked > 0 {
			c.cc.acked(r.acked, c.now, c.rtt.srtt)
		}
	}
	if c.limited && c.limitedTo.LessEq(c.sndUna) {
		c.limited = false
	}
	switch {
	case wait > 0:
		c.rtx = rtxTimer{c.now + wait, rtxReorder}
	case r.advanced || r.sacked > 0 || c.rtx.kind == rtxReorder:
		c.restartRtx()
	}
}

// wasLimited reports that the window, and not the user, bounded what was sent
// with the octets that are acknowledged now, n of them (RFC 9438 §4.2, "if the
// sender is not application-limited"; RFC 7661 §4.1).
func (c *Conn) wasLimited(n int) bool {
	return c.limited && c.sndUna.Add(-n).Less(c.limitedTo)
}

// recovered reports that all that was out when recovery began is acknowledged.
func (c *Conn) recovered() bool { return c.rec.point.LessEq(c.sndUna) }

// markLost takes the range e for lost.
func (c *Conn) markLost(e *sentSeg) {
	if e.flags&(sentSacked|sentLost) == 0 {
		e.flags |= sentLost
		c.lostBytes += e.len()
	}
}

// markHeadLost takes the first segment in flight for lost.
func (c *Conn) markHeadLost() {
	if c.sent.n == 0 {
		return
	}
	if e := c.sent.at(0); e.len() > c.cc.mss {
		c.sent.split(0, e.start.Add(c.cc.mss))
		if e = c.sent.at(0); e.flags&sentLost != 0 {
			return
		}
	}
	c.markLost(c.sent.at(0))
}

// renoDupAck counts a duplicate ACK of a peer without SACK: each stands for one
// segment that has left the network (RFC 5681 §3.2, RFC 6937 §3.1).
func (c *Conn) renoDupAck(r *ackResult) {
	c.rec.dupAcks++
	room := c.flight() - c.lostBytes - c.cc.mss
	was := c.rec.renoSacked
	c.rec.renoSacked = max(0, min(was+c.cc.mss, room))
	r.delivered += max(0, c.rec.renoSacked-was)
	if c.rec.dupAcks == dupThresh && c.rec.state == recOpen && c.renoMayEnter() {
		c.markHeadLost()
	}
}

// renoMayEnter is the test of RFC 6582 §3.2 step 2: duplicates of what the last
// recovery sent again must not begin another.
func (c *Conn) renoMayEnter() bool {
	return !c.rec.pointSet || c.rec.point.Less(c.sndUna)
}

// renoAdvance takes an ACK of new octets for peers without SACK. What duplicate
// ACKs stood for has been counted as delivered before.
func (c *Conn) renoAdvance(r *ackResult) {
	c.rec.dupAcks = 0
	if c.sackOK {
		return
	}
	if c.rec.state == recOpen && c.rec.point.Less(c.sndUna) {
		c.rec.pointSet = false
	}
	was := c.rec.renoSacked
	c.rec.renoSacked = 0
	if c.rec.state == recFast && !c.recovered() {
		// A partial ACK: the segment after it is lost too, and goes out whatever
		// the window is (RFC 6582 §3.2, step 3).
		c.rec.renoSacked = max(0, was-max(0, r.acked-c.cc.mss))
		c.markHeadLost()
		c.rec.force = true
	}
	r.delivered = max(0, r.delivered-(was-c.rec.renoSacked))
}

// enterRecovery begins fast recovery.
func (c *Conn) enterRecovery(r *ackResult) {
	c.saveUndo()
	c.count.Recoveries++
	flight := c.flight() + r.acked
	c.cc.reduce(c.usedWindow(flight))
	c.rec.state = recFast
	c.rec.point, c.rec.pointSet = c.sndNxt, true
	c.rec.prrDelivered, c.rec.prrOut, c.rec.prrFlight = 0, 0, max(flight, 1)
	c.rec.force = true
	c.prr(r, true)
}

// usedWindow is the flight size that a reduction starts from: the window, if
// that was what held octets back. What is in flight just now is less when one
// ACK, or a batch of them, has covered much and its successors are not sent yet
// (RFC 9438 §4.6).
func (c *Conn) usedWindow(flight int) int {
	if c.limited {
		return max(flight, c.cc.cwnd)
	}
	return flight
}

// prr sets the window for one ACK in fast recovery (RFC 6937 §3.1): as much goes
// out as has arrived, reduced so that the window ends at ssthresh; below that,
// slow start as long as the ACK shows no further loss.
func (c *Conn) prr(r *ackResult, newLoss bool) {
	p := &c.rec
	p.prrDelivered += r.delivered
	pipe := c.pipe()
	var n int
	if pipe > c.cc.ssthresh {
		n = int((int64(p.prrDelivered)*int64(c.cc.ssthresh)+int64(p.prrFlight)-1)/int64(p.prrFlight)) - p.prrOut
	} else {
		limit := max(p.prrDelivered-p.prrOut, r.delivered)
		if r.advanced && !newLoss {
			limit += c.cc.mss
		}
		n = min(c.cc.ssthresh-pipe, limit)
	}
	c.cc.cwnd = max(pipe+max(n, 0), c.cc.mss)
}

// endRecovery leaves recovery: the window is where the reduction put it.
func (c *Conn) endRecovery() {
	if c.rec.state == recFast {
		c.cc.cwnd = c.cc.ssthresh
	}
	c.rec.state = recOpen
	c.rec.renoSacked, c.rec.dupAcks, c.rec.force = 0, 0, false
	c.rackRecovered()
}

// saveUndo remembers the window before a reduction.
func (c *Conn) saveUndo() {
	c.rec.undo, c.rec.undoCC, c.rec.undoUna = true, c.cc, c.sndUna
	c.rec.undoRetx, c.rec.retxSent = 0, false
}

// tryUndo goes back to the window before the reduction, if this ACK shows that
// nothing was lost: an original transmission is acknowledged after it had been
// sent again (RFC 3522 §3.2), or the peer has reported all that was sent again
// as duplicate (RFC 3708).
func (c *Conn) tryUndo(r *ackResult) bool {
	p := &c.rec
	if !p.undo || !p.retxSent {
		return false
	}
	eifel := r.advanced && r.echo && r.tsEcr != 0 && int32(r.tsEcr-p.retxStamp) < 0
	if !eifel && !(r.dsack && p.undoRetx <= 0) {
		if c.rec.state == recOpen && p.point.Less(c.sndUna) && !r.dsack {
			p.undo = c.sackOK && c.sndUna.Sub(p.point) < c.sndMaxWnd // DSACKs may still come
		}
		return false
	}
	p.undo = false
	c.count.Undone++
	if c.sackOK {
		c.rackTooSoon()
	}
	cwnd := max(c.cc.cwnd, p.undoCC.cwnd)
	over, mss := c.cc.hs.over, c.cc.mss
	c.cc = p.undoCC
	c.cc.cwnd, c.cc.hs.over, c.cc.mss = cwnd, over, mss
	if p.state == recOpen {
		return true
	}
	for i := range c.sent.n {
		c.sent.at(i).flags &^= sentLost
	}
	c.lostBytes = 0
	p.state = recOpen
	p.renoSacked, p.dupAcks, p.force = 0, 0, false
	return true
}

// dsackInput takes a report of octets that the peer got twice.
func (c *Conn) dsackInput(left, right seq.Num) {
	if c.rec.undo && c.rec.undoUna.LessEq(left) && right.LessEq(c.rec.point) {
		c.rec.undoRetx -= right.Sub(left)
	}
}

// timeoutLoss is RFC 5681 §3.1 and RFC 8985 §6.3 for a retransmission timeout.
func (c *Conn) timeoutLoss() {
	if c.sent.n == 0 {
		return
	}
	if c.rec.state != recLoss || c.rec.lossUna != c.sndUna { // not again for the same octets
		c.saveUndo()
		c.cc.timeout(c.usedWindow(c.flight()))
	}
	c.rec.lossUna = c.sndUna
	c.cc.cwnd = c.cc.mss
	c.cc.frac = 0
	c.rec.state = recLoss
	c.rec.point, c.rec.pointSet = c.sndNxt, true
	c.rec.dupAcks, c.rec.renoSacked, c.rec.force = 0, 0, false
	c.rk.tlpSent = false
	if c.sent.at(0).flags&sentSacked != 0 {
		c.renege()
	}
	for i := range c.sent.n {
		e := c.sent.at(i)
		// What was sent less than a round trip ago may still arrive.
		if i == 0 || !c.sackOK || e.at+c.rk.rtt+c.rackWindow() <= c.now {
			c.markLost(e)
		}
	}
}

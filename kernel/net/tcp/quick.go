package tcp

import (
	"osv/kernel/net/seq"
	"osv/kernel/net/wire"
)

// The usual segment: header prediction, as RFC 7323 Appendix E and Jacobson's
// note of 1990 have it. A connection that asks and answers sees only segments
// that come in order, acknowledge all that was out, and are answered by one that
// goes out alone. For these most of RFC 9293 §3.10.7.4 decides nothing, and this
// file leaves it out. It changes nothing else: TestQuickUnseen compares what is
// sent, octet by octet, with and without it. It stands where input.go and
// output.go stand in a packet's path, and may not do what they may not.

// plain are the options of a usual segment.
func (c *Conn) plain() wire.TCPOpt {
	if c.tsOK {
		return wire.TCPOptTimestamp
	}
	return 0
}

// quickInput is inputSync for a usual segment. It reports false for any other,
// having done nothing.
func (c *Conn) quickInput(s *Segment) bool {
	if c.state != StateEstablished || s.Flags&^wire.TCPPsh != wire.TCPAck || s.Opt.Have != c.plain() ||
		s.Seq != c.rcvNxt || c.rcvFin || s.n > c.rcvAdv.Sub(c.rcvNxt) {
		return false
	}
	if c.tsOK && int32(s.Opt.TSVal-c.tsRecent) < 0 {
		return false
	}
	if s.n > 0 && (c.orphan || c.rdShut || len(c.ooo.r) > 0 || c.memoryOut()) {
		return false
	}
	switch {
	case c.rec.undo || c.rk.tlpSent || c.rec.state != recOpen || !c.sackOK || c.sndNxt != c.sndMax:
		return false
	case s.Ack == c.sndUna && c.sent.n == 0:
		c.progressAt = c.now
	case s.Ack == c.sndNxt && c.sent.n == 1 && c.sent.at(0).flags == 0 && s.Ack == c.dataEnd() && !c.sndUrgent:
		c.quickAcked(s.Ack)
	default:
		return false
	}
	c.count.Quick++
	c.updateSendWindow(s)
	if s.n > 0 {
		c.ackBefore()
	}
	if c.tsOK && s.Seq.LessEq(c.lastAckSent) { // R3 of RFC 7323 §5.3
		c.tsRecent, c.tsRecentT = s.Opt.TSVal, c.now
	}
	c.lastRcvAt, c.keepSent = c.now, 0
	if s.n > 0 {
		c.learnRcvMSS(s)
		c.tuneRTT(s)
		c.lastDataAt = c.now
		c.inputInOrder(s)
	}
	return true
}

// quickAcked ends the only range in flight, sent once, and with it all octets
// that there are to send: cumulativeAck, measure and senderAck for that case.
func (c *Conn) quickAcked(ack seq.Num) {
	e := c.sent.at(0)
	rtt := max(c.now-e.at, 1)
	n := ack.Sub(c.sndUna)
	k := &c.rk
	k.fack, k.fackSet = ack, true
	k.xmit, k.end, k.rtt, k.valid = e.order, ack, c.now-e.at, true
	k.inRound = k.inRound && !k.round.LessEq(ack)
	c.sent.popFront()
	c.sndUna, c.sndBase = ack, ack
	c.sndSmall = seq.Max(c.sndSmall, ack)
	c.ackSpan = min(c.ackSpan+n, 1<<30)
	c.snd.len = 0
	c.snd.release()
	c.growSendBuf()
	c.progressAt = c.now
	c.rttSample(rtt)
	c.backoff = 0
	c.cc.round(ack, ack)
	c.rec.dupAcks = 0
	if c.limited {
		if c.wasLimited(n) {
			c.cc.acked(n, c.now, c.rtt.srtt)
		}
		if c.limitedTo.LessEq(ack) {
			c.limited = false
		}
	}
	c.rtx = rtxTimer{}
}

// quickSend sends the octets that wait where they are one segment, nothing is in
// flight, and the windows allow it. It reports false where it is not so.
func (c *Conn) quickSend() bool {
	n := c.snd.len
	if c.sent.n != 0 || c.state != StateEstablished || c.sndBase != c.sndNxt || c.sndUna != c.sndNxt ||
		n == 0 || n >= c.cc.mss || n > c.sndWnd || c.sndUrgent || c.opt.Cork || c.rtx.kind != rtxOff ||
		c.sackNum > 0 || c.dsack.start != c.dsack.end {
		return false
	}
	c.afterIdle()
	if n > c.cc.cwnd {
		return false
	}
	b := c.txBuf()
	if b == nil {
		return true // a timer tries again
	}
	if b.Tailroom() < n {
		b.Put()
		return false
	}
	c.snd.read(b.Append(n), 0)
	var o wire.TCPOptions
	optLen := 0
	if c.tsOK {
		o.Have, o.TSVal, o.TSEcr = wire.TCPOptTimestamp, c.tsClock(c.now), c.tsRecent
		optLen = wire.TCPTimestampLen
	}
	start := c.sndNxt
	end := start.Add(n)
	f := wire.TCPFields{Seq: uint32(start), Flags: wire.TCPAck | wire.TCPPsh}
	c.finish(b, &f, &o, optLen)
	c.progressAt = c.now
	c.sndSmall, c.sndNxt = end, end
	c.sndMax = seq.Max(c.sndMax, end)
	c.txOrder++
	c.sent.push(sentSeg{start: start, end: end, at: c.now, order: c.txOrder})
	c.rec.prrOut += n
	c.lastSndAt = c.now
	if n+c.cc.mss > c.cc.cwnd || c.cc.slowStart() && 2*n > c.cc.cwnd {
		c.limited, c.limitedTo = true, end
	}
	c.armRTO(c.now)
	c.armProbe()
	return true
}

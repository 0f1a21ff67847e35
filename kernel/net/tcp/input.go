package tcp

// Packet path, receive, step 4 of 5.
// From: netchan, in the goroutine that reads the channel (or in the receive
// loop, for an Inline flow).  To: rcvQueue, then the user's Recv or Peek.
// May not: allocate on the established path, block, take a lock.

import (
	"osv/kernel/net/seq"
	"osv/kernel/net/wire"
)

// Input processes one segment: RFC 9293 §3.10.7. It takes over s.Buf. Answers
// that stand alone (RST, challenge ACK, duplicate ACK) go out at once; octets
// and other ACKs wait for Flush.
func (c *Conn) Input(now int64, s *Segment) {
	c.now = now
	c.count.SegsIn += s.count()
	if !c.cfg.noQuick && c.quickInput(s) {
		s.Drop()
		return
	}
	switch c.state {
	case StateClosed: // §3.10.7.1
		c.sendReset(s)
	case StateSynSent: // §3.10.7.3
		c.inputSynSent(s)
	case StateTimeWait:
		c.inputTimeWait(s)
	default: // §3.10.7.4
		c.inputSync(s)
	}
	s.Drop()
}

// inputSync is §3.10.7.4, in its order, for SYN-RECEIVED and all later states
// but TIME-WAIT.
func (c *Conn) inputSync(s *Segment) {
	if c.tsOK && !c.paws(s) {
		return
	}
	// First: the sequence number.
	textOK := true
	if !c.acceptable(s) {
		if s.has(wire.TCPRst) {
			return
		}
		switch {
		case c.state == StateSynReceived && s.has(wire.TCPSyn) && s.Seq == c.irs && !s.has(wire.TCPAck):
			c.repeatSynAck()
			return
		case c.state == StateSynReceived && s.has(wire.TCPSyn) && s.Seq == c.irs && !c.passive:
			// The other half of a simultaneous open (§3.5, figure 7, line 6): the
			// SYN is known, the ACK is not.
			s.Flags &^= wire.TCPSyn
			s.Seq = s.Seq.Add(1)
		case !c.inputUnacceptable(s):
			return
		default:
			textOK = false
		}
	}
	if s.n > 0 {
		c.ackBefore() // it echoes a timestamp that came before that of s
	}
	if c.tsOK {
		c.echoTimestamp(s)
	}
	c.lastRcvAt, c.keepSent = c.now, 0
	// Second: RST.
	if s.has(wire.TCPRst) {
		c.inputReset(s)
		return
	}
	// Fourth: SYN. (The third, security, is not used any more.)
	if s.has(wire.TCPSyn) {
		c.inputSyncSyn()
		return
	}
	// Fifth: ACK.
	if !s.has(wire.TCPAck) {
		return
	}
	if c.state == StateSynReceived {
		if !c.inputSynReceivedAck(s) {
			return
		}
	} else if !c.inputAck(s) {
		return
	}
	if !c.afterAck() {
		return
	}
	// Sixth: URG. Seventh: the text. Eighth: FIN.
	c.inputUrgent(s)
	if textOK {
		c.inputText(s)
	}
	if c.rcvFin && !c.finTaken && c.rcvNxt == c.finSeq {
		c.takeFin()
	}
}

// acceptable is the test of §3.4 with two allowances: a segment without octets
// at the right edge of the window, which a peer sends whose last data was lost,
// and one that reaches over the window on both sides.
func (c *Conn) acceptable(s *Segment) bool {
	wnd := c.rcvAdv.Sub(c.rcvNxt)
	n := s.seqLen()
	if n == 0 {
		return s.Seq.In(c.rcvNxt, wnd+1)
	}
	if wnd == 0 {
		return false
	}
	return s.Seq.In(c.rcvNxt, wnd) || s.Seq.Less(c.rcvNxt) && c.rcvNxt.Less(s.Seq.Add(n))
}

// inputUnacceptable answers a segment outside the window with an ACK, and
// reports whether its ACK field may be used all the same: it lies at a window of
// size zero (§3.10.7.4, "special allowance").
func (c *Conn) inputUnacceptable(s *Segment) bool {
	if s.Seq == c.rcvNxt && !s.has(wire.TCPSyn) {
		c.ackNow = true
		return true
	}
	c.noteOld(s)
	// TS.Recent is left alone (RFC 7323 §5.3, R2 before R3): originals that such a
	// repeated segment has overtaken are still on their way with older timestamps.
	// A keepalive or window probe must be answered; two ends that disagree must
	// not answer each other for ever.
	if s.n > 0 || c.challenge.take(c.now) {
		c.sendAck()
	}
	return false
}

// paws is RFC 7323 §5.3, R1. It reports whether s may be looked at further.
func (c *Conn) paws(s *Segment) bool {
	if s.has(wire.TCPRst) {
		return true
	}
	if s.Opt.Have&wire.TCPOptTimestamp == 0 {
		// §3.2: any other segment must have one. A SYN of a peer that has started
		// anew gets its challenge ACK.
		return s.has(wire.TCPSyn)
	}
	if int32(s.Opt.TSVal-c.tsRecent) >= 0 {
		return true
	}
	if c.now-c.tsRecentT >= pawsIdle {
		// §5.5: the peer's clock has had the time to turn over.
		c.tsRecent, c.tsRecentT = s.Opt.TSVal, c.now
		return true
	}
	// An original that the retransmission has overtaken ends here: the peer must
	// hear that it sent again for nothing.
	c.noteOld(s)
	if s.n > 0 || c.challenge.take(c.now) {
		c.sendAck()
	}
	return false
}

// noteOld makes the next ACK report the octets of s, which is not acceptable, if
// they have come before (RFC 2883 §4).
func (c *Conn) noteOld(s *Segment) {
	if s.n == 0 {
		return
	}
	c.count.Duplicate++
	c.repeated()
	if end := s.Seq.Add(s.n); c.sackOK && end.LessEq(c.rcvNxt) {
		c.dsack = oooRange{start: s.Seq, end: end}
	}
}

// repeated takes note of octets that came again.
func (c *Conn) repeated() {
	c.quickAcks = max(c.quickAcks, quickAcksAfterDup)
	c.ownAcks = ownAcksAfterDisorder
}

// echoTimestamp is R3 of RFC 7323 §5.3: which timestamp the next ACK echoes.
func (c *Conn) echoTimestamp(s *Segment) {
	if s.Opt.Have&wire.TCPOptTimestamp != 0 && s.Seq.LessEq(c.lastAckSent) &&
		int32(s.Opt.TSVal-c.tsRecent) >= 0 && !s.has(wire.TCPRst) {
		c.tsRecent, c.tsRecentT = s.Opt.TSVal, c.now
	}
}

// pawsIdle is how long TS.Recent is good for: 24 days (RFC 7323 §5.5), in ns.
const pawsIdle = 24 * 24 * 3600 * 1e9

// inputReset is the second check of §3.10.7.4, with RFC 5961 §3.2: only a RST at
// exactly RCV.NXT is believed.
func (c *Conn) inputReset(s *Segment) {
	if s.Seq != c.rcvNxt {
		c.challengeAck()
		return
	}
	switch {
	case c.state == StateSynReceived && c.passive:
		c.close() // back to LISTEN: the listener goes on without it
	case c.state == StateSynReceived:
		c.fail(ErrRefused)
	case c.state == StateClosing || c.state == StateLastAck:
		c.close()
	default:
		c.fail(ErrReset)
	}
}

// inputSyncSyn is the fourth check of §3.10.7.4.
func (c *Conn) inputSyncSyn() {
	if c.state == StateSynReceived && c.passive {
		c.close() // back to LISTEN
		return
	}
	c.challengeAck() // RFC 5961 §4.2
}

// afterAck moves on from states that wait for the ACK of our FIN. It reports
// whether c still is open.
func (c *Conn) afterAck() bool {
	if !c.finAcked() {
		return true
	}
	switch c.state {
	case StateFinWait1:
		c.enter(StateFinWait2)
	case StateClosing:
		c.enter(StateTimeWait)
	case StateLastAck:
		c.close()
		return false
	}
	return true
}

// inputText is the seventh check of §3.10.7.4: octets, and the place of a FIN.
func (c *Conn) inputText(s *Segment) {
	if s.n == 0 && !s.has(wire.TCPFin) || !c.state.mayReceive() {
		return
	}
	if s.n > 0 {
		if c.orphan {
			// Octets for a user who is gone (§3.6.1, SHLD-3).
			c.sendAbort()
			c.fail(ErrAborted)
			return
		}
		c.learnRcvMSS(s)
		c.tuneRTT(s)
		c.lastDataAt = c.now
	}
	dupFrom := s.Seq
	if s.Seq.Less(c.rcvNxt) { // in part, or all of the octets, seen before
		c.repeated()
		if c.sackOK {
			c.dsack = oooRange{start: dupFrom, end: seq.Min(c.rcvNxt, s.Seq.Add(s.n))}
		}
		c.ackNow = true
	}
	edge := c.rcvAdv
	if c.rcvFin {
		edge = seq.Min(edge, c.finSeq.Add(1))
	}
	if !seq.Max(s.Seq, c.rcvNxt).Less(edge) {
		c.ackNow = true // beyond the FIN
		return
	}
	s.trimTo(c.rcvNxt, edge)
	// What fills a hole is taken in any case: it makes octets beyond readable.
	if s.n > 0 && !(s.Seq == c.rcvNxt && len(c.ooo.r) > 0) && c.memoryOut() {
		c.count.Dropped++
		return
	}
	if s.has(wire.TCPFin) && !c.rcvFin {
		c.rcvFin, c.finSeq = true, s.Seq.Add(s.n)
	}
	if s.n == 0 {
		if s.Seq != c.rcvNxt {
			c.ackNow = true // a FIN beyond a hole
		}
		return
	}
	if s.Seq == c.rcvNxt {
		c.inputInOrder(s)
	} else {
		c.inputOutOfOrder(s)
	}
}

// ackBefore sends the ACK that the segment before is due, in this batch: with a
// hole each segment has its own. A peer that takes reordering for loss goes on
// sending again until it hears that the hole is being filled.
func (c *Conn) ackBefore() {
	if c.ackNow && (len(c.ooo.r) > 0 || c.ownAcks > 0) {
		c.sendAck()
	}
	if c.ownAcks > 0 {
		c.ownAcks--
	}
}

// inputInOrder takes octets that begin at RCV.NXT.
func (c *Conn) inputInOrder(s *Segment) {
	b, n := s.Buf, s.n
	s.Buf, s.n = nil, 0
	c.rcvNxt = c.rcvNxt.Add(n)
	if c.rdShut {
		b.Put()
	} else {
		c.rcv.append(b, n)
	}
	if len(c.ooo.r) > 0 {
		before := c.rcvNxt
		c.rcvNxt = c.ooo.take(c.rcvNxt, &c.rcv)
		if c.rdShut {
			c.rcv.release()
		}
		if before != c.rcvNxt || len(c.ooo.r) > 0 {
			c.ackNow = true // a hole is filled, or another remains (RFC 5681 §4.2)
		}
	}
	if !c.rdShut {
		c.ev |= EvReadable
	} else {
		c.consumed(n)
	}
	if !c.ackNow {
		c.wantAck()
	}
}

// inputOutOfOrder keeps octets beyond a hole, and says so at once: each such
// segment causes one duplicate ACK (RFC 5681 §4.2).
func (c *Conn) inputOutOfOrder(s *Segment) {
	b, n := s.Buf, s.n
	s.Buf, s.n = nil, 0
	c.count.OutOfOrder++
	c.ownAcks = ownAcksAfterDisorder
	if c.ooo.mem+chainMem(b) > max(4*c.rcvLimit, 1<<16) {
		b.Put() // tiny segments must not hold the memory of full ones
		c.count.Dropped++
		c.sendAck()
		return
	}
	dup, ok := c.ooo.insert(s.Seq, n, b)
	if !ok {
		c.count.Dropped++
	}
	if ok && c.sackOK {
		if dup.start != dup.end {
			c.repeated()
			c.dsack = oooRange{start: dup.start, end: dup.end}
		}
		c.noteSack(s.Seq)
	}
	c.sendAck()
}

// takeFin is the eighth check of §3.10.7.4: the peer has no more to send.
func (c *Conn) takeFin() {
	c.finTaken = true
	c.rcvNxt = c.rcvNxt.Add(1)
	if c.rcvAdv.Less(c.rcvNxt) {
		c.rcvAdv = c.rcvNxt
	}
	c.ackNow = true
	c.ev |= EvReadable
	switch c.state {
	case StateSynReceived, StateEstablished:
		c.enter(StateCloseWait)
	case StateFinWait1:
		// Were our FIN acknowledged, afterAck would have moved on.
		c.enter(StateClosing)
	case StateFinWait2:
		c.enter(StateTimeWait)
	}
}

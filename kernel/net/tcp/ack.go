package tcp

import (
	"osv/kernel/net/seq"
	"osv/kernel/net/wire"
)

// ackResult is what one ACK has told the sender.
type ackResult struct {
	acked     int   // octets newly acknowledged, sacked before or not
	delivered int   // octets newly acknowledged or sacked
	sacked    int   // octets newly sacked
	advanced  bool  // SND.UNA has moved
	dsack     bool  // the peer reports octets it got twice
	rtt       int64 // ns; 0 for no sample
	resent    bool  // a range sent more than once is among those acknowledged
	resentAt  int64 // the latest time that such a one was sent
	echo      bool  // tsEcr is there
	tsEcr     uint32
}

// inputAck is the fifth check of RFC 9293 §3.10.7.4 in the synchronized states:
// it takes the ACK field and reports whether the rest of s may be looked at.
func (c *Conn) inputAck(s *Segment) bool {
	if c.sndMax.Less(s.Ack) { // acknowledges what was not sent
		c.challengeAck()
		return false
	}
	// RFC 5961 §5.2: older than any window. Octets that were never sent cannot have
	// been acknowledged either, however large the window is.
	if s.Ack.Less(c.sndUna.Add(-min(c.sndMaxWnd, c.ackSpan))) {
		c.challengeAck()
		return false
	}
	if s.Ack == c.sndUna && (c.sent.n == 0 || c.scaledWindow(s) == 0) {
		c.progressAt = c.now // a peer that answers window probes is alive (MUST-37)
	}
	if s.Ack == c.sndUna && c.sent.n == 0 && !c.rk.tlpSent && s.Opt.Have&wire.TCPOptSACK == 0 {
		// Nothing was waited for.
		c.updateSendWindow(s)
		return true
	}
	r := ackResult{echo: c.tsOK && s.Opt.Have&wire.TCPOptTimestamp != 0, tsEcr: s.Opt.TSEcr}
	old := s.Ack.Less(c.sndUna)
	dup := c.isDupAck(s)
	if c.sndUna.Less(s.Ack) {
		c.cumulativeAck(s.Ack, &r)
	}
	if c.sackOK && s.Opt.Have&wire.TCPOptSACK != 0 {
		c.sackInput(s, &r)
	}
	c.measure(&r)
	if !old {
		c.updateSendWindow(s)
	}
	if r.advanced || r.delivered > 0 || dup || r.dsack || c.rk.tlpSent {
		c.senderAck(s, &r, dup)
	}
	return true
}

// isDupAck is the definition of RFC 5681 §2.
func (c *Conn) isDupAck(s *Segment) bool {
	return s.Ack == c.sndUna && s.n == 0 && !s.has(wire.TCPFin|wire.TCPSyn) &&
		c.flight() > 0 && c.scaledWindow(s) == c.sndWnd
}

func (c *Conn) scaledWindow(s *Segment) int { return int(s.Window) << c.sndScale }

// updateSendWindow takes the window of an acceptable ACK (RFC 9293 §3.10.7.4).
func (c *Conn) updateSendWindow(s *Segment) {
	if !(c.sndWl1.Less(s.Seq) || c.sndWl1 == s.Seq && c.sndWl2.LessEq(s.Ack)) {
		return
	}
	c.sndWl1, c.sndWl2 = s.Seq, s.Ack
	w := c.scaledWindow(s)
	if w == c.sndWnd {
		return
	}
	c.sndWnd = w
	c.sndMaxWnd = max(c.sndMaxWnd, w)
	if c.rtx.kind == rtxPersist && w > 0 {
		c.stopPersist()
	}
}

// cumulativeAck ends the ranges up to ack, which is beyond SND.UNA.
func (c *Conn) cumulativeAck(ack seq.Num, r *ackResult) {
	r.advanced = true
	r.acked = ack.Sub(c.sndUna)
	for c.sent.n > 0 {
		e := c.sent.at(0)
		end := seq.Min(e.end, ack)
		k := end.Sub(e.start)
		if k <= 0 {
			break
		}
		switch {
		case e.flags&sentSacked != 0:
			if c.sackedBytes -= k; c.sackedBytes == 0 {
				c.sackedSegs = 0
			}
		default:
			r.delivered += k
			if e.flags&sentLost != 0 {
				c.lostBytes -= k
			}
			c.rackSample(e, end, r)
		}
		if end != e.end {
			e.start = end
			break
		}
		c.sent.popFront()
	}
	c.sndUna = ack
	if c.state.synchronized() {
		c.ackSpan = min(c.ackSpan+r.acked, 1<<30)
	}
	if c.sndNxt.Less(ack) { // a window probe was taken
		c.sndNxt = ack
	}
	if from := seq.Min(ack, c.dataEnd()); c.sndBase.Less(from) {
		c.snd.drop(from.Sub(c.sndBase))
		c.sndBase = from
		c.growSendBuf()
	}
	if c.sndUrgent && c.sndUp.LessEq(ack) {
		c.sndUrgent = false
	}
	// Numbers that are only compared must not fall 2^31 behind.
	c.sndSmall = seq.Max(c.sndSmall, ack)
	c.rk.fack = seq.Max(c.rk.fack, ack)
	if c.rk.inRound && c.rk.round.LessEq(ack) {
		c.rk.inRound = false
	}
	c.progressAt = c.now
}

// growSendBuf raises the limit of the send buffer with the window that it must
// be able to fill, and tells a waiting user of room.
func (c *Conn) growSendBuf() {
	if l := min(2*c.cc.cwnd, c.cfg.SndBufMax); l > c.sndLimit {
		c.sndLimit = l
	}
	if c.Writable() {
		c.ev |= EvWritable
	}
}

// measure takes a round-trip time from an ACK that moved something. RFC 6298 §3:
// never from a range sent twice, nor from one that may have waited at the peer
// for such a range. A timestamp is free of that doubt if it echoes the last
// transmission. Only a measurement ends the backoff of the timeout (§5, Karn's
// algorithm): a timeout that is too short for the path would never grow else.
func (c *Conn) measure(r *ackResult) {
	var rtt int64
	switch {
	case r.rtt > 0 && !r.resent:
		rtt = r.rtt
	case r.advanced && r.echo && r.tsEcr != 0 && (!r.resent || int32(r.tsEcr-c.tsClock(r.resentAt)) >= 0):
		ms := int32(c.tsClock(c.now) - r.tsEcr)
		if ms < 0 || ms > 1<<20 {
			return
		}
		rtt = max(int64(ms)*1e6, 1)
	default:
		return
	}
	c.rttSample(rtt)
	c.backoff = 0
}

// finAcked reports whether the peer has acknowledged our FIN.
func (c *Conn) finAcked() bool {
	return c.finQueued && c.dataEnd().Less(c.sndUna)
}

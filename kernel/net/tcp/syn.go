package tcp

import (
	"osv/kernel/net/seq"
	"osv/kernel/net/wire"
)

// Opening a connection: RFC 9293 §3.5 and §3.10.7.3.

// Connect is an active OPEN: it sends a SYN.
func (c *Conn) Connect(now int64) error {
	if c.state != StateClosed {
		return ErrIsOpen
	}
	c.now = now
	c.start(ISN(&c.cfg.Key, &c.tuple, now))
	c.rcvScale = c.offeredScale()
	c.state = StateSynSent
	c.firstSYN()
	return nil
}

// start sets the send sequence space to begin at iss.
func (c *Conn) start(iss seq.Num) {
	c.iss = iss
	c.sndUna, c.sndNxt, c.sndMax = iss, iss, iss
	c.sndBase = iss.Add(1)
	c.sndSmall, c.rk.fack = iss, iss
	c.ackSpan = 1 // the SYN
	c.cc.reset(c.cfg, c.maxPayload())
}

// firstSYN sends the SYN, or SYN with ACK, that c has not sent yet.
func (c *Conn) firstSYN() {
	c.sndNxt = c.iss.Add(1)
	c.sndMax = c.sndNxt
	c.sent.push(sentSeg{start: c.iss, end: c.sndNxt, at: c.now})
	c.progressAt = c.now
	c.sendSYN()
	c.armRTO(c.now)
}

func (c *Conn) offeredScale() uint8 {
	if c.cfg.NoWindowScale {
		return 0
	}
	return rcvScaleFor(c.cfg)
}

// sendSYN sends the SYN of this end, with an ACK once the peer's has come in.
func (c *Conn) sendSYN() bool {
	b := c.txBuf()
	if b == nil {
		return false
	}
	f := wire.TCPFields{Seq: uint32(c.iss), Flags: wire.TCPSyn}
	o := wire.TCPOptions{Have: wire.TCPOptMSS, MSS: uint16(min(c.pathMSS(), 0xffff))}
	if c.state != StateSynSent {
		f.Flags |= wire.TCPAck
	}
	if c.sackOK {
		o.Have |= wire.TCPOptSACKOK
	}
	if c.tsOK {
		o.Have |= wire.TCPOptTimestamp
		o.TSVal = c.synTimestamp()
		if f.Flags&wire.TCPAck != 0 {
			o.TSEcr = c.tsRecent
		}
	}
	if c.scaling() {
		o.Have |= wire.TCPOptWScale
		o.WScale = c.rcvScale
	}
	c.finish(b, &f, &o, o.Len())
	return true
}

// scaling reports that the window scale option goes on our SYN: always on the
// first, on an answer only if the peer has sent it.
func (c *Conn) scaling() bool {
	return !c.cfg.NoWindowScale && (c.state == StateSynSent || c.peerScales)
}

// takeSYN takes the peer's sequence number and options from its SYN (RFC 7323
// §2.2 and §3.2, RFC 2018 §2: an option counts only if both ends send it).
func (c *Conn) takeSYN(s *Segment) {
	c.irs = s.Seq
	c.rcvNxt = s.Seq.Add(1)
	c.rcvAdv = c.rcvNxt.Add(min(c.rcvFree(), 0xffff))
	c.lastAckSent = c.rcvNxt
	o := &s.Opt
	if o.Have&wire.TCPOptMSS != 0 {
		c.peerMSS = int(o.MSS)
	}
	c.sackOK = c.sackOK && o.Have&wire.TCPOptSACKOK != 0
	c.tsOK = c.tsOK && o.Have&wire.TCPOptTimestamp != 0
	if c.tsOK {
		c.tsRecent, c.tsRecentT = o.TSVal, c.now
	}
	c.peerScales = !c.cfg.NoWindowScale && o.Have&wire.TCPOptWScale != 0
	if c.peerScales {
		c.sndScale = o.WScale
	} else {
		c.sndScale, c.rcvScale = 0, 0
	}
	c.setMSS()
	c.cc.cwnd = initialCwnd(c.cfg, c.cc.mss)
	// The window field of a SYN is never scaled.
	c.sndWnd = int(s.Window)
	c.sndMaxWnd = c.sndWnd
	c.sndWl1, c.sndWl2 = s.Seq, s.Ack
	c.lastRcvAt = c.now
}

// inputSynSent is §3.10.7.3.
func (c *Conn) inputSynSent(s *Segment) {
	// First: ACK.
	ackOK := false
	if s.has(wire.TCPAck) {
		if s.Ack.LessEq(c.iss) || c.sndNxt.Less(s.Ack) {
			c.sendReset(s)
			return
		}
		ackOK = true
	}
	// Second: RST.
	if s.has(wire.TCPRst) {
		if ackOK {
			c.fail(ErrRefused)
		}
		return
	}
	// Fourth: SYN.
	if !s.has(wire.TCPSyn) {
		return
	}
	c.takeSYN(s)
	if !ackOK { // both ends have sent a SYN at the same time
		c.state = StateSynReceived
		c.sndWl2 = c.iss
		c.repeatSynAck()
		return
	}
	c.ackOurSYN(s)
	c.established()
	c.ackNow = true
	if c.snd.len == 0 {
		c.sendAck() // the peer waits for it; octets would carry it
	}
}

// ackOurSYN takes the first ACK of the peer, which covers our SYN.
func (c *Conn) ackOurSYN(s *Segment) {
	var r ackResult
	if c.sent.n > 0 {
		r.echo, r.tsEcr = c.tsOK && s.Opt.Have&wire.TCPOptTimestamp != 0, s.Opt.TSEcr
	}
	resent := c.sent.n > 0 && c.sent.at(0).flags&sentRetx != 0
	c.cumulativeAck(s.Ack, &r)
	c.measure(&r)
	c.backoff = 0
	if resent {
		// RFC 6298 §5.7, RFC 5681 §3.1: a lost SYN means a slow or a lossy path.
		if c.rtt.srtt == 0 {
			c.rtt.rto = rtoAfterSYN
		}
		c.cc.cwnd = c.cc.mss
	}
	c.rec = recovery{}
	c.rk.valid, c.rk.tlpSent = false, false
	c.cc.round(c.sndUna, c.sndNxt)
	c.restartRtx()
}

// established enters ESTABLISHED, and goes on to FIN-WAIT-1 where the user has
// closed before.
func (c *Conn) established() {
	c.enter(StateEstablished)
	c.rcvMSS = min(c.peerMSS, c.pathMSS(), 536)
	c.tune.from = c.now
	c.armKeepalive()
	if c.finQueued {
		c.enter(StateFinWait1)
	}
}

// repeatSynAck sends SYN and ACK again, out of turn.
func (c *Conn) repeatSynAck() {
	if c.sent.n > 0 {
		c.sent.at(0).flags |= sentRetx
	}
	if c.challenge.take(c.now) {
		c.sendSYN()
	}
}

// inputSynReceivedAck is the fifth check of §3.10.7.4 in SYN-RECEIVED. It
// reports whether s may be looked at further.
func (c *Conn) inputSynReceivedAck(s *Segment) bool {
	if s.Ack.LessEq(c.sndUna) || c.sndMax.Less(s.Ack) {
		c.sendReset(s)
		return false
	}
	c.sndWnd = c.scaledWindow(s)
	c.sndMaxWnd = c.sndWnd
	c.sndWl1, c.sndWl2 = s.Seq, s.Ack
	c.ackOurSYN(s)
	c.established()
	return true
}

// passiveOpen makes c answer the SYN s that a listener has got: it enters
// SYN-RECEIVED (§3.10.7.2). The initial sequence number lies after beyond where
// that is set: a SYN that follows an earlier connection in TIME-WAIT.
func (c *Conn) passiveOpen(now int64, s *Segment, iss seq.Num) {
	c.now = now
	c.passive = true
	c.rcvScale = c.offeredScale()
	c.start(iss)
	c.state = StateSynReceived
	c.takeSYN(s)
	c.firstSYN()
}

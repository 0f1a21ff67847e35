package tcp

import "osv/kernel/net/wire"

// Timers: RFC 6298 §5, RFC 8985 §7.2, RFC 9293 §3.8.3, §3.8.4 and §3.8.6.1. Each
// is a time kept in Conn. The owner asks for the next by Deadline, and calls
// Timer when it has passed; to call too early, or too often, does no harm.

// rtxKind says what the retransmission timer will do. RFC 8985 §7.2: only one of
// them runs at a time.
type rtxKind uint8

const (
	rtxOff     rtxKind = iota
	rtxRTO             // retransmission timeout
	rtxProbe           // tail loss probe
	rtxReorder         // RACK: a range becomes lost if nothing comes
	rtxPersist         // window probe
)

type rtxTimer struct {
	at   int64
	kind rtxKind
}

// Deadline is the time of the next call of Timer that c wants, in ns; 0 for none.
func (c *Conn) Deadline() int64 {
	// A timer that is off, 0, becomes the latest time there is.
	after := func(t int64) uint64 { return uint64(t) - 1 }
	return int64(min(after(c.rtx.at), after(c.delackAt), after(c.keepAt), after(c.stateAt), after(c.stallAt), after(c.memAt)) + 1)
}

// Timer does what has come due at now. Flush must follow.
func (c *Conn) Timer(now int64) {
	c.now = now
	if due(c.stateAt, now) {
		c.stateAt = 0
		c.close() // the end of TIME-WAIT, or of FIN-WAIT-2 with no one to wait for
		return
	}
	if due(c.delackAt, now) {
		c.delackAt = 0
		c.ackNow = true
	}
	if due(c.stallAt, now) {
		c.stallAt = 0 // Flush tries
	}
	if due(c.memAt, now) {
		c.memAt = 0
		c.ev |= EvWritable
	}
	if due(c.rtx.at, now) {
		kind := c.rtx.kind
		c.rtx = rtxTimer{}
		switch kind {
		case rtxRTO:
			c.rtoFire()
		case rtxProbe:
			c.tlpFire()
		case rtxReorder:
			c.reorderFire()
		case rtxPersist:
			c.persistFire()
		}
	}
	if due(c.keepAt, now) {
		c.keepFire()
	}
}

func due(t, now int64) bool { return t != 0 && t <= now }

// armRTO starts the retransmission timeout from time t.
func (c *Conn) armRTO(t int64) {
	c.rtx = rtxTimer{c.untilGiveUp(t + c.rtt.backedOff(c.backoff)), rtxRTO}
	c.rtoAt = c.rtx.at
}

// untilGiveUp is t, or the end of the user timeout where that comes first.
func (c *Conn) untilGiveUp(t int64) int64 {
	if end := c.progressAt + c.patience(); end > c.now {
		return min(t, end)
	}
	return t
}

// armAfterSend starts the timer for octets just sent (RFC 6298 §5.1; RFC 8985
// §7.2 moves a tail loss probe on with each, but never beyond the timeout).
func (c *Conn) armAfterSend() {
	switch c.rtx.kind {
	case rtxReorder:
	case rtxOff, rtxPersist:
		c.restartRtx()
	default:
		c.armProbe()
	}
}

// restartRtx starts the timer anew after an ACK (RFC 6298 §5.2, §5.3).
func (c *Conn) restartRtx() {
	c.rtx = rtxTimer{}
	if c.sent.n == 0 {
		return
	}
	c.armRTO(c.now)
	c.armProbe()
}

// armProbe puts a tail loss probe before the retransmission timeout, which is
// running, where one may be sent.
func (c *Conn) armProbe() {
	c.rtx = rtxTimer{c.rtoAt, rtxRTO}
	if c.tlpAllowed() {
		if pto := c.now + c.probeTimeout(); pto < c.rtoAt {
			c.rtx = rtxTimer{pto, rtxProbe}
		}
	}
}

// patience is how long nothing may move before c fails, ns: R2 of RFC 9293
// §3.8.3.
func (c *Conn) patience() int64 {
	switch {
	case c.state == StateSynReceived && c.passive:
		return synAckTimeout
	case c.state == StateSynSent || c.state == StateSynReceived:
		return int64(c.cfg.ConnectTimeout)
	case c.opt.UserTimeout > 0:
		return int64(c.opt.UserTimeout)
	}
	return int64(c.cfg.UserTimeout)
}

// gaveUp ends c when nothing has moved for too long.
func (c *Conn) gaveUp() bool {
	if c.now-c.progressAt < c.patience() {
		return false
	}
	if c.state.synchronized() {
		c.sendAbort() // the peer may be there after all
	}
	err := ErrTimeout
	if c.softErr != nil {
		err = c.softErr // §3.9.2.2: what an ICMP error had said
	}
	c.fail(err)
	return true
}

// synAckTimeout is how long a SYN with ACK is sent again, ns: short, since the
// SYN may be forged (RFC 4987 §3.3).
const synAckTimeout = 60e9

// rtoFire is RFC 6298 §5.4 to §5.6.
func (c *Conn) rtoFire() {
	if c.sent.n == 0 || c.gaveUp() {
		return
	}
	c.backoff++
	c.count.Timeouts++
	if c.state == StateSynSent || c.state == StateSynReceived {
		e := c.sent.at(0)
		e.flags |= sentRetx
		e.at = c.now
		c.sendSYN()
		c.armRTO(c.now)
		return
	}
	if c.sndWnd == 0 {
		// The peer has closed its window over what is in flight: this is a window
		// probe, not congestion.
		c.retransmit(0)
	} else {
		c.timeoutLoss()
	}
	c.armRTO(c.now)
}

// reorderFire is the RACK timer of RFC 8985 §6.3: the reordering window is over.
func (c *Conn) reorderFire() {
	wait := c.rackDetect()
	if c.lostBytes > 0 && c.rec.state == recOpen {
		c.enterRecovery(&ackResult{})
	}
	if wait > 0 {
		c.rtx = rtxTimer{c.now + wait, rtxReorder}
	} else {
		c.restartRtx()
	}
}

// wantProbe starts the persist timer: octets wait, the window does not take them,
// and no ACK is on its way that could open it (RFC 9293 §3.8.6.1).
func (c *Conn) wantProbe() {
	if c.sent.n > 0 || c.rtx.kind == rtxPersist {
		return
	}
	c.backoff = 0
	c.progressAt = c.now
	c.rtx = rtxTimer{c.now + c.rtt.backedOff(0), rtxPersist}
}

func (c *Conn) stopPersist() {
	c.rtx = rtxTimer{}
	c.backoff = 0
}

// persistFire sends a window probe. With a window it sends what fits (the
// override timeout of §3.8.6.2.1); without, one octet beyond it.
func (c *Conn) persistFire() {
	if c.sent.n > 0 || c.snd.len == 0 || c.gaveUp() {
		return
	}
	if n := min(c.dataEnd().Sub(c.sndNxt), c.sndWnd, c.cc.mss); n > 0 {
		c.emit(n, false)
		return
	}
	c.windowProbe()
	c.backoff++
	c.rtx = rtxTimer{c.untilGiveUp(c.now + c.rtt.backedOff(c.backoff)), rtxPersist}
}

// armFinWait2 bounds FIN-WAIT-2 for a connection that no one reads from any more:
// the peer may never send its FIN.
func (c *Conn) armFinWait2() {
	if c.orphan {
		c.stateAt = c.now + int64(c.cfg.FinWait2Timeout)
	}
}

// armKeepalive starts or stops the keepalive timer as the user wants it.
func (c *Conn) armKeepalive() {
	c.keepAt, c.keepSent = 0, 0
	if c.opt.Keepalive {
		c.keepAt = c.now + c.keepIdle()
	}
}

func (c *Conn) keepIdle() int64 {
	if c.opt.KeepIdle > 0 {
		return int64(c.opt.KeepIdle)
	}
	return int64(c.cfg.KeepIdle)
}

// keepFire is RFC 9293 §3.8.4: probes go out only on an idle connection with
// nothing in flight, and only the silence after several ends it.
func (c *Conn) keepFire() {
	c.keepAt = 0
	if !c.state.synchronized() || c.state == StateTimeWait || !c.opt.Keepalive {
		return
	}
	if idle := c.now - c.lastRcvAt; c.sent.n > 0 || c.keepSent == 0 && idle < c.keepIdle() {
		c.keepAt = c.now + max(c.keepIdle()-idle, 1e9)
		return
	}
	count, interval := c.opt.KeepCount, int64(c.opt.KeepInterval)
	if count == 0 {
		count = c.cfg.KeepCount
	}
	if interval == 0 {
		interval = int64(c.cfg.KeepInterval)
	}
	if c.keepSent >= count {
		c.sendAbort()
		c.fail(ErrKeepalive)
		return
	}
	c.keepSent++
	c.sendControl(c.sndNxt.Add(-1), wire.TCPAck) // outside the window, so it is answered
	c.keepAt = c.now + interval
}

package tcp

import (
	"osv/kernel/net/seq"
	"osv/kernel/net/wire"
)

// TimeWait is what must be kept of a connection in TIME-WAIT: enough to answer a
// FIN that is sent again, to refuse old segments, and to let a new connection of
// the same tuple begin (RFC 6191).
type TimeWait struct {
	Tuple  Tuple
	Path   Path
	Expire int64 // ns, when it may be forgotten

	span           int64 // 2 MSL, ns
	sndNxt, rcvNxt seq.Num
	window         uint16
	wnd            int
	tsOK           bool
	tsOff          uint32
	tsRecent       uint32
	challenge      bucket
}

// Verdict is what becomes of a segment in TIME-WAIT.
type Verdict uint8

const (
	// TimeWaitDrop: nothing.
	TimeWaitDrop Verdict = iota
	// TimeWaitAck: an ACK must go out (TimeWait.Ack).
	TimeWaitAck
	// TimeWaitEnd: the connection is gone.
	TimeWaitEnd
	// TimeWaitOpen: the segment is a SYN for a new connection, which may begin
	// with an initial sequence number after TimeWait.LastSeq.
	TimeWaitOpen
)

// TimeWait returns what to keep of c, which must be in TIME-WAIT.
func (c *Conn) TimeWait() TimeWait {
	return TimeWait{
		Tuple: c.tuple, Path: c.path, Expire: c.stateAt, span: 2 * int64(c.cfg.MSL),
		sndNxt: c.sndNxt, rcvNxt: c.rcvNxt, wnd: c.rcvAdv.Sub(c.rcvNxt),
		window: uint16(min(c.rcvAdv.Sub(c.rcvNxt)>>c.rcvScale, 0xffff)),
		tsOK:   c.tsOK, tsOff: c.tsOff, tsRecent: c.tsRecent, challenge: c.challenge,
	}
}

// LastSeq is the number that a new connection of the tuple must begin after.
func (w *TimeWait) LastSeq() seq.Num { return w.sndNxt }

// Input looks at a segment: RFC 9293 §3.10.7.4 for TIME-WAIT, with RFC 6191 §2
// and RFC 5961. The buffer stays the caller's.
func (w *TimeWait) Input(now int64, s *Segment) Verdict {
	ts := w.tsOK && s.Opt.Have&wire.TCPOptTimestamp != 0
	if s.Flags&(wire.TCPSyn|wire.TCPRst|wire.TCPAck) == wire.TCPSyn {
		// A SYN from after the old connection's life.
		if ts && int32(s.Opt.TSVal-w.tsRecent) > 0 || !ts && w.rcvNxt.Less(s.Seq) ||
			ts && s.Opt.TSVal == w.tsRecent && w.rcvNxt.Less(s.Seq) {
			return TimeWaitOpen
		}
	}
	if ts && int32(s.Opt.TSVal-w.tsRecent) < 0 && !s.has(wire.TCPRst) {
		return w.Challenge(now)
	}
	n := s.seqLen()
	in := s.Seq.In(w.rcvNxt, max(w.wnd, 1)) || s.Seq.Less(w.rcvNxt) && w.rcvNxt.Less(s.Seq.Add(n))
	switch {
	case s.has(wire.TCPRst) && s.Seq == w.rcvNxt:
		return TimeWaitEnd
	case s.has(wire.TCPRst) && !in:
		return TimeWaitDrop
	case !in && s.has(wire.TCPFin) && s.Seq.Add(n) == w.rcvNxt:
		w.Expire = now + w.span // our ACK of it was lost
		return w.Challenge(now)
	case in && n == 0 && !s.has(wire.TCPRst), in && s.Flags&(wire.TCPAck|wire.TCPSyn|wire.TCPRst) == 0:
		return TimeWaitDrop
	}
	return w.Challenge(now)
}

// Challenge is TimeWaitAck, unless there were too many of late.
func (w *TimeWait) Challenge(now int64) Verdict {
	if w.challenge.take(now) {
		return TimeWaitAck
	}
	return TimeWaitDrop
}

// Ack sends the ACK of a TimeWaitAck by way of scratch, a Conn that the caller
// keeps for this.
func (w *TimeWait) Ack(now int64, cfg *Config, scratch *Conn) {
	scratch.reset(cfg, w.Tuple, w.Path)
	scratch.now, scratch.state = now, StateTimeWait
	scratch.sndNxt, scratch.rcvNxt = w.sndNxt, w.rcvNxt
	scratch.rcvAdv, scratch.rcvLimit = w.rcvNxt.Add(int(w.window)), 0
	scratch.sackOK, scratch.tsOK = false, w.tsOK
	scratch.tsOff, scratch.tsRecent = w.tsOff, w.tsRecent
	scratch.sendAck()
}

// enterTimeWait begins the wait of 2 MSL.
func (c *Conn) enterTimeWait() {
	c.snd.release()
	c.ooo.release()
	c.sent.clear()
	c.sackNum, c.sackedBytes, c.lostBytes = 0, 0, 0
	c.rtx, c.keepAt, c.stallAt, c.memAt = rtxTimer{}, 0, 0, 0
	c.stateAt = c.now + 2*int64(c.cfg.MSL)
	c.ev |= EvTimeWait
}

// inputTimeWait is TIME-WAIT for a Conn that its owner has kept whole.
func (c *Conn) inputTimeWait(s *Segment) {
	w := c.TimeWait()
	v := w.Input(c.now, s)
	c.challenge, c.tsRecent, c.stateAt = w.challenge, w.tsRecent, w.Expire
	switch v {
	case TimeWaitAck:
		c.sendAck()
	case TimeWaitEnd, TimeWaitOpen:
		c.close() // the SYN comes again, and finds the listener
	}
}

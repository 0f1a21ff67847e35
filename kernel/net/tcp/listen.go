package tcp

import (
	"osv/kernel/net/seq"
	"osv/kernel/net/wire"
)

// ListenEnv is what a Listener needs of its owner.
type ListenEnv interface {
	// Path is the way to the peer of t.
	Path(t *Tuple) (Path, error)
	// Established hands over c, which has just reached ESTABLISHED and is in the
	// accept queue. From now on its owner calls Input. False says that there is
	// no room for it.
	Established(c *Conn) bool
}

// Listener is a passive OPEN with unspecified peer: the state LISTEN, its
// half-open connections and those that wait to be accepted. Both are bounded
// (RFC 4987): when too many are half open, SYN cookies take over.
type Listener struct {
	cfg     *Config
	env     ListenEnv
	backlog int // connections that may wait to be accepted
	halfMax int // half-open connections

	half  []*Conn
	index map[Tuple]int // into half
	ready []*Conn       // first come, first served
	next  int64         // no half-open connection wants its timer before, ns; 0 for none
	free  []*Conn       // for reuse: a flood must not feed the collector

	cookieAt  int64 // when the last cookie went out, while cookieSet
	cookieSet bool
	scratch   *Conn // for answers that need no state

	opt            Options
	rcvBuf, sndBuf int // of accepted connections; 0 for the default

	Stats ListenStats
}

// ListenStats counts what became of a listener's SYNs.
type ListenStats struct {
	SYNs, Cookies, CookiesOpened, CookiesBad uint64
	CookiesEarly                             uint64 // segments dropped that came before the one that proves their cookie
	Established                              uint64
	Overflow                                 uint64 // SYNs and ACKs dropped because the accept queue was full
	Expired                                  uint64 // half-open connections whose peer did not answer
}

// NewListener returns a listener for up to backlog connections that wait to be
// accepted and halfMax that are half open.
func NewListener(cfg *Config, env ListenEnv, backlog, halfMax int) *Listener {
	return &Listener{
		cfg: cfg, env: env, backlog: max(backlog, 1), halfMax: max(halfMax, 1),
		index: make(map[Tuple]int), scratch: new(Conn),
	}
}

// Configure sets the options and buffer sizes (0: default) of connections that
// will be accepted.
func (l *Listener) Configure(o Options, rcvBuf, sndBuf int) {
	l.opt, l.rcvBuf, l.sndBuf = o, rcvBuf, sndBuf
}

// Accept takes the connection that has waited longest; nil where none waits.
func (l *Listener) Accept() *Conn {
	if len(l.ready) == 0 {
		return nil
	}
	c := l.ready[0]
	copy(l.ready, l.ready[1:])
	l.ready[len(l.ready)-1] = nil
	l.ready = l.ready[:len(l.ready)-1]
	return c
}

// Waiting and HalfOpen are the lengths of the two queues.
func (l *Listener) Waiting() int { return len(l.ready) }

// HalfOpen is the number of connections in SYN-RECEIVED.
func (l *Listener) HalfOpen() int { return len(l.half) }

// Input processes a segment of t that belongs to no connection. It takes over
// s.Buf. RFC 9293 §3.10.7.2, and SYN-RECEIVED for half-open connections.
func (l *Listener) Input(now int64, t *Tuple, s *Segment) { l.input(now, t, s, 0, false) }

// InputAfter is Input for a SYN that TIME-WAIT has let through: the new initial
// sequence number lies after last.
func (l *Listener) InputAfter(now int64, t *Tuple, s *Segment, last seq.Num) {
	l.input(now, t, s, last, true)
}

func (l *Listener) input(now int64, t *Tuple, s *Segment, last seq.Num, after bool) {
	defer s.Drop()
	if i, ok := l.index[*t]; ok {
		l.inputHalf(now, i, t, s)
		return
	}
	switch {
	case s.has(wire.TCPRst):
	case s.has(wire.TCPAck):
		if s.has(wire.TCPSyn) || !l.inputCookie(now, t, s) {
			l.refuse(now, t, s)
		}
	case s.has(wire.TCPSyn):
		l.inputSYN(now, t, s, last, after)
	}
}

// refuse answers s with a RST.
func (l *Listener) refuse(now int64, t *Tuple, s *Segment) {
	p, err := l.env.Path(t)
	if err != nil {
		return
	}
	Refuse(l.cfg, l.scratch, now, t, p, s)
}

// Refuse answers a segment that belongs to no connection with a RST (RFC 9293
// §3.10.7.1), by way of scratch, a Conn that the caller keeps for this. The
// buffer stays the caller's.
func Refuse(cfg *Config, scratch *Conn, now int64, t *Tuple, p Path, s *Segment) {
	scratch.reset(cfg, *t, p)
	scratch.now = now
	scratch.sendReset(s)
}

// inputSYN is the third check of §3.10.7.2.
func (l *Listener) inputSYN(now int64, t *Tuple, s *Segment, last seq.Num, after bool) {
	l.Stats.SYNs++
	if len(l.ready) >= l.backlog {
		l.Stats.Overflow++
		return // the peer tries again; by then there may be room
	}
	p, err := l.env.Path(t)
	if err != nil {
		return
	}
	if len(l.half) >= l.halfMax {
		l.sendCookie(now, t, p, s)
		return
	}
	iss := ISN(&l.cfg.Key, t, now)
	if after && iss.LessEq(last) {
		iss = last.Add(1 + 1<<16)
	}
	c := l.newConn(t, p)
	c.passiveOpen(now, s, iss)
	l.index[*t] = len(l.half)
	l.half = append(l.half, c)
	l.noteDeadline(c)
}

func (l *Listener) newConn(t *Tuple, p Path) *Conn {
	var c *Conn
	if n := len(l.free); n > 0 {
		c, l.free = l.free[n-1], l.free[:n-1]
	} else {
		c = new(Conn)
	}
	l.prepare(c, t, p)
	return c
}

func (l *Listener) prepare(c *Conn, t *Tuple, p Path) {
	c.reset(l.cfg, *t, p)
	c.opt = l.opt
	if l.rcvBuf > 0 {
		c.SetRecvBuffer(l.rcvBuf)
	}
	if l.sndBuf > 0 {
		c.SetSendBuffer(l.sndBuf)
	}
}

func (l *Listener) noteDeadline(c *Conn) {
	if d := c.Deadline(); d != 0 && (l.next == 0 || d < l.next) {
		l.next = d
	}
}

// sendCookie answers a SYN without keeping anything of it.
func (l *Listener) sendCookie(now int64, t *Tuple, p Path, s *Segment) {
	c := l.scratch
	l.prepare(c, t, p)
	mss := defaultMSS(t)
	if s.Opt.Have&wire.TCPOptMSS != 0 {
		mss = int(s.Opt.MSS)
	}
	if s.Opt.Have&wire.TCPOptTimestamp != 0 && c.tsOK {
		c.tsCookie, c.tsBits = true, cookieOptions(&s.Opt)
	} else {
		s.Opt.Have &^= wire.TCPOptWScale | wire.TCPOptSACKOK // nothing could carry them
	}
	c.passiveOpen(now, s, cookie(&l.cfg.Key, t, now, s.Seq, mss))
	c.sent.clear()
	l.cookieAt, l.cookieSet = now, true
	l.Stats.Cookies++
}

// inputCookie opens the connection of an ACK that carries a good cookie. False
// says that there is none in it, and that it is to be refused.
func (l *Listener) inputCookie(now int64, t *Tuple, s *Segment) bool {
	mss, is := l.openCookie(now, t, s)
	switch is {
	case cookieNone:
		return false
	case cookieOurs:
		l.Stats.CookiesEarly++
		return true
	}
	if len(l.ready) >= l.backlog {
		l.Stats.Overflow++
		return true
	}
	p, err := l.env.Path(t)
	if err != nil {
		return true
	}
	irs, iss := s.Seq.Add(-1), s.Ack.Add(-1)
	syn := Segment{Seq: irs, Window: s.Window}
	syn.Opt.Have, syn.Opt.MSS = wire.TCPOptMSS, uint16(mss)
	if s.Opt.Have&wire.TCPOptTimestamp != 0 {
		syn.Opt.Have |= wire.TCPOptTimestamp
		syn.Opt.TSVal = s.Opt.TSVal
		openCookieOptions(s.Opt.TSEcr, &syn.Opt)
	}
	c := l.newConn(t, p)
	c.now, c.passive = now, true
	c.rcvScale = c.offeredScale()
	c.start(iss)
	c.sndNxt = iss.Add(1)
	c.sndMax = c.sndNxt
	c.state = StateSynReceived
	c.takeSYN(&syn)
	l.Stats.CookiesOpened++
	c.Input(now, s)
	l.promote(now, c)
	return true
}

// openCookie looks for a cookie in the ACK of s.
func (l *Listener) openCookie(now int64, t *Tuple, s *Segment) (mss int, is cookieIs) {
	if !l.cookieSet || now-l.cookieAt > (cookieLife+1)*cookieTick {
		return 0, cookieNone
	}
	if mss, is = openCookie(&l.cfg.Key, t, now, s.Seq.Add(-1), s.Ack.Add(-1)); is == cookieNone {
		l.Stats.CookiesBad++
	}
	return mss, is
}

// inputHalf gives s to the half-open connection i of t.
func (l *Listener) inputHalf(now int64, i int, t *Tuple, s *Segment) {
	c := l.half[i]
	if s.has(wire.TCPAck) && !s.has(wire.TCPRst|wire.TCPSyn) && s.Ack != c.sndNxt {
		// The peer may have sent its SYN twice, got a cookie for the first, and a
		// place here for the second.
		_, is := l.openCookie(now, t, s)
		if is == cookieProven {
			l.remove(i)
			l.recycle(c)
		}
		if is != cookieNone {
			l.inputCookie(now, t, s)
			return
		}
	}
	if len(l.ready) >= l.backlog && s.has(wire.TCPAck) && !s.has(wire.TCPRst) {
		l.Stats.Overflow++
		return // our SYN with ACK goes out again, and its answer may find room
	}
	c.Input(now, s)
	if c.state == StateSynReceived {
		c.Flush(now)
		return
	}
	l.remove(i)
	l.promote(now, c)
}

// promote moves c, which has left SYN-RECEIVED, to where it belongs now.
func (l *Listener) promote(now int64, c *Conn) {
	if !c.state.synchronized() {
		l.recycle(c)
		return
	}
	l.Stats.Established++
	l.ready = append(l.ready, c)
	if !l.env.Established(c) {
		l.ready = l.ready[:len(l.ready)-1]
		c.Abort(now)
		c.Close(now)
		return
	}
	c.Flush(now)
}

// remove takes the half-open connection i out of the queue.
func (l *Listener) remove(i int) {
	n := len(l.half) - 1
	delete(l.index, l.half[i].tuple)
	if i != n {
		l.half[i] = l.half[n]
		l.index[l.half[i].tuple] = i
	}
	l.half[n] = nil
	l.half = l.half[:n]
}

// maxFree bounds the Conns kept for reuse.
const maxFree = 64

func (l *Listener) recycle(c *Conn) {
	c.rcv.release()
	if len(l.free) < maxFree {
		l.free = append(l.free, c)
	}
}

// Deadline is the time of the next call of Timer, in ns; 0 for none.
func (l *Listener) Deadline() int64 { return l.next }

// Timer does what half-open connections have due at now.
func (l *Listener) Timer(now int64) {
	if l.next == 0 || now < l.next {
		return
	}
	l.next = 0
	for i := len(l.half) - 1; i >= 0; i-- {
		c := l.half[i]
		if due(c.Deadline(), now) {
			c.Timer(now)
		}
		if c.state != StateSynReceived {
			l.remove(i)
			l.recycle(c)
			l.Stats.Expired++
			continue
		}
		c.Flush(now)
		l.noteDeadline(c)
	}
}

// Close ends the listener: half-open connections, and those that wait to be
// accepted, are aborted. It returns the latter.
func (l *Listener) Close(now int64) []*Conn {
	for _, c := range l.half {
		c.Abort(now)
		c.rcv.release()
	}
	l.half, l.next = nil, 0
	clear(l.index)
	ready := l.ready
	l.ready, l.free = nil, nil
	for _, c := range ready {
		c.Abort(now)
		c.Close(now)
	}
	return ready
}

// Holds reports whether t is half open here.
func (l *Listener) Holds(t *Tuple) bool {
	_, ok := l.index[*t]
	return ok
}

// SetBacklog changes how many connections may wait to be accepted; those that wait
// already stay.
func (l *Listener) SetBacklog(n int) { l.backlog = max(n, 1) }

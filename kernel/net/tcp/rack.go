package tcp

import "osv/kernel/net/seq"

// RACK-TLP: RFC 8985. Loss is told by time: a range is lost when one sent after
// it has arrived, and as much time has passed as reordering may take. A tail
// loss probe makes the peer say so where nothing was sent after.

const (
	rackPersistRec = 16  // RFC 8985 §6.2 step 4: recoveries for which reo_wnd stays raised
	rackMaxMult    = 255 // bound of RACK.reo_wnd_mult; SRTT bounds the window in any case
	tlpDelayedAck  = 2e8 // TLP.max_ack_delay, ns: what a peer may delay a lone segment
)

// rack is the state of RFC 8985 §5.2 and §5.3, for one connection.
type rack struct {
	xmit    uint32  // in place of RACK.xmit_ts: the order of that transmission
	end     seq.Num // RACK.end_seq
	valid   bool    // the two are set
	rtt     int64   // RACK.rtt, ns
	fack    seq.Num // RACK.fack, while fackSet
	fackSet bool
	reorder bool    // RACK.reordering_seen
	mult    int     // RACK.reo_wnd_mult, less 1
	persist int     // RACK.reo_wnd_persist
	round   seq.Num // RACK.dsack_round: this round trip has been counted, while inRound
	inRound bool

	tlpEnd  seq.Num // TLP.end_seq, while tlpSent
	tlpSent bool
	tlpRetx bool // TLP.is_retrans
}

// rackSample is steps 1 to 3 of §6.2 for the range e, acknowledged up to end for
// the first time by this ACK.
func (c *Conn) rackSample(e *sentSeg, end seq.Num, r *ackResult) {
	k := &c.rk
	rtt := c.now - e.at
	if e.flags&sentRetx != 0 {
		r.resent, r.resentAt = true, max(r.resentAt, e.at)
		// The ACK may be for an earlier transmission: its echo is older than the
		// last one, or it is sooner than any round trip.
		if r.echo && int32(r.tsEcr-c.tsClock(e.at)) < 0 || rtt < c.rtt.min() {
			return
		}
	} else {
		r.rtt = max(rtt, 1)
		if k.fackSet && end.Less(k.fack) {
			k.reorder = true
		}
	}
	if !k.fackSet || k.fack.Less(end) {
		k.fack, k.fackSet = end, true
	}
	if !k.valid || sentAfter(e.order, end, k.xmit, k.end) {
		k.xmit, k.end, k.valid = e.order, end, true
		k.rtt = rtt
	}
}

// sentAfter is RACK_sent_after, with orders in place of times: all that one call
// of Flush sends has the same time. Octets of one range are ordered by number.
func sentAfter(o1 uint32, s1 seq.Num, o2 uint32, s2 seq.Num) bool {
	return int32(o1-o2) > 0 || o1 == o2 && s2.Less(s1)
}

// rackWindow is step 4: how long after a later range an earlier one may still
// arrive, in ns.
func (c *Conn) rackWindow() int64 {
	k := &c.rk
	if !k.reorder && (c.rec.state != recOpen || c.sackedSegs >= dupThresh) {
		return 0
	}
	step := c.rtt.min() / 4
	if k.mult > 0 {
		// Where packets overtake others the least round trip is that of the ones
		// that did, and may be next to nothing.
		step = max(step, c.rtt.srtt/16)
	}
	return min(int64(k.mult+1)*step, c.rtt.srtt)
}

// rackTooSoon widens the window once in a round trip in which it turns out that
// something was sent again for nothing: the peer reports duplicates (step 4,
// RACK_update_reo_wnd), or acknowledges a first transmission that came late.
func (c *Conn) rackTooSoon() {
	k := &c.rk
	if k.inRound {
		return
	}
	k.inRound, k.round = true, c.sndNxt
	k.mult = min(k.mult+1, rackMaxMult)
	k.persist = rackPersistRec
}

// rackRecovered counts down the recoveries for which the window stays wide.
func (c *Conn) rackRecovered() {
	if k := &c.rk; k.persist > 0 {
		if k.persist--; k.persist == 0 {
			k.mult = 0
		}
	}
}

// rackDetect is step 5: it marks ranges as lost, and returns how long to wait
// for the next to become so, 0 for none, in ns.
func (c *Conn) rackDetect() int64 {
	k := &c.rk
	if !k.valid || c.sackedBytes == 0 && c.lostBytes == 0 && c.rec.state == recOpen {
		return 0 // all that is in flight was sent after what was acknowledged
	}
	// How long a range takes that is neither lost nor late. RACK.rtt is that of
	// the range that came last, which may have overtaken all others; where this is
	// known to have been taken for loss, the smoothed round trip is nearer to it.
	wnd := k.rtt + c.rackWindow()
	if k.mult > 0 {
		wnd += max(0, c.rtt.srtt-k.rtt)
	}
	var wait int64
	for i := range c.sent.n {
		e := c.sent.at(i)
		if e.flags&(sentSacked|sentLost) != 0 {
			continue
		}
		if !sentAfter(k.xmit, k.end, e.order, e.end) {
			if e.flags&sentRetx == 0 {
				break // all that follows was sent later still
			}
			continue
		}
		left := e.at + wnd - c.now
		if left <= 0 {
			c.markLost(e)
		} else {
			wait = max(wait, left)
		}
	}
	return wait
}

// tlpAllowed reports the conditions of §7.2 for a probe timeout.
func (c *Conn) tlpAllowed() bool {
	return c.sackOK && c.rec.state == recOpen && c.sackedBytes == 0 && c.lostBytes == 0 &&
		!c.rk.tlpSent && c.state.hasSendQueue() && c.rtt.srtt > 0 && c.sndWnd > 0
}

// probeTimeout is TLP_calc_PTO, ns.
func (c *Conn) probeTimeout() int64 {
	pto := 2 * c.rtt.srtt
	if c.flight() <= c.cc.mss {
		pto += tlpDelayedAck
	} else {
		pto += 2e6 // what timers are late by
	}
	return pto
}

// tlpFire is §7.3: the probe timeout has passed without an ACK.
func (c *Conn) tlpFire() {
	k := &c.rk
	sent := false
	if c.dataEnd().Sub(c.sndNxt) > 0 && c.sendOneNew() {
		k.tlpRetx = false
		sent = true
	} else if n := c.sent.n; n > 0 {
		e := c.sent.at(n - 1)
		if e.len() > c.cc.mss {
			c.sent.split(n-1, e.end.Add(-c.cc.mss))
			n++
		}
		sent = c.retransmit(n - 1)
		k.tlpRetx = true
	}
	if sent {
		c.count.Probes++
		k.tlpSent, k.tlpEnd = true, c.sndNxt
	}
	c.armRTO(c.now)
}

// tlpAck is §7.4.2: an ACK arrives while a probe is out.
func (c *Conn) tlpAck(s *Segment, r *ackResult) {
	k := &c.rk
	if !k.tlpSent || s.Ack.Less(k.tlpEnd) {
		return
	}
	switch {
	case !k.tlpRetx:
		k.tlpSent = false
	case r.dsack:
		k.tlpSent = false // the original had arrived too
	case k.tlpEnd.Less(s.Ack):
		// The probe repaired a loss that nothing else reports: a congestion event.
		k.tlpSent = false
		if c.rec.state == recOpen {
			c.cc.reduce(c.usedWindow(c.flight() + r.delivered))
			c.cc.cwnd = c.cc.ssthresh
		}
	case r.acked == 0 && r.sacked == 0 && s.n == 0:
		k.tlpSent = false // a duplicate ACK for the probe: the original had arrived
	}
}

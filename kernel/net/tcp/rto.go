package tcp

// Round-trip time and retransmission timeout: RFC 6298, with RFC 7323 Appendix G
// for several samples in one round trip.

const (
	rtoInitial  = 1e9 // RFC 6298 §2.1, ns
	rtoAfterSYN = 3e9 // RFC 6298 §5.7: after a SYN that had to be sent again
	rttGrain    = 1e6 // G of RFC 6298, ns
	minRTTSpan  = 5e9 // minRTT covers one to two of these, ns
)

type rttState struct {
	srtt, rttvar int64 // ns; srtt is 0 before the first sample
	rto          int64 // ns, without backoff
	rtoMin       int64
	rtoMax       int64

	minNow, minOld int64 // least sample of this span and of the one before; 0 for none
	minFrom        int64 // when this span began
}

func (r *rttState) reset(cfg *Config) {
	*r = rttState{rto: rtoInitial, rtoMin: int64(cfg.MinRTO), rtoMax: int64(cfg.MaxRTO)}
}

// sample takes one measurement of rtt ns at time now; expected is how many come
// in a round trip.
func (r *rttState) sample(now, rtt int64, expected int) {
	rtt = max(rtt, 1)
	if r.srtt == 0 {
		r.srtt, r.rttvar = rtt, rtt/2
	} else if d := rtt - r.srtt; expected <= 1 {
		r.rttvar += (max(d, -d) - r.rttvar) / 4
		r.srtt = max(1, r.srtt+d/8)
	} else {
		n := int64(expected)
		r.rttvar += (max(d, -d) - r.rttvar) / (4 * n)
		r.srtt = max(1, r.srtt+d/(8*n))
	}
	r.rto = min(max(r.srtt+max(rttGrain, 4*r.rttvar), r.rtoMin), r.rtoMax)

	if now-r.minFrom > minRTTSpan {
		r.minOld, r.minNow, r.minFrom = r.minNow, 0, now
	}
	if r.minNow == 0 || rtt < r.minNow {
		r.minNow = rtt
	}
}

// min is the least round-trip time seen lately; 0 before the first sample.
func (r *rttState) min() int64 {
	if r.minOld != 0 && r.minOld < r.minNow {
		return r.minOld
	}
	return r.minNow
}

// backedOff is the timeout after n doublings (RFC 6298 §5.5).
func (r *rttState) backedOff(n int) int64 {
	rto := r.rto
	for range n {
		if rto >= r.rtoMax {
			break
		}
		rto *= 2
	}
	return min(rto, r.rtoMax)
}

// rttSample takes a measurement from an ACK.
func (c *Conn) rttSample(rtt int64) {
	// Every second full segment is acknowledged.
	expected := 1
	if n := c.flight(); n > 2*c.mss {
		expected = (n + 2*c.mss - 1) / (2 * c.mss)
	}
	c.rtt.sample(c.now, rtt, expected)
	c.cc.rttSample(rtt)
}

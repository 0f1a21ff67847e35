package tcp

import "osv/kernel/net/seq"

// HyStart++: RFC 9406. Slow start ends when the round-trip time rises, before
// the queue overflows. The parameters are those of §4.3, for a sender that does
// not pace.

const (
	hsMinThresh = 4e6  // MIN_RTT_THRESH, ns
	hsMaxThresh = 16e6 // MAX_RTT_THRESH, ns
	hsDivisor   = 8    // MIN_RTT_DIVISOR
	hsSamples   = 8    // N_RTT_SAMPLE
	hsSlower    = 4    // CSS_GROWTH_DIVISOR
	hsRounds    = 5    // CSS_ROUNDS
	hsBurst     = 8    // L
)

type hystart struct {
	over             bool    // a loss has ended the first slow start
	started          bool    // windowEnd is set
	windowEnd        seq.Num // end of this round
	lastMin, thisMin int64   // least round-trip time of the last round and of this, ns; 0 for none
	samples          int     // in this round
	conservative     bool    // Conservative Slow Start
	baseline         int64   // lastMin where it began
	rounds           int     // in it
}

func (h *hystart) end() { h.over = true }

// growth is by how much the window grows in slow start for n octets delivered.
func (h *hystart) growth(n, mss int) int {
	if h.over {
		return n
	}
	n = min(n, hsBurst*mss)
	if h.conservative {
		return max(1, n/hsSlower)
	}
	return n
}

// rttSample takes a measurement of rtt ns.
func (g *congestion) rttSample(rtt int64) {
	h := &g.hs
	if h.over || !h.started {
		return
	}
	h.samples++
	if h.thisMin == 0 || rtt < h.thisMin {
		h.thisMin = rtt
	}
	if h.samples < hsSamples || h.lastMin == 0 {
		return
	}
	if h.conservative {
		if h.thisMin < h.baseline {
			h.conservative = false // the rise was noise
		}
		return
	}
	thresh := min(max(h.lastMin/hsDivisor, hsMinThresh), hsMaxThresh)
	if h.thisMin >= h.lastMin+thresh {
		h.conservative, h.baseline, h.rounds = true, h.thisMin, 0
	}
}

// round begins a new round when una has passed the end of the last.
func (g *congestion) round(una, nxt seq.Num) {
	h := &g.hs
	if h.over || h.started && una.Less(h.windowEnd) {
		return
	}
	h.started, h.windowEnd = true, nxt
	h.lastMin, h.thisMin, h.samples = h.thisMin, 0, 0
	if h.conservative {
		if h.rounds++; h.rounds >= hsRounds {
			g.ssthresh = g.cwnd
			h.over = true
		}
	}
}

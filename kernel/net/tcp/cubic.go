package tcp

import "math"

// CUBIC: RFC 9438. The window is in octets; the function of time works in
// segments and seconds, as the document does.

const (
	cubicC    = 0.4                                   // §4.1
	cubicBeta = 0.7                                   // §4.6
	cubicAIMD = 3 * (1 - cubicBeta) / (1 + cubicBeta) // §4.3, alpha_cubic
	renoBeta  = 0.5                                   // RFC 5681 §3.1, equation 4
	minCwnd   = 2                                     // segments; least ssthresh
	infinite  = math.MaxInt32                         // ssthresh before the first loss
)

// congestion is the congestion window of one connection and what moves it.
type congestion struct {
	reno     bool
	mss      int     // octets of a full segment
	cwnd     int     // octets
	ssthresh int     // octets
	frac     float64 // part of an octet by which cwnd should be larger

	wMax   float64 // §4.1, segments
	k      float64 // §4.2, seconds
	epoch  int64   // ns, when this stage of congestion avoidance began; 0 for not yet
	origin float64 // the W_max of this stage
	wEst   float64 // §4.3, segments
	prior  float64 // cwnd before the last reduction, segments

	hs hystart
}

func (g *congestion) reset(cfg *Config, mss int) {
	*g = congestion{reno: cfg.NewReno, mss: mss, cwnd: initialCwnd(cfg, mss), ssthresh: infinite}
}

// initialCwnd is the initial window: RFC 6928 §2, where ten segments are at most
// 14600 octets.
func initialCwnd(cfg *Config, mss int) int {
	n := cfg.InitialWindow
	return min(n*mss, max(2*mss, n*1460))
}

func (g *congestion) slowStart() bool { return g.cwnd < g.ssthresh }

// acked grows the window for n octets newly delivered while it was the limit.
// rtt is the smoothed round-trip time, both times in ns.
func (g *congestion) acked(n int, now, rtt int64) {
	if g.slowStart() {
		grow := g.hs.growth(n, g.mss)
		room := g.ssthresh - g.cwnd
		if grow <= room {
			g.cwnd += grow
			return
		}
		g.cwnd = g.ssthresh
		n = n * (grow - room) / grow
	}
	if g.reno {
		g.add(float64(n) * float64(g.mss) / float64(g.cwnd)) // RFC 5681 §3.1, (3)
		return
	}
	g.cubic(n, now, rtt)
}

func (g *congestion) cubic(n int, now, rtt int64) {
	mss := float64(g.mss)
	cwnd := float64(g.cwnd) / mss
	if g.epoch == 0 {
		g.epoch = now
		g.wEst = cwnd
		if g.prior == 0 { // slow start ended without a loss, §4.10
			g.prior = cwnd
		}
		if g.wMax > cwnd {
			g.origin = g.wMax
			g.k = math.Cbrt((g.wMax - cwnd) / cubicC)
		} else {
			g.origin, g.k = cwnd, 0
		}
	}
	segs := float64(n) / mss
	alpha := cubicAIMD
	if g.wEst >= g.prior {
		alpha = 1
	}
	g.wEst += alpha * segs / cwnd
	t := float64(now-g.epoch) / 1e9
	if g.at(t) < g.wEst { // Reno-friendly region, §4.3
		if g.wEst > cwnd {
			g.add((g.wEst - cwnd) * mss)
		}
		return
	}
	target := min(max(g.at(t+float64(rtt)/1e9), cwnd), 1.5*cwnd) // §4.2
	g.add((target - cwnd) / cwnd * segs * mss)
}

// at is W_cubic(t), equation 1.
func (g *congestion) at(t float64) float64 {
	d := t - g.k
	return cubicC*d*d*d + g.origin
}

func (g *congestion) add(octets float64) {
	octets += g.frac
	whole := math.Floor(octets)
	g.cwnd = min(g.cwnd+int(whole), 1<<30)
	g.frac = octets - whole
}

// reduce sets ssthresh for a congestion event with flight octets outstanding
// (§4.6, §4.7; RFC 5681 equation 4).
func (g *congestion) reduce(flight int) {
	g.frac, g.epoch = 0, 0
	g.hs.end()
	if g.reno {
		g.ssthresh = max(int(float64(flight)*renoBeta), minCwnd*g.mss)
		return
	}
	cwnd := float64(g.cwnd) / float64(g.mss)
	if cwnd < g.wMax { // fast convergence, §4.7
		g.wMax = cwnd * (1 + cubicBeta) / 2
	} else {
		g.wMax = cwnd
	}
	g.prior = cwnd
	// §4.6 takes the flight size, so that an application that used less than the
	// window does not keep what it never tried.
	g.ssthresh = max(int(float64(min(flight, g.cwnd))*cubicBeta), minCwnd*g.mss)
}

// timeout is a reduce for a retransmission timeout (§4.8): the next stage of
// congestion avoidance starts flat from the window it begins with.
func (g *congestion) timeout(flight int) {
	g.reduce(flight)
	g.wMax = 0
	g.cwnd = g.mss
}

// idle shifts the stage by d ns in which nothing was sent, so that the window
// does not leap by time alone (§4.2, §5.8).
func (g *congestion) idle(d int64) {
	if g.epoch != 0 {
		g.epoch += d
	}
}

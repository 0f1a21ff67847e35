// Package pace spreads what a sender sends over time.
//
// Who may use it: the packages of this appliance. May not: sleep; its users do.
// Start reading at Pacer.
package pace

import "time"

// Pacer says when the next block is due at a rate. It is one sender's. A sender
// may run behind by at most maxBehind, which is made up for.
type Pacer struct {
	rate    uint64 // bit/s; 0: no bound
	burst   int
	quantum time.Duration

	start time.Time
	sent  float64 // bits since start
	left  int     // blocks of the burst that has begun
}

const maxBehind = time.Second

// New makes a Pacer for rate bit/s, 0 for no bound, that lets burst blocks go at
// once and never asks for a wait shorter than quantum.
func New(rate uint64, burst int, quantum time.Duration, now time.Time) *Pacer {
	return &Pacer{rate: rate, burst: max(burst, 1), quantum: quantum, start: now}
}

// Due is how long to wait before asking again. With 0 or less, n octets may go,
// and are taken as sent.
func (p *Pacer) Due(n int, now time.Time) time.Duration {
	if p.rate == 0 {
		return 0
	}
	if p.left > 0 {
		p.left--
		p.sent += float64(n) * 8
		return 0
	}
	d := p.start.Add(time.Duration(p.sent / float64(p.rate) * 1e9)).Sub(now)
	if d > 0 {
		return max(d, p.quantum)
	}
	if d < -maxBehind {
		p.start, p.sent = now, 0
	}
	p.left = p.burst - 1
	p.sent += float64(n) * 8
	return 0
}

// Package ip holds what IPv4 and IPv6 need beyond their headers: reassembly,
// fragmentation, checksums over chained buffers, and the limit on ICMP errors.
//
// Spec: RFC 791 §3.2 and RFC 815 (reassembly), RFC 8200 §4.5 and RFC 5722
// (fragments of IPv6, overlaps), RFC 1812 §4.3.2.8 and RFC 4443 §2.4 (f) (rate
// of errors). Who may use it: kernel/net/stack. May not: know sockets or
// interfaces. Start reading at reassembly.go.
package ip

import (
	"sync/atomic"
	"time"

	"osv/kernel/net/clock"
)

// Limiter is a token bucket for ICMP errors (RFC 4443 §2.4 (f)). Any goroutine
// may use it.
type Limiter struct {
	clock clock.Clock
	every int64 // ns per token
	burst int64 // ns worth of a full bucket
	// empty is the time at which the bucket is (or was) empty: time since then
	// is what has come in.
	empty atomic.Int64
}

// NewLimiter makes a bucket of burst tokens that gets perSecond more each second.
func NewLimiter(c clock.Clock, perSecond, burst int) *Limiter {
	l := &Limiter{clock: c, every: int64(time.Second) / int64(perSecond)}
	l.burst = l.every * int64(burst)
	l.empty.Store(c.Now() - l.burst)
	return l
}

// Allow takes a token and reports whether there was one.
func (l *Limiter) Allow() bool {
	now := l.clock.Now()
	for {
		e := l.empty.Load()
		next := max(e, now-l.burst) + l.every
		if next > now {
			return false
		}
		if l.empty.CompareAndSwap(e, next) {
			return true
		}
	}
}

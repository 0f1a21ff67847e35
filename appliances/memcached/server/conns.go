package server

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"osv/appliances/memcached/proto"
)

// registry knows the connections there are: for their number, for closing them,
// and for `stats conns`.
type registry struct {
	max int

	mu     sync.Mutex
	all    map[*conn]struct{}
	closed bool
	peak   int
}

func (r *registry) init(max int) {
	r.max = max
	r.all = map[*conn]struct{}{}
}

// add registers c; false where there are too many or the server closes.
func (r *registry) add(c *conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || len(r.all) >= r.max {
		return false
	}
	r.all[c] = struct{}{}
	r.peak = max(r.peak, len(r.all))
	return true
}

func (r *registry) remove(c *conn) {
	r.mu.Lock()
	delete(r.all, c)
	r.mu.Unlock()
}

func (r *registry) len() (n, peak int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.all), r.peak
}

// closeAll ends all connections; those that come later are refused.
func (r *registry) closeAll() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.each(func(c *conn) { c.kill() })
}

// each calls f for every connection.
func (r *registry) each(f func(*conn)) {
	r.mu.Lock()
	all := make([]*conn, 0, len(r.all))
	for c := range r.all {
		all = append(all, c)
	}
	r.mu.Unlock()
	for _, c := range all {
		f(c)
	}
}

// kickIdle closes connections that have been idle for longer than idle_timeout.
func (r *registry) kickIdle(s *Server) {
	limit := s.opt.IdleTimeout
	if limit == 0 {
		return
	}
	now := int64(s.store.Now())
	r.each(func(c *conn) {
		if now-c.last.Load() > int64(limit) {
			s.stats.idleKicks.Add(1)
			c.kill()
		}
	})
}

// conn is one TCP or UNIX connection, on whatever engine.
type conn struct {
	id            int
	proto         proto.Conn
	nc            net.Conn // of the socket engine
	local, remote string   // for stats
	peer          netip.Addr
	last          atomic.Int64 // relative second of the last input
	state         atomic.Int32 // connState
	// kill ends the connection from outside. It is called without locks and may
	// be called more than once.
	kill func()
}

type connState int32

const (
	connRead connState = iota
	connParse
	connWrite
)

func (s connState) String() string {
	return [...]string{"conn_read", "conn_parse_cmd", "conn_mwrite"}[s]
}

// provenSet are the addresses that have a TCP connection open, so that a UDP
// sender of that address is likely what it says (-o udp_amplification).
type provenSet struct {
	on bool
	mu sync.RWMutex
	m  map[netip.Addr]int
}

func (p *provenSet) add(a netip.Addr, d int) {
	if !p.on || !a.IsValid() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.m == nil {
		p.m = map[netip.Addr]int{}
	}
	if p.m[a] += d; p.m[a] == 0 {
		delete(p.m, a)
	}
}

func (p *provenSet) has(a netip.Addr) bool {
	if !p.on {
		return false
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.m[a.Unmap()] > 0
}

// backoff is the wait after the n-th failure of Accept in a row.
func backoff(n int) time.Duration { return min(time.Millisecond<<min(n, 10), time.Second) }

package rest

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// guard turns requests away before anything is looked up for them.
type guard struct {
	hosts    []string // names that this server answers to, lower case
	hostname func() string
	origins  []string // pages of other servers that may call
	cross    *http.CrossOriginProtection

	requests rates // of any kind
	changes  rates // that change something or are private
	failures rates // attempts with a wrong token
}

func newGuard(o Options, hostname func() string) (guard, error) {
	g := guard{hostname: hostname, cross: http.NewCrossOriginProtection(), origins: o.Origins}
	for _, h := range o.Hosts {
		g.hosts = append(g.hosts, strings.ToLower(h))
	}
	for _, origin := range o.Origins {
		if err := g.cross.AddTrustedOrigin(origin); err != nil {
			return g, fmt.Errorf("option --rest-access-allow: %w", err)
		}
	}
	g.requests = newRates(o.Rate, 2*o.Rate)
	g.changes = newRates(o.ChangeRate, 2*o.ChangeRate)
	g.failures = newRates(1, 10)
	return g, nil
}

// check looks at the Host header and the client's rate.
func (g *guard) check(s *Server, r *http.Request) error {
	if !g.hostOK(r.Host) {
		s.refused.host.Add(1)
		// A page of another name that resolves to this address (DNS rebinding).
		return errorf(http.StatusMisdirectedRequest, "this server is not %s (--rest-host=NAME adds a name)", r.Host)
	}
	if ok, wait := g.requests.take(client(r)); !ok {
		s.refused.rate.Add(1)
		return tooMany("requests", wait)
	}
	return nil
}

func tooMany(what string, wait time.Duration) *Error {
	e := errorf(http.StatusTooManyRequests, "too many %s from this address", what)
	e.retryAfter = int(wait/time.Second) + 1
	return e
}

// hostOK takes addresses, since a rebinding attack needs a name, and the names that
// this server has.
func (g *guard) hostOK(host string) bool {
	if host == "" {
		return true // HTTP/1.0; no browser
	}
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.ToLower(strings.TrimSuffix(strings.Trim(name, "[]"), "."))
	if _, err := netip.ParseAddr(name); err == nil {
		return true
	}
	return name == "localhost" || strings.HasSuffix(name, ".localhost") ||
		name == strings.ToLower(g.hostname()) || slices.Contains(g.hosts, name)
}

// origin keeps pages of other servers from calling what is not public.
func (g *guard) origin(s *Server, r *http.Request) error {
	err := g.cross.Check(r)
	if err == nil {
		switch r.Header.Get("Sec-Fetch-Site") {
		case "", "same-origin", "none":
		default: // a GET that is not public, by a page's img or script
			if !slices.Contains(g.origins, r.Header.Get("Origin")) {
				err = http.ErrAbortHandler
			}
		}
	}
	if err != nil {
		s.refused.origin.Add(1)
		return errorf(403, "a page of another server may not do this (--rest-access-allow=ORIGIN lets one)")
	}
	if ok, wait := g.changes.take(client(r)); !ok {
		s.refused.rate.Add(1)
		return tooMany("calls", wait)
	}
	return nil
}

// allowOrigin lets a page of a server that the operator named read the answer.
func (g *guard) allowOrigin(h http.Header, r *http.Request) bool {
	if len(g.origins) == 0 {
		return false
	}
	h.Add("Vary", "Origin")
	if o := r.Header.Get("Origin"); slices.Contains(g.origins, o) {
		h.Set("Access-Control-Allow-Origin", o)
		h.Set("Cross-Origin-Resource-Policy", "cross-origin")
		return true
	}
	return false
}

// preflight answers the question that a browser asks before such a call.
func (g *guard) preflight(h http.Header, r *http.Request, methods string) {
	if g.allowOrigin(h, r) {
		h.Set("Access-Control-Allow-Methods", methods)
		h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type")
		h.Set("Access-Control-Max-Age", "600")
	}
}

// client is who sent a request: an IPv4 address, or the network of an IPv6 address,
// since a host has as many of those as it likes.
func client(r *http.Request) netip.Addr { return clientOf(r.RemoteAddr) }

func clientOf(addr string) netip.Addr {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return netip.Addr{}
	}
	a := ap.Addr().Unmap().WithZone("")
	if a.Is6() {
		p, _ := a.Prefix(64)
		return p.Addr()
	}
	return a
}

// maxClients is how many clients a limiter tells apart.
const maxClients = 1024

// rates is a token bucket for each client.
type rates struct {
	perSecond, burst float64 // perSecond 0: no limit

	mu      *sync.Mutex
	clients map[netip.Addr]*bucket
	now     func() time.Time
}

type bucket struct {
	tokens float64
	at     time.Time
}

func newRates(perSecond, burst int) rates {
	return rates{perSecond: float64(perSecond), burst: float64(burst), mu: new(sync.Mutex), clients: map[netip.Addr]*bucket{}, now: time.Now}
}

// take takes one token of a client, or says how long until there is one.
func (l *rates) take(who netip.Addr) (bool, time.Duration) { return l.use(who, 1) }

// empty says whether a client has no token left, without taking one.
func (l *rates) empty(who netip.Addr) (bool, time.Duration) {
	ok, wait := l.use(who, 0)
	return !ok, wait
}

func (l *rates) use(who netip.Addr, n float64) (bool, time.Duration) {
	if l.perSecond == 0 {
		return true, 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	b := l.clients[who]
	if b == nil {
		l.makeRoom(now)
		b = &bucket{l.burst, now}
		l.clients[who] = b
	}
	b.tokens = min(l.burst, b.tokens+now.Sub(b.at).Seconds()*l.perSecond)
	b.at = now
	if b.tokens < 1 {
		return false, time.Duration((1 - b.tokens) / l.perSecond * float64(time.Second))
	}
	b.tokens -= n
	return true, 0
}

// makeRoom forgets a client where there are too many: of a few, the one that has
// been quiet for longest. Caller holds mu.
func (l *rates) makeRoom(now time.Time) {
	if len(l.clients) < maxClients {
		return
	}
	var oldest netip.Addr
	at, n := now, 0
	for a, b := range l.clients {
		if n == 0 || b.at.Before(at) {
			oldest, at = a, b.at
		}
		if n++; n == 16 {
			break
		}
	}
	delete(l.clients, oldest)
}

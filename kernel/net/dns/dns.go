// Package dns is a stub resolver: from a name to addresses, by asking the name
// servers that were configured or learnt.
//
// Spec: RFC 1034 §5.3.1 and RFC 1035 (stub resolvers, messages; by way of
// golang.org/x/net/dns/dnsmessage), RFC 2308 (negative answers), RFC 5452 (what
// makes an answer believable), RFC 6761 §6.3 (localhost), RFC 7766 §5 (TCP when
// an answer is cut short). Not covered: search lists, DNSSEC, EDNS, mDNS.
//
// Who may use it: kernel/net/sock. May not: open sockets by itself; Config.Dial
// does. Start reading at Resolver.Lookup.
package dns

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"osv/kernel/net/clock"
)

// Config is what a resolver needs. The zero value of the later fields has a
// meaning.
type Config struct {
	// Servers are the name servers, best first; asked anew each time.
	Servers func() []netip.Addr
	// Dial connects to a server, network "udp" or "tcp". Each UDP query gets a
	// connection, and so a source port, of its own (RFC 5452 §9.2).
	Dial  func(ctx context.Context, network string, server netip.AddrPort) (net.Conn, error)
	Clock clock.Clock // for the age of cached answers; nil: clock.System

	Hosts    map[string][]netip.Addr // names that are known without asking
	Timeout  time.Duration           // for one server, once; 0: 2 s
	Attempts int                     // round all servers; 0: 3
	CacheMax int                     // names remembered; 0: 256; negative: none
}

// Limits on what is believed, and for how long.
const (
	maxTTL      = 24 * time.Hour
	maxNegative = 15 * time.Minute
	maxAddrs    = 32
	maxCNAMEs   = 8
	port        = 53
)

// ErrNoServers is wrapped in the error of a lookup without a name server.
var ErrNoServers = errors.New("no name server is known")

// Resolver is a stub resolver with a cache. Make one with New.
type Resolver struct {
	cfg Config

	mu    sync.Mutex // guards cache
	cache map[question]answer
}

type question struct {
	name string // fully qualified, lower case
	kind dnsmessage.Type
}

// answer is what a server said about a question: addresses, or an error.
type answer struct {
	addrs []netip.Addr
	until int64 // ns
	err   error // errNotFound or nil
}

var (
	errNotFound = errors.New("no such host")
	errServer   = errors.New("server misbehaving")
	errMismatch = errors.New("answer to another question")
)

// New makes a resolver.
func New(cfg Config) *Resolver {
	if cfg.Clock == nil {
		cfg.Clock = clock.System{}
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 2 * time.Second
	}
	if cfg.Attempts == 0 {
		cfg.Attempts = 3
	}
	if cfg.CacheMax == 0 {
		cfg.CacheMax = 256
	}
	return &Resolver{cfg: cfg, cache: map[question]answer{}}
}

// Lookup finds the addresses of host, IPv4 first; host may be an address itself.
// v4 and v6 say which families are wanted. Errors are *net.DNSError.
func (r *Resolver) Lookup(ctx context.Context, host string, v4, v6 bool) ([]netip.Addr, error) {
	want := func(as []netip.Addr) []netip.Addr {
		return slices.DeleteFunc(slices.Clone(as), func(a netip.Addr) bool {
			return a.Is4() && !v4 || a.Is6() && !v6
		})
	}
	fail := func(err error) ([]netip.Addr, error) {
		return nil, &net.DNSError{Err: err.Error(), Name: host, UnwrapErr: err, IsNotFound: errors.Is(err, errNotFound),
			IsTimeout: errors.Is(err, context.DeadlineExceeded) || isTimeout(err), IsTemporary: !errors.Is(err, errNotFound)}
	}
	if a, err := netip.ParseAddr(host); err == nil {
		if as := want([]netip.Addr{a.Unmap()}); len(as) > 0 {
			return as, nil
		}
		return fail(errNotFound)
	}
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	if as := want(r.cfg.Hosts[name]); len(as) > 0 {
		return as, nil
	}
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return want([]netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}), nil
	}
	if !valid(name) {
		return fail(errNotFound)
	}
	var kinds []dnsmessage.Type
	if v4 {
		kinds = append(kinds, dnsmessage.TypeA)
	}
	if v6 {
		kinds = append(kinds, dnsmessage.TypeAAAA)
	}
	// Both questions at once; the slower one is waited for.
	answers := make([]answer, len(kinds))
	var wg sync.WaitGroup
	for i, k := range kinds {
		wg.Go(func() { answers[i] = r.ask(ctx, question{name + ".", k}) })
	}
	wg.Wait()
	var all []netip.Addr
	err := errNotFound
	for _, a := range answers {
		all = append(all, a.addrs...)
		if a.err != nil && !errors.Is(a.err, errNotFound) {
			err = a.err
		}
	}
	if len(all) == 0 {
		return fail(err)
	}
	return all, nil
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// valid reports whether a name may be asked for: RFC 1035 §2.3.4, and letters
// that hosts have.
func valid(name string) bool {
	if name == "" || len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for _, c := range []byte(label) {
			if c != '-' && c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') {
				return false
			}
		}
	}
	return true
}

// ask answers a question from the cache or by asking the servers.
func (r *Resolver) ask(ctx context.Context, q question) answer {
	r.mu.Lock()
	a, ok := r.cache[q]
	r.mu.Unlock()
	if ok && r.cfg.Clock.Now() < a.until {
		return a
	}
	servers := r.cfg.Servers()
	if len(servers) == 0 {
		return answer{err: ErrNoServers}
	}
	last := answer{err: errServer}
	for range r.cfg.Attempts {
		for _, s := range servers {
			if err := ctx.Err(); err != nil {
				return answer{err: err}
			}
			a, err := r.exchange(ctx, q, netip.AddrPortFrom(s, port))
			if err != nil {
				last = answer{err: fmt.Errorf("%v: %w", s, err)}
				continue
			}
			r.keep(q, a)
			return a
		}
	}
	return last
}

// keep puts an answer into the cache.
func (r *Resolver) keep(q question, a answer) {
	now := r.cfg.Clock.Now()
	if a.until <= now || r.cfg.CacheMax < 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.cache) >= r.cfg.CacheMax {
		for k, v := range r.cache {
			if now >= v.until {
				delete(r.cache, k)
			}
		}
		for k := range r.cache { // any will do
			if len(r.cache) < r.cfg.CacheMax {
				break
			}
			delete(r.cache, k)
		}
	}
	r.cache[q] = a
}

// exchange asks one server, over UDP and, where the answer is cut short, TCP.
func (r *Resolver) exchange(ctx context.Context, q question, server netip.AddrPort) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	id := uint16(rand.Uint32())
	query, err := build(id, q)
	if err != nil {
		return answer{}, err
	}
	a, truncated, err := r.roundTrip(ctx, "udp", server, query, id, q)
	if err == nil && truncated {
		a, _, err = r.roundTrip(ctx, "tcp", server, query, id, q)
	}
	return a, err
}

func (r *Resolver) roundTrip(ctx context.Context, network string, server netip.AddrPort, query []byte, id uint16, q question) (a answer, truncated bool, err error) {
	c, err := r.cfg.Dial(ctx, network, server)
	if err != nil {
		return answer{}, false, err
	}
	defer c.Close()
	if d, ok := ctx.Deadline(); ok {
		c.SetDeadline(d)
	}
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if network == "tcp" { // RFC 1035 §4.2.2: two bytes of length
		if _, err = c.Write(append([]byte{byte(len(query) >> 8), byte(len(query))}, query...)); err != nil {
			return answer{}, false, err
		}
		var n [2]byte
		if _, err = io.ReadFull(c, n[:]); err != nil {
			return answer{}, false, err
		}
		buf := make([]byte, int(n[0])<<8|int(n[1]))
		if _, err = io.ReadFull(c, buf); err != nil {
			return answer{}, false, err
		}
		return r.parse(buf, id, q)
	}
	if _, err = c.Write(query); err != nil {
		return answer{}, false, err
	}
	buf := make([]byte, 1500)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return answer{}, false, err
		}
		a, truncated, err := r.parse(buf[:n], id, q)
		if errors.Is(err, errMismatch) {
			continue // forged or late: wait for the right one (RFC 5452 §9.1)
		}
		return a, truncated, err
	}
}

func build(id uint16, q question) ([]byte, error) {
	name, err := dnsmessage.NewName(q.name)
	if err != nil {
		return nil, err
	}
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: id, RecursionDesired: true})
	if err := errors.Join(b.StartQuestions(), b.Question(dnsmessage.Question{Name: name, Type: q.kind, Class: dnsmessage.ClassINET})); err != nil {
		return nil, err
	}
	return b.Finish()
}

// parse reads an answer to q.
func (r *Resolver) parse(b []byte, id uint16, q question) (a answer, truncated bool, err error) {
	var p dnsmessage.Parser
	h, err := p.Start(b)
	if err != nil {
		return answer{}, false, errMismatch
	}
	got, err := p.Question()
	if err != nil || h.ID != id || !h.Response || got.Type != q.kind || got.Class != dnsmessage.ClassINET || !strings.EqualFold(got.Name.String(), q.name) {
		return answer{}, false, errMismatch
	}
	if err := p.SkipAllQuestions(); err != nil {
		return answer{}, false, err
	}
	if h.Truncated {
		return answer{}, true, nil
	}
	if h.RCode != dnsmessage.RCodeSuccess && h.RCode != dnsmessage.RCodeNameError {
		return answer{}, false, fmt.Errorf("%w: %v", errServer, h.RCode)
	}
	now := r.cfg.Clock.Now()
	ttl := maxTTL
	name, cnames := q.name, 0
	for {
		rh, err := p.AnswerHeader()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			break
		}
		if err != nil {
			return answer{}, false, err
		}
		mine := rh.Class == dnsmessage.ClassINET && strings.EqualFold(rh.Name.String(), name)
		life := time.Duration(rh.TTL) * time.Second
		switch {
		case mine && rh.Type == dnsmessage.TypeCNAME:
			c, err := p.CNAMEResource()
			if err != nil {
				return answer{}, false, err
			}
			if cnames++; cnames > maxCNAMEs {
				return answer{}, false, fmt.Errorf("%w: more than %d aliases", errServer, maxCNAMEs)
			}
			name = c.CNAME.String()
			ttl = min(ttl, life)
		case mine && rh.Type == q.kind && len(a.addrs) < maxAddrs && q.kind == dnsmessage.TypeA:
			rr, err := p.AResource()
			if err != nil {
				return answer{}, false, err
			}
			a.addrs = append(a.addrs, netip.AddrFrom4(rr.A))
			ttl = min(ttl, life)
		case mine && rh.Type == q.kind && len(a.addrs) < maxAddrs && q.kind == dnsmessage.TypeAAAA:
			rr, err := p.AAAAResource()
			if err != nil {
				return answer{}, false, err
			}
			a.addrs = append(a.addrs, netip.AddrFrom16(rr.AAAA))
			ttl = min(ttl, life)
		default:
			if err := p.SkipAnswer(); err != nil {
				return answer{}, false, err
			}
		}
	}
	if len(a.addrs) > 0 {
		a.until = now + int64(ttl)
		return a, false, nil
	}
	a.err = errNotFound
	a.until = now + int64(negativeTTL(&p))
	return a, false, nil
}

// negativeTTL is how long a "no" holds: what the zone's SOA says (RFC 2308 §5),
// 0 without one.
func negativeTTL(p *dnsmessage.Parser) time.Duration {
	for {
		rh, err := p.AuthorityHeader()
		if err != nil {
			return 0
		}
		if rh.Type == dnsmessage.TypeSOA {
			soa, err := p.SOAResource()
			if err != nil {
				return 0
			}
			return min(time.Duration(min(soa.MinTTL, rh.TTL))*time.Second, maxNegative)
		}
		if p.SkipAuthority() != nil {
			return 0
		}
	}
}

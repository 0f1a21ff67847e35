package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	kclock "osv/kernel/ktest/clock"
)

// server answers queries by a function; nil answers are silence.
type server struct {
	mu    sync.Mutex
	asked []string // network, name and type of each query
	reply func(network string, m *dnsmessage.Message) [][]byte
}

func (s *server) dial(_ context.Context, network string, to netip.AddrPort) (net.Conn, error) {
	if to.Port() != 53 {
		return nil, errors.New("not port 53")
	}
	a, b := net.Pipe()
	go func() {
		defer b.Close()
		buf := make([]byte, 2000)
		n, err := b.Read(buf)
		if err != nil {
			return
		}
		if network == "tcp" {
			n -= 2
			copy(buf, buf[2:])
		}
		var m dnsmessage.Message
		if err := m.Unpack(buf[:n]); err != nil {
			panic(err)
		}
		q := m.Questions[0]
		s.mu.Lock()
		s.asked = append(s.asked, network+" "+q.Name.String()+" "+q.Type.String()+" "+to.Addr().String())
		s.mu.Unlock()
		for _, r := range s.reply(network, &m) {
			if network == "tcp" {
				r = append(binary.BigEndian.AppendUint16(nil, uint16(len(r))), r...)
			}
			b.Write(r)
		}
		io.Copy(io.Discard, b) // keep open until the client closes
	}()
	return a, nil
}

func (s *server) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked)
}

func name(s string) dnsmessage.Name { return dnsmessage.MustNewName(s) }

func rr(n string, ttl uint32, body dnsmessage.ResourceBody) dnsmessage.Resource {
	return dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: name(n), Class: dnsmessage.ClassINET, TTL: ttl}, Body: body}
}

func pack(m *dnsmessage.Message) [][]byte {
	b, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return [][]byte{b}
}

// zone answers from a list of records, aliases included.
func zone(rs ...dnsmessage.Resource) func(string, *dnsmessage.Message) [][]byte {
	return func(_ string, m *dnsmessage.Message) [][]byte {
		m.Response = true
		q := m.Questions[0]
		n := strings.ToLower(q.Name.String())
		known := false
		for _, r := range rs {
			kind := dnsmessage.TypeA
			switch r.Body.(type) {
			case *dnsmessage.AAAAResource:
				kind = dnsmessage.TypeAAAA
			case *dnsmessage.CNAMEResource:
				kind = dnsmessage.TypeCNAME
			}
			if r.Header.Name.String() != n {
				continue
			}
			known = true
			if kind == q.Type || kind == dnsmessage.TypeCNAME {
				m.Answers = append(m.Answers, r)
			}
			if c, ok := r.Body.(*dnsmessage.CNAMEResource); ok {
				n = c.CNAME.String()
			}
		}
		if !known {
			m.RCode = dnsmessage.RCodeNameError
		}
		if len(m.Answers) == 0 {
			m.Authorities = []dnsmessage.Resource{rr("test.", 600, &dnsmessage.SOAResource{NS: name("ns.test."), MBox: name("m.test."), MinTTL: 60})}
		}
		return pack(m)
	}
}

func a(b ...byte) *dnsmessage.AResource { return &dnsmessage.AResource{A: [4]byte(b)} }

var aaaa = &dnsmessage.AAAAResource{AAAA: netip.MustParseAddr("fd00::9").As16()}

func newResolver(s *server, clk *kclock.Fake, servers ...string) *Resolver {
	if servers == nil {
		servers = []string{"10.0.0.53"}
	}
	return New(Config{Dial: s.dial, Clock: clk, CacheMax: 4, Hosts: map[string][]netip.Addr{"me": {netip.MustParseAddr("10.0.0.1")}}, Servers: func() (as []netip.Addr) {
		for _, x := range servers {
			as = append(as, netip.MustParseAddr(x))
		}
		return as
	}})
}

func look(t *testing.T, r *Resolver, host string, want ...string) {
	t.Helper()
	as, err := r.Lookup(t.Context(), host, true, true)
	var got []string
	for _, a := range as {
		got = append(got, a.String())
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s: %v (%v), want %v", host, got, err, want)
	}
	var de *net.DNSError
	if len(want) == 0 && !errors.As(err, &de) {
		t.Errorf("%s: error %v is not a DNSError", host, err)
	}
}

func TestLookup(t *testing.T) {
	s := &server{reply: zone(
		rr("www.test.", 300, &dnsmessage.CNAMEResource{CNAME: name("host.test.")}),
		rr("host.test.", 60, a(10, 0, 0, 9)), rr("host.test.", 60, a(10, 0, 0, 10)), rr("host.test.", 60, aaaa),
		rr("four.test.", 60, a(10, 0, 0, 4)))}
	var clk kclock.Fake
	r := newResolver(s, &clk)
	look(t, r, "host.test", "10.0.0.9", "10.0.0.10", "fd00::9")
	look(t, r, "WWW.test.", "10.0.0.9", "10.0.0.10", "fd00::9")
	look(t, r, "four.test", "10.0.0.4")
	n := s.count()
	look(t, r, "me", "10.0.0.1")
	look(t, r, "localhost", "127.0.0.1", "::1")
	look(t, r, "10.1.2.3", "10.1.2.3")
	look(t, r, "::ffff:10.1.2.3", "10.1.2.3")
	for _, bad := range []string{"", "a..b", "-\x00", strings.Repeat("a", 64), strings.Repeat("a.", 150) + "a", "ä"} {
		look(t, r, bad)
	}
	if s.count() != n {
		t.Errorf("asked for what needs no question: %v", s.asked[n:])
	}
	if as, err := r.Lookup(t.Context(), "host.test", false, true); err != nil || len(as) != 1 || !as[0].Is6() {
		t.Errorf("IPv6 only: %v %v", as, err)
	}
	if _, err := r.Lookup(t.Context(), "10.0.0.1", false, true); err == nil {
		t.Error("IPv4 address when IPv6 is wanted")
	}
}

// Answers are kept as long as they say; a "no" as long as the SOA says.
func TestCache(t *testing.T) {
	s := &server{reply: zone(rr("host.test.", 60, a(10, 0, 0, 9)), rr("host.test.", 60, aaaa))}
	var clk kclock.Fake
	r := newResolver(s, &clk)
	look(t, r, "host.test", "10.0.0.9", "fd00::9")
	look(t, r, "host.test", "10.0.0.9", "fd00::9")
	look(t, r, "none.test")
	look(t, r, "none.test")
	if s.count() != 4 {
		t.Errorf("%d questions, want 4", s.count())
	}
	clk.Advance(61 * time.Second)
	look(t, r, "host.test", "10.0.0.9", "fd00::9")
	look(t, r, "none.test")
	if s.count() != 8 {
		t.Errorf("%d questions after the answers ended, want 8", s.count())
	}
	for _, n := range []string{"a.test", "b.test", "c.test", "d.test"} {
		look(t, r, n)
	}
	if len(r.cache) > 4 {
		t.Errorf("%d names remembered, at most 4 wanted", len(r.cache))
	}
	var de *net.DNSError
	if _, err := r.Lookup(t.Context(), "none.test", true, true); !errors.As(err, &de) || !de.IsNotFound || de.IsTimeout {
		t.Errorf("%v", err)
	}
}

// RFC 5452: only an answer to this very question counts.
func TestForgedAnswers(t *testing.T) {
	good := zone(rr("host.test.", 60, a(10, 0, 0, 9)))
	s := &server{reply: func(n string, m *dnsmessage.Message) [][]byte {
		forge := func(f func(m *dnsmessage.Message)) []byte {
			c := *m
			c.Questions = slices.Clone(m.Questions)
			c.Response = true
			c.Answers = []dnsmessage.Resource{rr("host.test.", 60, a(6, 6, 6, 6))}
			f(&c)
			return pack(&c)[0]
		}
		out := [][]byte{
			[]byte("x"),
			forge(func(m *dnsmessage.Message) { m.ID++ }),
			forge(func(m *dnsmessage.Message) { m.Response = false }),
			forge(func(m *dnsmessage.Message) { m.Questions[0].Name = name("other.test.") }),
			forge(func(m *dnsmessage.Message) { m.Questions[0].Type = dnsmessage.TypeMX }),
			forge(func(m *dnsmessage.Message) { m.Questions = nil }),
		}
		return append(out, good(n, m)...)
	}}
	r := newResolver(s, &kclock.Fake{})
	if as, err := r.Lookup(t.Context(), "host.test", true, false); err != nil || len(as) != 1 || as[0].String() != "10.0.0.9" {
		t.Errorf("%v %v", as, err)
	}
}

// RFC 7766 §5: an answer that is cut short is asked for again over TCP.
func TestTruncated(t *testing.T) {
	good := zone(rr("host.test.", 60, a(10, 0, 0, 9)))
	s := &server{}
	s.reply = func(n string, m *dnsmessage.Message) [][]byte {
		if n == "udp" {
			m.Response, m.Truncated = true, true
			return pack(m)
		}
		return good(n, m)
	}
	r := newResolver(s, &kclock.Fake{})
	if as, err := r.Lookup(t.Context(), "host.test", true, false); err != nil || len(as) != 1 {
		t.Errorf("%v %v", as, err)
	}
	if len(s.asked) != 2 || s.asked[1] != "tcp host.test. TypeA 10.0.0.53" {
		t.Errorf("%v", s.asked)
	}
}

func TestServersInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		good := zone(rr("host.test.", 60, a(10, 0, 0, 9)))
		s := &server{}
		s.reply = func(n string, m *dnsmessage.Message) [][]byte {
			switch s.count() {
			case 1:
				return nil // silence
			case 2:
				m.Response, m.RCode = true, dnsmessage.RCodeServerFailure
				return pack(m)
			}
			return good(n, m)
		}
		r := newResolver(s, &kclock.Fake{}, "10.0.0.53", "10.0.0.54")
		start := time.Now()
		as, err := r.Lookup(t.Context(), "host.test", true, false)
		if err != nil || len(as) != 1 || time.Since(start) != 2*time.Second {
			t.Errorf("%v %v after %v", as, err, time.Since(start))
		}
		want := []string{"udp host.test. TypeA 10.0.0.53", "udp host.test. TypeA 10.0.0.54", "udp host.test. TypeA 10.0.0.53"}
		if !slices.Equal(s.asked, want) {
			t.Errorf("asked %v", s.asked)
		}
	})
}

func TestGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{reply: func(string, *dnsmessage.Message) [][]byte { return nil }}
		r := newResolver(s, &kclock.Fake{})
		start := time.Now()
		var de *net.DNSError
		if _, err := r.Lookup(t.Context(), "host.test", true, false); !errors.As(err, &de) || !de.IsTimeout || time.Since(start) != 6*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start = time.Now()
		if _, err := r.Lookup(ctx, "host.test", true, false); !errors.As(err, &de) || !de.IsTimeout || time.Since(start) != time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		r.cfg.Servers = func() []netip.Addr { return nil }
		if _, err := r.Lookup(t.Context(), "host.test", true, false); !errors.Is(err, ErrNoServers) {
			t.Errorf("%v", err)
		}
		r = newResolver(s, &kclock.Fake{})
		r.cfg.Dial = func(context.Context, string, netip.AddrPort) (net.Conn, error) { return nil, errors.New("no way") }
		if _, err := r.Lookup(t.Context(), "host.test", true, false); err == nil || !strings.Contains(err.Error(), "no way") {
			t.Errorf("%v", err)
		}
	})
}

func TestAliasLoop(t *testing.T) {
	s := &server{reply: func(_ string, m *dnsmessage.Message) [][]byte {
		m.Response = true
		for range maxCNAMEs + 1 {
			m.Answers = append(m.Answers, rr("a.test.", 60, &dnsmessage.CNAMEResource{CNAME: name("a.test.")}))
		}
		return pack(m)
	}}
	r := newResolver(s, &kclock.Fake{})
	if _, err := r.Lookup(t.Context(), "a.test", true, false); !errors.Is(err, errServer) {
		t.Errorf("%v", err)
	}
}

// FuzzParse: whatever a server sends, no panic, and addresses only of the kind
// that was asked for.
func FuzzParse(f *testing.F) {
	m := dnsmessage.Message{Questions: []dnsmessage.Question{{Name: name("h."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}
	f.Add(zone(rr("h.", 60, a(1, 2, 3, 4)))("udp", &m)[0])
	f.Fuzz(func(t *testing.T, b []byte) {
		r := New(Config{Clock: &kclock.Fake{}})
		for _, k := range []dnsmessage.Type{dnsmessage.TypeA, dnsmessage.TypeAAAA} {
			ans, _, err := r.parse(b, 0, question{"h.", k})
			for _, x := range ans.addrs {
				if err == nil && x.Is4() != (k == dnsmessage.TypeA) {
					t.Fatalf("%v for %v", x, k)
				}
			}
		}
	})
}

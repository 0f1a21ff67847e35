package oracle

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"osv/appliances/memcached/options"
	"osv/appliances/memcached/proto"
	"osv/appliances/memcached/server"
	"osv/appliances/memcached/store"
)

var (
	commands = flag.Int("commands", 0, "number of commands for TestDifferential; 0 = a million, 20,000 with -short")
	batchMax = flag.Int("batch", 200, "largest number of commands on a connection")
	show     = flag.Int("show", 1500, "how many bytes of the input TestDifferential shows")
	dump     = flag.String("dump", "", "file for the input that TestDifferential fails at")
	seedFlag = flag.Uint64("seed", 0, "seed of TestDifferential; 0 = from the clock")
)

// pair is ours and theirs, with the same commands in their past.
type pair struct {
	theirs *Upstream
	proto  *proto.Server
	store  *store.Store
	addr   string // ours over TCP, same store
}

func newPair(t *testing.T, args ...string) *pair {
	t.Helper()
	u, err := StartUpstream(args...)
	if errors.Is(err, ErrAbsent) {
		t.Skipf("skipped: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close() })
	o, err := options.Parse(append([]string{"-p", "0", "-m", "64"}, args...), func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	s, err := server.New(o, server.NewHosted(o, 1))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.Serve(l)
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return &pair{theirs: u, proto: s.Protocol(), store: s.Store(), addr: l.Addr().String()}
}

// numbers shows what our cache holds under the keys of numbers.
func (p *pair) numbers() string {
	var b strings.Builder
	w := p.store.Worker(0)
	defer w.Leave()
	for i := range 8 {
		if it, ok := w.Peek(fmt.Appendf(nil, "num%d", i)); ok {
			fmt.Fprintf(&b, " num%d %q", i, it.Value())
		}
	}
	return b.String()
}

// mark says how long the reply was when so much of the input had been fed.
type mark struct{ in, out int }

// atEnds cuts parts further where a command ends, so that marks are exact.
func atEnds(parts []string, ends []int) (r []string) {
	at := 0
	for _, p := range parts {
		for len(ends) > 0 && ends[0] <= at+len(p) {
			n := ends[0] - at
			r = append(r, p[:n])
			p, at, ends = p[n:], ends[0], ends[1:]
		}
		at += len(p)
		if p != "" {
			r = append(r, p)
		}
	}
	return r
}

// ours runs the parts in-process.
func (p *pair) ours(parts []string) ([]byte, []mark) {
	c := proto.NewConn(p.proto, 0)
	o := &proto.Out{B: make([]byte, 0, 1<<16)}
	var marks []mark
	in := 0
	for _, s := range parts {
		st := c.Feed([]byte(s), o)
		in += len(s)
		marks = append(marks, mark{in, len(o.B)})
		if st == proto.Close {
			break
		}
	}
	c.End()
	return o.B, marks
}

// cut cuts the stream at random places.
func (g *Gen) cut(s string) []string {
	if g.one(2) {
		return []string{s}
	}
	n := 1 + g.IntN(20)
	var parts []string
	for ; n > 0 && len(s) > 1; n-- {
		i := 1 + g.IntN(len(s)-1)
		if g.one(2) {
			i = 1 + g.IntN(min(len(s)-1, 60))
		}
		parts = append(parts, s[:i])
		s = s[i:]
	}
	return append(parts, s)
}

// differ compares two replies and says where they part.
func differ(ours, theirs []byte, stream string, marks []mark) string {
	a, b := Normalize(bytes.Clone(ours)), Normalize(bytes.Clone(theirs))
	if bytes.Equal(a, b) {
		return ""
	}
	a, b = ours, theirs
	i := 0
	for i < len(a) && i < len(b) && a[i] == b[i] {
		i++
	}
	around := func(b []byte, i int) string {
		return fmt.Sprintf("%q", b[max(0, i-120):min(len(b), i+120)])
	}
	in := 0
	for _, m := range marks {
		if m.out > i {
			break
		}
		in = m.in
	}
	na, nb := Normalize(bytes.Clone(a)), Normalize(bytes.Clone(b))
	j := 0
	for j < len(na) && j < len(nb) && na[j] == nb[j] {
		j++
	}
	return fmt.Sprintf("replies part at byte %d of %d (ours), %d (theirs)\nwhat matters:\nours:   …%s…\ntheirs: …%s…\nours:   …%s…\ntheirs: …%s…\ninput up to it: …%q\ninput from it on: %.*q",
		i, len(a), len(b), around(na, j), around(nb, j), around(a, i), around(b, i), stream[max(0, in-200):in], *show, stream[in:])
}

// about picks the commands that name the key whose state differs.
func about(ours, theirs []byte, stream string, ends []int) string {
	a, b := strings.Split(string(Normalize(ours)), "\r\n"), strings.Split(string(Normalize(theirs)), "\r\n")
	probe := strings.Split(NewGen(0).Probe(), "\r\n")
	for i := range min(len(a), len(b), len(probe)) {
		if a[i] == b[i] {
			continue
		}
		var key string
		if f := strings.Fields(probe[i]); len(f) > 1 {
			key = f[1]
		}
		r := fmt.Sprintf("key %s: ours %q, theirs %q; commands that name it:", key, a[i], b[i])
		for j, e := range ends {
			end := len(stream)
			if j+1 < len(ends) {
				end = ends[j+1]
			}
			if cmd := stream[e:end]; strings.Contains(cmd, key) {
				r += fmt.Sprintf("\n  %.300q", cmd)
			}
		}
		return r
	}
	return "no key differs"
}

var casOfGets = regexp.MustCompile(` c(\d+)`)

func TestDifferential(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", seed)
	total := *commands
	if total == 0 {
		if total = 1000000; testing.Short() {
			total = 20000
		}
	}
	g := NewGen(seed)
	// Upstream's maintainer thread would hold items at odd moments, and a number
	// that someone holds is not changed in place (README, "numbers").
	p := newPair(t, "-o", "no_lru_maintainer")
	counts := map[string]int{}
	start := time.Now()
	for batch, done := 0, 0; done < total; batch++ {
		var b strings.Builder
		n := 1 + g.IntN(*batchMax)
		if g.Alone = g.one(8); g.Alone {
			n = 1
		}
		g.Arith = g.one(2)
		kind := "text"
		if g.one(4) {
			kind = "binary"
		}
		var ends []int
		for i := range n {
			ends = append(ends, b.Len())
			if kind == "binary" {
				b.WriteString(g.Binary(i == n-1))
			} else {
				b.WriteString(g.Text())
			}
		}
		if kind == "text" {
			// For a value that is shorter than it says: at the end of the stream
			// upstream forgets replies that are not sent yet.
			b.WriteString("\r\n\r\n\r\n\r\n\r\n")
		}
		switch {
		case kind == "text" && g.one(5):
			b.WriteString("quit\r\n")
		case g.Alone && g.one(5):
			// What makes upstream close at once, and forget replies not yet sent.
			kind = "text"
			b.Reset()
			b.WriteString(g.pick("GET / HTTP/1.0\r\n", strings.Repeat("z", 3000), strings.Repeat(" ", 200)+"get "+strings.Repeat("a ", 2000)))
		}
		stream := b.String()
		parts := g.cut(stream)
		var mine []byte
		var marks []mark
		how := kind
		if g.one(4) {
			how += " over TCP"
			var err error
			if mine, err = Talk(p.addr, parts); err != nil {
				t.Fatalf("batch %d: ours: %v", batch, err)
			}
		} else {
			my := parts
			if g.one(2) {
				my = atEnds(parts, ends)
			}
			mine, marks = p.ours(my)
		}
		theirs, err := Talk(p.theirs.Addr, parts)
		if err != nil {
			t.Fatalf("batch %d: theirs: %v", batch, err)
		}
		if *dump != "" {
			if err := os.WriteFile(*dump, []byte(stream), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if d := differ(mine, theirs, stream, marks); d != "" {
			t.Fatalf("seed %d, batch %d (%s), after %d commands: %s\nnumbers before it:%s", seed, batch, how, done, d, p.numbers())
		}
		probe := []string{g.Probe()}
		mine, marks = p.ours(probe)
		if theirs, err = Talk(p.theirs.Addr, probe); err != nil {
			t.Fatalf("batch %d: theirs: %v", batch, err)
		}
		if d := differ(mine, theirs, stream, nil); d != "" {
			t.Fatalf("seed %d, batch %d (%s), after %d commands, the states differ: %s\n%s", seed, batch, how, done, d, about(mine, theirs, stream, ends))
		}
		if m := casOfGets.FindAllSubmatch(mine, -1); m != nil {
			if v, err := strconv.ParseUint(string(m[len(m)-1][1]), 10, 64); err == nil {
				g.SetCAS(v)
			}
		}
		counts[how] += n
		done += n
	}
	t.Logf("%v commands in %v without a difference", counts, time.Since(start).Round(time.Millisecond))
}

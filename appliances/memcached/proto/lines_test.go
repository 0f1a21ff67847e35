package proto

import (
	"fmt"
	"strings"
	"testing"

	"osv/appliances/memcached/store"
)

// Long lines of all connections share one bound, and what ends gives its share back.
func TestLineMemory(t *testing.T) {
	s := newServer(t, store.Config{})
	s.LineMemory = 1 << 20
	out := func() *Out { return &Out{} }
	part := []byte("get " + strings.Repeat("none ", 60_000)) // 300,004 bytes
	var conns []*Conn
	for i := range 5 {
		c, o := NewConn(s, i), out()
		st := c.Feed(part, o)
		if want := i >= 3; (st == Close) != want || want != (string(o.B) == "SERVER_ERROR out of memory reading request\r\n") {
			t.Fatalf("connection %d: %v, %q", i, st, o.B)
		}
		conns = append(conns, c)
	}
	// One is answered, one breaks: there is room for two.
	o := out()
	if conns[0].Feed([]byte("\r\n"), o); string(o.B) != "END\r\n" {
		t.Errorf("%q", o.B)
	}
	conns[1].End()
	for i := range 2 {
		c, o := NewConn(s, i), out()
		if c.Feed(part, o) != Open {
			t.Errorf("%q after others have left", o.B)
		}
		conns = append(conns, c)
	}
	for _, c := range conns {
		c.End()
	}
	if n := s.lines.Load(); n != 0 {
		t.Errorf("%d bytes are still counted", n)
	}
}

// Keys that wait for a client to read count too, until they have been answered.
func TestLineMemoryOfHeldKeys(t *testing.T) {
	s := newServer(t, store.Config{})
	s.LineMemory = 1 << 20
	c := NewConn(s, 0)
	o := &Out{B: make([]byte, 0, 4096), Hold: true}
	c.Feed(fmt.Appendf(nil, "set k 0 0 1000 noreply\r\n%s\r\n", strings.Repeat("v", 1000)), o)
	req := []byte("get" + strings.Repeat(" k", 50_000))
	for i := range 2 {
		n, _ := c.FeedHold(req, o)
		if n != len(req) {
			t.Fatalf("round %d: %d bytes taken", i, n)
		}
		c.FeedHold([]byte("\r\n"), o)
		if !c.Pending() || s.lines.Load() < 50_000 {
			t.Fatalf("round %d: pending %v, %d bytes counted", i, c.Pending(), s.lines.Load())
		}
		got := len(o.B)
		for o.B = o.B[:0]; !c.Resume(o); o.B = o.B[:0] {
			got += len(o.B)
		}
		got += len(o.B)
		if want := 50_000*len("VALUE k 0 1000\r\n\r\n") + 50_000*1000 + len("END\r\n"); got != want {
			t.Errorf("round %d: %d bytes of reply, want %d", i, got, want)
		}
		if s.lines.Load() != 0 {
			t.Errorf("round %d: %d bytes are still counted", i, s.lines.Load())
		}
		o.B = o.B[:0]
	}
}

package store

import (
	"fmt"
	"strings"
	"testing"
)

// Pages that move: between classes, to the system and back.

func TestShrinkGivesPagesBack(t *testing.T) {
	m := &heapMemory{}
	s, err := New(Config{Memory: m, Limit: 12 << 20, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	w := s.Worker(0)
	// Less than it holds, so that pages are as old as their items.
	for i := range 15000 {
		set(t, &w, fmt.Sprint("k", i), strings.Repeat("x", 450), 0)
	}
	before := s.Info()
	if got, more := s.Shrink(3<<20), before.MemoryBytes-9<<20; got != 3<<20 || more <= 0 || m.drop < more {
		t.Fatalf("shrunk by %d, %d dropped, %d held before", got, m.drop, before.MemoryBytes)
	}
	after := s.Info()
	if after.MemoryBytes > 9<<20 || after.Limit != 9<<20 || s.Claim() > 1<<20 || s.Shrunk() != 3<<20 {
		t.Errorf("%d bytes of a limit of %d after, %d before; %d to come", after.MemoryBytes, after.Limit, before.MemoryBytes, s.Claim())
	}
	// The newest items are the last to go.
	if val(&w, "k14999") == "-" {
		t.Error("the newest item is gone")
	}
	for i := range 20000 {
		set(t, &w, fmt.Sprint("k", i), strings.Repeat("x", 450), 0)
	}
	if in := s.Info(); in.MemoryBytes > 9<<20 {
		t.Errorf("%d bytes after a shrink to 9 MiB", in.MemoryBytes)
	}
	if got := s.Grow(1 << 20); got != 1<<20 || s.Limit() != 10<<20 {
		t.Errorf("grew by %d to %d", got, s.Limit())
	}
	if got := s.Grow(100 << 20); got != 2<<20 || s.Limit() != 12<<20 {
		t.Errorf("grew by %d to %d", got, s.Limit())
	}
	s.check(t)
}

// A Store that holds little gives up what it may take, and no item.
func TestShrinkTakesTheClaimFirst(t *testing.T) {
	s := newTest(t, Config{Memory: plain, Limit: 64 << 20})
	w := s.Worker(0)
	set(t, &w, "k", "v", 0)
	claim := s.Claim()
	if claim < 62<<20 || claim >= 64<<20 {
		t.Errorf("claim of %d", claim)
	}
	if got := s.Shrink(40 << 20); got != 40<<20 || s.Claim() != claim-40<<20 || val(&w, "k") != "v" {
		t.Errorf("gave %d, claim %d, item %q", got, s.Claim(), val(&w, "k"))
	}
	// Never all of it.
	if got := s.Shrink(1 << 30); got <= 0 || s.Limit() < 2<<20 || s.Shrink(1) != 0 {
		t.Errorf("gave %d of the rest, limit %d", got, s.Limit())
	}
	set(t, &w, "l", "v", 0)
	if s.Grow(1 << 30); s.Limit() != 64<<20 || s.Shrunk() != 0 {
		t.Errorf("grew to %d, %d still away", s.Limit(), s.Shrunk())
	}
}

// largeMemory counts the large pages of the machine that are dropped as a whole.
type largeMemory struct {
	heapMemory
	whole int
}

func (m *largeMemory) Drop(b []byte) {
	if len(b) == 2*pageBytes {
		m.whole++
	}
	m.heapMemory.Drop(b)
}

// Pages are given back in pairs that make a large page.
func TestShrinkEmptiesLargePages(t *testing.T) {
	m := &largeMemory{}
	s, err := New(Config{Memory: m, Limit: 24 << 20, Seed: 1, Shards: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	w := s.Worker(0)
	for i := range 60000 {
		set(t, &w, fmt.Sprint("k", i), strings.Repeat("x", 450), 0)
	}
	if got := s.Shrink(8 << 20); got != 8<<20 || m.whole < 4 {
		t.Errorf("gave %d bytes, %d large pages", got, m.whole)
	}
	s.check(t)
}

func TestSetLimit(t *testing.T) {
	s := newTest(t, Config{Memory: plain, Limit: 12 << 20, Reserve: 24 << 20})
	w := s.Worker(0)
	fill := func() {
		for i := range 40000 {
			set(t, &w, fmt.Sprint("k", i), strings.Repeat("x", 450), 0)
		}
	}
	fill()
	if s.SetLimit(25 << 20) {
		t.Error("limit beyond the range was taken")
	}
	s.SetLimit(6 << 20)
	for range 5 {
		s.Maintain(nil)
	}
	if in := s.Info(); in.MemoryBytes > 6<<20 {
		t.Errorf("%d bytes after a limit of 6 MiB", in.MemoryBytes)
	}
	s.SetLimit(20 << 20)
	fill()
	if in := s.Info(); in.MemoryBytes < 18<<20 || in.MemoryBytes > 20<<20 {
		t.Errorf("%d bytes with a limit of 20 MiB", in.MemoryBytes)
	}
}

// TestAutomove: a class that evicts young items gets pages of one whose items
// are old.
func TestAutomove(t *testing.T) {
	const now = 1_700_000_000
	for _, on := range []bool{true, false} {
		s := newTest(t, Config{Memory: plain, Limit: 12 << 20, Now: now})
		s.SetAutomove(on)
		w := s.Worker(0)
		for i := range 100000 {
			set(t, &w, fmt.Sprint("old", i), "x", 0)
		}
		var before int
		for sec := range int64(30) {
			s.Tick(now + 1000 + sec)
			for i := range 300 {
				set(t, &w, fmt.Sprint("new", sec, ".", i), strings.Repeat("y", 4000), 0)
			}
			if sec == 2 {
				before = s.Info().Items
			}
			s.Maintain(nil)
		}
		in := s.Info()
		if moved := in.PagesMoved > 5; moved != on {
			t.Errorf("automove %v: %d pages moved; %d items before, %d after", on, in.PagesMoved, before, in.Items)
		}
	}
}

func TestReassign(t *testing.T) {
	s := newTest(t, Config{Memory: plain, Limit: 12 << 20})
	w := s.Worker(0)
	for i := range 30000 {
		set(t, &w, fmt.Sprint("k", i), "x", 0)
	}
	for _, c := range []struct {
		src, dst int
		want     Status
	}{{1, 1, Exists}, {0, 1, NotFound}, {1, 99, NotFound}, {-2, 1, NotFound}, {5, 6, NotStored}, {1, 2, OK}, {-1, 2, OK}} {
		if st := s.Reassign(c.src, c.dst); st != c.want {
			t.Errorf("reassign %d to %d: %d, want %d", c.src, c.dst, st, c.want)
		}
	}
}

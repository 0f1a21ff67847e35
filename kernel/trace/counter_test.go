package trace

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
)

func TestCounters(t *testing.T) {
	var s Counters
	rx := s.New("net.rx.frames")
	rx.Add(3)
	rx.Cell().Add(40)
	rx.Cell().Add(500)
	s.New("blk.reads")
	s.Gauge("mem.free", func() uint64 { return 1 })
	s.Gauge("mem.free", func() uint64 { return 4096 }) // the second replaces the first
	if s.New("net.rx.frames") != rx || rx.Name() != "net.rx.frames" {
		t.Error("two counters of one name")
	}
	if got := fmt.Sprint(s.Snapshot()); got != "[{blk.reads 0} {mem.free 4096} {net.rx.frames 543}]" {
		t.Errorf("Snapshot() = %s", got)
	}
	var text bytes.Buffer
	if err := s.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	golden(t, "counters.golden", text.Bytes())
}

func TestCounterNameClash(t *testing.T) {
	for name, f := range map[string]func(*Counters){
		"is a gauge":   func(s *Counters) { s.Gauge("x", func() uint64 { return 0 }); s.New("x") },
		"is a counter": func(s *Counters) { s.New("x"); s.Gauge("x", func() uint64 { return 0 }) },
	} {
		msg := func() (msg string) {
			defer func() { msg = fmt.Sprint(recover()) }()
			f(new(Counters))
			return ""
		}()
		if !strings.Contains(msg, "x "+name) {
			t.Errorf("panic is %q, want %q", msg, name)
		}
	}
}

// A gauge may ask for other counters.
func TestGaugeMayReadCounters(t *testing.T) {
	var s Counters
	s.New("a").Add(5)
	s.Gauge("twice", func() uint64 { return 2 * s.New("a").Load() })
	if got := fmt.Sprint(s.Snapshot()); got != "[{a 5} {twice 10}]" {
		t.Errorf("Snapshot() = %s", got)
	}
}

func TestCounterConcurrent(t *testing.T) {
	const writers, each = 4, 10000
	var s Counters
	c := s.New("n")
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			cell := c.Cell()
			for range each {
				c.Add(1)
				cell.Add(2)
			}
			s.Snapshot()
		})
	}
	wg.Wait()
	if n := c.Load(); n != 3*writers*each {
		t.Errorf("count is %d, want %d", n, 3*writers*each)
	}
}

func BenchmarkCounterParallel(b *testing.B) {
	var s Counters
	c := s.New("n")
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			c.Add(1)
		}
	})
}

func BenchmarkCellParallel(b *testing.B) {
	var s Counters
	c := s.New("n")
	b.RunParallel(func(pb *testing.PB) {
		cell := c.Cell()
		for pb.Next() {
			cell.Add(1)
		}
	})
}

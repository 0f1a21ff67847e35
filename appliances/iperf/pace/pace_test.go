package pace

import (
	"testing"
	"time"
)

// run sends blocks of n octets from a sender that sleeps exactly as told for d,
// and returns how many went.
func run(p *Pacer, n int, from time.Time, d time.Duration) (blocks int, waits []time.Duration) {
	for now := from; now.Sub(from) < d; {
		if w := p.Due(n, now); w > 0 {
			waits = append(waits, w)
			now = now.Add(w)
			continue
		}
		blocks++
	}
	return blocks, waits
}

func TestRate(t *testing.T) {
	t0 := time.Unix(1000, 0)
	for _, c := range []struct {
		rate  uint64
		burst int
		block int
	}{{1e6, 1, 1250}, {100e6, 1, 1250}, {1e9, 1, 1250}, {50e6, 10, 1250}, {8000, 1, 1000}} {
		p := New(c.rate, c.burst, time.Millisecond, t0)
		got, waits := run(p, c.block, t0, 10*time.Second)
		want := float64(c.rate) * 10 / 8 / float64(c.block)
		if slack := float64(c.burst)*2 + want/1000 + 1; float64(got) < want-slack || float64(got) > want+slack {
			t.Errorf("%d bit/s, burst %d: %d blocks in 10 s, want %.0f", c.rate, c.burst, got, want)
		}
		for _, w := range waits {
			if w < time.Millisecond {
				t.Fatalf("%d bit/s: told to wait %v", c.rate, w)
			}
		}
	}
}

func TestNoRate(t *testing.T) {
	p := New(0, 0, time.Millisecond, time.Unix(0, 0))
	for range 1000 {
		if p.Due(1<<20, time.Unix(0, 0)) > 0 {
			t.Fatal("held back without a rate")
		}
	}
}

func TestBurst(t *testing.T) {
	now := time.Unix(5, 0)
	p := New(1e6, 4, time.Millisecond, now)
	n := 0
	for p.Due(1250, now) <= 0 {
		n++
	}
	if n != 4 {
		t.Errorf("a burst of %d, want 4", n)
	}
}

// What was missed in a pause is made up for, but not that of a long one.
func TestBehind(t *testing.T) {
	now := time.Unix(5, 0)
	count := func(pause time.Duration) (n int) {
		p := New(1e6, 1, time.Millisecond, now)
		p.Due(1250, now)
		for at := now.Add(pause); p.Due(1250, at) <= 0; n++ {
		}
		return n
	}
	if n := count(500 * time.Millisecond); n != 50 {
		t.Errorf("%d blocks after half a second, want 50", n)
	}
	if n := count(time.Hour); n != 1 {
		t.Errorf("%d blocks after an hour, want 1", n)
	}
}

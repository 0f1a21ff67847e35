package reclaim

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

const mib = 1 << 20

// machine is memory that a heap and a cache take from.
type machine struct {
	total, held, needed int
	cache               cache
	limit               int
	released            int
}

// cache holds some of what it may hold.
type cache struct {
	limit, holds, shrunk int
}

func (c *cache) Claim() int { return c.limit - c.holds }

func (c *cache) Shrink(n int) int {
	n = min(n, c.limit)
	c.limit -= n
	c.shrunk += n
	c.holds = min(c.holds, c.limit)
	return n
}

func (c *cache) Grow(n int) int {
	n = min(n, c.shrunk)
	c.shrunk -= n
	c.limit += n
	return n
}

func (m *machine) free() int { return m.total - m.held - m.cache.holds }

func (m *machine) balance() *Balance {
	return New(Config{
		State:    func() State { return State{Free: m.free(), Held: m.held, Needed: m.needed} },
		SetLimit: func(n int) { m.limit = n },
		Release:  func() { m.released++; m.held = m.needed },
		Reserve:  2 * mib,
	})
}

func TestCacheThatIsTooLargeShrinksWhenItIsAdded(t *testing.T) {
	m := &machine{total: 40 * mib, held: 6 * mib, needed: 4 * mib, cache: cache{limit: 64 * mib}}
	b := m.balance()
	b.Add(&m.cache)
	if want := 40*mib - 2*mib - room(4*mib); m.cache.limit != want || m.limit != room(4*mib) {
		t.Errorf("cache %d, want %d; heap %d", m.cache.limit, want, m.limit)
	}
}

// Whatever the heap comes to need and the cache takes, in any order: the two and
// the reserve fit the machine as long as the need does, and what the cache gave it
// gets back when the heap does not need it any more.
func TestHeapAndCacheFitTheMachine(t *testing.T) {
	m := &machine{total: 256 * mib, held: 6 * mib, needed: 4 * mib, cache: cache{limit: 240 * mib}}
	b := m.balance()
	b.Add(&m.cache)
	first := m.cache.limit
	for i, needed := range []int{10, 40, 41, 39, 90, 130, 20, 4, 5, 160, 4} {
		m.cache.holds = m.cache.limit // it fills up
		m.needed = needed * mib
		m.held = max(m.held, m.needed)
		b.Adjust()
		if m.limit < room(m.needed) {
			t.Errorf("step %d: the heap may have %d MiB and needs %d", i, m.limit>>20, needed)
		}
		if m.limit+m.cache.limit+2*mib > m.total {
			t.Errorf("step %d: %d MiB of heap and %d MiB of cache in %d", i, m.limit>>20, m.cache.limit>>20, m.total>>20)
		}
		m.held = m.limit // the runtime uses what it may
		if m.free() < 0 {
			t.Fatalf("step %d: out of memory", i)
		}
		m.held = m.needed + m.needed/4
	}
	if short := first - m.cache.limit; short > heapSlack+plenty(4*mib)-room(4*mib) {
		t.Errorf("the cache has %d MiB less than at the start", short>>20)
	}
	s := b.Stats()
	if s.Given == 0 || s.GivenBack == 0 || s.Given < s.GivenBack || s.Asked < s.Given || s.Adjusted != 12 || s.Limit != m.limit {
		t.Errorf("%+v", s)
	}
}

func TestAHeapThatBreathesMovesNothing(t *testing.T) {
	m := &machine{total: 256 * mib, held: 40 * mib, needed: 40 * mib, cache: cache{limit: 240 * mib}}
	b := m.balance()
	b.Add(&m.cache)
	was := b.Stats().Given
	for i := range 20 {
		m.needed = (36 + i%4) * mib
		b.Adjust()
	}
	if s := b.Stats(); s.Given != was || s.GivenBack != 0 {
		t.Errorf("%+v, given %d before", s, was)
	}
}

func TestNeed(t *testing.T) {
	m := &machine{total: 64 * mib, held: 30 * mib, needed: 8 * mib, cache: cache{limit: 30 * mib, holds: 30 * mib}}
	b := m.balance()
	b.shrinkers = []Shrinker{&m.cache}
	if !b.Need(8*mib) || m.free() < 8*mib || m.released != 0 {
		t.Errorf("%d free, %d releases", m.free(), m.released)
	}
	if !b.Need(40*mib) || m.released != 1 {
		t.Errorf("a cache that cannot give enough: %d free, %d releases", m.free(), m.released)
	}
	m.held, m.needed = 64*mib, 64*mib
	if b.Need(mib) {
		t.Error("room where there is none")
	}
}

// Each collection leads to an adjustment.
func TestWatch(t *testing.T) {
	adjusted := make(chan State, 1)
	b := New(Config{
		State: func() State {
			held, needed := Runtime()
			return State{Free: 1 << 30, Held: held, Needed: needed}
		},
		SetLimit: func(n int) {},
		Release:  func() {},
	})
	look := b.cfg.State
	b.cfg.State = func() State {
		s := look()
		select {
		case adjusted <- s:
		default:
		}
		return s
	}
	b.Watch()
	for range 3 {
		runtime.GC()
		select {
		case s := <-adjusted:
			if s.Needed <= 0 || s.Held < s.Needed {
				t.Errorf("%+v", s)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("a collection went by unseen")
		}
	}
}

func TestLimiterKeepsTheEnvironmentsLimit(t *testing.T) {
	was := debug.SetMemoryLimit(1 << 40)
	defer debug.SetMemoryLimit(was)
	set := Limiter()
	for _, n := range []int{1 << 39, 1 << 41} {
		set(n)
		if got := debug.SetMemoryLimit(-1); got != int64(min(n, 1<<40)) {
			t.Errorf("asked for %d: %d", n, got)
		}
	}
}

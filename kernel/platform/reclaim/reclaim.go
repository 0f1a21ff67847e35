// Package reclaim shares a guest's memory between the Go heap and the caches that
// live outside it. There is no swap: whoever takes the last frame ends the guest,
// so the two must agree before.
//
// The Go runtime gets a memory limit (runtime/debug.SetMemoryLimit), which is what
// the machine has less what caches hold or may still take, and less a reserve for
// drivers and page tables. Near the limit it collects more often instead of
// growing. After each collection the limit is computed anew: where the heap needs
// more than there is, caches are asked to shrink; where it has much more than it
// needs, they may grow again.
//
// Who may use it: kernel/platform. May not: touch the machine; what it knows comes
// through Config, so that it runs hosted. Start reading at Adjust.
package reclaim

import (
	"runtime"
	"sync"
)

// Shrinker is a cache outside the Go heap. Its methods are called from any
// goroutine, by one at a time.
type Shrinker interface {
	// Shrink gives n bytes up if it can, least valuable first: memory that it
	// may take but has not, and memory that it holds, which goes back to the
	// machine. It returns how many bytes that was.
	Shrink(n int) int
	// Grow lets it take up to n bytes again of what Shrink gave up, and returns
	// how many those are.
	Grow(n int) int
	// Claim is the number of bytes that it may take beyond those that it holds.
	Claim() int
}

// State is the machine's memory at one moment, in bytes.
type State struct {
	Free   int // held by nobody
	Held   int // by the Go runtime: heap, stacks, its own structures
	Needed int // of Held, what was still in use at the end of the last collection
}

// Config is what a Balance works on.
type Config struct {
	State    func() State
	SetLimit func(n int) // bytes that the Go runtime may hold
	Release  func()      // makes the Go runtime give back what it does not use
	Reserve  int         // bytes that neither heap nor caches get
}

const (
	// heapSlack is what a heap gets beside its share: as much as the runtime
	// lets a small heap grow between two collections.
	heapSlack = 4 << 20
	// limitStep is the change of the limit that is not worth telling.
	limitStep = 256 << 10
)

// room is the least that the heap should have for what it needs: at half of it
// more, a collection every half of the heap. Above plenty caches grow again; the
// distance between the two keeps a heap that breathes from moving the border.
func room(needed int) int   { return needed + needed/2 + heapSlack }
func plenty(needed int) int { return 2*needed + 2*heapSlack }

// Balance is the border between heap and caches. It is made by New.
type Balance struct {
	cfg  Config
	kick chan struct{} // a collection has ended

	mu        sync.Mutex
	shrinkers []Shrinker
	taken     int // bytes that shrinkers gave up and have not got back
	limit     int // the last one told to the runtime
	stats     Stats
}

// Stats counts what a Balance did. Bytes are sums over its life.
type Stats struct {
	Adjusted                uint64
	Asked, Given, GivenBack uint64
	Limit                   int // of the Go runtime, bytes; 0 = not set yet
}

// New makes a Balance. It does nothing before Watch or Add.
func New(cfg Config) *Balance { return &Balance{cfg: cfg, kick: make(chan struct{}, 1)} }

// Watch adjusts the border after each collection, in a goroutine that does not
// end.
func (b *Balance) Watch() {
	b.arm()
	go func() {
		for range b.kick {
			b.Adjust()
		}
	}()
}

// cycle is an object that dies in the next collection. It is no smaller than 16
// bytes, so that it does not share its memory.
type cycle struct{ _ [4]uint64 }

// arm makes the end of the next collection, and of all that follow, a kick.
func (b *Balance) arm() {
	runtime.AddCleanup(new(cycle), func(b *Balance) {
		select {
		case b.kick <- struct{}{}:
		default:
		}
		b.arm()
	}, b)
}

// Add lets s take part, which may have to shrink at once: then it is smaller when
// Add returns.
func (b *Balance) Add(s Shrinker) {
	b.mu.Lock()
	b.shrinkers = append(b.shrinkers, s)
	b.mu.Unlock()
	b.Adjust()
}

// Adjust puts the border where it belongs now.
func (b *Balance) Adjust() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stats.Adjusted++
	s := b.cfg.State()
	limit := s.Held + s.Free - b.cfg.Reserve
	for _, sh := range b.shrinkers {
		limit -= sh.Claim()
	}
	if want := room(s.Needed); limit < want {
		limit += b.shrink(want - limit)
	} else if rest := limit - plenty(s.Needed); rest > 0 && b.taken > 0 {
		limit -= b.grow(min(rest, b.taken))
	}
	// A heap that needs more than there is may have it as long as there is
	// anything: the runtime keeps collections to half of the time then.
	limit = max(limit, s.Needed)
	if d := limit - b.limit; b.limit == 0 || d > limitStep || d < -limitStep {
		b.limit, b.stats.Limit = limit, limit
		b.cfg.SetLimit(limit)
	}
}

// Need makes room for n bytes that somebody could not get, and reports whether
// there may be some now.
func (b *Balance) Need(n int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	before := b.cfg.State().Free
	if b.shrink(n) < n || b.cfg.State().Free-before < n {
		b.cfg.Release()
	}
	return b.cfg.State().Free > before
}

// shrink asks for n bytes and returns how many were given. Caller must hold mu.
func (b *Balance) shrink(n int) int {
	given := 0
	b.stats.Asked += uint64(n)
	for _, sh := range b.shrinkers {
		if given >= n {
			break
		}
		given += sh.Shrink(n - given)
	}
	b.taken += given
	b.stats.Given += uint64(given)
	return given
}

// grow offers n bytes and returns how many were taken. Caller must hold mu.
func (b *Balance) grow(n int) int {
	took := 0
	for _, sh := range b.shrinkers {
		took += sh.Grow(n - took)
	}
	b.taken -= took
	b.stats.GivenBack += uint64(took)
	return took
}

// Stats returns the counters.
func (b *Balance) Stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.stats
}

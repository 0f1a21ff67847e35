package trace

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// Counter counts events since boot. It may be added to from any goroutine.
//
// Where several processors count the same thing at a high rate, each queue or
// processor takes a Cell of its own once, so that they do not fight over one
// cache line.
type Counter struct {
	name string
	n    atomic.Uint64
	_    [120]byte // what lies behind is not to suffer from Add

	mu    sync.Mutex // guards cells
	cells []*Cell
}

// Add adds n. It does not allocate and does not wait.
func (c *Counter) Add(n uint64) { c.n.Add(n) }

// Name is the name under which the counter is registered.
func (c *Counter) Name() string { return c.name }

// Cell is one writer's share of a counter, on cache lines of its own (two,
// since x86 processors fetch them in pairs).
type Cell struct {
	n atomic.Uint64
	_ [120]byte
}

// Add adds n to the counter that the cell belongs to.
func (c *Cell) Add(n uint64) { c.n.Add(n) }

// Cell returns a new cell of the counter. Cells are never given back: take one
// at set-up, not per packet.
func (c *Counter) Cell() *Cell {
	cell := new(Cell)
	c.mu.Lock()
	c.cells = append(c.cells, cell)
	c.mu.Unlock()
	return cell
}

// Load returns the count.
func (c *Counter) Load() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.n.Load()
	for _, cell := range c.cells {
		n += cell.n.Load()
	}
	return n
}

// Value is one counter or gauge as Snapshot returns it.
type Value struct {
	Name string
	N    uint64
}

// Counters is a registry of counters and gauges. The zero value is empty.
type Counters struct {
	mu       sync.Mutex // guards all below
	counters map[string]*Counter
	gauges   map[string]func() uint64
}

// New returns the counter of that name, made if there is none yet. Names are
// those of points: net.rx.frames. It panics where a gauge has the name.
func (s *Counters) New(name string) *Counter {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gauges[name] != nil {
		panic(fmt.Sprintf("trace: %s is a gauge, and shall be a counter", name))
	}
	c := s.counters[name]
	if c == nil {
		c = &Counter{name: name}
		if s.counters == nil {
			s.counters = map[string]*Counter{}
		}
		s.counters[name] = c
	}
	return c
}

// Gauge registers a value that is read when it is asked for: free memory, the
// length of a queue. A second one of the same name replaces the first. It panics
// where a counter has the name.
func (s *Counters) Gauge(name string, read func() uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.counters[name] != nil {
		panic(fmt.Sprintf("trace: %s is a counter, and shall be a gauge", name))
	}
	if s.gauges == nil {
		s.gauges = map[string]func() uint64{}
	}
	s.gauges[name] = read
}

// Snapshot returns all counters and gauges, sorted by name. It calls the gauges
// without a lock held.
func (s *Counters) Snapshot() []Value {
	type source struct {
		name string
		read func() uint64
	}
	s.mu.Lock()
	all := make([]source, 0, len(s.counters)+len(s.gauges))
	for name, c := range s.counters {
		all = append(all, source{name, c.Load})
	}
	for name, read := range s.gauges {
		all = append(all, source{name, read})
	}
	s.mu.Unlock()
	slices.SortFunc(all, func(a, b source) int { return strings.Compare(a.name, b.name) })
	values := make([]Value, len(all))
	for i, src := range all {
		values[i] = Value{src.name, src.read()}
	}
	return values
}

// WriteText prints "name value" lines, sorted by name.
func (s *Counters) WriteText(w io.Writer) error {
	b := bufio.NewWriter(w)
	for _, v := range s.Snapshot() {
		fmt.Fprintf(b, "%s %d\n", v.Name, v.N)
	}
	return b.Flush()
}

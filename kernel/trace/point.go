package trace

import (
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// MaxArgs is how many arguments an event carries.
const MaxArgs = 4

// Point is a named place in the code that emits events while it is switched on.
type Point struct {
	on     atomic.Bool
	id     uint32
	tracer *Tracer
	name   string
	format format

	counting atomic.Bool
	count    atomic.Uint64 // events while counting was on
}

// On says whether the point is switched on. It is inlined: a load and a branch.
func (p *Point) On() bool { return p.on.Load() }

// Name and Format return what NewPoint was given.
func (p *Point) Name() string   { return p.name }
func (p *Point) Format() string { return p.format.text }

// Emit records an event if the point is on; guard it with On so that nothing is
// prepared in vain. Arguments beyond MaxArgs are not recorded. It may be called
// from any goroutine, does not allocate and does not wait.
func (p *Point) Emit(args ...uint64) {
	if r := p.tracer.ring.Load(); r != nil && p.on.Load() {
		r.emit(p.id, p.tracer.now(), args)
		if p.counting.Load() {
			p.count.Add(1)
		}
	}
}

// SetCounting starts counting the point's events, from 0, or ends it. Only what is
// emitted is counted: the point has to be on.
func (p *Point) SetCounting(on bool) {
	if on && !p.counting.Load() {
		p.count.Store(0)
	}
	p.counting.Store(on)
}

// Counted is how many events were emitted while counting was on.
func (p *Point) Counted() uint64 { return p.count.Load() }

// Event is one event as Snapshot returns it.
type Event struct {
	Seq   uint64        // order of emission
	At    time.Duration // since boot
	Point *Point
	N     int // how many of Args it has
	Args  [MaxArgs]uint64
}

// Text returns the event's arguments in the format of its point.
func (e Event) Text() string { return string(e.Point.format.append(nil, e.Args[:e.N])) }

// Tracer is a set of points and the ring of events that they emit. Create one
// with NewTracer.
type Tracer struct {
	now  func() time.Duration
	size int
	ring atomic.Pointer[ring] // nil until a point is first switched on

	mu     sync.Mutex // guards all below
	points []*Point   // by id
	byName map[string]*Point
	rules  []rule // in order of being given; for points to come
}

// rule is one pattern given to Enable or Disable. The last that names a point
// decides.
type rule struct {
	glob string
	on   bool
}

// NewTracer returns a tracer that keeps the last size events (rounded up to a
// power of two) and takes their time from clock, which must not allocate.
func NewTracer(clock func() time.Duration, size int) *Tracer {
	n := 1
	for n < size {
		n *= 2
	}
	return &Tracer{now: clock, size: n, byName: map[string]*Point{}}
}

// NewPoint registers a point; it is meant for package variables. Names are
// dotted, lower case, from the general to the special: net.tcp.retransmit.
//
// format has one verb for each argument: %d signed and %u unsigned decimal, %x
// hexadecimal (%#x with 0x), %t a duration in ns, %a an IPv4 address as a number
// (the first octet is the highest), %% a percent sign. NewPoint panics on
// another verb, on too many, and on a name registered with a different format;
// with the same one, it returns the same point.
func (t *Tracer) NewPoint(name, text string) *Point {
	f, err := parseFormat(text)
	if err != nil {
		panic(fmt.Sprintf("trace: point %s: %v", name, err))
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.byName[name]; p != nil {
		if p.format.text != text {
			panic(fmt.Sprintf("trace: point %s is registered with format %q, and again with %q", name, p.format.text, text))
		}
		return p
	}
	p := &Point{id: uint32(len(t.points)), tracer: t, name: name, format: f}
	t.points = append(t.points, p)
	t.byName[name] = p
	for _, r := range t.rules {
		if match(r.glob, name) {
			p.on.Store(r.on)
		}
	}
	return p
}

// Enable switches on the points that any of the comma-separated patterns names,
// and those registered later that they name. In a pattern * stands for any
// characters, ? for one, [a-z] for one of a set. It returns how many points are
// on now; an error names a malformed pattern, and then nothing is changed.
func (t *Tracer) Enable(patterns string) (points int, err error) {
	globs, err := split(patterns)
	if err != nil {
		return 0, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ring.Load() == nil {
		t.ring.Store(newRing(t.size))
	}
	t.set(globs, true)
	for _, p := range t.points {
		if p.On() {
			points++
		}
	}
	return points, nil
}

// Disable switches off the points that any of the comma-separated patterns
// names, and keeps off those registered later that they name.
func (t *Tracer) Disable(patterns string) error {
	globs, err := split(patterns)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.set(globs, false)
	return nil
}

// set adds rules, and applies them to the points there are. Caller holds mu.
func (t *Tracer) set(globs []string, on bool) {
	for _, g := range globs {
		// An older rule for the same pattern has no effect any more.
		t.rules = slices.DeleteFunc(t.rules, func(r rule) bool { return r.glob == g })
		t.rules = append(t.rules, rule{g, on})
		for _, p := range t.points {
			if match(g, p.name) {
				p.on.Store(on)
			}
		}
	}
}

func split(patterns string) ([]string, error) {
	var globs []string
	for g := range strings.SplitSeq(patterns, ",") {
		if g = strings.TrimSpace(g); g == "" {
			continue
		}
		if _, err := path.Match(g, ""); err != nil {
			return nil, fmt.Errorf("trace: pattern %q: %w", g, err)
		}
		globs = append(globs, g)
	}
	return globs, nil
}

func match(glob, name string) bool {
	ok, _ := path.Match(glob, name)
	return ok
}

// Points returns all points, sorted by name.
func (t *Tracer) Points() []*Point {
	t.mu.Lock()
	defer t.mu.Unlock()
	ps := slices.Clone(t.points)
	slices.SortFunc(ps, func(a, b *Point) int { return strings.Compare(a.name, b.name) })
	return ps
}

// Snapshot returns the events that the ring holds, in order of emission. Points
// go on emitting meanwhile; an event that is overwritten during the call is
// left out, never mixed with another.
func (t *Tracer) Snapshot() []Event {
	r := t.ring.Load()
	if r == nil {
		return nil
	}
	raw := r.snapshot()
	t.mu.Lock()
	defer t.mu.Unlock()
	events := make([]Event, len(raw))
	for i, e := range raw {
		events[i] = Event{e.seq, e.at, t.points[e.point], e.n, e.args}
	}
	return events
}

// Emitted returns how many events were emitted since boot, and Lost how many of
// them found their place in the ring still being written by an emitter that was
// a whole ring behind.
func (t *Tracer) Emitted() uint64 { return t.ring.Load().emitted() }
func (t *Tracer) Lost() uint64    { return t.ring.Load().lostEvents() }

// WriteText prints the events that the ring holds, one a line.
func (t *Tracer) WriteText(w io.Writer) error {
	var b []byte
	for _, e := range t.Snapshot() {
		b = appendStamp(b[:0], e.At)
		b = append(b, e.Point.name...)
		b = append(b, ": "...)
		b = e.Point.format.append(b, e.Args[:e.N])
		b = append(b, '\n')
		if _, err := w.Write(b); err != nil {
			return err
		}
	}
	return nil
}

package rest

import (
	"regexp"
	"strings"
	"sync"
	"time"

	"osv/kernel/trace"
)

// eventInfo is the document's model TraceEventInfo. Events carry no stacks.
type eventInfo struct {
	ID        string `json:"id"`
	Name      string `json:"name"`
	Enabled   bool   `json:"enabled"`
	Backtrace bool   `json:"backtrace"`
	Format    string `json:"format"`
}

func infoOf(p *trace.Point) eventInfo {
	return eventInfo{p.Name(), p.Name(), p.On(), false, p.Format()}
}

// matching returns the tracepoints that the parameter match names.
func matching(c *call) ([]*trace.Point, error) {
	re, err := regexp.Compile(c.arg("match"))
	if err != nil {
		return nil, errorf(400, "parameter match: %v", err)
	}
	var out []*trace.Point
	for _, p := range trace.Points() {
		if re.MatchString(p.Name()) {
			out = append(out, p)
		}
	}
	return out, nil
}

func infos(ps []*trace.Point) []eventInfo {
	out := make([]eventInfo, len(ps))
	for i, p := range ps {
		out[i] = infoOf(p)
	}
	return out
}

// point finds the tracepoint of the parameter eventid.
func point(c *call) (*trace.Point, error) {
	for _, p := range trace.Points() {
		if p.Name() == c.arg("eventid") {
			return p, nil
		}
	}
	return nil, errorf(404, "there is no tracepoint %s", c.arg("eventid"))
}

// switchPoint turns a tracepoint on or off. Its name stands for itself as a pattern:
// names are letters, digits, dots and hyphens.
func switchPoint(name string, on bool) error {
	if on {
		_, err := trace.Enable(name)
		return err
	}
	return trace.Disable(name)
}

// switchArgs reads the parameters of a switch.
func switchArgs(c *call) (on bool, err error) {
	if c.flag("backtrace") {
		return false, errorf(400, "parameter backtrace: events carry no stack")
	}
	return c.flag("enabled"), nil
}

func getTraceStatus(c *call) error {
	ps, err := matching(c)
	if err != nil {
		return err
	}
	return c.json(infos(ps))
}

func setTraceStatus(c *call) error {
	on, err := switchArgs(c)
	if err != nil {
		return err
	}
	ps, err := matching(c)
	if err != nil {
		return err
	}
	for _, p := range ps {
		if err := switchPoint(p.Name(), on); err != nil {
			return err
		}
	}
	return c.json(infos(ps))
}

func getTraceEvent(c *call) error {
	p, err := point(c)
	if err != nil {
		return err
	}
	return c.json(infoOf(p))
}

func setTraceEvent(c *call) error {
	on, err := switchArgs(c)
	if err != nil {
		return err
	}
	p, err := point(c)
	if err != nil {
		return err
	}
	if err := switchPoint(p.Name(), on); err != nil {
		return err
	}
	return c.json(infoOf(p))
}

// counting is the tracepoints that are counted, in the order in which that began.
type counting struct {
	mu     sync.Mutex
	points []*trace.Point
}

func setCountEvent(c *call) error {
	p, err := point(c)
	if err != nil {
		return err
	}
	k := &c.s.counting
	k.mu.Lock()
	defer k.mu.Unlock()
	k.forget(p)
	if c.flag("enabled") {
		p.SetCounting(true)
		if err := switchPoint(p.Name(), true); err != nil {
			return err
		}
		k.points = append(k.points, p)
	}
	return c.done()
}

// forget ends counting of a point. Caller holds mu.
func (k *counting) forget(p *trace.Point) {
	for i, q := range k.points {
		if q == p {
			k.points = append(k.points[:i:i], k.points[i+1:]...)
			p.SetCounting(false)
			return
		}
	}
}

// traceCount and traceCounts are the document's models.
type traceCount struct {
	Name  string `json:"name"`
	Count uint64 `json:"count"`
}

type traceCounts struct {
	TimeMS int64        `json:"time_ms"`
	List   []traceCount `json:"list"`
}

func getCounts(c *call) error {
	k := &c.s.counting
	k.mu.Lock()
	defer k.mu.Unlock()
	out := traceCounts{c.s.m.System.Uptime().Milliseconds(), []traceCount{}}
	for _, p := range k.points {
		out.List = append(out.List, traceCount{p.Name(), p.Counted()})
	}
	return c.json(out)
}

func deleteCounts(c *call) error {
	k := &c.s.counting
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, p := range k.points {
		p.SetCounting(false)
	}
	k.points = nil
	return c.done()
}

// traceEvent and traceBuffers are the document's models.
type traceEvent struct {
	Seq    uint64   `json:"seq"`
	TimeUS int64    `json:"time_us"`
	Name   string   `json:"name"`
	Text   string   `json:"text"`
	Args   []uint64 `json:"args"`
}

type traceBuffers struct {
	TimeMS int64        `json:"time_ms"`
	Next   uint64       `json:"next"`
	Events []traceEvent `json:"events"`
}

func getTraceBuffers(c *call) error {
	from, limit := uint64(c.number("from", 0)), int(c.number("limit", 1000))
	out := traceBuffers{TimeMS: c.s.m.System.Uptime().Milliseconds(), Next: from, Events: []traceEvent{}}
	events := trace.Events()
	for len(events) > 0 && events[0].Seq < from {
		events = events[1:]
	}
	if len(events) > limit {
		events = events[len(events)-limit:]
	}
	for _, e := range events {
		out.Events = append(out.Events, traceEvent{e.Seq, int64(e.At / time.Microsecond), e.Point.Name(), strings.TrimSpace(e.Text()), list(e.Args[:e.N])})
		out.Next = e.Seq + 1
	}
	return c.json(out)
}

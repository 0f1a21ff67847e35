package design

import (
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Boot is one boot of the schedule.
type Boot struct {
	Index     int    `json:"index"` // position in the run, from 0
	System    string `json:"system"`
	Service   string `json:"service"`
	Block     int    `json:"block"`
	Pair      int    `json:"pair"`      // half block: boots of equal Pair are compared
	Replicate int    `json:"replicate"` // of this system, from 0
	// Placements in the order in which this boot measures them.
	Placements []Placement `json:"placements"`
}

// Service names what must run in a guest for a port: a boot runs one service, and
// a plan with workloads on several boots each system for each of them.
func Service(port string) string {
	switch _, n, _ := strings.Cut(port, ":"); n {
	case "11211":
		return "memcached"
	case "7":
		return "reflector"
	case "5201":
		return "iperf3"
	case "80", "8080":
		return "http"
	case "9042":
		return "cassandra"
	}
	return port
}

// Services lists the services of a plan in the order of its workloads. The first
// is the one whose boots give boot time and idle cost.
func (p Plan) Services() []string {
	var out []string
	for _, w := range p.Workloads {
		if s := Service(w.Port); !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// Schedule is the order of boots. In each block the systems come in a random
// order, then in the reverse one. The order of placements alternates too, so that
// none is always the one on a warm cache. An odd number of boots ends with half
// a block. Systems without a workload on a service are not booted for it.
func (p Plan) Schedule() []Boot {
	var out []Boot
	for pair := range p.Boots {
		block, half := pair/2, pair%2
		order := p.blockOrder(block)
		if half == 1 {
			slices.Reverse(order)
		}
		for _, service := range p.Services() {
			for _, s := range order {
				b := Boot{Index: len(out), System: p.Systems[s].Name, Service: service, Block: block, Pair: pair, Replicate: pair}
				b.Placements = append(b.Placements, p.Placements...)
				if half == 1 {
					slices.Reverse(b.Placements)
				}
				if len(p.Cells(b)) > 0 {
					out = append(out, b)
				}
			}
		}
	}
	return out
}

// blockOrder is a block's random order of systems; it depends on seed and block
// alone.
func (p Plan) blockOrder(block int) []int {
	rng := rand.New(rand.NewPCG(p.Seed, uint64(block)+1))
	return rng.Perm(len(p.Systems))
}

// Start is one boot that is only timed.
type Start struct {
	Index  int
	System string
	Pair   int
}

// StartOrder lists the Starts in their order, A B B A by blocks as the boots are.
// Variants are left out: they are our own configurations.
func (p Plan) StartOrder() []Start {
	var out []Start
	for pair := range p.Starts {
		order := p.blockOrder(pair / 2)
		if pair%2 == 1 {
			slices.Reverse(order)
		}
		for _, s := range order {
			if p.Systems[s].Role != Variant {
				out = append(out, Start{len(out), p.Systems[s].Name, pair})
			}
		}
	}
	return out
}

// Cell is one thing that a boot measures.
type Cell struct {
	System    string    `json:"system"`
	Workload  string    `json:"workload"`
	Placement Placement `json:"placement"`
}

// Cells lists what one boot measures, in order.
func (p Plan) Cells(b Boot) []Cell {
	var out []Cell
	for _, pl := range b.Placements {
		for _, w := range p.Expanded() {
			if w.Runs(b.System) && w.At(pl) && Service(w.Port) == b.Service {
				out = append(out, Cell{b.System, w.Name, pl})
			}
		}
	}
	return out
}

// Groups are the boots of one half block and service, which
// are alive at once where the plan says Together; else each boot is a group.
func (p Plan) Groups() [][]Boot {
	var out [][]Boot
	for _, b := range p.Schedule() {
		if n := len(out); p.Together && n > 0 && out[n-1][0].Pair == b.Pair && out[n-1][0].Service == b.Service {
			out[n-1] = append(out[n-1], b)
			continue
		}
		out = append(out, []Boot{b})
	}
	return out
}

// Window is one measurement of a cell in one boot.
type Window struct {
	Boot int // index in the schedule
	Cell Cell
	N    int // of this cell in this boot, from 0
}

// Windows lists the windows of a group in the order in which they are measured.
// Each round of a cell takes the boots in turn, and the next round takes them in
// the reverse order.
func (p Plan) Windows(group []Boot) []Window {
	var out []Window
	if len(group) == 0 {
		return nil
	}
	loads := p.Expanded()
	for _, pl := range group[0].Placements {
		for _, w := range loads {
			if !w.At(pl) || Service(w.Port) != group[0].Service {
				continue
			}
			for n := range w.Times() {
				round := slices.Clone(group)
				if n%2 == 1 {
					slices.Reverse(round)
				}
				for _, b := range round {
					if w.Runs(b.System) {
						out = append(out, Window{b.Index, Cell{b.System, w.Name, pl}, n})
					}
				}
			}
		}
	}
	return out
}

// Costs are the times of what is not in a plan, as seen on two cores under TCG.
type Costs struct {
	Boot  map[string]time.Duration // to first reply, by kind of guest; "" = any other
	Alone map[string]time.Duration // the same of a Start, with its end
	Start time.Duration            // of a generator: its process, keys stored and read back
	Floor time.Duration            // search for one system's least memory
	Null  time.Duration            // one null server measurement
}

// SeenCosts are those of the runs that the plans were sized with.
var SeenCosts = Costs{
	Boot:  map[string]time.Duration{"linux": 4 * time.Second, "osv": 1700 * time.Millisecond, "": 200 * time.Millisecond},
	Alone: map[string]time.Duration{"linux": 3200 * time.Millisecond, "osv": 500 * time.Millisecond, "": 200 * time.Millisecond},
	Start: 230 * time.Millisecond, Floor: 22 * time.Second, Null: 1300 * time.Millisecond,
}

func of(costs map[string]time.Duration, guest string) time.Duration {
	if d, ok := costs[guest]; ok {
		return d
	}
	return costs[""]
}

// Window is what one window takes.
func (c Costs) Window(w Workload) time.Duration {
	s := w.Spec.WithDefaults()
	each := s.Warmup.Std() + s.Duration.Std() + c.Start
	if w.Knee != nil {
		return time.Duration(w.Knee.loads()) * each
	}
	return each
}

// Estimate is a guess at the time that a run takes where done says which windows,
// which profiles, which systems' floors (boot -1, the latter without a workload) and
// which Starts (the same, N = 1 + index) are behind; nil = none.
func (p Plan) Estimate(c Costs, done func(Window) bool) time.Duration {
	if done == nil {
		done = func(Window) bool { return false }
	}
	loads := map[string]Workload{}
	for _, w := range p.Expanded() {
		loads[w.Name] = w
	}
	var d time.Duration
	for _, g := range p.Groups() {
		boots := map[int]bool{}
		for _, w := range p.Windows(g) {
			if !done(w) {
				boots[w.Boot] = true
				d += c.Window(loads[w.Cell.Workload])
			}
		}
		for _, b := range g {
			if !boots[b.Index] {
				continue
			}
			sys, _ := p.System(b.System)
			d += of(c.Boot, sys.Guest)
			if b.Service == p.Services()[0] {
				d += p.Idle.Std()
			}
		}
	}
	for _, s := range p.StartOrder() {
		if sys, _ := p.System(s.System); !done(Window{Boot: -1, Cell: Cell{System: s.System}, N: 1 + s.Index}) {
			d += of(c.Alone, sys.Guest)
		}
	}
	for _, s := range p.Systems {
		for _, name := range p.Profiles {
			if w := loads[name]; w.Runs(s.Name) && !done(Window{Boot: -1, Cell: Cell{System: s.Name, Workload: name}}) {
				d += of(c.Boot, s.Guest) + 3*c.Window(w)
			}
		}
		if p.RAMFloor && !done(Window{Boot: -1, Cell: Cell{System: s.Name}}) {
			d += c.Floor
		}
	}
	return d
}

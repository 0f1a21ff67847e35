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
			if w.Runs(b.System) && Service(w.Port) == b.Service {
				out = append(out, Cell{b.System, w.Name, pl})
			}
		}
	}
	return out
}

// Estimate is a guess at the time that a run takes: what the loads must take,
// and what a boot and a load's start have been seen to cost.
func (p Plan) Estimate(boot, overhead time.Duration) time.Duration {
	var d time.Duration
	loads := map[string]Workload{}
	for _, w := range p.Expanded() {
		loads[w.Name] = w
	}
	for _, b := range p.Schedule() {
		d += boot + p.Idle.Std()
		for _, c := range p.Cells(b) {
			s := loads[c.Workload].Spec.WithDefaults()
			d += s.Warmup.Std() + s.Duration.Std() + overhead
		}
	}
	return d
}

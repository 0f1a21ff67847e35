// Package design says what a benchmark run consists of: which systems are
// booted, in which order, what each is loaded with, and where threads run.
//
// Terms. A system is a guest with a profile (linux-stock, osv). A workload is one
// load, or one open-loop rate of a family. A cell is system × workload ×
// placement. A replicate is a boot, never a request or a window: all cells of a
// system are measured in each of its boots, in one or more windows whose median is
// the boot's value, and statistics are over boots. A block
// boots every system twice, in a random order and then in the reverse one (A B B
// A), so that a host that drifts favours none; a half block is a pair of
// adjacent boots, the unit of the paired comparison.
//
// Method: design/ecosystem.md §2 (interleaving, number of boots), harness.md §2
// (two placements, since placement alone moves Linux by a factor of 1.5).
//
// A Plan is data: it is read from YAML, kept with the results, and with its seed
// fixes the order of everything. Who may use it: bench (which runs it), report,
// the command line. May not: start anything. Start reading at Plan, then
// schedule.go.
package design

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"

	"go.yaml.in/yaml/v3"

	"osv/harness/load"
	"osv/harness/stats"
)

// Placement is where QEMU's threads run on the host.
type Placement string

// The placements. Both are run for every system, since either could be the one
// that flatters a guest.
const (
	// OneCore puts vCPU and main loop on one host core, the generator on another.
	OneCore Placement = "one-core"
	// Split puts the vCPU alone on one core, main loop and generator on another.
	Split Placement = "split"
	// Free leaves all threads to the host's scheduler.
	Free Placement = "free"
)

// Role is what a system is in the comparison.
type Role string

// The roles. Ratios are subject over each of the others.
const (
	Baseline Role = "baseline" // what is to be beaten: one system
	Rival    Role = "rival"    // a tuned baseline or another design
	Subject  Role = "subject"  // ours: one system
	Variant  Role = "variant"  // ours, configured otherwise
)

// System is one guest under test.
type System struct {
	Name  string `yaml:"name" json:"name"`   // in cells and charts
	Title string `yaml:"title" json:"title"` // for readers
	Guest string `yaml:"guest" json:"guest"` // kind of guest: linux, osv, local
	Role  Role   `yaml:"role" json:"role"`
	// Profile is the kind's own setting: stock, tuned, or an appliance's name.
	Profile string            `yaml:"profile,omitempty" json:"profile,omitempty"`
	Options map[string]string `yaml:"options,omitempty" json:"options,omitempty"`
	CPUs    int               `yaml:"cpus,omitempty" json:"cpus,omitempty"` // vCPUs; 0 = the plan's
}

// Workload is one load on one service.
type Workload struct {
	Name  string `yaml:"name" json:"name"`
	Title string `yaml:"title" json:"title"`
	// Port is what the guest serves, "udp:11211".
	Port string    `yaml:"port" json:"port"`
	Spec load.Spec `yaml:"spec" json:"spec"`
	// Family groups the open-loop rates of one curve; empty for a single point.
	Family string `yaml:"family,omitempty" json:"family,omitempty"`
	// Rates expands into one workload of the family for each rate (requests/s).
	Rates []float64 `yaml:"rates,omitempty" json:"rates,omitempty"`
	// RateOf names an earlier workload, RateShare the share of the rate that the
	// baseline answered of it at which this one is offered, open loop.
	RateOf    string  `yaml:"rate_of,omitempty" json:"rate_of,omitempty"`
	RateShare float64 `yaml:"rate_share,omitempty" json:"rate_share,omitempty"`
	// Knee makes each window a search for the largest rate whose p99 latency stays
	// within the plan's SLO.
	Knee *Knee `yaml:"knee,omitempty" json:"knee,omitempty"`
	// Systems limits the workload to some systems; empty = all.
	Systems []string `yaml:"systems,omitempty" json:"systems,omitempty"`
	// Windows is how often each boot measures it; a boot's value is the median of
	// its windows. 0 = once.
	Windows int `yaml:"windows,omitempty" json:"windows,omitempty"`
	// Placements limits it to some of the plan's placements; empty = all.
	Placements []Placement `yaml:"placements,omitempty" json:"placements,omitempty"`
}

// Knee is how such a search goes: between two rates (requests/s), the lower of which
// should be carried and the higher not, by bisection on logarithms until they are
// Tolerance (0.05 = 5 %) apart. The majority of Repeats loads decides on a rate.
type Knee struct {
	Low       float64 `yaml:"low" json:"low"`
	High      float64 `yaml:"high" json:"high"`
	Tolerance float64 `yaml:"tolerance" json:"tolerance"`
	Repeats   int     `yaml:"repeats" json:"repeats"`
}

// loads is the most loads that a search makes where no repeat differs.
func (k Knee) loads() int {
	steps := math.Ceil(math.Log2(math.Log(k.High/k.Low) / math.Log1p(k.Tolerance)))
	return (2 + max(0, int(steps))) * (k.Repeats/2 + 1)
}

// Plan is a whole run.
type Plan struct {
	Name       string      `yaml:"name" json:"name"`
	Systems    []System    `yaml:"systems" json:"systems"`
	Workloads  []Workload  `yaml:"workloads" json:"workloads"`
	Placements []Placement `yaml:"placements" json:"placements"`
	Boots      int         `yaml:"boots" json:"boots"` // of each system
	CPUs       int         `yaml:"cpus" json:"cpus"`
	MemMiB     int         `yaml:"mem_mib" json:"mem_mib"`
	Seed       uint64      `yaml:"seed" json:"seed"`

	// Together keeps the guests of a half block alive at once, all but the one
	// that is loaded stopped: windows alternate between them (A B B A), a second
	// apart instead of a boot apart, so that a host that drifts slowly favours
	// none.
	Together bool `yaml:"together,omitempty" json:"together,omitempty"`
	// Idle is how long each guest is left alone before it is loaded, to see what
	// it costs doing nothing; 0 = not measured.
	Idle load.Duration `yaml:"idle,omitempty" json:"idle,omitempty"`
	// Starts is how many boots of each system are for the time to the first reply
	// alone: one guest at a time, nothing counted, nothing measured after it. 0 takes
	// that time from the boots that are loaded, beside the stopped guests of their
	// half block.
	Starts int `yaml:"starts,omitempty" json:"starts,omitempty"`
	// RAMFloor seeks the least memory with which each system answers.
	RAMFloor bool `yaml:"ram_floor,omitempty" json:"ram_floor,omitempty"`
	// Instructions counts guest instructions (TCG only).
	Instructions bool `yaml:"instructions,omitempty" json:"instructions,omitempty"`
	// Profiles names workloads of which each system is booted once more, to see in
	// which functions its instructions go (TCG only).
	Profiles []string `yaml:"profiles,omitempty" json:"profiles,omitempty"`
	// SLO is the limit of p99 latency that curves show, 0 = none.
	SLO load.Duration `yaml:"slo,omitempty" json:"slo,omitempty"`
	// AA marks a run of a system against itself, which measures the noise.
	AA bool `yaml:"aa,omitempty" json:"aa,omitempty"`
	// Allow names parity entries that may differ between systems, with reasons.
	Allow map[string]string `yaml:"allow,omitempty" json:"allow,omitempty"`
}

var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9._@-]{0,63}$`)

// Check reports the first thing in the plan that cannot be run.
func (p Plan) Check() error {
	if !nameForm.MatchString(p.Name) {
		return fmt.Errorf("plan: name %q: want lower case letters, digits, dots and dashes", p.Name)
	}
	if p.Starts < 0 || p.Starts > 200 {
		return fmt.Errorf("plan: %d starts, want 0 to 200", p.Starts)
	}
	if p.Boots < 1 || p.Boots > 200 {
		return fmt.Errorf("plan: %d boots, want 1 to 200", p.Boots)
	}
	if p.CPUs < 1 || p.MemMiB < 16 {
		return fmt.Errorf("plan: %d vCPUs and %d MiB cannot boot a guest", p.CPUs, p.MemMiB)
	}
	if len(p.Systems) == 0 || len(p.Workloads) == 0 || len(p.Placements) == 0 {
		return fmt.Errorf("plan: needs at least one system, one workload and one placement")
	}
	seen := map[string]bool{}
	roles := map[Role]int{}
	for _, s := range p.Systems {
		if !nameForm.MatchString(s.Name) || seen[s.Name] {
			return fmt.Errorf("plan: system name %q is malformed or used twice", s.Name)
		}
		seen[s.Name] = true
		roles[s.Role]++
		if !slices.Contains([]Role{Baseline, Rival, Subject, Variant}, s.Role) {
			return fmt.Errorf("plan: system %s: role %q", s.Name, s.Role)
		}
		if s.Guest == "" {
			return fmt.Errorf("plan: system %s: no guest", s.Name)
		}
	}
	if roles[Baseline] > 1 || roles[Subject] > 1 {
		return fmt.Errorf("plan: at most one baseline and one subject, not %d and %d", roles[Baseline], roles[Subject])
	}
	for _, pl := range p.Placements {
		if !slices.Contains([]Placement{OneCore, Split, Free}, pl) {
			return fmt.Errorf("plan: placement %q: want one-core, split or free", pl)
		}
	}
	loads := map[string]bool{}
	for _, w := range p.Expanded() {
		if !nameForm.MatchString(w.Name) || loads[w.Name] {
			return fmt.Errorf("plan: workload name %q is malformed or used twice", w.Name)
		}
		if w.RateOf != "" {
			base, ok := p.WithRole(Baseline)
			if !loads[w.RateOf] || !ok || !(w.RateShare > 0) || !w.Runs(base.Name) {
				return fmt.Errorf("plan: workload %s: a share of %v of %q: want an earlier workload, a share above 0 and the baseline", w.Name, w.RateShare, w.RateOf)
			}
			w.Spec.Rate = 1 // known when it runs
		}
		if k := w.Knee; k != nil {
			if p.SLO <= 0 || w.Family != "" || w.RateOf != "" || !(k.Low > 0) || !(k.High > k.Low) || !(k.Tolerance > 0) || k.Repeats < 1 {
				return fmt.Errorf("plan: workload %s: a knee between %v and %v requests/s to %v by %d loads: want a limit of latency (slo), two rates in order, a tolerance, a load or more, and no other rate", w.Name, k.Low, k.High, k.Tolerance, k.Repeats)
			}
			w.Spec.Rate = k.Low
		}
		loads[w.Name] = true
		if err := w.Spec.WithDefaults().Check(); err != nil {
			return fmt.Errorf("plan: workload %s: %w", w.Name, err)
		}
		for _, s := range w.Systems {
			if !seen[s] {
				return fmt.Errorf("plan: workload %s: no system %q", w.Name, s)
			}
		}
		if w.Windows < 0 || w.Windows > 100 {
			return fmt.Errorf("plan: workload %s: %d windows, want 1 to 100", w.Name, w.Windows)
		}
		for _, pl := range w.Placements {
			if !slices.Contains(p.Placements, pl) {
				return fmt.Errorf("plan: workload %s: the plan has no placement %q", w.Name, pl)
			}
		}
	}
	for _, name := range p.Profiles {
		if !loads[name] {
			return fmt.Errorf("plan: profile of %q: no such workload", name)
		}
	}
	return nil
}

// Claims reports whether the plan has boots enough for intervals.
func (p Plan) Claims() bool { return p.Boots >= stats.MinBoots }

// Expanded lists the workloads with each family spread into its rates.
func (p Plan) Expanded() []Workload {
	var out []Workload
	for _, w := range p.Workloads {
		if len(w.Rates) == 0 {
			out = append(out, w)
			continue
		}
		for _, r := range w.Rates {
			one := w
			one.Rates = nil
			one.Family = w.Name
			one.Name = fmt.Sprintf("%s@%.0f", w.Name, r)
			one.Spec.Mode, one.Spec.Rate = load.Open, r
			out = append(out, one)
		}
	}
	return out
}

// System finds a system by name.
func (p Plan) System(name string) (System, bool) {
	for _, s := range p.Systems {
		if s.Name == name {
			return s, true
		}
	}
	return System{}, false
}

// WithRole gives the system of a role, false if there is none.
func (p Plan) WithRole(r Role) (System, bool) {
	for _, s := range p.Systems {
		if s.Role == r {
			return s, true
		}
	}
	return System{}, false
}

// Runs reports whether a workload is for a system.
func (w Workload) Runs(system string) bool {
	return len(w.Systems) == 0 || slices.Contains(w.Systems, system)
}

// Times is how often each boot measures the workload.
func (w Workload) Times() int { return max(1, w.Windows) }

// At reports whether a workload is measured in a placement.
func (w Workload) At(p Placement) bool {
	return len(w.Placements) == 0 || slices.Contains(w.Placements, p)
}

// Read reads a plan from YAML. Unknown keys are errors: a misspelt setting must
// not silently become a default.
func Read(r io.Reader) (Plan, error) {
	dec := yaml.NewDecoder(r)
	dec.KnownFields(true)
	var p Plan
	if err := dec.Decode(&p); err != nil {
		return p, fmt.Errorf("plan: %w", err)
	}
	return p, p.Check()
}

// YAML writes a plan as Read reads it.
func (p Plan) YAML() ([]byte, error) {
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(p); err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	return b.Bytes(), enc.Close()
}

// Limit takes out what cannot be run: for each system and service that can says
// an error of, the workloads of the service are kept from the system. It returns
// what was taken out, and why.
func (p Plan) Limit(can func(s System, service string) error) (Plan, []string) {
	var why []string
	var loads []Workload
	barred := map[string]bool{}
	for _, svc := range p.Services() {
		for _, s := range p.Systems {
			if err := can(s, svc); err != nil {
				barred[s.Name+"/"+svc] = true
				why = append(why, fmt.Sprintf("%s does not run %s: %v", s.Title, svc, err))
			}
		}
	}
	for _, w := range p.Workloads {
		var systems []string
		for _, s := range p.Systems {
			if w.Runs(s.Name) && !barred[s.Name+"/"+Service(w.Port)] {
				systems = append(systems, s.Name)
			}
		}
		if len(systems) == 0 {
			continue
		}
		if len(systems) < len(p.Systems) {
			w.Systems = systems
		}
		loads = append(loads, w)
	}
	p.Workloads = loads
	p.Profiles = slices.DeleteFunc(slices.Clone(p.Profiles), func(name string) bool {
		return !slices.ContainsFunc(p.Expanded(), func(w Workload) bool { return w.Name == name })
	})
	if len(p.Profiles) == 0 {
		p.Profiles = nil
	}
	return p, why
}

package report

import (
	"fmt"
	"hash/fnv"
	"maps"
	"math"
	"slices"

	"osv/harness/design"
	"osv/harness/stats"
)

// Figure is one system's value of one metric.
type Figure struct {
	System string    `json:"system"`
	Median float64   `json:"median"`
	Lo     *float64  `json:"lo,omitempty"` // 95 % interval of the median; absent with too few boots
	Hi     *float64  `json:"hi,omitempty"`
	N      int       `json:"n"`
	CV     float64   `json:"cv"`
	Values []float64 `json:"values"`

	Unclean     int    `json:"unclean,omitempty"` // samples left out: loss, errors, wrong replies
	UncleanWhy  string `json:"unclean_why,omitempty"`
	ClientBound bool   `json:"client_bound,omitempty"`
	BoundWhy    string `json:"bound_why,omitempty"`

	pairs map[int]windows // by pair of boots
	boots []int           // schedule indices of Values
	total int             // clean windows
}

// windows are a boot's values of one metric, by window.
type windows map[int]float64

// median is the boot's value.
func (w windows) median() float64 {
	x := slices.Sorted(maps.Values(w))
	n := len(x)
	return (x[(n-1)/2] + x[n/2]) / 2
}

// against scales a pair for its ratio: den is the other boot's value, num is den
// times the median, on logarithms, of the ratios of windows that were measured next
// to each other. Where no window is clean on both sides num is the boot's value.
func (w windows) against(other windows) (num, den float64) {
	num, den = w.median(), other.median()
	if len(w) == 1 && len(other) == 1 {
		return num, den
	}
	logs := windows{}
	for n, v := range w {
		if d := other[n]; d > 0 && v > 0 {
			logs[n] = math.Log(v / d)
		}
	}
	if len(logs) > 0 {
		num = den * math.Exp(logs.median())
	}
	return num, den
}

// RatioFigure is a ratio with its interval.
type RatioFigure struct {
	GM     float64  `json:"gm"`
	Lo     *float64 `json:"lo,omitempty"`
	Hi     *float64 `json:"hi,omitempty"`
	N      int      `json:"n"`
	P      float64  `json:"p"`
	Method string   `json:"method"`
	SDLog  float64  `json:"sd_log"`
	Note   string   `json:"note,omitempty"`
	// Welch and Bootstrap are the checks of Lo and Hi.
	Welch     *stats.Interval `json:"welch,omitempty"`
	Bootstrap *stats.Interval `json:"bootstrap,omitempty"`
}

// Row is one metric of one cell, one baseline or rival against the subject.
type Row struct {
	Workload    string       `json:"workload"`
	Title       string       `json:"title"`
	Placement   string       `json:"placement,omitempty"`
	Metric      string       `json:"metric"`
	Unit        string       `json:"unit"` // of the stored values
	Higher      bool         `json:"higher_is_better"`
	Profile     string       `json:"profile"` // of the Linux side
	Accelerator string       `json:"accelerator"`
	Linux       *Figure      `json:"linux,omitempty"`
	OSv         *Figure      `json:"osv,omitempty"`
	Ratio       *RatioFigure `json:"ratio,omitempty"` // osv / linux
	// Claimable says that the ratio may be claimed; Why not otherwise.
	Claimable bool   `json:"claimable"`
	Why       string `json:"why,omitempty"`
}

// Summary is summary.json.
type Summary struct {
	Format      int    `json:"format"`
	Name        string `json:"name"`
	Commit      string `json:"commit"`
	Accelerator string `json:"accelerator"`
	AA          bool   `json:"aa,omitempty"`
	Boots       int    `json:"boots"`
	Cells       []Row  `json:"cells"`
}

// SummaryFormat is the version of summary.json.
const SummaryFormat = 1

// storedUnits are the units of the values in journal and summary, before the
// scaling that readers see.
var storedUnits = map[string]string{
	"rate": "req/s", "bit_rate": "bit/s", "knee": "req/s", "p50": "ns", "p99": "ns", "p999": "ns", "instructions": "instructions/req", "instructions_byte": "instructions/byte",
	"vcpu_ns": "ns/req", "main_ns": "ns/req", "client_ns": "ns/req", "first_reply": "s", "idle_vcpu": "cores",
	"interrupts": "1/req", "doorbells": "1/req", "halts": "1/req",
	"sensitive": "1/req", "exits": "1/req", "idle_instructions": "instructions/s", "ram_floor": "MiB", "image_bytes": "bytes",
}

// Names of the cells that are not loads.
const (
	bootCell  = "boot"
	idleCell  = "idle"
	fixedCell = "system"
)

var factCells = map[string]struct{ cell, title string }{
	"first_reply":       {bootCell, "Boot to first reply"},
	"idle_vcpu":         {idleCell, "Idle guest"},
	"idle_instructions": {idleCell, "Idle guest"},
	"ram_floor":         {fixedCell, "Least memory"},
	"image_bytes":       {fixedCell, "Image"},
}

// key names a figure.
type key struct {
	workload, placement, metric, system string
}

// figures collects every figure of a run.
func (d *Data) figures() map[key]*Figure {
	if d.figs != nil {
		return d.figs
	}
	out := map[key]*Figure{}
	d.figs = out
	get := func(k key) *Figure {
		f := out[k]
		if f == nil {
			f = &Figure{System: k.system, pairs: map[int]windows{}}
			out[k] = f
		}
		return f
	}
	type bootOf struct {
		f    *Figure
		boot int
	}
	boots := map[bootOf]windows{}
	put := func(f *Figure, boot, pair, window int, v float64) {
		w := boots[bootOf{f, boot}]
		if w == nil || boot < 0 { // without a boot each value stands alone
			w = windows{}
			boots[bootOf{f, boot}] = w
			f.boots = append(f.boots, boot)
			f.Values = append(f.Values, 0)
		}
		w[window] = v
		for i := len(f.boots) - 1; i >= 0; i-- {
			if f.boots[i] == boot {
				f.Values[i] = w.median()
				break
			}
		}
		f.pairs[pair] = w
		f.total++
	}
	bound := map[*Figure]int{}
	for _, s := range d.Samples {
		g := d.guard(s)
		for m, v := range s.Metrics {
			f := get(key{s.Cell.Workload, string(s.Cell.Placement), m, s.Cell.System})
			if !s.Clean {
				f.Unclean++
				f.UncleanWhy = s.Why
				continue
			}
			put(f, s.Boot, s.Pair, s.Window, v)
			if g.ClientBound {
				bound[f]++
				f.BoundWhy = g.Reason
			}
		}
	}
	main := d.Plan.Services()[0]
	for _, b := range d.Boots {
		if b.FirstReply > 0 && b.Boot.Service == main && d.Plan.Starts == 0 {
			f := get(key{bootCell, "", "first_reply", b.Boot.System})
			put(f, b.Boot.Index, b.Boot.Pair, 0, b.FirstReply)
		}
	}
	for _, x := range d.Facts {
		c, ok := factCells[x.Metric]
		if !ok || !(x.Value > 0) {
			continue
		}
		f := get(key{c.cell, "", x.Metric, x.System})
		put(f, x.Boot, x.Pair, 0, x.Value)
	}
	for k, f := range out {
		if len(f.Values) == 0 {
			continue
		}
		sum, err := stats.Summarize(f.Values)
		if err != nil {
			delete(out, k)
			continue
		}
		f.N, f.Median, f.CV = sum.N, sum.Median, sum.CV
		if sum.CI != nil {
			f.Lo, f.Hi = &sum.CI.Lo, &sum.CI.Hi
		}
		// A cell is client-bound when the client was the limit in half of its
		// windows; a single bad one is noise.
		f.ClientBound = 2*bound[f] >= f.total
		if !f.ClientBound {
			f.BoundWhy = ""
		}
	}
	return out
}

// Summarize computes summary.json's content. Rows come in the order of the plan.
func (d *Data) Summarize() Summary {
	s := Summary{Format: SummaryFormat, Name: d.Plan.Name, Commit: d.Meta.Commit, Accelerator: d.Accelerator(), AA: d.Plan.AA, Boots: d.Plan.Boots}
	figs := d.figures()
	type cellMetric struct{ workload, title, placement, metric string }
	var order []cellMetric
	add := func(c cellMetric) {
		for _, sys := range d.Plan.Systems {
			if figs[key{c.workload, c.placement, c.metric, sys.Name}] != nil {
				order = append(order, c)
				return
			}
		}
	}
	for _, w := range d.Plan.Expanded() {
		for _, p := range d.Plan.Placements {
			for _, m := range design.Metrics {
				add(cellMetric{w.Name, w.Title, string(p), m.Name})
			}
		}
	}
	for _, m := range design.Metrics {
		if c, ok := factCells[m.Name]; ok {
			add(cellMetric{c.cell, c.title, "", m.Name})
		}
	}
	subject, hasSubject := d.Plan.WithRole(design.Subject)
	for _, c := range order {
		m := design.MetricByName(c.metric)
		row := Row{Workload: c.workload, Title: c.title, Placement: c.placement, Metric: c.metric, Unit: storedUnits[c.metric], Higher: m.Higher, Accelerator: s.Accelerator}
		if hasSubject {
			row.OSv = figs[key{c.workload, c.placement, c.metric, subject.Name}]
		}
		n := 0
		for _, sys := range d.Plan.Systems {
			if sys.Role != design.Baseline && sys.Role != design.Rival {
				continue
			}
			r := row
			r.Profile = sys.Profile
			r.Linux = figs[key{c.workload, c.placement, c.metric, sys.Name}]
			if r.Linux == nil && (r.OSv == nil || n > 0) {
				continue
			}
			r.compare()
			s.Cells = append(s.Cells, r)
			n++
		}
		if n == 0 && row.OSv != nil {
			row.compare()
			s.Cells = append(s.Cells, row)
		}
		for _, sys := range d.Plan.Systems { // our other configurations, against the baseline
			if f := figs[key{c.workload, c.placement, c.metric, sys.Name}]; sys.Role == design.Variant && f != nil {
				r := row
				r.OSv = f
				if base, ok := d.Plan.WithRole(design.Baseline); ok {
					r.Profile = base.Profile
					r.Linux = figs[key{c.workload, c.placement, c.metric, base.Name}]
				}
				r.compare()
				s.Cells = append(s.Cells, r)
			}
		}
	}
	return s
}

// compare fills the ratio, and decides whether it may be claimed.
func (r *Row) compare() {
	switch {
	case r.Linux == nil || r.Linux.N == 0:
		r.Why = "no clean sample on the Linux side"
		return
	case r.OSv == nil || r.OSv.N == 0:
		r.Why = "no clean sample of OSv"
		return
	}
	var num, den []float64
	var pairs []int
	for p := range r.OSv.pairs {
		if _, ok := r.Linux.pairs[p]; ok {
			pairs = append(pairs, p)
		}
	}
	slices.Sort(pairs)
	for _, p := range pairs {
		x, y := r.OSv.pairs[p].against(r.Linux.pairs[p])
		num = append(num, x)
		den = append(den, y)
	}
	if len(num) == 0 {
		r.Why = "no pair of boots with clean samples on both sides"
		return
	}
	h := fnv.New64a()
	fmt.Fprint(h, r.Workload, r.Placement, r.Metric, r.Linux.System, r.OSv.System)
	x, err := stats.PairedRatio(num, den, h.Sum64())
	if err != nil {
		r.Why = err.Error()
		return
	}
	r.Ratio = &RatioFigure{GM: x.GM, N: x.N, P: x.P, Method: x.Method, SDLog: x.SDLog, Note: x.Note, Welch: x.Welch, Bootstrap: x.Bootstrap}
	if x.CI != nil {
		r.Ratio.Lo, r.Ratio.Hi = &x.CI.Lo, &x.CI.Hi
	}
	switch {
	case x.CI == nil:
		r.Why = x.Note
	case r.OSv.ClientBound:
		r.Why = "client-bound on OSv: " + r.OSv.BoundWhy
	case r.Linux.ClientBound:
		r.Why = "client-bound on Linux: " + r.Linux.BoundWhy
	case r.OSv.Unclean+r.Linux.Unclean > 0:
		r.Why = fmt.Sprintf("%d samples were left out: %s", r.OSv.Unclean+r.Linux.Unclean, firstOf(r.OSv.UncleanWhy, r.Linux.UncleanWhy))
	case r.Accelerator == "none" || r.Accelerator == "mixed":
		r.Why = "accelerator: " + r.Accelerator
	default:
		r.Claimable = true
	}
}

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

package report

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"osv/harness/design"
	"osv/harness/load"
	"osv/harness/plot"
	"osv/harness/stats"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
)

// Charts draws every chart that the run has data for, in the order of the
// report.
func (d *Data) Charts(s Summary) ([]plot.Chart, error) {
	var out []plot.Chart
	add := func(c plot.Chart, ok bool) {
		if ok {
			out = append(out, c)
		}
	}
	for _, m := range []string{"rate", "bit_rate"} {
		add(d.throughput(s, m))
	}
	out = append(out, d.ratios(s)...)
	add(d.perRequest(s, "instructions", "instructions"))
	add(d.perRequest(s, "vcpu_ns", "vcpu-time"))
	for _, w := range d.Plan.Workloads {
		if len(w.Rates) == 0 {
			continue
		}
		for _, p := range d.Plan.Placements {
			add(d.latency(s, w, p))
			add(d.achieved(w, p))
			c, ok, err := d.percentiles(w, p)
			if err != nil {
				return nil, err
			}
			add(c, ok)
		}
	}
	add(d.boots(s))
	add(d.bars(s, "ram_floor", "memory"))
	add(d.bars(s, "image_bytes", "image"))
	add(d.bars(s, "idle_vcpu", "idle"))
	add(d.drift(s))
	add(d.noise(s))
	return out, nil
}

// look is how a system is drawn.
func (d *Data) look(system string) plot.Look {
	sys, _ := d.Plan.System(system)
	switch sys.Role {
	case design.Subject:
		return plot.LookOurs
	case design.Baseline:
		return plot.LookBaseline
	case design.Rival:
		return plot.LookRival
	case design.Variant:
		return plot.LookVariant
	}
	return plot.LookOther
}

func (d *Data) title(system string) string {
	sys, ok := d.Plan.System(system)
	if !ok || sys.Title == "" {
		return system
	}
	return sys.Title
}

// footer is the same under every chart.
func (d *Data) footer(n int) string {
	parts := []string{}
	if n > 0 {
		parts = append(parts, fmt.Sprintf("n = %d boots a side", n))
	}
	if n > 0 && n < stats.MinBoots {
		parts = append(parts, stats.TooFew(n))
	}
	for _, h := range []string{"cpu", "qemu"} {
		if v := d.Meta.Host[h]; v != "" {
			parts = append(parts, v)
		}
	}
	parts = append(parts, "accelerator: "+d.accelText(), fmt.Sprintf("%d vCPU, %d MiB", d.Plan.CPUs, d.Plan.MemMiB))
	commit := d.Meta.Commit
	if len(commit) > 12 {
		commit = commit[:12]
	}
	if commit == "" {
		commit = "unknown"
	}
	if d.Meta.Dirty {
		commit += " with changes"
	}
	return strings.Join(append(parts, "commit "+commit), "\u00a0· ")
}

func (d *Data) chart(name, title, subtitle string, n int) plot.Chart {
	for _, s := range d.Plan.Systems { // names are not broken over lines
		title = strings.ReplaceAll(title, s.Title, strings.ReplaceAll(s.Title, " ", "\u00a0"))
	}
	return plot.Chart{Name: name, Title: title, Subtitle: subtitle, Footer: d.footer(n), Mark: d.watermark()}
}

// entries are the distinct figures of a metric, grouped by workload and
// placement, in the order of the summary.
type entry struct {
	row Row
	fig *Figure
}

func (s Summary) entries(metric string) []entry {
	var out []entry
	seen := map[string]bool{}
	for _, r := range s.Cells {
		if r.Metric != metric {
			continue
		}
		for _, f := range []*Figure{r.Linux, r.OSv} {
			if f == nil || f.N == 0 {
				continue
			}
			k := r.Workload + "/" + r.Placement + "/" + f.System
			if !seen[k] {
				seen[k] = true
				out = append(out, entry{r, f})
			}
		}
	}
	// Within a cell: baseline, rivals, ours.
	return out
}

func (s Summary) boots(metric string) int {
	n := 0
	for _, e := range s.entries(metric) {
		n = max(n, e.fig.N)
	}
	return n
}

// lowerFirst puts a title into a sentence; QEMU and vCPU stay as they are.
func lowerFirst(s string) string {
	if len(s) > 1 && s[1] >= 'A' && s[1] <= 'Z' {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}

// placementText says where threads ran, for readers.
func placementText(p string) string {
	switch design.Placement(p) {
	case design.OneCore:
		return "vCPU and QEMU's main loop on one core"
	case design.Split:
		return "vCPU on a core of its own"
	case design.Free:
		return "threads not pinned"
	}
	return p
}

func group(r Row) string {
	if r.Placement == "" {
		return r.Title
	}
	return r.Title + " (" + placementText(r.Placement) + ")"
}

// interval writes [lo, hi] in the metric's unit, or why there is none.
func interval(m design.Metric, f *Figure) string {
	if f.Lo == nil {
		return stats.TooFew(f.N)
	}
	return "[" + m.Format(*f.Lo) + ", " + m.Format(*f.Hi) + "]"
}

// figureRows makes chart rows and the table of a metric.
func (d *Data) figureRows(s Summary, metric string) ([]plot.Row, plot.Table) {
	m := design.MetricByName(metric)
	t := plot.Table{Columns: []string{"Cell", "System", m.Title + " (" + m.Unit + ")", "95 % interval", "n", "Note"}}
	var rows []plot.Row
	es := s.entries(metric)
	order := map[string]int{}
	for i, e := range es {
		g := group(e.row)
		if _, ok := order[g]; !ok {
			order[g] = i
		}
	}
	slices.SortStableFunc(es, func(a, b entry) int {
		if g := order[group(a.row)] - order[group(b.row)]; g != 0 {
			return g
		}
		return d.rank(a.fig.System) - d.rank(b.fig.System)
	})
	for _, e := range es {
		r := plot.Row{Group: group(e.row), Label: d.title(e.fig.System), Look: d.look(e.fig.System), Mid: e.fig.Median * m.Scale, Hollow: e.fig.ClientBound, Text: m.FormatUnit(e.fig.Median)}
		for _, v := range e.fig.Values {
			r.Values = append(r.Values, v*m.Scale)
		}
		if e.fig.Lo != nil {
			r.Lo, r.Hi = *e.fig.Lo*m.Scale, *e.fig.Hi*m.Scale
		}
		note := ""
		if e.fig.ClientBound {
			r.Text += " (client-bound)"
			note = "client-bound: " + e.fig.BoundWhy
		}
		if e.fig.Unclean > 0 {
			note = strings.TrimPrefix(note+fmt.Sprintf("; %d samples left out: %s", e.fig.Unclean, e.fig.UncleanWhy), "; ")
		}
		rows = append(rows, r)
		t.Rows = append(t.Rows, []string{r.Group, r.Label, m.Format(e.fig.Median), interval(m, e.fig), fmt.Sprint(e.fig.N), note})
	}
	return rows, t
}

// rank orders systems as the plan does.
func (d *Data) rank(system string) int {
	for i, s := range d.Plan.Systems {
		if s.Name == system {
			return i
		}
	}
	return len(d.Plan.Systems)
}

// finding says what the first comparison of a metric shows, in absolute values.
// Under emulation it never states a ratio.
func (d *Data) finding(s Summary, metric, verb string) string {
	m := design.MetricByName(metric)
	for _, r := range s.Cells {
		if r.Metric != metric || r.Linux == nil || r.OSv == nil || r.Linux.N == 0 || r.OSv.N == 0 {
			continue
		}
		a, b := m.FormatUnit(r.OSv.Median), m.FormatUnit(r.Linux.Median)
		t := fmt.Sprintf("%s: %s %s, %s %s", r.Title, d.title(r.OSv.System), a, d.title(r.Linux.System), b)
		if verb != "" {
			t = fmt.Sprintf("%s: %s %s %s, %s %s", r.Title, d.title(r.OSv.System), verb, a, d.title(r.Linux.System), b)
		}
		return t
	}
	return m.Title
}

func medianNote(n int) string {
	if n < stats.MinBoots {
		return fmt.Sprintf("median of %d boots (dots); too few for an interval", n)
	}
	return fmt.Sprintf("median of %d boots (dots) with its 95 %% interval", n)
}

func (d *Data) throughput(s Summary, metric string) (plot.Chart, bool) {
	closed := Summary{}
	for _, r := range s.Cells {
		if w, ok := d.workload(r.Workload); ok && w.Spec.Mode != load.Open {
			closed.Cells = append(closed.Cells, r)
		}
	}
	rows, table := d.figureRows(closed, metric)
	if len(rows) == 0 {
		return plot.Chart{}, false
	}
	n := closed.boots(metric)
	m := design.MetricByName(metric)
	name := map[string]string{"rate": "throughput", "bit_rate": "bandwidth"}[metric]
	c := d.chart(name, d.finding(closed, metric, ""), m.Unit+", "+medianNote(n)+"; hollow = the client was the limit", n)
	c.Table = table
	return plot.Rows(c, rows, plot.RowOptions{XTitle: m.Unit, Bars: true}), true
}

func (d *Data) perRequest(s Summary, metric, name string) (plot.Chart, bool) {
	closed := Summary{}
	for _, r := range s.Cells {
		if w, ok := d.workload(r.Workload); ok && w.Spec.Mode != load.Open {
			closed.Cells = append(closed.Cells, r)
		}
	}
	rows, table := d.figureRows(closed, metric)
	if len(rows) == 0 {
		return plot.Chart{}, false
	}
	n := closed.boots(metric)
	m := design.MetricByName(metric)
	c := d.chart(name, d.finding(closed, metric, ""), m.Title+", "+medianNote(n)+"; less is better", n)
	c.Table = table
	return plot.Rows(c, rows, plot.RowOptions{XTitle: m.Unit, Bars: true}), true
}

// bars are figures of a whole system.
func (d *Data) bars(s Summary, metric, name string) (plot.Chart, bool) {
	rows, table := d.figureRows(s, metric)
	if len(rows) == 0 {
		return plot.Chart{}, false
	}
	n := s.boots(metric)
	m := design.MetricByName(metric)
	sub := m.Title + ", " + m.Unit + "; less is better"
	if n > 1 {
		sub += "; " + medianNote(n)
	}
	c := d.chart(name, d.finding(s, metric, ""), sub, 0)
	if n > 1 {
		c.Footer = d.footer(n)
	}
	c.Table = table
	for i := range rows {
		rows[i].Group = ""
		if n == 1 {
			rows[i].Values = nil
		}
	}
	return plot.Rows(c, rows, plot.RowOptions{XTitle: m.Unit, Bars: true}), true
}

func (d *Data) boots(s Summary) (plot.Chart, bool) {
	rows, table := d.figureRows(s, "first_reply")
	if len(rows) == 0 {
		return plot.Chart{}, false
	}
	n := s.boots("first_reply")
	for i := range rows {
		rows[i].Group = ""
		rows[i].Lo, rows[i].Hi = 0, 0
		rows[i].Values = append(rows[i].Values[:len(rows[i].Values):len(rows[i].Values)], nil...)
	}
	c := d.chart("boot", d.finding(s, "first_reply", ""), "from the start of QEMU to the first right reply; each dot one boot, the bar their median", n)
	c.Table = table
	return plot.Rows(c, rows, plot.RowOptions{XTitle: "seconds"}), true
}

// ratioMetrics are the metrics of the ratio charts; the others are in the tables.
func ratioMetric(m string) bool {
	switch m {
	case "rate", "bit_rate", "instructions", "first_reply", "idle_vcpu", "ram_floor", "image_bytes":
		return true
	}
	return false
}

// ratios draws, for each pair of systems, every comparison as "how many times
// better", so that right of the line is better for the subject whatever the
// metric.
func (d *Data) ratios(s Summary) []plot.Chart {
	if d.Plan.AA {
		return nil
	}
	type pair struct{ ours, theirs string }
	var order []pair
	byPair := map[pair][]Row{}
	for _, r := range s.Cells {
		w, isLoad := d.workload(r.Workload)
		if r.Ratio == nil || !ratioMetric(r.Metric) || isLoad && w.Family != "" {
			continue // curves have charts of their own
		}
		p := pair{r.OSv.System, r.Linux.System}
		if byPair[p] == nil {
			order = append(order, p)
		}
		byPair[p] = append(byPair[p], r)
	}
	var out []plot.Chart
	for _, p := range order {
		out = append(out, d.ratioChart(p.ours, p.theirs, byPair[p]))
	}
	return out
}

func (d *Data) ratioChart(ours, theirs string, cells []Row) plot.Chart {
	t := plot.Table{Columns: []string{"Cell", "Metric", "Ratio OSv/Linux", "95 % interval", "n", "p", "Welch check", "Bootstrap check", "Claimed"}}
	var rows []plot.Row
	n, better, worse, same := 0, 0, 0, 0
	for _, r := range cells {
		m := design.MetricByName(r.Metric)
		n = max(n, r.Ratio.N)
		inv := func(v float64) float64 {
			if r.Higher {
				return v
			}
			return 1 / v
		}
		row := plot.Row{Group: m.Title, Label: r.Title, Look: d.look(ours), Mid: inv(r.Ratio.GM), Hollow: r.OSv.ClientBound || r.Linux.ClientBound}
		if r.Placement != "" && len(d.Plan.Placements) > 1 {
			row.Label += ", " + r.Placement
		}
		if factCells[r.Metric].cell != "" {
			row.Group = "The guest itself"
			row.Label = m.Title
		}
		row.Text = design.Number(row.Mid, 3) + "×"
		ci, welch, boot := stats.TooFew(r.Ratio.N), "", ""
		if r.Ratio.Lo != nil {
			row.Lo, row.Hi = inv(*r.Ratio.Lo), inv(*r.Ratio.Hi)
			if row.Lo > row.Hi {
				row.Lo, row.Hi = row.Hi, row.Lo
			}
			text := func(lo, hi float64) string {
				return fmt.Sprintf("[%s, %s]", design.Number(lo, 3), design.Number(hi, 3))
			}
			row.Text += " " + text(row.Lo, row.Hi)
			ci = text(*r.Ratio.Lo, *r.Ratio.Hi)
			welch, boot = text(r.Ratio.Welch.Lo, r.Ratio.Welch.Hi), text(r.Ratio.Bootstrap.Lo, r.Ratio.Bootstrap.Hi)
		}
		switch {
		case row.Lo == 0 || row.Lo <= 1 && row.Hi >= 1:
			same++
		case row.Mid > 1:
			better++
		default:
			worse++
		}
		rows = append(rows, row)
		claimed := "yes"
		if !r.Claimable {
			claimed = "no: " + r.Why
		}
		t.Rows = append(t.Rows, []string{group(r), m.Title, design.Number(r.Ratio.GM, 3), ci, fmt.Sprint(r.Ratio.N), fmt.Sprintf("%.2g", r.Ratio.P), welch, boot, claimed})
	}
	order := map[string]int{}
	for i, r := range rows {
		if _, ok := order[r.Group]; !ok {
			order[r.Group] = i
		}
	}
	slices.SortStableFunc(rows, func(a, b plot.Row) int { return order[a.Group] - order[b.Group] })
	title := fmt.Sprintf("%s against %s: better in %d of %d comparisons, worse in %d, not shown to differ in %d", d.title(ours), d.title(theirs), better, len(rows), worse, same)
	if !d.Plan.Claims() {
		title = fmt.Sprintf("%s against %s: %d comparisons, none with boots enough for a claim", d.title(ours), d.title(theirs), len(rows))
	}
	sub := fmt.Sprintf("right of 1 is better for %s: more throughput, or less of what is spent; geometric mean of paired boots, 95 %% interval; grey = not shown to differ, hollow = client-bound", d.title(ours))
	c := d.chart("ratios-"+theirs+"-"+ours, title, sub, n)
	c.Table = t
	return plot.RatioRows(c, rows, "times better, logarithmic")
}

// family gives the figures of a workload family by system and rate.
func (d *Data) family(w design.Workload, p design.Placement, metric string) map[string]map[float64]*Figure {
	figs := d.figures()
	out := map[string]map[float64]*Figure{}
	for _, e := range d.Plan.Expanded() {
		if e.Family != w.Name {
			continue
		}
		for _, s := range d.Plan.Systems {
			if f := figs[key{e.Name, string(p), metric, s.Name}]; f != nil && f.N > 0 {
				if out[s.Name] == nil {
					out[s.Name] = map[float64]*Figure{}
				}
				out[s.Name][e.Spec.Rate] = f
			}
		}
	}
	return out
}

func rates(m map[float64]*Figure) []float64 {
	var r []float64
	for k := range m {
		r = append(r, k)
	}
	slices.Sort(r)
	return r
}

// kept reports whether a rate was answered: a point beyond the capacity has a
// latency that only says how long the load ran.
const kept = 0.95

func (d *Data) latency(s Summary, w design.Workload, p design.Placement) (plot.Chart, bool) {
	p99 := d.family(w, p, "p99")
	if len(p99) == 0 {
		return plot.Chart{}, false
	}
	rate := d.family(w, p, "rate")
	var series []plot.Series
	t := plot.Table{Columns: []string{"System", "Offered (req/s)", "p50", "p99", "95 % interval of p99", "p99.9", "n", "Note"}}
	lm := design.MetricByName("p99")
	best := map[string]float64{}
	n := 0
	for _, sys := range d.Plan.Systems {
		if len(p99[sys.Name]) == 0 {
			continue
		}
		for _, q := range []struct {
			metric, label string
			thin          bool
		}{{"p50", "p50", true}, {"p99", "p99", false}, {"p999", "p99.9", true}} {
			if q.thin && sys.Role != design.Baseline && sys.Role != design.Subject {
				continue // two systems with three lines each are enough
			}
			figs := d.family(w, p, q.metric)[sys.Name]
			sr := plot.Series{Label: d.title(sys.Name) + " " + q.label, Look: d.look(sys.Name), Thin: q.thin}
			for _, r := range rates(figs) {
				if a := rate[sys.Name][r]; a == nil || a.Median < kept*r {
					continue
				}
				f := figs[r]
				pt := plot.Point{X: r, Y: f.Median, Hollow: f.ClientBound}
				if !q.thin && f.Lo != nil {
					pt.Lo, pt.Hi = *f.Lo, *f.Hi
				}
				sr.Points = append(sr.Points, pt)
			}
			if len(sr.Points) > 0 {
				series = append(series, sr)
			}
		}
		for _, r := range rates(p99[sys.Name]) {
			f, note := p99[sys.Name][r], ""
			n = max(n, f.N)
			a := rate[sys.Name][r]
			switch {
			case a == nil:
				note = "no rate"
			case a.Median < kept*r:
				note = "not carried: " + design.Number(a.Median, 4) + " req/s answered"
			case f.ClientBound:
				note = "client-bound: " + f.BoundWhy
			case d.Plan.SLO > 0 && f.Median <= float64(d.Plan.SLO):
				best[sys.Name] = math.Max(best[sys.Name], r)
			}
			cell := func(metric string) string {
				if g := d.family(w, p, metric)[sys.Name][r]; g != nil {
					return lm.FormatUnit(g.Median)
				}
				return ""
			}
			t.Rows = append(t.Rows, []string{d.title(sys.Name), design.Number(r, 4), cell("p50"), cell("p99"), interval(lm, f), cell("p999"), fmt.Sprint(f.N), note})
		}
	}
	if len(series) == 0 {
		return plot.Chart{}, false
	}
	title := w.Title + ": latency over offered load"
	if d.Plan.SLO > 0 && len(best) > 0 {
		var parts []string
		for _, sys := range d.Plan.Systems {
			if b := best[sys.Name]; b > 0 {
				parts = append(parts, d.title(sys.Name)+" "+design.Number(b, 4)+"/s")
			}
		}
		title = fmt.Sprintf("Highest rate tried with p99 within %v: %s", d.Plan.SLO, strings.Join(parts, ", "))
	}
	sub := fmt.Sprintf("%s, %s; median of boots, band = 95 %% interval of p99; rates that were not answered are left out; hollow = the client was the limit", w.Title, placementText(string(p)))
	c := d.chart(fmt.Sprintf("latency-%s-%s", w.Name, p), title, sub, n)
	c.Table = t
	return plot.LatencyCurve(c, series, float64(d.Plan.SLO)), true
}

func (d *Data) achieved(w design.Workload, p design.Placement) (plot.Chart, bool) {
	rate := d.family(w, p, "rate")
	var series []plot.Series
	t := plot.Table{Columns: []string{"System", "Offered (req/s)", "Answered (req/s)", "95 % interval", "n"}}
	m := design.MetricByName("rate")
	n := 0
	var parts []string
	for _, sys := range d.Plan.Systems {
		figs := rate[sys.Name]
		if len(figs) == 0 {
			continue
		}
		sr := plot.Series{Label: d.title(sys.Name), Look: d.look(sys.Name)}
		top := 0.0
		for _, r := range rates(figs) {
			f := figs[r]
			n = max(n, f.N)
			top = math.Max(top, f.Median)
			pt := plot.Point{X: r, Y: f.Median, Hollow: f.ClientBound}
			if f.Lo != nil {
				pt.Lo, pt.Hi = *f.Lo, *f.Hi
			}
			sr.Points = append(sr.Points, pt)
			t.Rows = append(t.Rows, []string{d.title(sys.Name), design.Number(r, 4), m.Format(f.Median), interval(m, f), fmt.Sprint(f.N)})
		}
		series = append(series, sr)
		parts = append(parts, d.title(sys.Name)+" "+design.Number(top, 4)+"/s")
	}
	if len(series) == 0 {
		return plot.Chart{}, false
	}
	c := d.chart(fmt.Sprintf("achieved-%s-%s", w.Name, p), "Most that was answered: "+strings.Join(parts, ", "),
		fmt.Sprintf("%s, %s; median of boots; hollow = the client was the limit", w.Title, placementText(string(p))), n)
	c.Table = t
	return plot.AchievedCurve(c, series), true
}

// percentiles merges the histograms of all boots at the highest rate that every
// system carried.
func (d *Data) percentiles(w design.Workload, p design.Placement) (plot.Chart, bool, error) {
	rate := d.family(w, p, "rate")
	if len(rate) == 0 {
		return plot.Chart{}, false, nil
	}
	best := 0.0
	for _, r := range w.Rates {
		all := true
		for _, figs := range rate {
			all = all && figs[r] != nil && figs[r].Median >= kept*r
		}
		if all {
			best = math.Max(best, r)
		}
	}
	if best == 0 {
		return plot.Chart{}, false, nil
	}
	name := fmt.Sprintf("%s@%.0f", w.Name, best)
	var series []plot.Series
	t := plot.Table{Columns: []string{"System", "p50", "p90", "p99", "p99.9", "p99.99", "largest", "requests"}}
	m := design.MetricByName("p99")
	n := 0
	var parts []string
	for _, sys := range d.Plan.Systems {
		h, boots, err := d.merged(name, sys.Name, p)
		if err != nil {
			return plot.Chart{}, false, err
		}
		if h == nil {
			continue
		}
		n = max(n, boots)
		sr := plot.Series{Label: d.title(sys.Name), Look: d.look(sys.Name)}
		most := math.Min(4, math.Log10(float64(h.TotalCount()))-1) // at least ten requests beyond the last point
		for x := 0.0; x <= most; x += 0.05 {
			q := 1 - math.Pow(10, -x)
			sr.Points = append(sr.Points, plot.Point{X: q, Y: math.Max(1, float64(h.ValueAtQuantile(q*100)))})
		}
		series = append(series, sr)
		at := func(q float64) string { return m.FormatUnit(float64(h.ValueAtQuantile(q))) }
		t.Rows = append(t.Rows, []string{d.title(sys.Name), at(50), at(90), at(99), at(99.9), at(99.99), m.FormatUnit(float64(h.Max())), design.Number(float64(h.TotalCount()), 6)})
		parts = append(parts, d.title(sys.Name)+" "+at(50))
	}
	if len(series) == 0 {
		return plot.Chart{}, false, nil
	}
	c := d.chart(fmt.Sprintf("percentiles-%s-%s", w.Name, p), fmt.Sprintf("Median latency at %s requests a second: %s", design.Number(best, 4), strings.Join(parts, ", ")),
		fmt.Sprintf("%s, %s; all boots together, from intended send time", w.Title, placementText(string(p))), n)
	c.Table = t
	return plot.PercentileCurve(c, series), true, nil
}

// merged adds up the latency histograms of a cell over its boots.
func (d *Data) merged(workload, system string, p design.Placement) (*hdr.Histogram, int, error) {
	var sum *hdr.Histogram
	n := 0
	for _, s := range d.Samples {
		if s.Cell.Workload != workload || s.Cell.System != system || s.Cell.Placement != p || !s.Clean || s.HDR == "" {
			continue
		}
		h, err := d.histogram(s.HDR)
		if err != nil {
			return nil, 0, err
		}
		n++
		if sum == nil {
			sum = h
			continue
		}
		sum.Merge(h)
	}
	return sum, n, nil
}

// histogram reads the latency histogram of a log.
func (d *Data) histogram(name string) (*hdr.Histogram, error) {
	f, err := os.Open(filepath.Join(d.Dir, name))
	if err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	defer f.Close()
	hs, err := load.ReadLog(f)
	if err != nil {
		return nil, fmt.Errorf("report: %s: %w", name, err)
	}
	h := hs[load.TagLatency]
	if h == nil {
		return nil, fmt.Errorf("report: %s: no latency histogram", name)
	}
	return h, nil
}

// drift shows the first closed-loop workload's rate over the run.
func (d *Data) drift(s Summary) (plot.Chart, bool) {
	var first *Row
	for i, r := range s.Cells {
		if w, ok := d.workload(r.Workload); ok && (r.Metric == "rate" || r.Metric == "bit_rate") && w.Spec.Mode != load.Open {
			first = &s.Cells[i]
			break
		}
	}
	if first == nil {
		return plot.Chart{}, false
	}
	var series []plot.Series
	t := plot.Table{Columns: []string{"System", "Boot", "Value", "Of the median"}}
	m := design.MetricByName(first.Metric)
	var moving []string
	boots := 0
	for _, sys := range d.Plan.Systems {
		sr := plot.Series{Label: d.title(sys.Name), Look: d.look(sys.Name)}
		var values []float64
		for _, x := range d.Samples {
			if x.Cell.Workload == first.Workload && string(x.Cell.Placement) == first.Placement && x.Cell.System == sys.Name && x.Clean {
				values = append(values, x.Metrics[first.Metric])
				sr.Points = append(sr.Points, plot.Point{X: float64(x.Boot + 1), Y: x.Metrics[first.Metric]})
			}
		}
		sum, err := stats.Summarize(values)
		if err != nil || sum.Median == 0 {
			continue
		}
		for i := range sr.Points {
			t.Rows = append(t.Rows, []string{d.title(sys.Name), fmt.Sprint(int(sr.Points[i].X)), m.FormatUnit(sr.Points[i].Y), fmt.Sprintf("%.1f %%", 100*sr.Points[i].Y/sum.Median)})
			sr.Points[i].Y /= sum.Median
		}
		boots += len(values)
		slices.SortFunc(sr.Points, func(a, b plot.Point) int { return int(a.X - b.X) })
		series = append(series, sr)
		if len(values) >= stats.MinBoots {
			if f, ci, err := stats.Drift(values); err == nil && !ci.Contains(1) {
				moving = append(moving, fmt.Sprintf("%s by %+.1f %% a boot", d.title(sys.Name), (f-1)*100))
			}
		}
	}
	if boots < 4 {
		return plot.Chart{}, false
	}
	title := fmt.Sprintf("No drift is shown over %d boots", boots)
	if len(moving) > 0 {
		title = "The run drifts: " + strings.Join(moving, ", ")
	} else if !d.Plan.Claims() {
		title = fmt.Sprintf("Values of %d boots, in order", boots)
	}
	c := d.chart("drift", title, first.Title+", "+placementText(first.Placement)+": "+lowerFirst(m.Title)+" of each boot", 0)
	c.Table = t
	return plot.DriftCurve(c, series), true
}

// noise is the A/A chart.
func (d *Data) noise(s Summary) (plot.Chart, bool) {
	if !d.Plan.AA {
		return plot.Chart{}, false
	}
	t := plot.Table{Columns: []string{"Cell", "Metric", "Ratio of equals", "95 % interval", "n", "Smallest effect shown with the same boots (80 %)"}}
	var rows []plot.Row
	n := 0
	var worst float64
	for _, r := range s.Cells {
		if r.Ratio == nil || r.Metric != "rate" && r.Metric != "bit_rate" && r.Metric != "instructions" && r.Metric != "first_reply" {
			continue
		}
		m := design.MetricByName(r.Metric)
		n = max(n, r.Ratio.N)
		row := plot.Row{Group: group(r), Label: m.Title, Look: plot.LookBaseline, Mid: r.Ratio.GM, Text: fmt.Sprintf("%+.1f %%", (r.Ratio.GM-1)*100)}
		ci, effect := stats.TooFew(r.Ratio.N), ""
		if r.Ratio.Lo != nil {
			row.Lo, row.Hi = *r.Ratio.Lo, *r.Ratio.Hi
			ci = fmt.Sprintf("[%.3f, %.3f]", row.Lo, row.Hi)
			row.Text += fmt.Sprintf(" [%+.1f, %+.1f]", (row.Lo-1)*100, (row.Hi-1)*100)
			worst = math.Max(worst, math.Max(math.Abs(row.Lo-1), math.Abs(row.Hi-1)))
			if e, err := stats.DetectableEffect(r.Ratio.SDLog, r.Ratio.N, 0.8); err == nil {
				effect = fmt.Sprintf("%.1f %%", (e-1)*100)
			}
		}
		rows = append(rows, row)
		t.Rows = append(t.Rows, []string{group(r), m.Title, fmt.Sprintf("%.3f", r.Ratio.GM), ci, fmt.Sprint(r.Ratio.N), effect})
	}
	if len(rows) == 0 {
		return plot.Chart{}, false
	}
	title := "A system against itself"
	if worst > 0 {
		title = fmt.Sprintf("Equal systems: every interval lies within ±%.1f %% of no difference", worst*100)
	}
	c := d.chart("noise", title, "geometric-mean ratio of a system to itself, 95 % interval; shaded = ±10 %", n)
	c.Table = t
	return plot.NoiseRows(c, rows, 0.1), true
}

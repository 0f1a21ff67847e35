package report

import (
	"fmt"
	"slices"
	"strings"

	"osv/harness/design"
	"osv/harness/load"
	"osv/harness/plot"
	"osv/harness/stats"
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
	add(d.knees(s))
	out = append(out, d.ratios(s)...)
	add(d.perRequest(s, "instructions", "instructions"))
	add(d.perRequest(s, "vcpu_ns", "vcpu-time"))
	for _, m := range []string{"interrupts", "doorbells", "exits"} {
		add(d.perRequest(s, m, m))
	}
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

// knees are the highest rates within the limit of latency.
func (d *Data) knees(s Summary) (plot.Chart, bool) {
	rows, table := d.figureRows(s, "knee")
	if len(rows) == 0 {
		return plot.Chart{}, false
	}
	n := s.boots("knee")
	c := d.chart("knee", d.finding(s, "knee", ""), fmt.Sprintf("highest rate (req/s) at which p99 latency is within %v, nothing is lost and the rate is kept, sought by bisection; %s; hollow = the client was the limit", d.Plan.SLO, medianNote(n)), n)
	c.Table = table
	return plot.Rows(c, rows, plot.RowOptions{XTitle: "req/s", Bars: true}), true
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
	case "rate", "bit_rate", "knee", "instructions", "first_reply", "idle_vcpu", "ram_floor", "image_bytes":
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

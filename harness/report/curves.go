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
		f := d.figures()[key{first.Workload, first.Placement, first.Metric, sys.Name}]
		if f == nil {
			continue
		}
		values := f.Values
		for i, v := range values {
			sr.Points = append(sr.Points, plot.Point{X: float64(f.boots[i] + 1), Y: v})
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

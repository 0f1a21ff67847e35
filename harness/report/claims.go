package report

import (
	"fmt"
	"math"
	"strings"

	"osv/harness/design"
	"osv/harness/stats"
)

// Headings of claims.md; the linter goes by them.
const (
	claimsHeading   = "## Claims"
	unclaimsHeading = "## Measured, not claimed"
)

// Claims writes claims.md: every comparison of the run as a sentence, those that
// OSv loses too, and those that are not claimed with the reason.
func (d *Data) Claims(s Summary) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s: what was measured\n\n", d.Plan.Name)
	switch {
	case d.Accelerator() == "tcg":
		b.WriteString("**Measured under TCG, QEMU's emulation. These figures compare the work that the guests' code makes for an emulator; they are not the performance of hardware.**\n\n")
	case !d.Hardware():
		fmt.Fprintf(&b, "**Accelerator: %s. Nothing here is claimed.**\n\n", d.accelText())
	}
	var yes, no []string
	for _, r := range s.Cells {
		if !claimedMetric(r.Metric) {
			continue
		}
		if w, ok := d.workload(r.Workload); ok && w.Family != "" {
			continue // curves speak in their charts
		}
		if r.Claimable {
			yes = append(yes, d.sentence(r))
		} else {
			no = append(no, d.withheld(r))
		}
	}
	b.WriteString(claimsHeading + "\n\n")
	if len(yes) == 0 {
		b.WriteString("None.\n")
	}
	for _, l := range yes {
		b.WriteString("- " + l + "\n")
	}
	b.WriteString("\n" + unclaimsHeading + "\n\n")
	if len(no) == 0 {
		b.WriteString("Nothing.\n")
	}
	for _, l := range no {
		b.WriteString("- " + l + "\n")
	}
	return b.String()
}

func claimedMetric(m string) bool {
	switch m {
	case "rate", "bit_rate", "knee", "instructions", "instructions_byte", "vcpu_ns", "first_reply", "ram_floor", "image_bytes", "idle_vcpu", "idle_instructions":
		return true
	}
	return false
}

// figureText is a figure with interval and n: "61,300 req/s [60,100, 62,300] (n=6)".
func (d *Data) figureText(m design.Metric, f *Figure) string {
	s := d.title(f.System) + " " + m.FormatUnit(f.Median)
	if f.Lo != nil {
		s += " [" + m.Format(*f.Lo) + ", " + m.Format(*f.Hi) + "]"
	}
	return s + fmt.Sprintf(" (n=%d)", f.N)
}

// sentence states one comparison with all that a reader needs to doubt it.
func (d *Data) sentence(r Row) string {
	m := design.MetricByName(r.Metric)
	var verdict string
	lo, hi := *r.Ratio.Lo, *r.Ratio.Hi
	better := (r.Ratio.GM > 1) == r.Higher
	switch {
	case lo <= 1 && hi >= 1:
		verdict = "no difference is shown"
	case better:
		verdict = d.title(r.OSv.System) + " is better"
	default:
		verdict = d.title(r.OSv.System) + " is worse"
	}
	verdict += fmt.Sprintf(", ratio %s [%s, %s] (95 %% CI, %s, n=%d)", design.Number(r.Ratio.GM, 3), design.Number(lo, 3), design.Number(hi, 3), r.Ratio.Method, r.Ratio.N)
	s := fmt.Sprintf("%s, %s: %s; %s against %s. Accelerator: %s.", group(r), lowerFirst(m.Title), verdict, d.figureText(m, r.OSv), d.figureText(m, r.Linux), d.accelText())
	if r.Ratio.Note != "" {
		s += " Note: " + r.Ratio.Note + "."
	}
	return s
}

// withheld states the figures of a comparison that is not claimed, without a
// verdict.
func (d *Data) withheld(r Row) string {
	m := design.MetricByName(r.Metric)
	var figs []string
	for _, f := range []*Figure{r.OSv, r.Linux} {
		if f != nil && f.N > 0 {
			figs = append(figs, d.figureText(m, f))
		}
	}
	if len(figs) == 0 {
		figs = []string{"no figure"}
	}
	return fmt.Sprintf("%s, %s: %s. Not claimed: %s.", group(r), lowerFirst(m.Title), strings.Join(figs, ", "), r.Why)
}

// Regression is a figure of the subject that got worse between two runs.
type Regression struct {
	Workload, Placement, Metric, System string
	Old, New                            float64 // medians
	Change                              float64 // factor, new over old
	CI                                  *stats.Interval
	Threshold                           float64 // smallest change that counts, as a share
	Worse, Better                       bool
	Note                                string
}

// Compare sets the figures of two runs side by side, cell by cell and system by
// system. A change counts when its interval excludes 1 and it is larger than the
// effect that the boots could show; with too few boots, when it is larger than a
// quarter.
func Compare(old, now *Data) ([]Regression, error) {
	if a, b := old.Accelerator(), now.Accelerator(); a != b {
		return nil, fmt.Errorf("report: %s was run with accelerator %s, %s with %s: not comparable", old.Dir, a, now.Dir, b)
	}
	var out []Regression
	of, nf := old.figures(), now.figures()
	for _, r := range now.everyFigure() {
		a, b := of[r], nf[r]
		if a == nil || a.N == 0 || b.N == 0 || !comparedMetric(r.metric) {
			continue
		}
		m := design.MetricByName(r.metric)
		x, err := stats.WelchRatio(b.Values, a.Values, 1)
		if err != nil {
			continue
		}
		g := Regression{Workload: r.workload, Placement: r.placement, Metric: r.metric, System: r.system, Old: a.Median, New: b.Median, Change: x.GM, CI: x.CI, Note: x.Note}
		g.Threshold = 0.25
		counts := true
		if n := min(a.N, b.N); x.CI != nil {
			e, err := stats.DetectableEffect(x.SDLog*math.Sqrt2, n, 0.8)
			if err != nil {
				return nil, err
			}
			g.Threshold = math.Max(e-1, 0.01)
			counts = !x.CI.Contains(1)
		} else if r.metric == "image_bytes" || r.metric == "ram_floor" {
			g.Threshold, g.Note = 0.05, "one value a run"
		}
		if counts && math.Abs(math.Log(x.GM)) > math.Log1p(g.Threshold) {
			g.Better = (x.GM > 1) == m.Higher
			g.Worse = !g.Better
		}
		out = append(out, g)
	}
	return out, nil
}

// comparedMetric leaves out what says nothing by itself.
func comparedMetric(m string) bool { return claimedMetric(m) || m == "p99" }

// everyFigure lists the figures of a run in the order of the plan.
func (d *Data) everyFigure() []key {
	var out []key
	figs := d.figures()
	for _, s := range d.Plan.Systems {
		for _, w := range d.Plan.Expanded() {
			for _, p := range d.Plan.Placements {
				for _, m := range design.Metrics {
					if k := (key{w.Name, string(p), m.Name, s.Name}); figs[k] != nil {
						out = append(out, k)
					}
				}
			}
		}
		for _, m := range design.Metrics {
			if c, ok := factCells[m.Name]; ok {
				if k := (key{c.cell, "", m.Name, s.Name}); figs[k] != nil {
					out = append(out, k)
				}
			}
		}
	}
	return out
}

package report

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"osv/harness/design"
)

// Table writes the outcome of a run for a terminal: one line a comparison, every
// system's median with its interval, the ratio, and whether it is claimed.
func (d *Data) Table(w io.Writer, s Summary) error {
	if _, err := fmt.Fprintf(w, "%s: %d boots a side, accelerator: %s\n", d.Plan.Name, d.Plan.Boots, d.accelText()); err != nil {
		return err
	}
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(tw, "WORKLOAD\tPLACEMENT\tMETRIC\tUNIT\tLINUX\t\tOSV\t\tRATIO\t95 % CI\tCLAIMED")
	for _, r := range s.Cells {
		if !claimedMetric(r.Metric) && r.Metric != "p99" {
			continue
		}
		if w, ok := d.workload(r.Workload); ok {
			if open := w.Family != "" || w.RateOf != ""; r.Metric == "p99" && !open || r.Metric != "p99" && r.Metric != "rate" && open {
				continue // closed-loop latency; the cost of a request at part load
			}
		}
		m := design.MetricByName(r.Metric)
		fig := func(f *Figure) string {
			if f == nil || f.N == 0 {
				return "-\t"
			}
			v := m.Format(f.Median)
			if f.ClientBound {
				v += "*"
			}
			if f.Lo == nil {
				return v + fmt.Sprintf("\t(n=%d)", f.N)
			}
			return v + "\t[" + m.Format(*f.Lo) + ", " + m.Format(*f.Hi) + "]"
		}
		linux := "LINUX"
		if r.Linux != nil {
			linux = strings.TrimPrefix(r.Linux.System, "linux-")
		}
		ours := ""
		if r.OSv != nil {
			if sys, ok := d.Plan.System(r.OSv.System); ok && sys.Role == design.Variant {
				ours = strings.TrimPrefix(sys.Name, "osv-") + " "
			}
		}
		ratio, ci := "-", "-"
		if r.Ratio != nil {
			ratio = design.Number(r.Ratio.GM, 3)
			if r.Ratio.Lo != nil {
				ci = "[" + design.Number(*r.Ratio.Lo, 3) + ", " + design.Number(*r.Ratio.Hi, 3) + "]"
			}
		}
		claimed := "yes"
		if !r.Claimable {
			claimed = "no: " + r.Why
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s %s\t%s%s\t%s\t%s\t%s\n", r.Workload, r.Placement, r.Metric, m.Unit, linux, fig(r.Linux), ours, fig(r.OSv), ratio, ci, claimed)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w, "* client-bound: the generator was the limit, nothing is claimed of it")
	return err
}

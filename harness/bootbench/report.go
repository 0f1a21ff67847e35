package bootbench

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"osv/harness/stats"
)

// Cell is one figure of a guest over its boots, or of the host for a constant.
type Cell struct {
	Guest  string        `json:"guest"`
	Value  float64       `json:"value"` // median
	Over   stats.Summary `json:"over"`
	Detail string        `json:"detail,omitempty"`
}

// Row is one metric, side by side. Ratio is the first guest's value over the
// second's.
type Row struct {
	Metric string       `json:"metric"`
	Unit   string       `json:"unit"`
	Cells  []Cell       `json:"cells"`
	Ratio  *stats.Ratio `json:"ratio,omitempty"`
}

// Report is a finished run.
type Report struct {
	Guests []string          `json:"guests"` // columns
	Host   map[string]string `json:"host"`
	QEMU   map[string]string `json:"qemu"` // line by guest
	Rows   []Row             `json:"rows"`
	Boots  map[string][]Boot `json:"boots"` // raw
}

// Add appends a row of single values, NaN-free; a missing guest is a missing key.
func (r *Report) Add(metric, unit string, values map[string][]float64, detail map[string]string) error {
	row := Row{Metric: metric, Unit: unit}
	for _, g := range r.Guests {
		vs := values[g]
		if len(vs) == 0 {
			continue
		}
		s, err := stats.Summarize(vs)
		if err != nil {
			return fmt.Errorf("%s of %s: %w", metric, g, err)
		}
		row.Cells = append(row.Cells, Cell{Guest: g, Value: s.Median, Over: s, Detail: detail[g]})
	}
	if len(r.Guests) >= 2 {
		a, b := values[r.Guests[0]], values[r.Guests[1]]
		if len(a) > 0 && len(a) == len(b) && positive(a) && positive(b) {
			ratio, err := stats.PairedRatio(a, b, 1)
			if err != nil {
				return fmt.Errorf("%s: %w", metric, err)
			}
			row.Ratio = &ratio
		}
	}
	r.Rows = append(r.Rows, row)
	return nil
}

func positive(vs []float64) bool {
	for _, v := range vs {
		if !(v > 0) {
			return false
		}
	}
	return true
}

// WriteJSON writes the report.
func (r *Report) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

// Table writes the report for a terminal: median, range and n of each guest, and
// the ratio with its interval where there is one.
func (r *Report) Table(w io.Writer) {
	const metricCol, cellCol = 45, 28
	fmt.Fprintf(w, "%-*s", metricCol, "")
	for _, g := range r.Guests {
		fmt.Fprintf(w, "%-*s", cellCol, g)
	}
	if len(r.Guests) >= 2 {
		fmt.Fprintf(w, "%s / %s", r.Guests[0], r.Guests[1])
	}
	fmt.Fprintln(w)
	var notes []string
	for _, row := range r.Rows {
		label := row.Metric
		if row.Unit != "" {
			label += ", " + row.Unit
		}
		line := fmt.Sprintf("%-*s", metricCol, label)
		for _, g := range r.Guests {
			text := "-"
			for _, c := range row.Cells {
				if c.Guest == g {
					text = cellText(c)
					if c.Detail != "" {
						notes = append(notes, fmt.Sprintf("%s, %s: %s", row.Metric, g, c.Detail))
					}
				}
			}
			line += fmt.Sprintf("%-*s", cellCol, text)
		}
		fmt.Fprintln(w, strings.TrimRight(line+ratioText(row.Ratio), " "))
	}
	for _, n := range notes {
		fmt.Fprintln(w, "  "+n)
	}
}

func cellText(c Cell) string {
	if c.Over.N == 1 {
		return number(c.Value)
	}
	return fmt.Sprintf("%s [%s–%s] n=%d", number(c.Value), number(c.Over.Min), number(c.Over.Max), c.Over.N)
}

func ratioText(r *stats.Ratio) string {
	if r == nil {
		return ""
	}
	s := fraction(r.GM)
	if r.CI != nil {
		s += fmt.Sprintf(" [%s–%s] 95 %%", fraction(r.CI.Lo), fraction(r.CI.Hi))
	}
	return s
}

// fraction shows a ratio below one as 1/x.
func fraction(x float64) string {
	if x > 0 && x < 1 {
		return "1/" + number(1/x)
	}
	return number(x)
}

// number shows three significant digits, whole numbers as they are.
func number(x float64) string {
	switch a := max(x, -x); {
	case a >= 100 || a == float64(int64(a)):
		return fmt.Sprintf("%.0f", x)
	case a >= 10:
		return fmt.Sprintf("%.1f", x)
	case a >= 1:
		return fmt.Sprintf("%.2f", x)
	}
	return fmt.Sprintf("%.3f", x)
}

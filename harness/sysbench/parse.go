package sysbench

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"osv/harness/stats"
)

// Parse reads a console: the least time of each operation in ns, by the program's
// lines "sysbench: NAME LEAST MEDIAN ns/op". Other lines are skipped. A console without
// the program's last line is an error: it did not come to its end.
func Parse(r io.Reader) (map[string]float64, error) {
	out := map[string]float64{}
	done := false
	sc := bufio.NewScanner(r)
	for sc.Scan() {
		f := strings.Fields(sc.Text())
		if len(f) == 0 || f[0] != "sysbench:" {
			continue
		}
		if len(f) == 2 && f[1] == "done" {
			done = true
			continue
		}
		if len(f) != 5 || f[4] != "ns/op" {
			continue
		}
		v, err := strconv.ParseFloat(f[2], 64)
		if err != nil || math.IsNaN(v) || math.IsInf(v, 0) || v <= 0 {
			return nil, fmt.Errorf("sysbench: %s: %q is no time", f[1], f[2])
		}
		if _, ok := out[f[1]]; ok {
			return nil, fmt.Errorf("sysbench: %s is there twice", f[1])
		}
		out[f[1]] = v
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("sysbench: console: %w", err)
	}
	if !done {
		return nil, errors.New("sysbench: the program did not come to its end")
	}
	if len(out) == 0 {
		return nil, errors.New("sysbench: the program measured nothing")
	}
	return out, nil
}

// Cell is one operation on one guest, in ns.
type Cell struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

func cellOf(v []float64) Cell {
	s, _ := stats.Summarize(v) // the only error is an empty v
	return Cell{Median: s.Median, Min: s.Min, Max: s.Max}
}

// Report is what all boots said.
type Report struct {
	Counted bool     `json:"instructions"` // times are instruction counts
	Kernel  string   `json:"linux"`        // version of the Linux guest
	Runs    int      `json:"runs"`
	Rounds  int      `json:"rounds"`
	Guests  []string `json:"guests"`
	// Values are ns by operation and guest, in order of runs.
	Values map[string]map[string][]float64 `json:"values"`
}

// add takes one boot's results. Every boot has to measure the same operations.
func (r *Report) add(guest string, v map[string]float64) error {
	if r.Values == nil {
		r.Values = map[string]map[string][]float64{}
		for op := range v {
			r.Values[op] = map[string][]float64{}
		}
	}
	for op := range r.Values {
		if _, ok := v[op]; !ok {
			return fmt.Errorf("sysbench: %s did not measure %s", guest, op)
		}
	}
	for op, x := range v {
		if r.Values[op] == nil {
			return fmt.Errorf("sysbench: %s measured %s, others did not", guest, op)
		}
		r.Values[op][guest] = append(r.Values[op][guest], x)
	}
	return nil
}

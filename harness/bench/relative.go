package bench

import (
	"fmt"
	"math"
	"slices"

	"osv/harness/design"
	"osv/harness/journal"
)

// learn keeps the rate of a sample, for workloads whose rate is a share of it.
func (r *Runner) learn(s *journal.Sample) {
	if r.rates == nil {
		r.rates = map[design.Cell][]float64{}
	}
	if v := s.Metrics["rate"]; v > 0 && s.Clean {
		r.rates[s.Cell] = append(r.rates[s.Cell], v)
	}
}

// rated is w with the rate that it stands for: its share of the median of what the
// baseline has answered of another workload so far, in the same placement. All
// systems of a half block get the same, as their windows of that workload are
// behind them.
func (r *Runner) rated(w design.Workload, p design.Placement) (design.Workload, error) {
	if w.RateOf == "" {
		return w, nil
	}
	base, _ := r.Plan.WithRole(design.Baseline)
	seen := slices.Sorted(slices.Values(r.rates[design.Cell{System: base.Name, Workload: w.RateOf, Placement: p}]))
	if len(seen) == 0 {
		return w, fmt.Errorf("%s: no rate of %s on %s yet", w.Name, w.RateOf, base.Name)
	}
	w.Spec.Rate = max(1, math.Round(w.RateShare*seen[len(seen)/2]))
	return w, nil
}

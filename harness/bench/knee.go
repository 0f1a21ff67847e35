package bench

import (
	"context"
	"fmt"

	"osv/harness/design"
	"osv/harness/journal"
	"osv/harness/load"
	"osv/harness/load/search"
)

// knee measures a window that is a search: the largest rate whose p99 latency stays
// within the plan's limit, with nothing lost and the rate kept. Each load of it is
// made again where the host was busy, by the rule for windows; a core's speed is not
// looked at, since it has no usual value where each load has another rate. load1 makes
// one load.
func (r *Runner) knee(ctx context.Context, w design.Workload, c design.Cell, load1 search.Measure) (*journal.Sample, error) {
	cfg := search.KneeConfig{SLO: r.Plan.SLO.Std(), Low: w.Knee.Low, High: w.Knee.High, Repeats: w.Knee.Repeats, Tolerance: w.Knee.Tolerance}
	s := &journal.Sample{Metrics: map[string]float64{}}
	measure := func(ctx context.Context, spec load.Spec) (load.Result, error) {
		for try := 1; ; try++ {
			res, err := load1(ctx, spec)
			if err != nil {
				return res, err
			}
			busy := busyHost(res, c.Placement, 1)
			if busy == "" || try >= repeat.Tries || !r.mayRepeat() {
				return res, nil
			}
			r.again++
			s.Again = append(s.Again, fmt.Sprintf("%.0f requests/s: %s", spec.Rate, busy))
		}
	}
	k, err := search.FindKnee(ctx, w.Spec, cfg, measure)
	if err != nil {
		return nil, err
	}
	s.Knee = &k
	last := func(rate float64) load.Result {
		for _, p := range k.Points {
			if p.Rate == rate {
				return p.Results[len(p.Results)-1]
			}
		}
		return load.Result{}
	}
	switch {
	case k.Low == 0:
		s.Result, s.Why = last(k.High), fmt.Sprintf("%.0f requests/s, the lowest rate tried, are above the knee already", k.High)
	case k.High == 0:
		s.Result, s.Why = last(k.Low), fmt.Sprintf("%.0f requests/s, the highest rate tried, are below the knee", k.Low)
	default:
		s.Result, s.Clean = last(k.Low), true
	}
	s.Metrics["knee"] = k.Low // also where it is only a bound: the report lists it among what does not count
	if k.Low == 0 {
		s.Metrics["knee"] = k.High
	}
	for name, v := range map[string]float64{"host_wait": hostWait(s.Result, c.Placement), "host_steal": steal(s.Result)} {
		if v > 0 {
			s.Metrics[name] = v
		}
	}
	return s, nil
}

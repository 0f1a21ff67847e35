package bench

import (
	"context"
	"errors"
	"testing"
	"time"

	"osv/harness/design"
	"osv/harness/load"
)

// A knee is a sample with all rates that were tried and the last load at the rate
// found; where it is outside the range that is listed, and is no figure. A load that
// the host disturbed is made again.
func TestKnee(t *testing.T) {
	r := &Runner{total: 100}
	r.Plan.SLO = load.Duration(10 * time.Millisecond)
	c := design.Cell{System: "a", Placement: design.Split}
	model := func(_ context.Context, s load.Spec) (load.Result, error) { // carries 4,000/s
		res := load.Result{Spec: s, Seconds: 1, Completed: 1, Offered: s.Rate, Rate: min(s.Rate, 4000)}
		if res.Latency.P99 = int64(time.Millisecond); s.Rate > 4000 {
			res.Latency.P99 = int64(time.Second)
		}
		return res, nil
	}
	for _, x := range []struct {
		low, high, found float64
		clean            bool
	}{{500, 32000, 4000, true}, {100, 200, 200, false}, {5000, 6000, 5000, false}} {
		w := design.Workload{Name: "knee", Spec: load.Spec{Mode: load.Open}, Knee: &design.Knee{Low: x.low, High: x.high, Tolerance: 0.05, Repeats: 3}}
		s, err := r.knee(t.Context(), w, c, model)
		if err != nil {
			t.Fatal(err)
		}
		if v := s.Metrics["knee"]; s.Clean != x.clean || (s.Why == "") != x.clean || v > x.found || v < x.found*0.95 || s.Knee == nil || s.Result.Spec.Rate != v || len(s.Again) != 0 {
			t.Errorf("%v: clean %v (%s), %v, result at %v", x, s.Clean, s.Why, v, s.Result.Spec.Rate)
		}
	}
	n := 0
	busy := func(ctx context.Context, s load.Spec) (load.Result, error) {
		res, err := model(ctx, s)
		if n++; n == 1 {
			res.Probes = map[string]float64{"vcpu_wait": 0.5e9}
			res.Latency.P99 = int64(time.Second)
		}
		return res, err
	}
	w := design.Workload{Name: "knee", Knee: &design.Knee{Low: 500, High: 32000, Tolerance: 0.05, Repeats: 1}}
	if s, err := r.knee(t.Context(), w, c, busy); err != nil || !s.Clean || len(s.Again) != 1 || r.again != 1 {
		t.Errorf("%+v %v", s, err)
	}
	boom := func(context.Context, load.Spec) (load.Result, error) { return load.Result{}, errors.New("boom") }
	if _, err := r.knee(t.Context(), w, c, boom); err == nil {
		t.Error("no error")
	}
}

// The runner makes the search in a guest, whatever it finds there.
func TestKneeCell(t *testing.T) {
	dir := t.TempDir()
	r := runner(t, dir, &nullKind{})
	spec := testSpec(load.MemcachedUDP)
	spec.Mode, spec.Outstanding = load.Open, 0
	r.Plan.SLO, r.Plan.Boots, r.Plan.Placements = load.Duration(time.Minute), 1, []design.Placement{design.Free}
	r.Plan.Workloads = []design.Workload{{Name: "knee", Title: "Knee", Port: "udp:11211", Spec: spec, Systems: []string{"a"},
		Knee: &design.Knee{Low: 100, High: 200, Tolerance: 0.5, Repeats: 1}}}
	if err := r.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, samples, _, failures := entries(t, dir)
	if len(samples) != 1 || len(failures) != 0 || samples[0].Knee == nil || len(samples[0].Knee.Points) == 0 || samples[0].Metrics["knee"] < 100 || samples[0].HDR != "" {
		t.Fatalf("%+v, failures %v", samples, failures)
	}
}

package bench

import (
	"context"
	"testing"
	"time"

	"osv/harness/design"
	"osv/harness/load"
)

// A knee cell is a search in each boot: a sample with all rates that were tried. Where
// the server carries even the highest, that is listed, and is no figure.
func TestKneeCell(t *testing.T) {
	dir := t.TempDir()
	r := runner(t, dir, &nullKind{})
	spec := testSpec(load.MemcachedUDP)
	spec.Mode, spec.Outstanding = load.Open, 0
	knee := func(name string, low, high float64) design.Workload {
		return design.Workload{Name: name, Title: name, Port: "udp:11211", Spec: spec, Systems: []string{"a"},
			Knee: &design.Knee{Low: low, High: high, Tolerance: 2, Repeats: 1}}
	}
	// A request cannot be answered in a nanosecond; one in a minute is carried always.
	r.Plan.SLO = load.Duration(time.Minute)
	r.Plan.Boots, r.Plan.Placements = 1, []design.Placement{design.Free}
	r.Plan.Workloads = []design.Workload{knee("within", 200, 50e6), knee("beyond", 100, 200)}
	if err := r.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	_, samples, _, failures := entries(t, dir)
	if len(samples) != 2 || len(failures) != 0 {
		t.Fatalf("%d samples, failures %v", len(samples), failures)
	}
	in, out := samples[0], samples[1]
	if k := in.Knee; !in.Clean || k == nil || k.Low < 200 || k.High <= k.Low || in.Metrics["knee"] != k.Low || in.Result.Spec.Rate != k.Low || len(k.Points) < 3 {
		t.Errorf("clean %v (%s), %+v, result at %v", in.Clean, in.Why, in.Knee, in.Result.Spec.Rate)
	}
	if k := out.Knee; out.Clean || out.Why == "" || k == nil || k.Low != 200 || k.High != 0 || out.Metrics["knee"] != 200 {
		t.Errorf("clean %v (%s), %+v", out.Clean, out.Why, out.Knee)
	}
	r.Plan.SLO, r.Plan.Workloads = 1, []design.Workload{knee("slow", 100, 200)}
	r.Dir = t.TempDir()
	if err := r.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	_, samples, _, _ = entries(t, r.Dir)
	if s := samples[0]; s.Clean || s.Why == "" || s.Knee.Low != 0 || s.Metrics["knee"] != 100 || s.Result.Completed == 0 {
		t.Errorf("clean %v (%s), %+v, %+v", s.Clean, s.Why, s.Knee, s.Result)
	}
}

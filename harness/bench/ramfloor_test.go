package bench

import (
	"context"
	"testing"
)

func TestRAMFloor(t *testing.T) {
	dir := t.TempDir()
	k := &nullKind{floor: map[string]int{"a": 37, "b": 9}}
	r := runner(t, dir, k)
	r.Plan.RAMFloor = true
	r.Plan.Boots = 1
	r.Plan.Workloads = r.Plan.Workloads[:1]
	if err := r.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	_, _, facts, _ := entries(t, dir)
	got := map[string]float64{}
	for _, f := range facts {
		if f.Metric == "ram_floor" {
			got[f.System] = f.Value
		}
	}
	if got["a"] < 37 || got["a"] > 38 || got["b"] < 9 || got["b"] > 10 {
		t.Errorf("floors %v", got)
	}
	k.floor["a"] = 1000
	r = runner(t, t.TempDir(), k)
	r.Plan.RAMFloor, r.Plan.Boots = true, 1
	k.failBoot = nil
	r.Plan.MemMiB = 2000
	r.open()
	if mib, _, err := r.ramFloor(context.Background(), r.Plan.Systems[0]); err != nil || mib < 1000 || mib > 1045 {
		t.Errorf("%d %v", mib, err)
	}
	r.Plan.MemMiB = 500
	if _, _, err := r.ramFloor(context.Background(), r.Plan.Systems[0]); err == nil {
		t.Error("a system that does not boot has a floor")
	}
}

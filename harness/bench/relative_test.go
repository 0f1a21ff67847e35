package bench

import (
	"testing"

	"osv/harness/design"
	"osv/harness/journal"
)

// The rate is a share of the baseline's median, of its clean samples in that
// placement alone.
func TestRateIsAShareOfTheBaselines(t *testing.T) {
	r := &Runner{Plan: design.Flagship()}
	half := design.Workload{Name: "half", RateOf: "udp-get", RateShare: 0.5}
	if _, err := r.rated(half, design.OneCore); err == nil {
		t.Error("a rate without a sample")
	}
	add := func(system string, p design.Placement, rate float64, clean bool) {
		r.learn(&journal.Sample{Cell: design.Cell{System: system, Workload: "udp-get", Placement: p}, Metrics: map[string]float64{"rate": rate}, Clean: clean})
	}
	add("osv", design.OneCore, 90000, true)
	add("linux-stock", design.Split, 4000, true)
	add("linux-stock", design.OneCore, 1, false)
	for _, rate := range []float64{8000, 9001, 8401} {
		add("linux-stock", design.OneCore, rate, true)
	}
	if w, err := r.rated(half, design.OneCore); err != nil || w.Spec.Rate != 4201 {
		t.Errorf("%v, %v", w.Spec.Rate, err)
	}
	if w, err := r.rated(design.Workload{Name: "plain"}, design.OneCore); err != nil || w.Spec.Rate != 0 {
		t.Errorf("%v, %v", w.Spec.Rate, err)
	}
}

package design

import (
	"strings"
	"testing"
	"time"
)

// A knee needs a limit of latency, two rates in order and a tolerance; its window is
// as long as its search.
func TestKnee(t *testing.T) {
	at := func(p Plan) *Workload {
		for i := range p.Workloads {
			if p.Workloads[i].Knee != nil {
				return &p.Workloads[i]
			}
		}
		t.Fatal("the full plan has no knee")
		return nil
	}
	w := *at(Full())
	each := w.Spec.Warmup.Std() + w.Spec.Duration.Std() + SeenCosts.Start
	// From 500 to 256,000 in steps of 5 %: both ends and seven halvings, two loads each.
	if d := SeenCosts.Window(w); d != 18*each {
		t.Errorf("%v for loads of %v", d, each)
	}
	for name, change := range map[string]func(p *Plan, w *Workload){
		"no limit":     func(p *Plan, _ *Workload) { p.SLO = 0 },
		"no low":       func(_ *Plan, w *Workload) { w.Knee.Low = 0 },
		"order":        func(_ *Plan, w *Workload) { w.Knee.High = w.Knee.Low },
		"no tolerance": func(_ *Plan, w *Workload) { w.Knee.Tolerance = 0 },
		"no loads":     func(_ *Plan, w *Workload) { w.Knee.Repeats = 0 },
		"two rates":    func(_ *Plan, w *Workload) { w.RateOf, w.RateShare = "udp-get", 0.5 },
		"a family":     func(_ *Plan, w *Workload) { w.Rates = []float64{1000} },
	} {
		p := Full()
		change(&p, at(p))
		if err := p.Check(); err == nil || !strings.Contains(err.Error(), "knee") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if d := Full().Estimate(SeenCosts, nil); d > 3*time.Hour {
		t.Errorf("the full plan takes %v", d)
	}
}

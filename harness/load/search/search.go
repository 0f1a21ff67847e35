// Package search finds two capacities of a server by repeated loads: the peak of
// the closed loop, and the knee of the open loop, which is the largest rate whose
// p99 latency stays within a limit (SLO).
//
// Who may use it: the benchmark's run. It measures through a function, so it
// knows nothing of guests or generators and is tested against a model.
package search

import (
	"context"
	"fmt"
	"sort"
	"time"

	"osv/harness/load"
)

// Measure runs one load.
type Measure func(ctx context.Context, spec load.Spec) (load.Result, error)

// Peak doubles the requests outstanding from spec.Outstanding to most until the
// rate grows by less than gain (0.03 = 3 %), and returns the best result and all
// of them in order. A result with losses ends the search and is not the best.
func Peak(ctx context.Context, spec load.Spec, most int, gain float64, m Measure) (load.Result, []load.Result, error) {
	spec = spec.WithDefaults()
	spec.Mode = load.Closed
	var best load.Result
	var all []load.Result
	for n := spec.Outstanding; n <= most; n *= 2 {
		spec.Outstanding = n
		r, err := m(ctx, spec)
		if err != nil {
			return best, all, fmt.Errorf("search: %d outstanding: %w", n, err)
		}
		all = append(all, r)
		if ok, why := r.Clean(); !ok {
			if best.Rate == 0 {
				return best, all, fmt.Errorf("search: %d outstanding: %s", n, why)
			}
			return best, all, nil
		}
		grown := r.Rate > best.Rate*(1+gain)
		if r.Rate > best.Rate {
			best = r
		}
		if !grown {
			break
		}
	}
	return best, all, nil
}

// KneeConfig bounds a knee search.
type KneeConfig struct {
	SLO       time.Duration // limit of p99 latency
	Low, High float64       // requests/s; Low should pass, High should fail
	Repeats   int           // loads per rate at most; the majority decides, as soon as there is one
	Tolerance float64       // stop when High/Low is below 1+Tolerance
}

// Point is one rate that was tried.
type Point struct {
	Rate    float64       `json:"rate"`
	P99     float64       `json:"p99"`    // median over repeats, ns
	Passed  bool          `json:"passed"` // within the SLO, nothing lost, the rate kept
	Bound   bool          `json:"bound"`  // the client, not the server, was the limit
	Results []load.Result `json:"-"`
}

// Knee is the outcome: the capacity lies in [Low, High).
type Knee struct {
	Low    float64 `json:"low"`    // largest rate that passed
	High   float64 `json:"high"`   // smallest rate above it that failed; 0 if none did
	Points []Point `json:"points"` // in the order tried
}

// keptRate is the share of the offered rate that must be answered in the window.
const keptRate = 0.97

// FindKnee bisects on a logarithmic scale. When Low fails the knee is unknown
// (Low 0); when High passes it is returned as Low, with High 0.
func FindKnee(ctx context.Context, spec load.Spec, cfg KneeConfig, m Measure) (Knee, error) {
	if cfg.SLO <= 0 || !(cfg.Low > 0) || !(cfg.High > cfg.Low) || cfg.Repeats < 1 || !(cfg.Tolerance > 0) {
		return Knee{}, fmt.Errorf("search: knee of %+v cannot be sought", cfg)
	}
	spec = spec.WithDefaults()
	spec.Mode = load.Open
	var k Knee
	try := func(rate float64) (bool, error) {
		p, err := tryRate(ctx, spec, rate, cfg, m)
		if err != nil {
			return false, err
		}
		k.Points = append(k.Points, p)
		return p.Passed, nil
	}
	ok, err := try(cfg.Low)
	if err != nil || !ok {
		k.High = cfg.Low
		return k, err
	}
	k.Low = cfg.Low
	if ok, err = try(cfg.High); err != nil {
		return k, err
	}
	if ok {
		k.Low = cfg.High
		return k, nil
	}
	k.High = cfg.High
	for k.High/k.Low > 1+cfg.Tolerance {
		mid := geoMid(k.Low, k.High)
		if ok, err = try(mid); err != nil {
			return k, err
		}
		if ok {
			k.Low = mid
		} else {
			k.High = mid
		}
	}
	return k, nil
}

func geoMid(a, b float64) float64 {
	lo, hi := a, b
	for range 60 { // bisect x = sqrt(ab) without overflow
		mid := (lo + hi) / 2
		if mid/a < b/mid {
			lo = mid
		} else {
			hi = mid
		}
	}
	return (lo + hi) / 2
}

func tryRate(ctx context.Context, spec load.Spec, rate float64, cfg KneeConfig, m Measure) (Point, error) {
	spec.Rate = rate
	p := Point{Rate: rate}
	var p99 []float64
	passed := 0
	for i := 0; i < cfg.Repeats && 2*passed <= cfg.Repeats && 2*(i-passed) < cfg.Repeats; i++ {
		spec.Repeat = uint64(i)
		r, err := m(ctx, spec)
		if err != nil {
			return p, fmt.Errorf("search: %.0f requests/s: %w", rate, err)
		}
		p.Results = append(p.Results, r)
		p99 = append(p99, float64(r.Latency.P99))
		ok, _ := r.Clean()
		if ok && r.Latency.P99 <= int64(cfg.SLO) && r.Rate >= keptRate*r.Offered {
			passed++
		}
		p.Bound = p.Bound || r.Guard.ClientBound
	}
	sort.Float64s(p99)
	p.P99 = p99[len(p99)/2]
	p.Passed = 2*passed > cfg.Repeats
	return p, nil
}

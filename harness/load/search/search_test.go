package search

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"osv/harness/load"
)

// server is a model: a service time of 1 ms on four workers, so 4,000/s, and a
// p99 that grows as a queue's does.
func server(_ context.Context, s load.Spec) (load.Result, error) {
	const capacity = 4000.0
	r := load.Result{Spec: s, Completed: 1}
	if s.Mode == load.Closed {
		r.Rate = math.Min(float64(s.Outstanding)*1000, capacity)
		return r, nil
	}
	r.Offered, r.Rate = s.Rate, math.Min(s.Rate, capacity)
	r.Latency.P99 = int64(60e9)
	if rho := s.Rate / capacity; rho < 1 {
		r.Latency.P99 = int64(1e6 / (1 - rho))
	}
	return r, nil
}

func TestPeak(t *testing.T) {
	best, all, err := Peak(context.Background(), load.Spec{Kind: load.MemcachedUDP}, 256, 0.03, server)
	if err != nil || best.Rate != 4000 || best.Spec.Outstanding != 4 || len(all) != 4 {
		t.Errorf("%v %d tries: %v", best.Rate, len(all), err)
	}
	lossy := func(ctx context.Context, s load.Spec) (load.Result, error) {
		r, _ := server(ctx, s)
		if s.Outstanding >= 4 {
			r.Lost = 3
		}
		return r, nil
	}
	best, all, err = Peak(context.Background(), load.Spec{}, 256, 0.03, lossy)
	if err != nil || best.Rate != 2000 || len(all) != 3 {
		t.Errorf("%v %d %v", best.Rate, len(all), err)
	}
	if _, _, err := Peak(context.Background(), load.Spec{Outstanding: 8}, 256, 0.03, lossy); err == nil || !strings.Contains(err.Error(), "3 of 4 requests lost") {
		t.Error(err)
	}
	boom := func(context.Context, load.Spec) (load.Result, error) { return load.Result{}, errors.New("boom") }
	if _, _, err := Peak(context.Background(), load.Spec{}, 4, 0.03, boom); err == nil {
		t.Error("no error")
	}
}

func config() KneeConfig {
	return KneeConfig{SLO: 5 * time.Millisecond, Low: 500, High: 8000, Repeats: 3, Tolerance: 0.02}
}

// 1/(1-rho) = 5 at rho = 0.8: the knee of the model is at 3,200/s.
func TestKnee(t *testing.T) {
	k, err := FindKnee(context.Background(), load.Spec{Kind: load.MemcachedUDP}, config(), server)
	if err != nil || k.Low > 3200 || k.High <= 3200 || k.High/k.Low > 1.02 {
		t.Errorf("%v to %v: %v", k.Low, k.High, err)
	}
	for _, p := range k.Points {
		if p.Passed != (p.Rate <= 3200) || len(p.Results) != 2 {
			t.Errorf("%+v", p)
		}
	}
}

func TestKneeOutsideTheRange(t *testing.T) {
	c := config()
	c.High = 1000
	if k, err := FindKnee(context.Background(), load.Spec{}, c, server); err != nil || k.Low != 1000 || k.High != 0 {
		t.Errorf("%+v %v", k, err)
	}
	c.Low, c.High = 5000, 9000
	if k, err := FindKnee(context.Background(), load.Spec{}, c, server); err != nil || k.Low != 0 || k.High != 5000 {
		t.Errorf("%+v %v", k, err)
	}
}

// One bad repeat of three does not move the knee; a lost request is a failure.
func TestKneeMajority(t *testing.T) {
	n := 0
	flaky := func(ctx context.Context, s load.Spec) (load.Result, error) {
		r, err := server(ctx, s)
		if n++; n%3 == 0 {
			r.Latency.P99 = int64(time.Second)
		}
		r.Guard.ClientBound = s.Rate > 3500
		return r, err
	}
	k, err := FindKnee(context.Background(), load.Spec{}, config(), flaky)
	if err != nil || k.Low > 3200 || k.High <= 3200 {
		t.Errorf("%v to %v: %v", k.Low, k.High, err)
	}
	if !k.Points[1].Bound || k.Points[0].Bound {
		t.Error("the client guard is not carried over")
	}
	boom := func(context.Context, load.Spec) (load.Result, error) { return load.Result{}, errors.New("boom") }
	if _, err := FindKnee(context.Background(), load.Spec{}, config(), boom); err == nil {
		t.Error("no error")
	}
	if _, err := FindKnee(context.Background(), load.Spec{}, KneeConfig{}, server); err == nil {
		t.Error("an empty range accepted")
	}
}

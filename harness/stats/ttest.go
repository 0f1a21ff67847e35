package stats

import (
	"fmt"
	"math"
)

// TTest is the outcome of a t test on a mean or a difference of means, in the
// unit of the values (for ratios: logarithms).
type TTest struct {
	Diff float64 // estimate
	SE   float64 // its standard error
	T    float64 // Diff / SE; ±Inf when SE is 0 and Diff is not
	DF   float64 // degrees of freedom, fractional for Welch
	P    float64 // two-sided
	CI   Interval
}

func newTTest(diff, se, df, confidence float64) TTest {
	r := TTest{Diff: diff, SE: se, DF: df}
	switch {
	case se > 0:
		r.T = diff / se
		r.P = twoSided(r.T, df)
	case diff == 0:
		r.P = 1 // every value equal on both sides: no evidence of a difference
	default:
		r.T = math.Inf(1)
		if diff < 0 {
			r.T = math.Inf(-1)
		}
	}
	half := TQuantile(1-(1-confidence)/2, df) * se
	r.CI = Interval{diff - half, diff + half}
	return r
}

// PairedT tests mean(a-b) against 0 over pairs of equal index.
func PairedT(a, b []float64, confidence float64) (TTest, error) {
	if len(a) != len(b) {
		return TTest{}, fmt.Errorf("stats: paired t: %d and %d values", len(a), len(b))
	}
	if len(a) < 2 {
		return TTest{}, fmt.Errorf("stats: paired t: %d pairs, need 2", len(a))
	}
	d := make([]float64, len(a))
	for i := range a {
		d[i] = a[i] - b[i]
	}
	n := float64(len(d))
	return newTTest(mean(d), math.Sqrt(variance(d)/n), n-1, confidence), nil
}

// WelchT tests mean(a)-mean(b) against 0 without assuming equal variances; the
// degrees of freedom are Welch's.
func WelchT(a, b []float64, confidence float64) (TTest, error) {
	if len(a) < 2 || len(b) < 2 {
		return TTest{}, fmt.Errorf("stats: Welch t: %d and %d values, need 2 each", len(a), len(b))
	}
	na, nb := float64(len(a)), float64(len(b))
	va, vb := variance(a)/na, variance(b)/nb
	df := na + nb - 2
	if va+vb > 0 {
		df = (va + vb) * (va + vb) / (va*va/(na-1) + vb*vb/(nb-1))
	}
	return newTTest(mean(a)-mean(b), math.Sqrt(va+vb), df, confidence), nil
}

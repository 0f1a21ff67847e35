package stats

import (
	"fmt"
	"math"
	"sort"

	mf "github.com/montanaflynn/stats"
)

// MinBoots is the smallest sample that supports a distribution-free 95 % interval
// of the median (2·0.5⁶ = 3.1 % outside the extremes), and the smallest for which
// this package gives any interval.
const MinBoots = 6

// Confidence is the level of every interval that the harness prints.
const Confidence = 0.95

// Interval is a two-sided confidence interval, in the unit of the metric.
type Interval struct {
	Lo float64 `json:"lo"`
	Hi float64 `json:"hi"`
}

// Contains reports whether v lies in the interval, ends included.
func (i Interval) Contains(v float64) bool { return i.Lo <= v && v <= i.Hi }

// Summary describes one guest's values of one metric over its boots.
type Summary struct {
	N      int     `json:"n"`
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	CV     float64 `json:"cv"` // standard deviation over mean; 0 when n < 2

	// CI is the distribution-free interval of the median; nil when n < MinBoots.
	CI *Interval `json:"ci,omitempty"`
	// Note says why there is no interval.
	Note string `json:"note,omitempty"`
}

// TooFew is the note of a sample under MinBoots.
func TooFew(n int) string {
	return fmt.Sprintf("too few boots (%d of %d) for an interval", n, MinBoots)
}

// Summarize gives median, range and the interval of the median. Values that are
// not finite are an error: a metric that could not be measured is absent, not NaN.
func Summarize(values []float64) (Summary, error) {
	if len(values) == 0 {
		return Summary{}, fmt.Errorf("stats: summary of no values")
	}
	for i, v := range values {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return Summary{}, fmt.Errorf("stats: value %d is %v", i, v)
		}
	}
	x := append([]float64(nil), values...)
	sort.Float64s(x)
	s := Summary{N: len(x), Min: x[0], Max: x[len(x)-1]}
	s.Median, _ = mf.Median(x) // the only error is an empty input
	if mean, _ := mf.Mean(x); len(x) > 1 && mean != 0 {
		sd, _ := mf.StandardDeviationSample(x)
		s.CV = sd / math.Abs(mean)
	}
	k := medianRank(len(x), Confidence)
	if k == 0 {
		s.Note = TooFew(len(x))
		return s, nil
	}
	s.CI = &Interval{x[k-1], x[len(x)-k]}
	return s, nil
}

// medianRank is the largest k such that [x(k), x(n+1-k)], order statistics
// counted from 1, covers the median with at least the given confidence: the
// median lies outside when fewer than k of n fair coins fall on one side. 0 when
// even the extremes do not reach it.
func medianRank(n int, confidence float64) int {
	p := math.Pow(0.5, float64(n)) // P(exactly i heads), i = 0
	outside, k := 0.0, 0
	for i := 0; i < n/2; i++ {
		outside += 2 * p
		if 1-outside < confidence {
			break
		}
		k = i + 1
		p *= float64(n-i) / float64(i+1)
	}
	return k
}

// GeoMean is the geometric mean of positive values.
func GeoMean(values []float64) (float64, error) {
	l, err := logs(values)
	if err != nil {
		return 0, err
	}
	return math.Exp(mean(l)), nil
}

func logs(values []float64) ([]float64, error) {
	if len(values) == 0 {
		return nil, fmt.Errorf("stats: no values")
	}
	out := make([]float64, len(values))
	for i, v := range values {
		if !(v > 0) || math.IsInf(v, 1) {
			return nil, fmt.Errorf("stats: value %d is %v, a ratio needs positive values", i, v)
		}
		out[i] = math.Log(v)
	}
	return out, nil
}

func mean(x []float64) float64 {
	var s float64
	for _, v := range x {
		s += v
	}
	return s / float64(len(x))
}

// variance is the unbiased sample variance; 0 for fewer than two values.
func variance(x []float64) float64 {
	if len(x) < 2 {
		return 0
	}
	m := mean(x)
	var s float64
	for _, v := range x {
		s += (v - m) * (v - m)
	}
	return s / float64(len(x)-1)
}

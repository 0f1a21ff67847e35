package stats

import (
	"fmt"
	"math"
)

// Ratio is how many times the numerator's guest is of the denominator's.
type Ratio struct {
	GM     float64 `json:"gm"`     // geometric-mean ratio
	N      int     `json:"n"`      // pairs, or the smaller side when unpaired
	Method string  `json:"method"` // "paired t on logs" or "Welch t on logs"
	P      float64 `json:"p"`      // two-sided, of no difference; 1 when n < MinBoots

	// CI is the primary interval; nil when N < MinBoots (see Note).
	CI *Interval `json:"ci,omitempty"`
	// Welch and Bootstrap are checks of CI; they are not claimed.
	Welch     *Interval `json:"welch,omitempty"`
	Bootstrap *Interval `json:"bootstrap,omitempty"`
	// SDLog is the standard deviation of the paired log ratios (of the pooled
	// logs when unpaired): the noise that the next run should plan with.
	SDLog float64 `json:"sd_log"`
	Note  string  `json:"note,omitempty"`
}

// Significant reports whether the interval excludes 1.
func (r Ratio) Significant() bool { return r.CI != nil && !r.CI.Contains(1) }

// Percent is the ratio as a signed change in percent.
func (r Ratio) Percent() float64 { return (r.GM - 1) * 100 }

// PairedRatio compares pairs of boots that ran next to each other: num[i] and
// den[i] are one pair. Drift of the host cancels within a pair up to its slope,
// and in the mean over pairs of alternating order.
func PairedRatio(num, den []float64, seed uint64) (Ratio, error) {
	if len(num) != len(den) {
		return Ratio{}, fmt.Errorf("stats: paired ratio: %d and %d values", len(num), len(den))
	}
	a, b, err := logPair(num, den)
	if err != nil {
		return Ratio{}, err
	}
	d := make([]float64, len(a))
	for i := range a {
		d[i] = a[i] - b[i]
	}
	r := Ratio{GM: math.Exp(mean(d)), N: len(d), Method: "paired t on logs", P: 1, SDLog: math.Sqrt(variance(d))}
	if len(d) < MinBoots {
		r.Note = TooFew(len(d))
		return r, nil
	}
	t, err := PairedT(a, b, Confidence)
	if err != nil {
		return Ratio{}, err
	}
	r.P, r.CI = t.P, expInterval(t.CI)
	if w, err := WelchT(a, b, Confidence); err == nil {
		r.Welch = expInterval(w.CI)
	}
	r.Bootstrap = expInterval(bootstrapPaired(d, Confidence, seed))
	r.Note = disagreement(r)
	return r, nil
}

// WelchRatio compares two independent sets of boots.
func WelchRatio(num, den []float64, seed uint64) (Ratio, error) {
	a, b, err := logPair(num, den)
	if err != nil {
		return Ratio{}, err
	}
	n := min(len(a), len(b))
	r := Ratio{GM: math.Exp(mean(a) - mean(b)), N: n, Method: "Welch t on logs", P: 1,
		SDLog: math.Sqrt((variance(a) + variance(b)) / 2)}
	if n < MinBoots {
		r.Note = TooFew(n)
		return r, nil
	}
	t, err := WelchT(a, b, Confidence)
	if err != nil {
		return Ratio{}, err
	}
	r.P, r.CI = t.P, expInterval(t.CI)
	r.Welch = r.CI
	r.Bootstrap = expInterval(bootstrapTwo(a, b, Confidence, seed))
	r.Note = disagreement(r)
	return r, nil
}

// disagreement notes a bootstrap that decides otherwise than the t interval.
func disagreement(r Ratio) string {
	if r.CI.Contains(1) != r.Bootstrap.Contains(1) {
		return "the t interval and the bootstrap disagree on whether the ratio differs from 1"
	}
	return ""
}

func logPair(num, den []float64) (a, b []float64, err error) {
	if a, err = logs(num); err != nil {
		return nil, nil, fmt.Errorf("numerator: %w", err)
	}
	if b, err = logs(den); err != nil {
		return nil, nil, fmt.Errorf("denominator: %w", err)
	}
	return a, b, nil
}

func expInterval(i Interval) *Interval {
	return &Interval{math.Exp(i.Lo), math.Exp(i.Hi)}
}

// DetectableEffect is the smallest ratio, as a factor above 1, that a paired
// comparison of n boots a side would find with the given power (say 0.8) when
// the paired log ratios scatter by sdLog, as an A/A run measures it.
func DetectableEffect(sdLog float64, n int, power float64) (float64, error) {
	if n < 2 || !(power > 0 && power < 1) || sdLog < 0 {
		return 0, fmt.Errorf("stats: detectable effect: n=%d, power=%v, sd=%v", n, power, sdLog)
	}
	df := float64(n - 1)
	t := TQuantile(1-(1-Confidence)/2, df) + TQuantile(power, df)
	return math.Exp(t * sdLog / math.Sqrt(float64(n))), nil
}

// Drift fits log(value) against the boot's index and returns the change per boot
// as a factor with its interval; it needs 4 values.
func Drift(values []float64) (factor float64, ci Interval, err error) {
	y, err := logs(values)
	if err != nil {
		return 0, Interval{}, err
	}
	if len(y) < 4 {
		return 0, Interval{}, fmt.Errorf("stats: drift of %d values, need 4", len(y))
	}
	n := float64(len(y))
	xm, ym := (n-1)/2, mean(y)
	var sxx, sxy float64
	for i, v := range y {
		dx := float64(i) - xm
		sxx += dx * dx
		sxy += dx * (v - ym)
	}
	slope := sxy / sxx
	var sse float64
	for i, v := range y {
		e := v - ym - slope*(float64(i)-xm)
		sse += e * e
	}
	se := math.Sqrt(sse / (n - 2) / sxx)
	half := TQuantile(1-(1-Confidence)/2, n-2) * se
	return math.Exp(slope), *expInterval(Interval{slope - half, slope + half}), nil
}

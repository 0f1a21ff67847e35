package plot

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// scale maps data to 0..1 along an axis and chooses ticks.
type scale struct {
	lo, hi float64
	log    bool
	format func(float64) string
	ticks  []float64 // nil = chosen
}

func (s scale) at(v float64) float64 {
	if s.log {
		return math.Log(v/s.lo) / math.Log(s.hi/s.lo)
	}
	return (v - s.lo) / (s.hi - s.lo)
}

// linear is a scale from lo to at least hi that ends on a tick.
func linear(lo, hi float64, most int, format func(float64) string) scale {
	if !(hi > lo) {
		hi = lo + 1
	}
	step := niceStep((hi - lo) / float64(most))
	return scale{lo: math.Floor(lo/step+1e-9) * step, hi: math.Ceil(hi/step-1e-9) * step, format: format}
}

// niceStep is the least of 1, 2, 2.5, 5 × 10ⁿ that is at least v.
func niceStep(v float64) float64 {
	p := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 2.5, 5, 10} {
		if m*p >= v*(1-1e-9) {
			return m * p
		}
	}
	return 10 * p
}

// logarithmic is a scale around lo..hi on 1-2-5 ticks; a narrow range gets finer
// ones.
func logarithmic(lo, hi float64, format func(float64) string) scale {
	if !(lo > 0) {
		lo = 1e-9
	}
	if hi < lo*1.0001 {
		lo, hi = lo/1.05, hi*1.05
	}
	s := scale{log: true, format: format}
	s.lo, s.hi = floor125(lo), ceil125(hi)
	if hi/lo < 3 { // 1-2-5 would waste the page
		pad := math.Pow(hi/lo, 0.08)
		s.lo, s.hi = lo/pad, hi*pad
	}
	return s
}

func floor125(v float64) float64 {
	p := math.Pow(10, math.Floor(math.Log10(v)+1e-12))
	best := p
	for _, m := range []float64{1, 2, 5} {
		if m*p <= v*(1+1e-9) {
			best = m * p
		}
	}
	return best
}

func ceil125(v float64) float64 {
	p := math.Pow(10, math.Floor(math.Log10(v)+1e-12))
	for _, m := range []float64{1, 2, 5, 10} {
		if m*p >= v*(1-1e-9) {
			return m * p
		}
	}
	return 10 * p
}

// marks gives the tick values of a scale.
func (s scale) marks() []float64 {
	if s.ticks != nil {
		return s.ticks
	}
	var out []float64
	if !s.log {
		step := niceStep((s.hi - s.lo) / 6)
		for i := 0; i < 40; i++ {
			v := math.Round(s.lo/step)*step + float64(i)*step
			if v > s.hi*(1+1e-9)+step*1e-6 {
				break
			}
			if v >= s.lo-step*1e-6 {
				out = append(out, v)
			}
		}
		return out
	}
	decades := math.Log10(s.hi / s.lo)
	mult := []float64{1, 2, 5}
	switch {
	case decades > 5:
		mult = []float64{1}
	case decades < 0.5:
		step := niceStep((s.hi - s.lo) / 5)
		for v := math.Ceil(s.lo/step) * step; v <= s.hi*(1+1e-9); v += step {
			out = append(out, v)
		}
		return out
	}
	for p := math.Floor(math.Log10(s.lo)); p <= math.Ceil(math.Log10(s.hi)); p++ {
		for _, m := range mult {
			if v := m * math.Pow(10, p); v >= s.lo*(1-1e-9) && v <= s.hi*(1+1e-9) {
				out = append(out, v)
			}
		}
	}
	return out
}

// short writes a number of a tick: "50k", "2.5M", "0.2".
func short(v float64) string {
	a := math.Abs(v)
	switch {
	case a >= 1e9:
		return trim(v/1e9) + "G"
	case a >= 1e6:
		return trim(v/1e6) + "M"
	case a >= 1e3:
		return trim(v/1e3) + "k"
	}
	return trim(v)
}

func trim(v float64) string {
	s := strconv.FormatFloat(v, 'f', 6, 64)
	return strings.TrimRight(strings.TrimRight(s, "0"), ".")
}

// duration writes nanoseconds with a unit: "200 µs", "5 ms".
func duration(ns float64) string {
	switch {
	case ns >= 1e9:
		return trim(sig(ns/1e9)) + " s"
	case ns >= 1e6:
		return trim(sig(ns/1e6)) + " ms"
	case ns >= 1e3:
		return trim(sig(ns/1e3)) + " µs"
	}
	return trim(sig(ns)) + " ns"
}

// sig rounds to three significant digits.
func sig(v float64) float64 {
	if v == 0 {
		return 0
	}
	p := math.Pow(10, 2-math.Floor(math.Log10(math.Abs(v))))
	return math.Round(v*p) / p
}

// factor writes a ratio: "0.5×", "12×".
func factor(v float64) string { return trim(sig(v)) + "×" }

// percentile writes a quantile given as its number of nines: 2 is 99 %.
func percentile(nines float64) string {
	p := 100 * (1 - math.Pow(10, -nines))
	return fmt.Sprintf("%s%%", trim(p))
}

// signedPercent writes a factor as a difference: 1.05 is "+5%".
func signedPercent(v float64) string {
	p := math.Round((v-1)*1000) / 10
	switch s := trim(p); {
	case p > 0:
		return "+" + s + "%"
	case p < 0:
		return "−" + s[1:] + "%"
	}
	return "0%"
}

package stats

import "math"

// betaInc is the regularised incomplete beta function I_x(a, b), DLMF §8.17.
// It evaluates the continued fraction 8.17.22 by the modified Lentz method on
// the side where it converges fast (8.17.4 gives the other side).
func betaInc(a, b, x float64) float64 {
	switch {
	case math.IsNaN(x) || a <= 0 || b <= 0:
		return math.NaN()
	case x <= 0:
		return 0
	case x >= 1:
		return 1
	}
	if x > (a+1)/(a+b+2) {
		return 1 - betaInc(b, a, 1-x)
	}
	la, _ := math.Lgamma(a)
	lb, _ := math.Lgamma(b)
	lab, _ := math.Lgamma(a + b)
	front := math.Exp(lab-la-lb+a*math.Log(x)+b*math.Log1p(-x)) / a

	const tiny, eps = 1e-300, 1e-16
	nonzero := func(v float64) float64 {
		if math.Abs(v) < tiny {
			return tiny
		}
		return v
	}
	f, c := 1.0, 1.0
	d := 1 / nonzero(1-(a+b)*x/(a+1))
	f = d
	for m := 1; m <= 500; m++ {
		fm := float64(m)
		even := fm * (b - fm) * x / ((a + 2*fm - 1) * (a + 2*fm))
		d = 1 / nonzero(1+even*d)
		c = nonzero(1 + even/c)
		f *= c * d
		odd := -(a + fm) * (a + b + fm) * x / ((a + 2*fm) * (a + 2*fm + 1))
		d = 1 / nonzero(1+odd*d)
		c = nonzero(1 + odd/c)
		step := c * d
		f *= step
		if math.Abs(step-1) < eps {
			break
		}
	}
	return front * f
}

// TCDF is the distribution function of Student's t with df degrees of freedom.
// df may be fractional (Welch).
func TCDF(t, df float64) float64 {
	if math.IsNaN(t) || df <= 0 {
		return math.NaN()
	}
	tail := betaInc(df/2, 0.5, df/(df+t*t)) / 2
	if t > 0 {
		return 1 - tail
	}
	return tail
}

// TQuantile is the inverse of TCDF for 0 < p < 1.
func TQuantile(p, df float64) float64 {
	if !(p > 0 && p < 1) || df <= 0 {
		return math.NaN()
	}
	if p == 0.5 {
		return 0
	}
	if p < 0.5 {
		return -TQuantile(1-p, df)
	}
	// The upper tail keeps its precision where 1-TCDF would lose it.
	want := 1 - p
	tail := func(t float64) float64 { return betaInc(df/2, 0.5, df/(df+t*t)) / 2 }
	lo, hi := 0.0, 1.0
	for tail(hi) > want && hi < 1e300 {
		lo, hi = hi, hi*2
	}
	for i := 0; i < 200 && hi-lo > 1e-14*hi; i++ {
		mid := lo + (hi-lo)/2
		if tail(mid) > want {
			lo = mid
		} else {
			hi = mid
		}
	}
	return lo + (hi-lo)/2
}

// twoSided is the two-sided p value of a t statistic.
func twoSided(t, df float64) float64 {
	return betaInc(df/2, 0.5, df/(df+t*t))
}

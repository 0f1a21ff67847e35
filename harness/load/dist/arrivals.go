package dist

import "fmt"

// Arrivals gives the gaps of an open-loop schedule: independent draws of one
// distribution, scaled so that the mean rate is the one asked for.
type Arrivals struct {
	d     Dist
	scale float64 // nanoseconds per unit of d
}

// NewArrivals makes a schedule of rate requests a second. shape is "poisson",
// "uniform" (equal gaps), or any distribution of Parse with a finite positive
// mean, of which only the shape counts.
func NewArrivals(shape string, rate float64) (*Arrivals, error) {
	if !(rate > 0) || rate > 1e9 {
		return nil, fmt.Errorf("arrivals: rate %v requests/s is outside (0, 1e9]", rate)
	}
	var d Dist
	switch shape {
	case "", "poisson":
		d = exponential{1}
	case "uniform":
		d = fixed(1)
	default:
		var err error
		if d, err = Parse(shape); err != nil {
			return nil, fmt.Errorf("arrivals: %w", err)
		}
	}
	m := d.Mean()
	if !(m > 0) || m > 1e18 {
		return nil, fmt.Errorf("arrivals: %s has mean %v; a schedule needs a finite positive one", d, m)
	}
	return &Arrivals{d: d, scale: 1e9 / rate / m}, nil
}

// Gap is the next gap in nanoseconds, never negative.
func (a *Arrivals) Gap(r Rand) int64 {
	g := Draw(a.d, r) * a.scale
	if g < 0 {
		return 0
	}
	return int64(g)
}

package dist

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Picker chooses keys 0..n-1: uniformly, or by Zipf's law with exponent theta,
// key 0 being the most popular.
type Picker struct {
	n                        uint32
	theta, alpha, zetan, eta float64
	half                     float64 // 1 + 0.5^theta
}

// NewPicker reads "uniform" or "zipf:THETA" with 0 < THETA < 1.
func NewPicker(s string, n int) (*Picker, error) {
	if n < 1 || n > math.MaxInt32 {
		return nil, fmt.Errorf("popularity %q: %d keys", s, n)
	}
	p := &Picker{n: uint32(n)}
	if s == "" || s == "uniform" {
		return p, nil
	}
	arg, ok := strings.CutPrefix(s, "zipf:")
	if !ok {
		return nil, fmt.Errorf("popularity %q: want uniform or zipf:THETA", s)
	}
	theta, err := strconv.ParseFloat(arg, 64)
	if err != nil || !(theta > 0 && theta < 1) {
		return nil, fmt.Errorf("popularity %q: THETA must be a number between 0 and 1", s)
	}
	p.theta, p.alpha = theta, 1/(1-theta)
	for i := 1; i <= n; i++ {
		p.zetan += math.Pow(1/float64(i), theta)
	}
	zeta2 := 1 + math.Pow(0.5, theta)
	p.half = zeta2
	p.eta = (1 - math.Pow(2/float64(n), 1-theta)) / (1 - zeta2/p.zetan)
	return p, nil
}

// Pick draws a key.
func (p *Picker) Pick(r Rand) uint32 {
	if p.theta == 0 {
		return r.Uint32N(p.n)
	}
	u := r.Float64()
	uz := u * p.zetan
	switch {
	case uz < 1:
		return 0
	case uz < p.half:
		return min(1, p.n-1)
	}
	k := uint32(float64(p.n) * math.Pow(p.eta*u-p.eta+1, p.alpha))
	return min(k, p.n-1)
}

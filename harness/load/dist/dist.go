// Package dist draws the random choices of a load: sizes, gaps between arrivals,
// and which key is asked for.
//
// Sources: the distributions that mutilate and most memcached papers use were
// fitted to Facebook's "ETC" pool by Atikoglu, Xu, Frachtenberg, Jiang and
// Paleczny, "Workload Analysis of a Large-Scale Key-Value Store", SIGMETRICS
// 2012, §5 and table 5. Zipf popularity follows Gray et al., "Quickly Generating
// Billion-Record Synthetic Databases", SIGMOD 1994, the method of YCSB.
//
// Who may use it: generators below harness/load. It keeps no state but the
// random stream given to it, allocates nothing per draw, and a seed fixes every
// draw. Start reading at Parse, which gives the notation of the config file.
package dist

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
)

// Rand is the random stream of one generator thread.
type Rand struct{ *rand.Rand }

// NewRand makes a stream that depends on the seed alone.
func NewRand(seed uint64) Rand {
	return Rand{rand.New(rand.NewPCG(seed, seed*0x9e3779b97f4a7c15+1))}
}

// open01 is uniform on (0, 1): safe to take a logarithm of.
func (r Rand) open01() float64 {
	for {
		if u := r.Float64(); u > 0 {
			return u
		}
	}
}

// Dist is a distribution with an inverse: Quantile(u) for u in (0, 1) is its
// value at probability u. Sampling through the inverse lets a generator fix a
// key's size from the key's number alone.
type Dist interface {
	Quantile(u float64) float64
	// Mean is the expectation; +Inf where there is none.
	Mean() float64
	// String is the notation that Parse reads.
	String() string
}

// Draw samples d.
func Draw(d Dist, r Rand) float64 { return d.Quantile(r.open01()) }

type fixed float64

func (f fixed) Quantile(float64) float64 { return float64(f) }
func (f fixed) Mean() float64            { return float64(f) }
func (f fixed) String() string           { return "fixed:" + num(float64(f)) }

type uniform struct{ lo, hi float64 }

func (d uniform) Quantile(u float64) float64 { return d.lo + u*(d.hi-d.lo) }
func (d uniform) Mean() float64              { return (d.lo + d.hi) / 2 }
func (d uniform) String() string             { return "uniform:" + num(d.lo) + "," + num(d.hi) }

type exponential struct{ mean float64 }

func (d exponential) Quantile(u float64) float64 { return -d.mean * math.Log1p(-u) }
func (d exponential) Mean() float64              { return d.mean }
func (d exponential) String() string             { return "exp:" + num(d.mean) }

// pareto is the generalised Pareto distribution (location, scale, shape).
type pareto struct{ loc, scale, shape float64 }

func (d pareto) Quantile(u float64) float64 {
	if d.shape == 0 {
		return d.loc - d.scale*math.Log1p(-u)
	}
	return d.loc + d.scale*(math.Pow(1-u, -d.shape)-1)/d.shape
}

func (d pareto) Mean() float64 {
	if d.shape >= 1 {
		return math.Inf(1)
	}
	return d.loc + d.scale/(1-d.shape)
}

func (d pareto) String() string {
	return "pareto:" + num(d.loc) + "," + num(d.scale) + "," + num(d.shape)
}

// gev is the generalised extreme value distribution (location, scale, shape).
type gev struct{ loc, scale, shape float64 }

func (d gev) Quantile(u float64) float64 {
	l := -math.Log(u)
	if d.shape == 0 {
		return d.loc - d.scale*math.Log(l)
	}
	return d.loc + d.scale*(math.Pow(l, -d.shape)-1)/d.shape
}

func (d gev) Mean() float64 {
	switch {
	case d.shape >= 1:
		return math.Inf(1)
	case d.shape == 0:
		return d.loc + d.scale*0.5772156649015329
	}
	return d.loc + d.scale*(math.Gamma(1-d.shape)-1)/d.shape
}

func (d gev) String() string {
	return "gev:" + num(d.loc) + "," + num(d.scale) + "," + num(d.shape)
}

// fbValue is ETC's value size: table 5 gives the probabilities of 0 to 14 bytes,
// a generalised Pareto the rest from 15 bytes on.
type fbValue struct{}

var fbSmall = [15]float64{0.00536, 0.00047, 0.17820, 0.09239, 0.00018, 0.02740, 0.00065, 0.00606,
	0.00023, 0.00837, 0.00837, 0.08989, 0.00092, 0.00326, 0.01980}

var fbTail = pareto{15, 214.476, 0.348238}

func (fbValue) Quantile(u float64) float64 {
	for size, p := range fbSmall {
		if u < p {
			return float64(size)
		}
		u -= p
	}
	rest := 1.0
	for _, p := range fbSmall {
		rest -= p
	}
	return fbTail.Quantile(math.Min(u/rest, 1-1e-12))
}

func (fbValue) Mean() float64 {
	rest, m := 1.0, 0.0
	for size, p := range fbSmall {
		rest -= p
		m += p * float64(size)
	}
	return m + rest*fbTail.Mean()
}

func (fbValue) String() string { return "fb_value" }

func num(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }

// Parse reads the notation of mutilate: a bare number or fixed:N, uniform:LO,HI,
// exp:MEAN, pareto:LOC,SCALE,SHAPE, gev:LOC,SCALE,SHAPE, and the names fb_key,
// fb_value and fb_ia for Facebook's ETC.
func Parse(s string) (Dist, error) {
	switch s {
	case "fb_key":
		return gev{30.7984, 8.20449, 0.078688}, nil
	case "fb_value":
		return fbValue{}, nil
	case "fb_ia":
		return pareto{0, 16.0292, 0.154971}, nil
	}
	kind, args, ok := strings.Cut(s, ":")
	if !ok {
		kind, args = "fixed", s
	}
	var v []float64
	for _, a := range strings.Split(args, ",") {
		f, err := strconv.ParseFloat(strings.TrimSpace(a), 64)
		if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			return nil, fmt.Errorf("distribution %q: %q is not a number", s, a)
		}
		v = append(v, f)
	}
	want := map[string]int{"fixed": 1, "uniform": 2, "exp": 1, "pareto": 3, "gev": 3}[kind]
	if want == 0 {
		return nil, fmt.Errorf("distribution %q: unknown kind %q (fixed, uniform, exp, pareto, gev, fb_key, fb_value, fb_ia)", s, kind)
	}
	if len(v) != want {
		return nil, fmt.Errorf("distribution %q: %d parameters, %s takes %d", s, len(v), kind, want)
	}
	switch kind {
	case "fixed":
		return fixed(v[0]), nil
	case "uniform":
		if v[1] < v[0] {
			return nil, fmt.Errorf("distribution %q: upper end below lower", s)
		}
		return uniform{v[0], v[1]}, nil
	case "exp":
		if v[0] <= 0 {
			return nil, fmt.Errorf("distribution %q: mean must be positive", s)
		}
		return exponential{v[0]}, nil
	}
	if v[1] <= 0 {
		return nil, fmt.Errorf("distribution %q: scale must be positive", s)
	}
	if kind == "gev" {
		return gev{v[0], v[1], v[2]}, nil
	}
	return pareto{v[0], v[1], v[2]}, nil
}

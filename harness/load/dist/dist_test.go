package dist

import (
	"math"
	"strings"
	"testing"
)

// The inverse of each distribution against its closed form, and the sample mean
// against Mean.
func TestDistributions(t *testing.T) {
	r := NewRand(1)
	for _, s := range []string{"42", "fixed:7", "uniform:10,20", "exp:5", "pareto:1,2,0.25", "pareto:0,3,0", "gev:10,2,0.1", "gev:10,2,0", "fb_key", "fb_value", "fb_ia"} {
		d, err := Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		back, err := Parse(d.String())
		if err != nil || back.Quantile(0.37) != d.Quantile(0.37) {
			t.Errorf("%s does not survive its own notation %q: %v", s, d, err)
		}
		var sum float64
		const n = 150000
		for range n {
			sum += Draw(d, r)
		}
		if got := sum / n; math.Abs(got-d.Mean()) > 0.02*d.Mean() {
			t.Errorf("%s: sample mean %.3f, Mean %.3f", s, got, d.Mean())
		}
		last := math.Inf(-1)
		for u := 0.001; u < 1; u += 0.001 {
			q := d.Quantile(u)
			if q < last {
				t.Fatalf("%s: the inverse falls at %v", s, u)
			}
			last = q
		}
	}
}

// SIGMETRICS 2012 §5: the mean key of ETC is about 36 bytes; 2-byte values are
// 17.8 % and two values in five fit 11 bytes.
func TestFacebookETC(t *testing.T) {
	key, _ := Parse("fb_key")
	if m := key.Mean(); m < 35 || m > 37 {
		t.Errorf("mean key %.2f bytes", m)
	}
	val, _ := Parse("fb_value")
	r := NewRand(2)
	var two, small int
	const n = 100000
	for range n {
		switch v := Draw(val, r); {
		case v == 2:
			two++
			small++
		case v <= 11:
			small++
		}
	}
	if p := float64(two) / n; math.Abs(p-0.1782) > 0.004 {
		t.Errorf("2-byte values %.4f, want 0.1782", p)
	}
	if p := float64(small) / n; math.Abs(p-0.4177) > 0.006 {
		t.Errorf("values up to 11 bytes %.4f, want 0.4177", p)
	}
	if q := val.Quantile(math.Nextafter(1, 0)); math.IsInf(q, 0) || q < 1e5 {
		t.Errorf("largest value %v", q)
	}
}

func TestInfiniteMeans(t *testing.T) {
	for _, s := range []string{"pareto:0,1,1", "gev:0,1,1"} {
		d, _ := Parse(s)
		if !math.IsInf(d.Mean(), 1) {
			t.Errorf("%s has mean %v", s, d.Mean())
		}
		if _, err := NewArrivals(s, 100); err == nil {
			t.Errorf("%s accepted as a schedule", s)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for s, want := range map[string]string{
		"": "not a number", "what:1": "unknown kind", "uniform:1": "takes 2", "uniform:3,2": "below lower",
		"exp:0": "positive", "pareto:0,0,1": "scale", "gev:0,-1,1": "scale", "fixed:NaN": "not a number", "exp:1,2": "takes 1",
	} {
		if _, err := Parse(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse(%q): %v, want %q", s, err, want)
		}
	}
}

func TestArrivalsKeepTheRate(t *testing.T) {
	r := NewRand(3)
	for _, shape := range []string{"poisson", "uniform", "fb_ia", "uniform:0,2"} {
		a, err := NewArrivals(shape, 20000)
		if err != nil {
			t.Fatal(err)
		}
		var ns int64
		const n = 100000
		for range n {
			g := a.Gap(r)
			if g < 0 {
				t.Fatal("negative gap")
			}
			ns += g
		}
		if rate := n / (float64(ns) / 1e9); math.Abs(rate-20000) > 400 {
			t.Errorf("%s: %.0f requests/s, want 20000", shape, rate)
		}
	}
	for _, bad := range []struct {
		shape string
		rate  float64
	}{{"poisson", 0}, {"poisson", math.NaN()}, {"poisson", 1e10}, {"nonsense", 5}, {"fixed:0", 5}} {
		if _, err := NewArrivals(bad.shape, bad.rate); err == nil {
			t.Errorf("schedule %v accepted", bad)
		}
	}
	neg, _ := NewArrivals("uniform:-1,3", 10)
	for range 100 {
		if neg.Gap(r) < 0 {
			t.Fatal("negative gap")
		}
	}
}

func TestPicker(t *testing.T) {
	r := NewRand(4)
	const n, draws = 1000, 300000
	u, err := NewPicker("uniform", n)
	if err != nil {
		t.Fatal(err)
	}
	z, err := NewPicker("zipf:0.99", n)
	if err != nil {
		t.Fatal(err)
	}
	var cu, cz [n]int
	for range draws {
		cu[u.Pick(r)]++
		cz[z.Pick(r)]++
	}
	for i, c := range cu {
		if c < 200 || c > 400 {
			t.Fatalf("uniform: key %d drawn %d times of %d", i, c, draws)
		}
	}
	// Zipf's law: p(1) = 1/zeta(n), p(k) = p(1)/k^theta for the first two.
	p0 := 1 / z.zetan
	for k, want := range []float64{p0, p0 / math.Pow(2, 0.99)} {
		if got := float64(cz[k]) / draws; math.Abs(got-want) > 0.05*want {
			t.Errorf("zipf: key %d has share %.4f, want %.4f", k, got, want)
		}
	}
	if cz[n-1] == 0 || cz[10] < cz[500] {
		t.Error("zipf: the tail is wrong")
	}
	one, _ := NewPicker("zipf:0.5", 1)
	for range 100 {
		if one.Pick(r) != 0 {
			t.Fatal("one key only")
		}
	}
	for _, bad := range []string{"zipf:1", "zipf:x", "hot"} {
		if _, err := NewPicker(bad, 10); err == nil {
			t.Errorf("popularity %q accepted", bad)
		}
	}
	if _, err := NewPicker("uniform", 0); err == nil {
		t.Error("no keys accepted")
	}
}

func TestDrawsDoNotAllocate(t *testing.T) {
	r := NewRand(5)
	a, _ := NewArrivals("fb_ia", 1000)
	p, _ := NewPicker("zipf:0.9", 1000)
	v, _ := Parse("fb_value")
	if n := testing.AllocsPerRun(1000, func() { a.Gap(r); p.Pick(r); Draw(v, r) }); n != 0 {
		t.Errorf("%v allocations per draw", n)
	}
}

func TestSeedFixesTheStream(t *testing.T) {
	a, b, c := NewRand(9), NewRand(9), NewRand(10)
	if a.Uint64() != b.Uint64() || a.Uint64() == c.Uint64() {
		t.Error("the stream does not follow the seed")
	}
}

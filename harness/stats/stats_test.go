package stats

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

func near(t *testing.T, what string, got, want, tol float64) {
	t.Helper()
	if math.IsNaN(got) || math.Abs(got-want) > tol {
		t.Errorf("%s = %.10g, want %.10g (± %g)", what, got, want, tol)
	}
}

// Critical values of Student's t, NIST/SEMATECH e-Handbook §1.3.6.7.2.
func TestTQuantileNISTTable(t *testing.T) {
	for _, c := range []struct{ df, p, want float64 }{
		{1, 0.90, 3.078}, {1, 0.975, 12.706}, {2, 0.999, 22.327},
		{2, 0.975, 4.303}, {5, 0.95, 2.015}, {5, 0.975, 2.571}, {9, 0.995, 3.250},
		{10, 0.975, 2.228}, {10, 0.999, 4.144}, {30, 0.975, 2.042}, {100, 0.975, 1.984},
		{100, 0.999, 3.174},
	} {
		near(t, "t quantile", TQuantile(c.p, c.df), c.want, 0.0006)
		near(t, "t quantile, lower side", TQuantile(1-c.p, c.df), -c.want, 0.0006)
		near(t, "round trip", TCDF(TQuantile(c.p, c.df), c.df), c.p, 1e-12)
	}
	// One degree of freedom is the Cauchy distribution: F(t) = 1/2 + atan(t)/π.
	for _, x := range []float64{-30, -1, 0, 0.3, 7} {
		near(t, "Cauchy", TCDF(x, 1), 0.5+math.Atan(x)/math.Pi, 1e-13)
	}
	for _, bad := range []float64{TQuantile(0, 3), TQuantile(1, 3), TQuantile(0.5, 0), TCDF(1, 0), TCDF(math.NaN(), 2), betaInc(0, 1, 0.5)} {
		if !math.IsNaN(bad) {
			t.Errorf("outside its domain a function gives %v, want NaN", bad)
		}
	}
	if TQuantile(0.5, 7) != 0 || betaInc(2, 3, 0) != 0 || betaInc(2, 3, 1) != 1 {
		t.Error("end points are wrong")
	}
	// I_x(2, 3) is a polynomial: 6x² - 8x³ + 3x⁴.
	for _, x := range []float64{0.1, 0.5, 0.9} {
		near(t, "betaInc", betaInc(2, 3, x), 6*x*x-8*x*x*x+3*x*x*x*x, 1e-14)
	}
}

// Student's sleep data (Biometrika 6 (1908), 1-25), with the results that the R
// manual prints for t.test on the data set "sleep".
var sleep1 = []float64{0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0}
var sleep2 = []float64{1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4}

func TestPairedTSleep(t *testing.T) {
	r, err := PairedT(sleep1, sleep2, 0.95)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "t", r.T, -4.0621, 5e-5)
	near(t, "df", r.DF, 9, 0)
	near(t, "p", r.P, 0.002833, 5e-7)
	near(t, "lo", r.CI.Lo, -2.4598858, 5e-8)
	near(t, "hi", r.CI.Hi, -0.7001142, 5e-8)
}

func TestWelchTSleep(t *testing.T) {
	r, err := WelchT(sleep1, sleep2, 0.95)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "t", r.T, -1.8608, 5e-5)
	near(t, "df", r.DF, 17.776, 5e-4)
	near(t, "p", r.P, 0.07939, 5e-6)
	near(t, "lo", r.CI.Lo, -3.3654832, 5e-8)
	near(t, "hi", r.CI.Hi, 0.2054832, 5e-8)
}

func TestTTestsRefuseTooFewValues(t *testing.T) {
	if _, err := PairedT([]float64{1}, []float64{2}, 0.95); err == nil {
		t.Error("paired t of one pair")
	}
	if _, err := PairedT([]float64{1, 2}, []float64{2}, 0.95); err == nil {
		t.Error("paired t of unequal lengths")
	}
	if _, err := WelchT([]float64{1}, []float64{2, 3}, 0.95); err == nil {
		t.Error("Welch t of one value")
	}
	same, _ := WelchT([]float64{2, 2}, []float64{2, 2}, 0.95)
	if same.P != 1 || same.T != 0 {
		t.Errorf("no variance, no difference: %+v", same)
	}
	up, _ := PairedT([]float64{3, 3}, []float64{2, 2}, 0.95)
	down, _ := PairedT([]float64{2, 2}, []float64{3, 3}, 0.95)
	if up.P != 0 || !math.IsInf(up.T, 1) || !math.IsInf(down.T, -1) {
		t.Errorf("no variance, a difference: %+v %+v", up, down)
	}
}

// Ranks of the 95 % interval of the median: Campbell and Gardner, BMJ 296
// (1988), 1454-1456, table for one sample.
func TestMedianRanks(t *testing.T) {
	for n, want := range map[int]int{1: 0, 5: 0, 6: 1, 8: 1, 9: 2, 10: 2, 12: 3, 15: 4, 20: 6, 25: 8, 30: 10} {
		if got := medianRank(n, 0.95); got != want {
			t.Errorf("n=%d: rank %d, want %d", n, got, want)
		}
	}
}

func TestSummarize(t *testing.T) {
	s, err := Summarize([]float64{5, 1, 4, 2, 3})
	if err != nil {
		t.Fatal(err)
	}
	if s.N != 5 || s.Median != 3 || s.Min != 1 || s.Max != 5 || s.CI != nil {
		t.Errorf("%+v", s)
	}
	if !strings.Contains(s.Note, "too few boots") {
		t.Errorf("note %q", s.Note)
	}
	near(t, "cv", s.CV, math.Sqrt(2.5)/3, 1e-15)
	s, _ = Summarize([]float64{6, 5, 4, 3, 2, 1})
	if s.CI == nil || *s.CI != (Interval{1, 6}) || s.Note != "" || s.Median != 3.5 {
		t.Errorf("%+v", s)
	}
	for _, bad := range [][]float64{nil, {math.NaN()}, {1, math.Inf(1)}} {
		if _, err := Summarize(bad); err == nil {
			t.Errorf("summary of %v", bad)
		}
	}
	one, _ := Summarize([]float64{7})
	if one.Median != 7 || one.CV != 0 {
		t.Errorf("%+v", one)
	}
}

func TestGeoMean(t *testing.T) {
	g, err := GeoMean([]float64{1, 10, 100})
	if err != nil {
		t.Fatal(err)
	}
	near(t, "geometric mean", g, 10, 1e-12)
	for _, bad := range [][]float64{nil, {1, 0}, {-1}, {math.NaN()}, {math.Inf(1)}} {
		if _, err := GeoMean(bad); err == nil {
			t.Errorf("geometric mean of %v", bad)
		}
	}
}

// lognormal draws n values around center with the given relative noise.
func lognormal(rng *rand.Rand, n int, center, sd float64) []float64 {
	x := make([]float64, n)
	for i := range x {
		x[i] = center * math.Exp(sd*rng.NormFloat64())
	}
	return x
}

// The intervals cover what they promise at the sample sizes of a run.
func TestIntervalCoverage(t *testing.T) {
	const trials = 1200
	rng := newRand(1)
	var paired, welch, boot, boots int
	for i := range trials {
		a, b := must(logs(lognormal(rng, 6, 200, 0.05))), must(logs(lognormal(rng, 6, 100, 0.05)))
		p, err := PairedT(a, b, Confidence)
		if err != nil {
			t.Fatal(err)
		}
		w, _ := WelchT(a, b, Confidence)
		if p.CI.Contains(math.Ln2) {
			paired++
		}
		if w.CI.Contains(math.Ln2) {
			welch++
		}
		if i%5 == 0 {
			boots++
			if bootstrapTwo(a, b, Confidence, 7).Contains(math.Ln2) {
				boot++
			}
		}
	}
	for name, n := range map[string]int{"paired": paired, "welch": welch} {
		if got := float64(n) / trials; got < 0.925 || got > 0.975 {
			t.Errorf("%s t covers %.3f, want about 0.95", name, got)
		}
	}
	// A percentile bootstrap of means is known to be narrow at n = 6 (it is the
	// check, not the claim); far under that would be a defect.
	if got := float64(boot) / float64(boots); got < 0.82 || got > 0.98 {
		t.Errorf("bootstrap covers %.3f", got)
	}
}

func TestPairedRatioCancelsDrift(t *testing.T) {
	// A host that slows by 3 % a boot, measured in the order A B B A A B B A A B B A.
	rng := newRand(3)
	var a, b []float64
	order := "ABBAABBAABBA"
	for i, g := range order {
		v := math.Pow(0.97, float64(i)) * math.Exp(0.002*rng.NormFloat64())
		if g == 'A' {
			a = append(a, 3*v)
		} else {
			b = append(b, v)
		}
	}
	p, err := PairedRatio(a, b, 1)
	if err != nil {
		t.Fatal(err)
	}
	w, _ := WelchRatio(a, b, 1)
	near(t, "ratio", p.GM, 3, 0.02)
	if !p.CI.Contains(3) || !p.Significant() || p.P > 1e-6 {
		t.Errorf("paired: %+v", p)
	}
	if pw, ww := p.CI.Hi-p.CI.Lo, w.CI.Hi-w.CI.Lo; pw > ww/2 {
		t.Errorf("pairing should have narrowed the interval: paired %.3f, Welch %.3f", pw, ww)
	}
	near(t, "percent", p.Percent(), 200, 2)
}

func TestRatioRefusals(t *testing.T) {
	r, err := PairedRatio([]float64{2, 2, 2}, []float64{1, 1, 1}, 1)
	if err != nil || r.CI != nil || r.P != 1 || r.Significant() || !strings.Contains(r.Note, "too few boots (3 of 6)") || r.GM != 2 {
		t.Errorf("%+v %v", r, err)
	}
	r, err = WelchRatio([]float64{2, 2}, []float64{1, 1, 1, 1, 1, 1}, 1)
	if err != nil || r.CI != nil || r.N != 2 {
		t.Errorf("%+v %v", r, err)
	}
	if _, err := PairedRatio([]float64{1}, []float64{1, 2}, 1); err == nil {
		t.Error("unequal lengths")
	}
	if _, err := PairedRatio([]float64{1, -1}, []float64{1, 2}, 1); err == nil {
		t.Error("negative numerator")
	}
	if _, err := WelchRatio([]float64{1}, []float64{0}, 1); err == nil {
		t.Error("zero denominator")
	}
}

func TestBootstrapIsDeterministicAndNotesDisagreement(t *testing.T) {
	a, b := []float64{10, 11, 12, 13, 14, 15}, []float64{10, 10, 10, 10, 10, 10.5}
	r1, _ := WelchRatio(a, b, 42)
	r2, _ := WelchRatio(a, b, 42)
	if *r1.Bootstrap != *r2.Bootstrap {
		t.Errorf("same seed, other interval: %v %v", r1.Bootstrap, r2.Bootstrap)
	}
	if got := disagreement(Ratio{CI: &Interval{0.9, 1.2}, Bootstrap: &Interval{1.01, 1.1}}); !strings.Contains(got, "disagree") {
		t.Errorf("note %q", got)
	}
}

// The promise of DetectableEffect is kept: that effect is found about as often
// as its power says.
func TestDetectableEffectPower(t *testing.T) {
	const n, sd, trials = 8, 0.05, 1500
	effect, err := DetectableEffect(sd*math.Sqrt2, n, 0.8)
	if err != nil {
		t.Fatal(err)
	}
	rng := newRand(5)
	found := 0
	for range trials {
		a, b := lognormal(rng, n, effect, sd), lognormal(rng, n, 1, sd)
		if tt, _ := PairedT(must(logs(a)), must(logs(b)), Confidence); tt.CI.Lo > 0 {
			found++
		}
	}
	if p := float64(found) / trials; p < 0.74 || p > 0.88 {
		t.Errorf("power %.3f at effect %.4f, want about 0.8", p, effect)
	}
	for _, bad := range []func() (float64, error){
		func() (float64, error) { return DetectableEffect(0.1, 1, 0.8) },
		func() (float64, error) { return DetectableEffect(0.1, 6, 1) },
		func() (float64, error) { return DetectableEffect(-1, 6, 0.8) },
	} {
		if _, err := bad(); err == nil {
			t.Error("bad arguments accepted")
		}
	}
}

func must(x []float64, err error) []float64 {
	if err != nil {
		panic(err)
	}
	return x
}

func TestDrift(t *testing.T) {
	x := make([]float64, 12)
	for i := range x {
		x[i] = 100 * math.Pow(0.98, float64(i))
	}
	f, ci, err := Drift(x)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "drift", f, 0.98, 1e-12)
	if !ci.Contains(f) || ci.Contains(1) {
		t.Errorf("interval %v", ci)
	}
	if _, _, err := Drift(x[:3]); err == nil {
		t.Error("drift of three values")
	}
	if _, _, err := Drift([]float64{1, 2, 3, 0}); err == nil {
		t.Error("drift through zero")
	}
}

// Worked by hand: y = log of {1, e, e, e²} has slope 0.6 and residual variance 0.1.
func TestDriftWorkedByHand(t *testing.T) {
	e := math.E
	f, ci, err := Drift([]float64{1, e, e, e * e})
	if err != nil {
		t.Fatal(err)
	}
	near(t, "slope", math.Log(f), 0.6, 1e-12)
	se := math.Sqrt(0.1 / 5)
	near(t, "half width", math.Log(ci.Hi)-0.6, 4.302652729696142*se, 1e-9)
}

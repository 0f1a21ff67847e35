package plot

import (
	"math"
	"math/rand/v2"
)

const sampleFooter = "n = 6 boots a side · 95 % intervals · 2 cores, QEMU 7.2.22 q35, TCG · 1 vCPU, 256 MiB · commit 0123456789ab"

// samples are charts of invented data, one of each kind, with the awkward cases:
// long titles, hollow points, close labels, ratios that span 1.
func samples() []Chart {
	rng := rand.New(rand.NewPCG(1, 2))
	queue := func(cap, base, rate float64) float64 { return base / (1 - math.Min(rate/cap, 0.985)) * 1e3 }
	var lat, ach []Series
	rates := []float64{500, 1000, 2000, 4000, 6000, 8000, 16000, 32000, 48000}
	for i, s := range []struct {
		name string
		look Look
		cap  float64
		base float64
	}{{"Linux", LookBaseline, 6500, 400}, {"OSv", LookOurs, 61000, 60}} {
		_ = i
		for _, q := range []struct {
			label string
			k     float64
			thin  bool
		}{{"p50", 1, true}, {"p99", 3.2, false}, {"p99.9", 5, true}} {
			sr := Series{Label: s.name + " " + q.label, Look: s.look, Thin: q.thin}
			for _, r := range rates {
				if r > s.cap {
					break
				}
				y := queue(s.cap, s.base*q.k, r)
				p := Point{X: r, Y: y, Hollow: r >= 48000}
				if !q.thin {
					p.Lo, p.Hi = y*0.85, y*1.2
				}
				sr.Points = append(sr.Points, p)
			}
			lat = append(lat, sr)
		}
		a := Series{Label: s.name, Look: s.look}
		for _, r := range rates {
			a.Points = append(a.Points, Point{X: r, Y: math.Min(r, s.cap), Hollow: r >= 48000})
		}
		ach = append(ach, a)
	}
	var pct []Series
	for _, s := range []struct {
		name string
		look Look
		base float64
	}{{"Linux, stock", LookBaseline, 410e3}, {"Linux, tuned", LookRival, 380e3}, {"OSv", LookOurs, 60e3}} {
		sr := Series{Label: s.name, Look: s.look}
		for n := 0.0; n <= 4; n += 0.05 {
			sr.Points = append(sr.Points, Point{X: 1 - math.Pow(10, -n), Y: s.base * (1 + 0.5*n*n)})
		}
		pct = append(pct, sr)
	}
	dots := func(mid, noise float64) []float64 {
		v := make([]float64, 6)
		for i := range v {
			v[i] = mid * math.Exp(noise*rng.NormFloat64())
		}
		return v
	}
	var thr []Row
	for _, g := range []string{"memcached UDP GET, 32 outstanding", "memcached UDP SET, 32 outstanding", "memcached TCP GET, 16 connections"} {
		for i, s := range []string{"Linux, stock", "Linux, tuned", "OSv"} {
			mid := []float64{6424, 7210, 61300}[i]
			r := Row{Group: g, Label: s, Look: []Look{LookBaseline, LookRival, LookOurs}[i], Values: dots(mid, 0.03), Mid: mid, Lo: mid * 0.97, Hi: mid * 1.03,
				Text: []string{"6,424 req/s", "7,210 req/s", "61,300 req/s"}[i]}
			if g[10] == 'T' && i == 2 {
				r.Hollow, r.Text = true, "61,300 req/s (client-bound)"
			}
			thr = append(thr, r)
		}
	}
	ratio := []Row{
		{Group: "OSv / Linux, stock", Label: "UDP GET throughput", Look: LookOurs, Mid: 9.54, Lo: 9.1, Hi: 10, Text: "9.54× [9.10, 10.0]"},
		{Group: "OSv / Linux, stock", Label: "TCP GET throughput", Look: LookOurs, Mid: 4.1, Lo: 3.9, Hi: 4.3, Text: "4.10× [3.90, 4.30]"},
		{Group: "OSv / Linux, stock", Label: "iperf3, into the guest", Look: LookOurs, Mid: 0.97, Lo: 0.9, Hi: 1.05, Text: "0.97× [0.90, 1.05]"},
		{Group: "OSv / Linux, tuned", Label: "UDP GET throughput", Look: LookOurs, Mid: 8.4, Lo: 8.1, Hi: 8.8, Text: "8.40× [8.10, 8.80]"},
		{Group: "OSv / Linux, tuned", Label: "iperf3, out of the guest", Look: LookOurs, Mid: 0.61, Lo: 0.58, Hi: 0.64, Text: "0.61× [0.58, 0.64]", Hollow: true},
	}
	boot := []Row{
		{Label: "Linux, stock", Look: LookBaseline, Values: dots(3.42, 0.06), Mid: 3.42, Text: "3.42 s"},
		{Label: "OSv", Look: LookOurs, Values: dots(0.21, 0.08), Mid: 0.21, Text: "0.21 s"},
	}
	size := []Row{
		{Label: "Linux, stock", Look: LookBaseline, Mid: 96, Text: "96 MiB"},
		{Label: "Linux, tuned", Look: LookRival, Mid: 100, Text: "100 MiB"},
		{Label: "OSv", Look: LookOurs, Mid: 24, Text: "24 MiB"},
	}
	var drift []Series
	for i, s := range []string{"Linux, stock", "OSv"} {
		sr := Series{Label: s, Look: []Look{LookBaseline, LookOurs}[i]}
		for b := range 12 {
			sr.Points = append(sr.Points, Point{X: float64(2*b + i + 1), Y: 1 + 0.03*rng.NormFloat64() - 0.002*float64(b)})
		}
		drift = append(drift, sr)
	}
	noise := []Row{
		{Label: "UDP GET throughput", Look: LookBaseline, Mid: 1.012, Lo: 0.985, Hi: 1.04, Text: "+1.2% [−1.5, +4.0]"},
		{Label: "instructions per request", Look: LookBaseline, Mid: 0.9991, Lo: 0.996, Hi: 1.002, Text: "−0.1% [−0.4, +0.2]"},
	}
	mark := "TCG EMULATION"
	return []Chart{
		LatencyCurve(Chart{Name: "latency", Title: "OSv keeps p99 under 10 ms up to 48,000 requests a second, Linux up to 6,000", Subtitle: "memcached UDP GET, 32-byte values; median of 6 boots, band = 95 % interval of p99", Footer: sampleFooter, Mark: mark}, lat, 10e6),
		AchievedCurve(Chart{Name: "achieved", Title: "OSv answers what is offered up to 48,000/s", Subtitle: "memcached UDP GET; hollow = the client is the limit", Footer: sampleFooter, Mark: mark}, ach),
		PercentileCurve(Chart{Name: "percentiles", Title: "Latency at 4,000 requests a second: OSv 60 µs at the median, Linux 410 µs, and the gap stays the same far out in the tail", Subtitle: "memcached UDP GET at 4,000/s, all boots together", Footer: sampleFooter, Mark: mark}, pct),
		Rows(Chart{Name: "throughput", Title: "OSv answers 61,300 UDP GETs a second, Linux 6,424", Subtitle: "requests a second, median of 6 boots (dots), 95 % interval", Footer: sampleFooter, Mark: mark}, thr, RowOptions{XTitle: "requests per second", Bars: true}),
		RatioRows(Chart{Name: "ratios", Title: "OSv against Linux, all workloads", Subtitle: "geometric-mean ratio with 95 % interval; right of 1 is better for OSv; grey = no difference shown; hollow = client-bound", Footer: sampleFooter, Mark: mark}, ratio, "ratio, logarithmic"),
		Rows(Chart{Name: "boot", Title: "OSv answers 0.21 s after QEMU starts, Linux after 3.42 s", Subtitle: "QEMU start to first memcached reply; each dot a boot, bar = median", Footer: sampleFooter, Mark: mark}, boot, RowOptions{XTitle: "seconds", Bars: false}),
		Rows(Chart{Name: "ram", Title: "OSv serves with 24 MiB, Linux needs 96", Subtitle: "least guest memory that boots and answers", Footer: sampleFooter}, size, RowOptions{XTitle: "MiB", Bars: true}),
		DriftCurve(Chart{Name: "drift", Title: "The host held still: no drift over 24 boots", Subtitle: "UDP GET throughput of each boot", Footer: sampleFooter, Mark: mark}, drift),
		NoiseRows(Chart{Name: "noise", Title: "Equal systems differ by 1.2 %: differences under 4 % are noise", Subtitle: "Linux against itself, geometric-mean ratio with 95 % interval; shaded = ±10 %", Footer: sampleFooter, Mark: mark}, noise, 0.1),
	}
}

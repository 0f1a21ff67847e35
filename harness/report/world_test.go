package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"osv/harness/design"
	"osv/harness/journal"
	"osv/harness/load"
	"osv/harness/plot"
)

// world is an invented run: what each system can do, with noise by a seed.
type world struct {
	plan  design.Plan
	accel string
	seed  uint64
	noise float64
	osv   float64 // factor on OSv's speed
	light bool    // no histograms: for what needs no curves
	// edit changes a sample before it is written.
	edit func(s *journal.Sample)
	// profiles are of systems' functions.
	profiles []journal.Profile
}

func smallPlan(boots int) design.Plan {
	p := design.Default()
	p.Name, p.Boots = "test", boots
	p.Placements = []design.Placement{design.OneCore, design.Split}
	p.Workloads = append(p.Workloads[:2:2], p.Workloads[3], p.Workloads[4])
	p.Workloads[2].Placements = nil
	for i := range p.Workloads {
		p.Workloads[i].Windows = 0
	}
	p.Workloads[2].Rates = []float64{1000, 2000, 4000, 8000, 32000}
	p.Allow = nil
	return p
}

// capacity is what a system answers, in requests a second.
func (w world) capacity(system string) float64 {
	switch {
	case strings.HasPrefix(system, "linux-tuned"):
		return 7200
	case strings.HasPrefix(system, "osv"):
		return 61000 * w.osv
	}
	return 6400
}

// write makes a results folder.
func (w world) write(t testing.TB, dir string) {
	t.Helper()
	if w.osv == 0 {
		w.osv = 1
	}
	rng := rand.New(rand.NewPCG(w.seed, 5))
	noisy := func(v float64) float64 { return v * math.Exp(w.noise*rng.NormFloat64()) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(filepath.Join(dir, "raw/hdr"), 0o755))
	y, err := w.plan.YAML()
	must(err)
	must(os.WriteFile(filepath.Join(dir, planFile), y, 0o644))
	must(WriteMeta(dir, Meta{Name: w.plan.Name, Commit: "0123456789abcdef0123", Started: time.Date(2026, 11, 24, 7, 0, 0, 0, time.UTC), Finished: time.Date(2026, 11, 24, 7, 14, 0, 0, time.UTC),
		Command: "bench run", Tool: "go1.26", Host: map[string]string{"cpu": "AMD EPYC, 2 cores", "qemu": "QEMU 7.2.22", "kernel": "6.18"}, Warnings: []string{"the governor is not known"}}))
	clock := time.Date(2026, 11, 24, 7, 0, 0, 0, time.UTC)
	var lines bytes.Buffer
	enc := json.NewEncoder(&lines)
	add := func(e journal.Entry) { // a journal without its syncs
		t.Helper()
		clock = clock.Add(time.Second)
		e.Time = clock
		must(enc.Encode(e))
	}
	add(journal.Entry{Header: &journal.Header{Format: journal.Format, Name: w.plan.Name}})
	for _, l := range w.plan.Expanded() {
		if l.Spec.Kind != load.Iperf {
			add(journal.Entry{Ceiling: &journal.Ceiling{Workload: l.Name, Rate: 240000}})
		}
	}
	for _, st := range w.plan.StartOrder() {
		first := noisy(2.7)
		if st.System == "osv" {
			first = noisy(0.21)
		}
		add(journal.Entry{Fact: &journal.Fact{System: st.System, Metric: "first_reply", Value: first, Boot: st.Index, Pair: st.Pair}})
	}
	for _, b := range w.plan.Schedule() {
		first := noisy(3.4)
		cmdline := "console=ttyS0 mitigations=auto"
		if b.System == "osv" {
			first, cmdline = noisy(0.21), "--ip=eth0"
		}
		add(journal.Entry{Boot: &journal.Boot{Boot: b, Attempt: 1, FirstReply: first, Line: "qemu-system-x86_64 -M q35 -kernel " + b.System + ".elf", Accel: w.accel,
			Kernel: "6.1.0", Parity: map[string]string{"vCPUs": "1", "memory": "256 MiB", "kernel command line": cmdline, "threads": "-t 1" + b.System[:1]}}})
		if b.Pair == 0 && b.Service == "memcached" {
			add(journal.Entry{Fact: &journal.Fact{System: b.System, Metric: "image_bytes", Value: 40e6 * 1e4 / w.capacity(b.System), Boot: -1}})
			add(journal.Entry{Fact: &journal.Fact{System: b.System, Metric: "ram_floor", Value: math.Round(96 * 6400 / w.capacity(b.System) * 2), Boot: -1}})
		}
		if b.Service == "memcached" {
			add(journal.Entry{Fact: &journal.Fact{System: b.System, Metric: "idle_vcpu", Value: noisy(0.006), Boot: b.Index, Pair: b.Pair}})
		}
		for _, c := range w.plan.Cells(b) {
			l := design.Workload{}
			for _, e := range w.plan.Expanded() {
				if e.Name == c.Workload {
					l = e
				}
			}
			for n := range l.Times() {
				s := &journal.Sample{Cell: c, Boot: b.Index, Pair: b.Pair, Window: n, Clean: true}
				w.sample(t, s, l, dir, noisy, rng)
				if w.edit != nil {
					w.edit(s)
				}
				add(journal.Entry{Sample: s})
			}
		}
	}
	add(journal.Entry{Failure: &journal.Failure{Boot: 2, Attempt: 1, Error: "no reply on udp:11211 <script>"}})
	for _, p := range w.profiles {
		add(journal.Entry{Profile: &p})
	}
	add(journal.Entry{Note: &journal.Note{Text: "resumed"}})
	must(os.WriteFile(filepath.Join(dir, journalFile), lines.Bytes(), 0o644))
}

// sample invents one cell's result and its histogram.
func (w world) sample(t testing.TB, s *journal.Sample, l design.Workload, dir string, noisy func(float64) float64, rng *rand.Rand) {
	capacity := w.capacity(s.Cell.System)
	if s.Cell.Placement == design.Split {
		capacity *= 0.8
	}
	spec := l.Spec.WithDefaults()
	if spec.Kind == load.Iperf {
		rate := noisy(1e9 * math.Min(1, capacity/6000))
		s.Metrics = map[string]float64{"bit_rate": rate}
		s.Result = load.Result{Spec: spec, BitRate: rate}
		return
	}
	rate := noisy(capacity)
	offered := rate
	base := 1e9 / capacity
	if spec.Mode == load.Open {
		offered = spec.Rate
		rate = math.Min(rate, offered)
		if rho := offered / capacity; rho < 0.97 {
			base = base / (1 - rho)
		} else {
			base = 500e6
		}
	} else {
		base *= float64(spec.Outstanding)
	}
	s.Metrics = map[string]float64{"rate": rate, "p50": base, "p99": 2 * base, "p999": 3 * base,
		"instructions": math.Exp(0.002*rng.NormFloat64()) * 23400 * 6400 / capacity, "vcpu_ns": noisy(1e9 / capacity), "client_ns": 3000}
	if w.light {
		s.Result = load.Result{Spec: spec, Rate: rate, Offered: offered, Completed: uint64(rate), ClientCPU: 0.2}
		return
	}
	rec := load.NewRecorder(0, int64(time.Second))
	for range 600 {
		at := int64(rng.IntN(1e9))
		lat := int64(base * (0.8 + 0.3*rng.ExpFloat64()))
		rec.Sent(at, at+500)
		rec.Done(at, at+500, at+lat, true)
	}
	s.HDR = fmt.Sprintf("raw/hdr/%03d-%s-%s-%s-%d.hlog", s.Boot, s.Cell.System, s.Cell.Placement, s.Cell.Workload, s.Window)
	f, err := os.Create(filepath.Join(dir, s.HDR))
	if err != nil {
		t.Fatal(err)
	}
	if err := rec.WriteLog(f, "invented", time.Date(2026, 11, 24, 7, 0, 0, 0, time.UTC)); err != nil {
		t.Fatal(err)
	}
	f.Close()
	r := load.Result{Spec: spec}
	rec.Fill(&r)
	r.Rate, r.Offered, r.Completed, r.ClientCPU = rate, offered, uint64(rate), 0.2
	r.Timeline = nil
	s.Result = r
	s.Metrics["p50"], s.Metrics["p99"], s.Metrics["p999"] = float64(r.Latency.P50), float64(r.Latency.P99), float64(r.Latency.P999)
}

// withoutPictures makes charts cheap for the rest of a test.
func withoutPictures(t *testing.T) {
	t.Helper()
	old := drawPNG
	drawPNG = func(c plot.Chart) ([]byte, error) { return c.SVG() }
	t.Cleanup(func() { drawPNG = old })
}

func reference() world { return world{plan: smallPlan(6), accel: "tcg", seed: 1, noise: 0.03} }

package report

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"osv/harness/journal"
)

// A boot's value is the median of its windows, and the pair's ratio that of the
// ratios of neighbours: a host that slows down from window to window moves the
// values of both and the ratio not at all.
func TestWindowsOfABoot(t *testing.T) {
	w := reference()
	w.noise = 0
	for i := range w.plan.Workloads {
		if w.plan.Workloads[i].Name == "udp-get" {
			w.plan.Workloads[i].Windows = 3
		}
	}
	slow := []float64{1, 0.5, 0.1}
	w.edit = func(s *journal.Sample) {
		if s.Cell.Workload == "udp-get" {
			s.Metrics["rate"] *= slow[s.Window]
		}
	}
	dir := t.TempDir()
	w.write(t, dir)
	d, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range d.Summarize().Cells {
		if r.Workload != "udp-get" || r.Metric != "rate" || r.Placement != "one-core" || r.Profile != "stock" {
			continue
		}
		truth := 61000.0 / 6400
		if r.OSv.N != 6 || math.Abs(r.OSv.Median/61000.0-0.5) > 0.01 || math.Abs(r.Ratio.GM/truth-1) > 1e-9 || r.Ratio.SDLog > 1e-9 {
			t.Errorf("n %d, median %v, ratio %v for %v, sd %v", r.OSv.N, r.OSv.Median, r.Ratio.GM, truth, r.Ratio.SDLog)
		}
		return
	}
	t.Error("no such row")
}

// The rule for busy windows is stated with what it did to each system; runs of
// before it was recorded say nothing of it.
func TestRepeatsAreStated(t *testing.T) {
	w := reference()
	w.light = true
	w.edit = func(s *journal.Sample) {
		if s.Cell.System == "osv" && s.Boot < 6 && s.Cell.Workload == "udp-get" && s.Cell.Placement == "one-core" {
			s.Again = []string{"slow", "slow"}
		}
	}
	dir := t.TempDir()
	w.write(t, dir)
	d, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if m := strings.Join(d.method(), "\n"); strings.Contains(m, "measured again") {
		t.Error("a rule that no journal has is stated")
	}
	n := 0
	for _, s := range d.Samples {
		if s.Cell.System == "osv" {
			n++
		}
	}
	d.Repeat = &journal.Repeat{Wait: 0.1, Steal: 0.05, Speed: 0.85, Tries: 3, Share: 0.2}
	m := strings.Join(d.method(), "\n")
	for _, want := range []string{"at most 2 times", "fewer than 85 %", "more than 10 %", "Linux (stock) 0 of", fmt.Sprintf("OSv 1 of %d.", n)} {
		if !strings.Contains(m, want) {
			t.Errorf("no %q in %s", want, m)
		}
	}
}

func TestAgainst(t *testing.T) {
	for name, c := range map[string]struct {
		num, den windows
		a, b     float64
	}{
		"single":         {windows{0: 3}, windows{0: 2}, 3, 2},
		"neighbours":     {windows{0: 2, 1: 8}, windows{0: 1, 1: 2}, 1.5 * math.Sqrt(8), 1.5},
		"nothing common": {windows{0: 2, 2: 4}, windows{1: 5}, 3, 5},
		"part":           {windows{0: 2, 1: 9}, windows{1: 3, 2: 1}, 6, 2},
	} {
		if a, b := c.num.against(c.den); math.Abs(a-c.a) > 1e-12 || math.Abs(b-c.b) > 1e-12 {
			t.Errorf("%s: %v of %v, want %v of %v", name, a, b, c.a, c.b)
		}
	}
}

// Events and profiles are shown where they were measured.
func TestEventsAndProfiles(t *testing.T) {
	w := reference()
	w.light = true
	w.edit = func(s *journal.Sample) {
		if s.Cell.Workload == "udp-get" {
			s.Metrics["interrupts"], s.Metrics["doorbells"] = 0.5, 0.25
			if s.Cell.System == "osv" {
				s.Metrics["interrupts"], s.Metrics["doorbells"] = 0.0625, 0
			}
		}
	}
	w.profiles = []journal.Profile{{System: "osv", Workload: "udp-get", Placement: "one-core", Requests: 1000, Instructions: 2000, Others: 7,
		Functions: []journal.ProfileEntry{{Function: "osv/net/udp.<input>", Share: 0.25}}}}
	withoutPictures(t)
	dir := t.TempDir()
	w.write(t, dir)
	if _, err := Write(dir); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, htmlFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Where the instructions go", "osv/net/udp.&lt;input&gt;", "25.0 %", ">500<", "7 smaller functions", `id="interrupts"`, `id="doorbells"`, "returns from them", "alive at once"} {
		if !strings.Contains(string(b), want) {
			t.Errorf("report.html has no %q", want)
		}
	}
	if problems, err := Verify(dir); err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
}

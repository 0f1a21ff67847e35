package report

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"osv/harness/design"
	"osv/harness/journal"
)

func claimsOf(t *testing.T, w world) (string, *Data) {
	t.Helper()
	dir := t.TempDir()
	w.light = true
	w.write(t, dir)
	d, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return d.Claims(d.Summarize()), d
}

func section(claims, heading string) string {
	_, rest, _ := strings.Cut(claims, heading)
	rest, _, _ = strings.Cut(rest, "\n## ")
	return rest
}

func TestClaims(t *testing.T) {
	text, _ := claimsOf(t, reference())
	yes := section(text, claimsHeading)
	if !strings.Contains(yes, "memcached UDP GET, 32 outstanding (vCPU and QEMU's main loop on one core), throughput: OSv is better, ratio 9.") ||
		!strings.Contains(yes, "Accelerator: TCG (emulation).") || !strings.Contains(text, "not the performance of hardware") {
		t.Errorf("%s", text)
	}
	if !strings.Contains(section(text, unclaimsHeading), "Least memory, least memory that boots and serves: OSv 20.0 MiB (n=1), Linux (stock) 192 MiB (n=1). Not claimed: too few boots (1 of 6)") {
		t.Errorf("%s", section(text, unclaimsHeading))
	}
	if bad := Lint(text, true); len(bad) > 0 {
		t.Errorf("our own claims do not pass: %v", bad)
	}

	slow := reference()
	slow.osv = 0.05
	text, _ = claimsOf(t, slow)
	if !strings.Contains(section(text, claimsHeading), "OSv is worse, ratio 0.4") {
		t.Error("a loss is not claimed")
	}
	equal := reference()
	equal.osv, equal.seed = 6400.0/61000, 4
	text, _ = claimsOf(t, equal)
	if !strings.Contains(section(text, claimsHeading), "no difference is shown") {
		t.Error("equality is not stated")
	}
}

// What must not be claimed is not, each with its reason.
func TestNotClaimed(t *testing.T) {
	for want, change := range map[string]func(w *world){
		"too few boots (2 of 6)": func(w *world) { w.plan.Boots = 2 },
		"client-bound on OSv: client CPU 95 %": func(w *world) {
			w.edit = func(s *journal.Sample) {
				if s.Cell.System == "osv" {
					s.Result.ClientCPU = 0.95
				}
			}
		},
		"client-bound on Linux: client CPU 95 %": func(w *world) {
			w.edit = func(s *journal.Sample) {
				if s.Cell.System == "linux-stock" {
					s.Result.ClientCPU = 0.95
				}
			}
		},
		"1 samples were left out: 3 of 100 requests lost": func(w *world) {
			w.edit = func(s *journal.Sample) {
				if s.Cell.System == "osv" && s.Pair == 6 {
					s.Clean, s.Why = false, "3 of 100 requests lost"
				}
			}
			w.plan.Boots = 7
		},
		"accelerator: none": func(w *world) { w.accel = "none" },
		"no clean sample of OSv": func(w *world) {
			w.edit = func(s *journal.Sample) { s.Clean = s.Cell.System != "osv" }
		},
		"no clean sample on the Linux side": func(w *world) {
			w.edit = func(s *journal.Sample) { s.Clean = s.Cell.System == "osv" }
		},
		"no pair of boots": func(w *world) {
			w.edit = func(s *journal.Sample) { s.Clean = (s.Pair%2 == 0) == (s.Cell.System == "osv") }
		},
	} {
		w := reference()
		w.plan.Placements = w.plan.Placements[:1]
		change(&w)
		text, _ := claimsOf(t, w)
		for _, l := range strings.Split(section(text, claimsHeading), "\n") {
			if strings.Contains(l, "UDP GET") && strings.Contains(l, "throughput") && strings.Contains(l, "stock") {
				t.Errorf("%s: claimed all the same: %s", want, l)
			}
		}
		if !strings.Contains(section(text, unclaimsHeading), want) {
			t.Errorf("%s: not given as the reason in %s", want, section(text, unclaimsHeading))
		}
		if bad := Lint(text, true); len(bad) > 0 {
			t.Errorf("%s: %v", want, bad)
		}
	}
}

func TestLint(t *testing.T) {
	good := claimsHeading + "\n\n- UDP GET, throughput: OSv is better, ratio 9.53 [9.10, 10.0] (95 % CI, paired t on logs, n=6); OSv 61,000 req/s [60,000, 62,000] (n=6) against Linux 6,400 req/s [6,300, 6,500] (n=6). Accelerator: KVM.\n"
	if bad := Lint(good, false); len(bad) > 0 {
		t.Fatalf("%v", bad)
	}
	for want, text := range map[string]string{
		"without n":               strings.ReplaceAll(good, "n=6", "six"),
		"without a 95 % interval": strings.Replace(good, " (95 % CI, paired t on logs, n=6)", "", 1),
		"without absolute values": strings.Replace(good, "against Linux 6,400 req/s", "against Linux", 1),
		"without the accelerator": strings.Replace(good, "Accelerator: KVM.", "", 1),
		"is praise":               strings.Replace(good, "better", "dramatically better", 1),
		"ratio in a heading":      "# OSv is at 9.5× of Linux\n" + good,
		"comparison in a heading": "# OSv is faster\n" + good,
		"comparison outside":      "OSv beats Linux.\n" + good,
		"outside \"## Claims\"":   "- something\n" + good,
		"in what is not claimed":  unclaimsHeading + "\n- OSv is faster. Not claimed: too few boots.\n",
		"no reason why":           unclaimsHeading + "\n- OSv 5 req/s.\n",
	} {
		if bad := Lint(text, true); len(bad) == 0 || !strings.Contains(strings.Join(bad, "; "), want) {
			t.Errorf("want %q, got %v", want, bad)
		}
	}
	// The linter knows the units of all that is claimed.
	for _, m := range design.Metrics {
		if claimedMetric(m.Name) {
			if bad := Lint(strings.ReplaceAll(good, "req/s", m.Unit), false); len(bad) > 0 {
				t.Errorf("%s, in %s: %v", m.Name, m.Unit, bad)
			}
		}
	}
	if bad := LintTitle("OSv is blazing, 9.5× Linux", true); len(bad) != 2 {
		t.Errorf("%v", bad)
	}
	if bad := LintTitle("OSv answers 9.5× as many", false); len(bad) != 0 {
		t.Errorf("%v", bad)
	}
}

func TestVariantsAndMissingSides(t *testing.T) {
	withoutPictures(t)
	w := reference()
	w.plan.Systems = append(w.plan.Systems, design.System{Name: "osv-sockets", Title: "OSv, sockets", Guest: "osv", Role: design.Variant, Profile: "socket"})
	w.plan.Placements = w.plan.Placements[:1]
	w.plan.Workloads[0].Systems = []string{"osv", "linux-stock", "osv-sockets"}
	w.accel = "kvm"
	dir := t.TempDir()
	w.write(t, dir)
	s, err := Write(dir)
	if err != nil {
		t.Fatal(err)
	}
	var variant, tuned int
	for _, r := range s.Cells {
		if r.Workload == "udp-get" && r.Metric == "rate" {
			if r.OSv != nil && r.OSv.System == "osv-sockets" && r.Linux.System == "linux-stock" {
				variant++
			}
			if r.Profile == "tuned" {
				tuned++
			}
		}
	}
	if variant != 1 || tuned != 0 {
		t.Errorf("%d rows of the variant, %d of a system that did not run", variant, tuned)
	}
	d, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	if err := d.Table(&table, s); err != nil || !strings.Contains(table.String(), "sockets ") {
		t.Errorf("%v: the table does not name the variant:\n%s", err, table.String())
	}
	b, _ := os.ReadFile(filepath.Join(dir, chartsDir, "throughput.svg"))
	if strings.Contains(string(b), "EMULATION") || !strings.Contains(string(b), "OSv, sockets") {
		t.Error("the throughput chart lacks the variant or carries a watermark under KVM")
	}
	alone := reference()
	alone.plan.Systems = alone.plan.Systems[2:]
	text, _ := claimsOf(t, alone)
	if !strings.Contains(text, "None.") || !strings.Contains(text, "no clean sample on the Linux side") {
		t.Errorf("%s", text)
	}
}

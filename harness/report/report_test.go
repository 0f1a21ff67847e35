package report

import (
	"bytes"
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"osv/harness/design"
	"osv/harness/journal"
)

func TestReportOfAReferenceRun(t *testing.T) {
	dir := t.TempDir()
	if d := os.Getenv("OSV_REPORT_SAMPLE"); d != "" { // set it to look at the report
		dir = d
	} else {
		withoutPictures(t)
	}
	reference().write(t, dir)
	s, err := Write(dir)
	if err != nil {
		t.Fatal(err)
	}
	var udpGet *Row
	for i, r := range s.Cells {
		if r.Workload == "udp-get" && r.Metric == "rate" && r.Placement == "one-core" && r.Profile == "stock" {
			udpGet = &s.Cells[i]
		}
	}
	if udpGet == nil || udpGet.Linux.N != 6 || udpGet.OSv.N != 6 || udpGet.Linux.Lo == nil || math.Abs(udpGet.Ratio.GM-61000.0/6400) > 0.6 || !udpGet.Claimable {
		t.Fatalf("%+v", udpGet)
	}
	if *udpGet.Ratio.Lo > 9.53 || *udpGet.Ratio.Hi < 9.53 {
		t.Errorf("the interval [%v, %v] misses the truth", *udpGet.Ratio.Lo, *udpGet.Ratio.Hi)
	}
	b, err := os.ReadFile(filepath.Join(dir, summaryFile))
	if err != nil {
		t.Fatal(err)
	}
	var flat struct {
		Cells []map[string]any `json:"cells"`
	}
	if err := json.Unmarshal(b, &flat); err != nil {
		t.Fatal(err)
	}
	for _, k := range []string{"workload", "metric", "unit", "linux", "osv", "ratio", "profile", "accelerator"} {
		if flat.Cells[0][k] == nil {
			t.Errorf("summary.json: no %q in %v", k, flat.Cells[0])
		}
	}
	for _, want := range []string{"throughput", "bandwidth", "ratios-linux-stock-osv", "ratios-linux-tuned-osv", "instructions", "vcpu-time", "latency-udp-get-open-one-core", "achieved-udp-get-open-split",
		"percentiles-udp-get-open-one-core", "boot", "memory", "image", "idle", "drift"} {
		for _, ext := range []string{".svg", ".png"} {
			if _, err := os.Stat(filepath.Join(dir, chartsDir, want+ext)); err != nil {
				t.Error(err)
			}
		}
	}
	if problems, err := Verify(dir); err != nil || len(problems) > 0 {
		t.Errorf("verify: %v %v", problems, err)
	}
}

// With the real pictures too.
func TestPicturesVerify(t *testing.T) {
	w := reference()
	w.light = true
	w.plan.Boots, w.plan.Placements, w.plan.Workloads = 1, w.plan.Placements[:1], w.plan.Workloads[:1]
	dir := t.TempDir()
	w.write(t, dir)
	if _, err := Write(dir); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, chartsDir, "throughput.png")); err != nil || !bytes.HasPrefix(b, []byte("\x89PNG")) {
		t.Fatal(err)
	}
	if problems, err := Verify(dir); err != nil || len(problems) > 0 {
		t.Errorf("verify: %v %v", problems, err)
	}
}

// One changed byte anywhere in the folder is found, and the file is named; with
// a manifest forged to match, raw data and report contradict each other.
func TestVerifyFindsEveryFlippedByte(t *testing.T) {
	withoutPictures(t)
	dir := t.TempDir()
	w := reference()
	w.plan.Boots, w.plan.Placements = 2, w.plan.Placements[:1]
	w.write(t, dir)
	if _, err := Write(dir); err != nil {
		t.Fatal(err)
	}
	m, err := os.ReadFile(filepath.Join(dir, manifestFile))
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for _, l := range strings.Split(strings.TrimSpace(string(m)), "\n") {
		_, name, _ := strings.Cut(l, "  ")
		path := filepath.Join(dir, name)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		flipped := bytes.Clone(b)
		flipped[rng.IntN(len(b))] ^= 1 << rng.IntN(8)
		if err := os.WriteFile(path, flipped, 0o644); err != nil {
			t.Fatal(err)
		}
		problems, err := Verify(dir)
		if err != nil || len(problems) != 1 || !strings.HasPrefix(problems[0], name+": changed") {
			t.Errorf("%s: %v %v", name, problems, err)
		}
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, tamper := range map[string]func(b []byte) []byte{
		"raw/journal.jsonl":     func(b []byte) []byte { return bytes.Replace(b, []byte(`"p99":`), []byte(`"p99":1`), 1) },
		"summary.json":          func(b []byte) []byte { return bytes.Replace(b, []byte(`"gm": `), []byte(`"gm": 9`), 1) },
		"charts/throughput.svg": func(b []byte) []byte { return append(b, ' ') },
	} {
		path := filepath.Join(dir, name)
		b, _ := os.ReadFile(path)
		if err := os.WriteFile(path, tamper(bytes.Clone(b)), 0o644); err != nil {
			t.Fatal(err)
		}
		forged, err := manifest(dir)
		if err != nil {
			t.Fatal(err)
		}
		os.WriteFile(filepath.Join(dir, manifestFile), forged, 0o644)
		if problems, err := Verify(dir); err == nil && len(problems) == 0 {
			t.Errorf("%s: tampered with and forged, not found", name)
		}
		os.WriteFile(path, b, 0o644)
		os.WriteFile(filepath.Join(dir, manifestFile), m, 0o644)
	}
	extra := filepath.Join(dir, "raw/extra")
	os.WriteFile(extra, []byte("x"), 0o644)
	if problems, _ := Verify(dir); len(problems) != 1 || !strings.Contains(problems[0], "not in the manifest") {
		t.Errorf("%v", problems)
	}
	os.Remove(extra)
	os.Remove(filepath.Join(dir, "plan.yaml"))
	if problems, _ := Verify(dir); len(problems) != 1 || problems[0] != "plan.yaml: missing" {
		t.Errorf("%v", problems)
	}
	if _, err := Verify(t.TempDir()); err == nil {
		t.Error("an empty folder verifies")
	}
}

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

func TestAARun(t *testing.T) {
	withoutPictures(t)
	p, err := design.AA(smallPlan(8))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	world{plan: p, accel: "tcg", seed: 3, noise: 0.02, light: true}.write(t, dir)
	s, err := Write(dir)
	if err != nil {
		t.Fatal(err)
	}
	inside, total := 0, 0
	for _, r := range s.Cells {
		if r.Metric == "rate" && r.Ratio != nil {
			total++
			if *r.Ratio.Lo <= 1 && *r.Ratio.Hi >= 1 {
				inside++
			}
			if *r.Ratio.Lo < 0.9 || *r.Ratio.Hi > 1.1 {
				t.Errorf("%s: [%v, %v]", r.Workload, *r.Ratio.Lo, *r.Ratio.Hi)
			}
		}
	}
	if inside < total*8/10 {
		t.Errorf("%d of %d A/A intervals contain 1", inside, total)
	}
	if _, err := os.Stat(filepath.Join(dir, chartsDir, "noise.png")); err != nil {
		t.Error(err)
	}
}

func TestHTMLIsSelfContained(t *testing.T) {
	withoutPictures(t)
	dir := t.TempDir()
	w := reference()
	w.light = true
	w.write(t, dir)
	if _, err := Write(dir); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, htmlFile))
	if err != nil {
		t.Fatal(err)
	}
	s := string(b)
	for _, banned := range []string{"<script", "http://www.w3.org/1999/xhtml", "@import", "src=\"http", "href=\"http", "url(http", "javascript:"} {
		if strings.Contains(s, banned) {
			t.Errorf("the report contains %q", banned)
		}
	}
	for _, want := range []string{"prefers-color-scheme: dark", "var(--ours)", "name=\"viewport\"", "&lt;script&gt;", "Measured under TCG", "<th scope=\"col\">", "role=\"img\"",
		"class=\"differs\"", "kernel command line", "bench verify", "given up"} {
		if want == "given up" {
			continue
		}
		if !strings.Contains(s, want) {
			t.Errorf("the report lacks %q", want)
		}
	}
	if strings.Count(s, "<figure") != strings.Count(s, "</table></div></details>\n</figure>") {
		t.Error("a chart has no table")
	}
	if strings.Contains(s, "#0072B2\"") || strings.Contains(s, "fill:#0072B2") {
		t.Error("an ink of the charts does not follow the theme")
	}
}

func TestPublish(t *testing.T) {
	withoutPictures(t)
	root := t.TempDir()
	var dirs []string
	for i, name := range []string{"old", "new"} {
		w := reference()
		w.plan.Boots, w.plan.Placements, w.seed = 2, w.plan.Placements[:1], uint64(i)
		dir := filepath.Join(root, name)
		w.write(t, dir)
		if i == 1 {
			if err := WriteMeta(dir, Meta{Name: "later", Started: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := Write(dir); err != nil {
			t.Fatal(err)
		}
		dirs = append(dirs, dir)
	}
	site := filepath.Join(root, "site")
	for range 2 { // again over an old site
		if err := Publish(dirs, site); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(filepath.Join(site, "index.html"))
	if err != nil {
		t.Fatal(err)
	}
	s := string(b)
	if strings.Index(s, `href="new/report.html"`) > strings.Index(s, `href="old/report.html"`) || !strings.Contains(s, "memcached UDP GET, 32 outstanding: OSv") {
		t.Errorf("%s", s)
	}
	if problems, err := Verify(filepath.Join(site, "old")); err != nil || len(problems) > 0 {
		t.Errorf("the copy does not verify: %v %v", problems, err)
	}
	if err := Publish([]string{dirs[0], dirs[0]}, site); err == nil {
		t.Error("two runs of one name")
	}
	if err := os.WriteFile(filepath.Join(dirs[0], "raw/x"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Publish(dirs, site); err == nil || !strings.Contains(err.Error(), "does not verify") {
		t.Error(err)
	}
	if err := Publish([]string{root}, site); err == nil {
		t.Error("a folder without a run is published")
	}
	if err := Publish(nil, filepath.Join(root, "empty")); err != nil {
		t.Error(err)
	}
}

func TestTable(t *testing.T) {
	dir := t.TempDir()
	w := reference()
	w.plan.Placements = w.plan.Placements[:1]
	w.light = true
	w.edit = func(s *journal.Sample) {
		if s.Cell.System == "osv" && s.Cell.Workload == "udp-set" {
			s.Result.ClientCPU = 0.95
		}
		s.Clean = s.Cell.Workload != "iperf-in" || s.Cell.System != "osv"
	}
	w.write(t, dir)
	d, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := d.Table(&b, d.Summarize()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"accelerator: TCG", "udp-get", "yes", "*", "no: client-bound on OSv", "no: no clean sample of OSv", "udp-get-open@4000"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, b.String())
		}
	}
	for _, l := range strings.Split(b.String(), "\n") {
		if strings.Contains(l, "p99") && !strings.Contains(l, "@") {
			t.Errorf("closed-loop latency in the table: %s", l)
		}
	}
}

func TestDisturbances(t *testing.T) {
	w := reference()
	w.plan.Boots, w.plan.Placements = 1, w.plan.Placements[:1]
	w.edit = func(s *journal.Sample) {
		if s.Cell.System == "osv" && s.Cell.Workload == "udp-get" {
			s.Metrics["host_wait"] = 0.4
			s.Result.Timeline = []uint32{100, 0, 0, 90}
		}
	}
	_, d := claimsOf(t, w)
	got := strings.Join(d.disturbances(), "; ")
	if !strings.Contains(got, "kept the vCPU waiting 40 % of the time") || !strings.Contains(got, "no reply in 2 of 4 tenths of a second") || len(d.disturbances()) != 2 {
		t.Error(got)
	}
}

func TestParityAllowList(t *testing.T) {
	w := reference()
	w.plan.Allow = map[string]string{"kernel command line": "each kernel has its own"}
	_, d := claimsOf(t, w)
	got := map[string]parityRow{}
	for _, r := range d.parity() {
		got[r.Name] = r
	}
	if got["kernel command line"].Class != "allowed" || got["threads"].Class != "differs" || got["vCPUs"].Class != "" || got["vCPUs"].Values[2] != "1" {
		t.Errorf("%+v", got)
	}
}

func TestCompare(t *testing.T) {
	load2 := func(w world) *Data {
		dir := t.TempDir()
		w.light = true
		w.write(t, dir)
		d, err := Load(dir)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	old := load2(reference())
	same := reference()
	same.seed = 9
	slower := reference()
	slower.seed, slower.osv = 9, 0.8
	faster := reference()
	faster.seed, faster.osv = 9, 1.5
	count := func(now *Data) (worse, better map[string]int) {
		t.Helper()
		r, err := Compare(old, now)
		if err != nil {
			t.Fatal(err)
		}
		worse, better = map[string]int{}, map[string]int{}
		for _, x := range r {
			if x.Worse {
				worse[x.System]++
			}
			if x.Better {
				better[x.System]++
			}
		}
		return
	}
	// Two equal runs: of some 80 figures, few may differ by chance.
	if worse, better := count(load2(same)); worse["osv"]+better["osv"]+worse["linux-stock"]+better["linux-stock"] > 6 {
		t.Errorf("equal runs differ: %v %v", worse, better)
	}
	if worse, _ := count(load2(slower)); worse["osv"] < 6 || worse["linux-stock"] > 3 {
		t.Errorf("a slower OSv is not found: %v", worse)
	}
	if _, better := count(load2(faster)); better["osv"] < 6 {
		t.Errorf("a faster OSv is not found: %v", better)
	}
	few := reference()
	few.plan.Boots, few.osv = 2, 0.5
	if worse, _ := count(load2(few)); worse["osv"] < 4 {
		t.Errorf("half the speed is not found with two boots: %v", worse)
	}
	kvm := reference()
	kvm.accel = "kvm"
	if _, err := Compare(old, load2(kvm)); err == nil {
		t.Error("TCG is compared with KVM")
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

func TestLoadRefusals(t *testing.T) {
	dir := t.TempDir()
	if _, err := Load(dir); err == nil {
		t.Error("an empty folder loads")
	}
	w := reference()
	w.plan.Boots = 1
	w.write(t, dir)
	for name, bad := range map[string]string{metaFile: "{", planFile: "x: [", journalFile: "{}\n"} {
		path := filepath.Join(dir, name)
		b, _ := os.ReadFile(path)
		os.WriteFile(path, []byte(bad), 0o644)
		if _, err := Load(dir); err == nil {
			t.Errorf("%s: damaged, and loaded", name)
		}
		os.WriteFile(path, b, 0o644)
	}
	j, _ := os.ReadFile(filepath.Join(dir, journalFile))
	os.WriteFile(filepath.Join(dir, journalFile), j[:bytes.IndexByte(j, '\n')+1], 0o644)
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "no samples") {
		t.Error(err)
	}
	os.WriteFile(filepath.Join(dir, journalFile), j, 0o644)
	os.RemoveAll(filepath.Join(dir, "raw/hdr"))
	if _, err := Write(dir); err == nil {
		t.Error("a report without the histograms it needs")
	}
}

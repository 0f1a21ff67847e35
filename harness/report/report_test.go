package report

import (
	"bytes"
	"encoding/json"
	"math"
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

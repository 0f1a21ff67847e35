package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"osv/harness/bench"
	"osv/harness/doctor"
	"osv/harness/load"
	"osv/harness/load/drive"
	"osv/harness/load/null"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestMain lets this binary be the generator's process.
func TestMain(m *testing.M) {
	if os.Getenv("OSV_TEST_LOAD") == "1" {
		os.Exit(run(context.Background(), []string{"load", "--stdin"}, streams{os.Stdin, os.Stdout, os.Stderr}))
	}
	if os.Getenv("OSV_TEST_BENCH") == "1" { // the whole program, to be interrupted
		loadCommand = testLoad
		main()
	}
	loadCommand = testLoad
	os.Exit(m.Run())
}

func testLoad(string) []string {
	return []string{"env", "OSV_TEST_LOAD=1", "GORACE=atexit_sleep_ms=0", os.Args[0]}
}

// call runs the program and gives what it wrote.
func call(ctx context.Context, args ...string) (code int, out, errOut string) {
	var o, e bytes.Buffer
	code = run(ctx, args, streams{strings.NewReader(""), &o, &e})
	return code, o.String(), e.String()
}

// golden compares a text with testdata/name; go test -update rewrites it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; got:\n%s\nwant:\n%s", path, got, want)
	}
}

func TestHelp(t *testing.T) {
	ctx := context.Background()
	for _, cmd := range []string{"", "run", "report", "verify", "compare", "doctor", "guests", "workloads", "plan", "load", "publish", "manifests"} {
		args := strings.Fields(cmd + " --help")
		code, out, errOut := call(ctx, args...)
		if code != exitOK || errOut != "" {
			t.Errorf("%s: status %d, %q", cmd, code, errOut)
		}
		golden(t, strings.TrimSuffix("help-"+cmd, "-"), out)
	}
}

func TestListings(t *testing.T) {
	ctx := context.Background()
	for name, args := range map[string]string{
		"workloads": "workloads", "workloads-quick": "workloads --quick --boots 4", "plan-quick": "plan --quick", "plan-aa": "plan --plan quick --aa --seed 9",
	} {
		code, out, errOut := call(ctx, strings.Fields(args)...)
		if code != exitOK || errOut != "" {
			t.Errorf("%s: status %d, %q", args, code, errOut)
		}
		golden(t, name, out)
	}
	code, out, _ := call(ctx, "workloads", "--json", "--quick")
	var w []map[string]any
	if code != exitOK || json.Unmarshal([]byte(out), &w) != nil || len(w) != 2 {
		t.Errorf("%d %s", code, out)
	}
	// A module without appliances: what is missing is said.
	code, out, _ = call(ctx, "guests", "--module", t.TempDir())
	if code != exitOK {
		t.Errorf("status %d", code)
	}
	golden(t, "guests", regexp.MustCompile(`apt-get.*`).ReplaceAllString(out, "…"))
	code, out, _ = call(ctx, "guests", "--json", "--dry")
	var g []guestLine
	if code != exitOK || json.Unmarshal([]byte(out), &g) != nil || len(g) != 2 || g[0].Guest != "local" {
		t.Errorf("%d %s", code, out)
	}
}

func TestManifests(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "k")
	code, out, errOut := call(context.Background(), "manifests", "--out", dir, "--registry", "r.example/x")
	if code != exitOK || strings.Count(out, ".yaml\n") != 3 {
		t.Errorf("status %d: %s %s", code, out, errOut)
	}
	b, err := os.ReadFile(filepath.Join(dir, "osv.yaml"))
	if err != nil || !strings.Contains(string(b), "image: r.example/x/osv-memcached:latest") {
		t.Errorf("%v %s", err, b)
	}
	if code, _, e := call(context.Background(), "manifests", "--out", dir, "--registry", "NO SUCH"); code != exitFailed || !strings.Contains(e, "no image reference") {
		t.Errorf("status %d: %s", code, e)
	}
}

func TestUsageErrors(t *testing.T) {
	ctx := context.Background()
	for want, args := range map[string]string{
		"unexpected argument": "verify", "unknown flag --nope": "run --nope", "must be one of": "run --plan huge", "no such file": "run --config /nonexistent.yaml",
		"expected one of": "", "no such": "report /nonexistent",
	} {
		code, _, errOut := call(ctx, strings.Fields(args)...)
		if code != exitUsage || !strings.Contains(errOut, want) && want != "unexpected argument" {
			t.Errorf("%q: status %d, %q", args, code, errOut)
		}
	}
}

func TestDoctor(t *testing.T) {
	old := examine
	defer func() { examine = old }()
	checks := []doctor.Check{{Name: "cpu", Value: "AMD EPYC, 2 cores", Level: doctor.OK}, {Name: "load", Value: "4.2", Level: doctor.Warn, Advice: "something else is running"}}
	examine = func(context.Context) []doctor.Check { return checks }
	code, out, _ := call(context.Background(), "doctor")
	golden(t, "doctor", out)
	if code != exitOK {
		t.Errorf("status %d with warnings", code)
	}
	checks = append(checks, doctor.Check{Name: "qemu", Value: "missing", Level: doctor.Fail, Advice: "install it"})
	code, out, _ = call(context.Background(), "doctor", "--json")
	var back []doctor.Check
	if code != exitFailed || json.Unmarshal([]byte(out), &back) != nil || len(back) != 3 {
		t.Errorf("status %d: %s", code, out)
	}
}

// dryConfig is a plan of a second on local processes.
func dryConfig(t *testing.T, boots int) string {
	t.Helper()
	if _, err := exec.LookPath("memcached"); err != nil {
		t.Skip("memcached is not installed")
	}
	path := filepath.Join(t.TempDir(), "plan.yaml")
	y := fmt.Sprintf(`name: tiny
systems:
  - {name: a, title: A, guest: local, role: baseline}
  - {name: b, title: B, guest: local, role: subject}
workloads:
  - {name: get, title: GET, port: "udp:11211", spec: {kind: memcached-udp, mode: closed, outstanding: 4, keys: 50, warmup: 10ms, duration: 60ms}}
placements: [free]
boots: %d
cpus: 1
mem_mib: 64
seed: 1
`, boots)
	if err := os.WriteFile(path, []byte(y), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// From run to verify, compare, report and publish, on processes of this machine.
func TestWholeLife(t *testing.T) {
	ctx := context.Background()
	root := t.TempDir()
	dirs := []string{filepath.Join(root, "first"), filepath.Join(root, "second")}
	cfg := dryConfig(t, 2)
	for _, dir := range dirs {
		code, out, errOut := call(ctx, "run", "--config", cfg, "--out", dir)
		if code != exitOK || !strings.Contains(out, "report: "+filepath.Join(dir, "report.html")) || !strings.Contains(out, "accelerator: none") ||
			!strings.Contains(errOut, "[4/4] done") {
			t.Fatalf("status %d\n%s\n%s", code, out, errOut)
		}
	}
	code, out, _ := call(ctx, "verify", dirs[0], dirs[1])
	if code != exitOK || strings.Count(out, ": verified: ") != 2 {
		t.Errorf("status %d: %s", code, out)
	}
	code, out, errOut := call(ctx, "compare", "--all", dirs[0], dirs[1])
	if (code != exitOK && code != exitFailed) || !strings.Contains(out, "figures compared") {
		t.Errorf("status %d: %s %s", code, out, errOut)
	}
	if code, out, _ = call(ctx, "compare", "--json", dirs[0], dirs[0]); code != exitOK || !json.Valid([]byte(out)) {
		t.Errorf("a run compared with itself: status %d: %s", code, out)
	}
	if code, out, _ = call(ctx, "report", "--json", dirs[0]); code != exitOK || !json.Valid([]byte(out)) {
		t.Errorf("status %d: %s", code, out)
	}
	site := filepath.Join(root, "site")
	if code, out, errOut = call(ctx, "publish", "--out", site, dirs[0], dirs[1]); code != exitOK || !strings.Contains(out, "2 runs in ") {
		t.Errorf("status %d: %s %s", code, out, errOut)
	}
	index, err := os.ReadFile(filepath.Join(site, "index.html"))
	if err != nil || strings.Count(string(index), "<article>") != 2 || !strings.Contains(string(index), `href="second/report.html"`) {
		t.Errorf("%v\n%s", err, index)
	}
	if code, _, errOut := call(ctx, "run", "--config", cfg, "--out", dirs[0]); code != exitFailed || !strings.Contains(errOut, "holds a run") {
		t.Errorf("a second run in the same folder: status %d, %s", code, errOut)
	}
	journal := filepath.Join(dirs[1], bench.JournalFile)
	b, err := os.ReadFile(journal)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(journal, b, 0o644); err != nil {
		t.Fatal(err)
	}
	code, out, _ = call(ctx, "verify", dirs[1])
	if code != exitFailed || !strings.Contains(out, "raw/journal.jsonl: changed") {
		t.Errorf("a flipped byte: status %d: %s", code, out)
	}
	if code, _, errOut = call(ctx, "publish", "--out", site, dirs[1]); code != exitFailed || !strings.Contains(errOut, "does not verify") {
		t.Errorf("published all the same: status %d, %s", code, errOut)
	}
}

// An interrupted run says how to go on, and goes on.
func TestInterruptAndResume(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "r")
	ctx, cancel := context.WithCancel(context.Background())
	var out, errOut bytes.Buffer
	w := writerFunc(func(b []byte) (int, error) {
		if strings.Contains(string(b), "boot 2") {
			cancel()
		}
		return errOut.Write(b)
	})
	code := run(ctx, []string{"run", "--config", dryConfig(t, 2), "--out", dir}, streams{strings.NewReader(""), &out, w})
	if code != exitInterrupted || !strings.Contains(errOut.String(), "go on with: bench run --resume "+dir) {
		t.Fatalf("status %d: %s", code, errOut.String())
	}
	code, o, e := call(context.Background(), "run", "--resume", dir)
	if code != exitOK || !strings.Contains(o, "report: ") || strings.Contains(e, "boot 1:") {
		t.Errorf("status %d: %s %s", code, o, e)
	}
	if code, o, _ := call(context.Background(), "verify", dir); code != exitOK {
		t.Errorf("verify: %d %s", code, o)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

func TestRunRefusals(t *testing.T) {
	cfg := filepath.Join(t.TempDir(), "p.yaml")
	y := "name: x\nsystems: [{name: a, title: A, guest: vax, role: baseline}]\nworkloads: [{name: g, title: G, port: \"udp:11211\", spec: {kind: memcached-udp}}]\nplacements: [free]\nboots: 1\ncpus: 1\nmem_mib: 64\n"
	if err := os.WriteFile(cfg, []byte(y), 0o644); err != nil {
		t.Fatal(err)
	}
	code, _, errOut := call(context.Background(), "run", "--config", cfg, "--out", filepath.Join(t.TempDir(), "o"))
	if code != exitFailed || !strings.Contains(errOut, "nothing of the plan can be run here") || !strings.Contains(errOut, `no guest of kind "vax"`) {
		t.Errorf("status %d: %s", code, errOut)
	}
	if err := os.WriteFile(cfg, []byte("nmae: x\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if code, _, errOut := call(context.Background(), "plan", "--config", cfg); code != exitFailed || !strings.Contains(errOut, "nmae") {
		t.Errorf("status %d: %s", code, errOut)
	}
}

func TestLoad(t *testing.T) {
	ctx := context.Background()
	it, err := drive.Items(load.Spec{Kind: load.MemcachedUDP, Keys: 100}.WithDefaults())
	if err != nil {
		t.Fatal(err)
	}
	s, err := null.ListenUDP(netip.MustParseAddrPort("127.0.0.1:0"), it)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	args := func(more ...string) []string {
		return append([]string{"load", s.Addr.String(), "--keys=100", "--duration=60ms", "--warmup=10ms"}, more...)
	}
	hdr := filepath.Join(t.TempDir(), "x.hlog")
	code, out, errOut := call(ctx, args("--hdr", hdr, "-o", "4")...)
	if code != exitOK || !strings.Contains(out, "req/s, p50 ") {
		t.Errorf("status %d: %s %s", code, out, errOut)
	}
	if _, err := os.Stat(hdr); err != nil {
		t.Error(err)
	}
	var r load.Result
	code, out, _ = call(ctx, args("--json", "--rate", "500")...)
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != exitOK || r.Spec.Mode != load.Open {
		t.Errorf("status %d: %v", code, err)
	}
	if code, out, errOut = call(ctx, args("--peak")...); code != exitOK || !strings.Contains(out, "peak: ") {
		t.Errorf("status %d: %s %s", code, out, errOut)
	}
	if code, out, errOut = call(ctx, args("--knee=5s", "--low=100", "--high=200", "--repeats=1")...); code != exitOK || !strings.Contains(out, "knee at p99 ≤ 5s: between 200") {
		t.Errorf("status %d: %s %s", code, out, errOut)
	}
	if code, out, _ = call(ctx, "load", "--ceiling", "--keys=100", "--duration=50ms"); code != exitOK || !strings.HasPrefix(out, "null server: ") {
		t.Errorf("status %d: %s", code, out)
	}
	if code, _, errOut = call(ctx, "load"); code != exitFailed || !strings.Contains(errOut, "no target") {
		t.Errorf("status %d: %s", code, errOut)
	}
	if code, _, errOut = call(ctx, "load", "127.0.0.1:1", "--kind=memcached-tcp", "--keys=5"); code != exitFailed || !strings.Contains(errOut, "refused") {
		t.Errorf("status %d: %s", code, errOut)
	}
	if got := line(load.Result{Spec: load.Spec{Kind: load.Iperf}, BitRate: 2e9, Retrans: 3}); got != "2,000 Mbit/s, 3 retransmits" {
		t.Error(got)
	}
	if got := line(load.Result{Guard: load.Guard{ClientBound: true, Reason: "slow"}}); !strings.HasSuffix(got, "client-bound: slow") {
		t.Error(got)
	}
}

// On a terminal one line is written over; elsewhere every step is a line.
func TestProgress(t *testing.T) {
	clock := time.Date(2026, 11, 24, 7, 0, 0, 0, time.UTC)
	old := now
	now = func() time.Time { return clock }
	defer func() { now = old }()
	var b bytes.Buffer
	p := newProgress(&b, false)
	p.event(bench.Event{Text: "one", Done: 0, Total: 10, Left: 20 * time.Second})
	clock = clock.Add(30 * time.Second)
	p.event(bench.Event{Text: "two", Done: 3, Total: 10, Left: 14 * time.Second})
	p.event(bench.Event{Text: "a boot failed", Done: 3, Total: 10, Problem: true})
	p.event(bench.Event{Text: "end", Done: 10, Total: 10})
	p.done()
	golden(t, "progress-plain", b.String())
	b.Reset()
	p = newProgress(&b, false)
	p.tty, p.width = true, 20
	p.event(bench.Event{Text: "a step with a long name", Done: 0, Total: 10, Left: time.Second})
	p.note("kept")
	p.event(bench.Event{Text: "x", Done: 9, Total: 10})
	p.done()
	golden(t, "progress-tty", strings.NewReplacer("\r", "<CR>", "\x1b[K", "<CLEAR>").Replace(b.String()))
}

func TestCommandLineOfARun(t *testing.T) {
	c := runCmd{planFlags: planFlags{Plan: "full", AA: true, Boots: 8, Seed: 3, Dry: true, Quick: true, Config: "/x/y"}, kindFlags: kindFlags{Accel: "tcg", Wire: "user"}}
	if got := strings.Join(c.commandLine(), " "); got != "run --plan=full --config=plan.yaml --quick --dry --aa --boots=8 --seed=3 --accel=tcg --wire=user" {
		t.Error(got)
	}
}

package boottest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"osv/harness/vm"
)

// writeProg makes a program folder with the given directives.
func writeProg(t *testing.T, root, name string, directives ...string) {
	t.Helper()
	src := "package main\n\n"
	for _, d := range directives {
		src += "//boot:" + d + "\n"
	}
	dir := filepath.Join(root, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(src+"\nfunc main() {}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestDiscover(t *testing.T) {
	root := t.TempDir()
	writeProg(t, root, "plain")
	writeProg(t, root, "several", "mem 64", "append --a", "test one", "append --b", "exit 3", "test two", "exit poweroff", "want ^x$", "want y")
	writeProg(t, root, "_off")
	os.MkdirAll(filepath.Join(root, "lib"), 0o755)
	os.WriteFile(filepath.Join(root, "lib", "lib.go"), []byte("package lib\n"), 0o644)
	os.WriteFile(filepath.Join(root, "plain", "main_test.go"), []byte("package main\n//boot:nonsense\n"), 0o644)
	cs, err := Discover(root)
	if err != nil || len(cs) != 3 {
		t.Fatalf("%d cases, %v", len(cs), err)
	}
	p := cs[0]
	if p.Title() != "plain" || p.Exit != vm.ExitGuest || p.Code != 0 || len(p.Machines) != 3 || len(p.CPUs) != 3 || p.MemMiB != 256 {
		t.Errorf("defaults: %+v", p)
	}
	one, two := cs[1], cs[2]
	if one.Title() != "several.one" || one.Append != "--a --b" || one.Code != 3 || one.MemMiB != 64 || len(one.Want) != 0 {
		t.Errorf("one: %+v", one)
	}
	if two.Append != "--a" || two.Exit != vm.ExitShutdown || len(two.Want) != 2 {
		t.Errorf("two: %+v", two)
	}
	if _, err := Discover(filepath.Join(root, "none")); err == nil {
		t.Error("no folder: no error")
	}
}

func TestDirectives(t *testing.T) {
	good := []string{
		"exit 127", "exit reset", "want a|b", "reject (?i)panic", "mem 16", "cpus 1,4", "machine q35,microvm",
		"timeout 1m30s", "norng", "net user,restrict", "disk 1G,serial=A,eio=read_aio@8", "disk 512K", "qemu -d int", "skip needs KVM", "append --x",
	}
	if cs, err := parseCases(strings.NewReader("//boot:"+strings.Join(good, "\n\t//boot:")), Case{}); err != nil || len(cs) != 1 || !cs[0].NoRNG {
		t.Errorf("%+v %v", cs, err)
	}
	for _, bad := range []string{
		"exit 200", "exit soon", "want (", "reject [", "mem lots", "cpus 0", "cpus 1,,2", "machine pdp11", "timeout -1s", "timeout x",
		"net carrier-pigeon", "disk", "disk 0M", "disk 1X", "disk 1M,frob", "skip", "frob 1", "test", "test a b", "test a\n//boot:test a",
	} {
		if _, err := parseCases(strings.NewReader("//boot:"+bad), Case{}); err == nil {
			t.Errorf("%s: no error", bad)
		}
	}
	root := t.TempDir()
	writeProg(t, root, "bad", "frob")
	if _, err := Discover(root); err == nil || !strings.Contains(err.Error(), "//boot:frob: not a directive") || !strings.Contains(err.Error(), "bad") {
		t.Errorf("%v", err)
	}
	if _, err := parseCases(strings.NewReader(strings.Repeat("x", 2<<20)), Case{}); err == nil {
		t.Error("endless line: no error")
	}
}

// Cases must not write into one another through shared slices.
func TestCasesAreApart(t *testing.T) {
	cs, err := parseCases(strings.NewReader("//boot:want a\n//boot:want b\n//boot:want c\n//boot:test x\n//boot:want x\n//boot:test y\n//boot:want y"), Case{})
	if err != nil || len(cs) != 2 || cs[0].Want[3].String() != "x" || cs[1].Want[3].String() != "y" {
		t.Fatalf("%+v %v", cs, err)
	}
}

func TestPlan(t *testing.T) {
	cs, _ := parseCases(strings.NewReader("//boot:test a\n//boot:cpus 1,2\n//boot:test b\n//boot:machine q35"), defaultCase("p", "/p"))
	if n := len((Config{}).Plan(cs)); n != 3*2+1*3 {
		t.Errorf("%d boots", n)
	}
	cfg := Config{Count: 2, Match: regexp.MustCompile(`^p\.a/`), Machines: []vm.Machine{vm.Q35, vm.PC}, CPUs: []int{2}}
	var names []string
	for _, b := range cfg.Plan(cs) {
		names = append(names, b.Name())
	}
	if got, want := strings.Join(names, " "), "p.a/q35/2cpu p.a/pc/2cpu p.a/q35/2cpu p.a/pc/2cpu"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestJudge(t *testing.T) {
	lines := []vm.Line{{Text: "start"}, {N: 1, Text: "PASS 3"}}
	re := regexp.MustCompile
	for _, c := range []struct {
		c    Case
		e    vm.Exit
		late bool
		want string
	}{
		{Case{Want: []*regexp.Regexp{re(`^PASS \d$`)}}, vm.Exit{}, false, ""},
		{Case{Code: 2}, vm.Exit{}, false, "guest exit code 0, want guest exit code 2"},
		{Case{}, vm.Exit{Kind: vm.ExitReset}, false, "reset or triple fault, want guest exit code 0"},
		{Case{Exit: vm.ExitShutdown}, vm.Exit{Kind: vm.ExitShutdown}, false, ""},
		{Case{Exit: vm.ExitReset}, vm.Exit{}, false, "guest exit code 0, want reset or triple fault"},
		{Case{}, vm.Exit{Kind: vm.ExitKilled, Cause: errors.New("still running after 1s")}, true, "killed: still running after 1s"},
		{Case{Want: []*regexp.Regexp{re("absent")}}, vm.Exit{}, false, `no console line matches "absent"`},
		{Case{Reject: []*regexp.Regexp{re("PASS"), re("absent")}}, vm.Exit{}, false, `console line 2 "PASS 3" matches "PASS"`},
	} {
		if got := strings.Join(c.c.judge(c.e, c.late, lines), "; "); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

func needQEMU(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skip("qemu-system-x86_64 is not installed")
	}
}

// tinyBuilder builds the guest of vm.TinyGuest; a program's name is its exit code
// after the last dash.
func tinyBuilder(builds *int) Builder {
	return func(pkg, out string) error {
		*builds++
		name := filepath.Base(pkg)
		if name == "broken" {
			return errors.New("main.go:1: syntax error")
		}
		code := name[len(name)-1] - '0'
		return os.WriteFile(out, vm.TinyGuest("hello from "+name+"\n", code), 0o644)
	}
}

func TestRunOnQEMU(t *testing.T) {
	needQEMU(t)
	root, tmp := t.TempDir(), t.TempDir()
	writeProg(t, root, "a-0", "cpus 1,2", "want ^hello from a-0$", "disk 1M,serial=D", "net user,restrict", "qemu -name $TMP")
	writeProg(t, root, "b-1", "cpus 1", "machine q35", "want absent")
	writeProg(t, root, "broken", "cpus 1", "machine pc")
	writeProg(t, root, "s-0", "skip not today", "cpus 1", "machine q35")
	cs, err := Discover(root)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	builds := 0
	cfg := Config{Build: tinyBuilder(&builds), BuildDir: filepath.Join(tmp, "elf"), LogDir: filepath.Join(tmp, "logs"), Count: 2, Base: vm.Spec{Accel: vm.TCG}}
	plan := cfg.Plan(cs)
	p := &Progress{W: &out, Total: len(plan)}
	cfg.Done = p.Done
	rs, err := cfg.Run(t.Context(), plan)
	if !errors.Is(err, ErrFailed) || len(rs) != 2*(6+1+1+1) || builds != 3 {
		t.Fatalf("%d results, %d builds, %v", len(rs), builds, err)
	}
	for _, r := range rs {
		if want := strings.HasPrefix(r.Name, "a-0/"); r.OK != want {
			t.Errorf("%s: ok=%v %v", r.Name, r.OK, r.Faults)
		}
	}
	text := out.String()
	for _, want := range []string{
		"[ 1/18] ok   a-0/q35/1cpu", "FAIL b-1/q35/1cpu\n    guest exit code 1, want guest exit code 0\n    no console line matches \"absent\"\n  | hello from b-1\n",
		"build: main.go:1: syntax error", "skip s-0/q35/1cpu round 2: not today", "b-1-q35-1cpu-2.log", "qemu-system-x86_64 -nodefaults",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if log, err := os.ReadFile(filepath.Join(tmp, "logs", "b-1-q35-1cpu-1.log")); err != nil || string(log) != "hello from b-1\n" {
		t.Errorf("kept log %q, %v", log, err)
	}
	var sum, js bytes.Buffer
	Summary(&sum, rs)
	if !regexp.MustCompile(`(?m)^a-0 +12 +0 +0 +\d+\.\d\d$`).MatchString(sum.String()) || !regexp.MustCompile(`(?m)^total +12 +4 +2 `).MatchString(sum.String()) {
		t.Errorf("summary\n%s", sum.String())
	}
	if err := WriteJSON(&js, rs); err != nil {
		t.Fatal(err)
	}
	var back struct{ Results []Result }
	if err := json.Unmarshal(js.Bytes(), &back); err != nil || len(back.Results) != len(rs) || back.Results[0].Exit != "guest exit code 0" {
		t.Errorf("%v %s", err, js.String())
	}
}

func TestRunStopsEarly(t *testing.T) {
	needQEMU(t)
	root := t.TempDir()
	writeProg(t, root, "b-1", "cpus 1", "machine q35")
	cs, _ := Discover(root)
	builds := 0
	cfg := Config{Build: tinyBuilder(&builds), BuildDir: t.TempDir(), Count: 50, FailFast: true, Parallel: 2, Base: vm.Spec{Accel: vm.TCG}}
	rs, err := cfg.Run(t.Context(), cfg.Plan(cs))
	if !errors.Is(err, ErrFailed) || len(rs) > 4 {
		t.Errorf("fail fast: %d results, %v", len(rs), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if rs, err := cfg.Run(ctx, cfg.Plan(cs)); !errors.Is(err, context.Canceled) || len(rs) != 0 {
		t.Errorf("interrupted: %d results, %v", len(rs), err)
	}
}

// A guest that never ends is killed at its timeout, scaled by Slow.
func TestHangingGuest(t *testing.T) {
	needQEMU(t)
	root := t.TempDir()
	writeProg(t, root, "hang", "cpus 1", "machine q35", "timeout 100s")
	cs, _ := Discover(root)
	cfg := Config{BuildDir: t.TempDir(), Slow: 0.002, Base: vm.Spec{Accel: vm.TCG}, LogDir: "/dev/null/no"}
	cfg.Build = func(_, out string) error {
		elf := vm.TinyGuest("up\n", 0)
		// Replace "out 0xf4, al" by two one-byte no-ops.
		i := bytes.Index(elf, []byte{0xe6, 0xf4})
		elf[i], elf[i+1] = 0x90, 0x90
		return os.WriteFile(out, elf, 0o644)
	}
	start := time.Now()
	rs, err := cfg.Run(t.Context(), cfg.Plan(cs))
	if !errors.Is(err, ErrFailed) || len(rs) != 1 || !strings.Contains(rs[0].Faults[0], "still running after 200ms") || !strings.Contains(rs[0].Log, "not kept") {
		t.Errorf("%+v %v", rs, err)
	}
	if time.Since(start) > 30*time.Second {
		t.Error("the timeout was not scaled")
	}
}

func TestProgressOnTerminal(t *testing.T) {
	var b bytes.Buffer
	p := &Progress{W: &b, TTY: true, Total: 2}
	p.Done(Result{Name: "a/q35/1cpu", OK: true, Seconds: 1})
	p.Done(Result{Name: "b/q35/1cpu", Faults: []string{"bad"}})
	if s := b.String(); !strings.Contains(s, "\r\x1b[K[1/2] ok a/q35/1cpu 1.00 s; 0 failed;") || !strings.Contains(s, "FAIL b/q35/1cpu\n    bad\n") {
		t.Errorf("%q", s)
	}
	b.Reset()
	if WriteJSON(&b, nil); b.String() != "{\n  \"results\": []\n}\n" {
		t.Errorf("%q", b.String())
	}
}

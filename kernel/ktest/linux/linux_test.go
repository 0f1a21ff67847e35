package linux

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// minCases is how many cases there have to be.
const minCases = 210

func needGCC(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("gcc is not installed")
	}
}

// onHost runs a program on the host's Linux; its output goes through a pipe.
func onHost(t *testing.T, args ...string) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	b, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", args[0], err, b)
	}
	return parse(b)
}

// Every case prints the same on two runs, and whether it is linked statically or not.
func TestHostAgreesWithItself(t *testing.T) {
	needGCC(t)
	if os.Getuid() != 0 {
		t.Skip("the cases about users need user 0")
	}
	dir := t.TempDir()
	a, b := place(t, dir, "static"), place(t, dir, "dynamic")
	ctx := context.Background()
	if err := buildC(ctx, "conf", a, static); err != nil {
		t.Fatal(err)
	}
	if err := buildC(ctx, "conf", b, dynamic); err != nil {
		t.Fatal(err)
	}
	first, second := onHost(t, a), onHost(t, b)
	if len(first.order) < minCases {
		t.Errorf("%d cases, want %d", len(first.order), minCases)
	}
	for n, d := range compare(first, second) {
		t.Errorf("%s: two runs differ: %s", n, d)
	}
	for _, n := range first.order {
		l := first.lines[n]
		if len(l) < 2 {
			t.Errorf("%s prints nothing", n)
		}
		if end := l[len(l)-1]; end != "-- exit 0" && n != "file_rlimit_fsize" {
			t.Errorf("%s: %s", n, end)
		}
	}
}

// place is the path of a conf of its own; its name is seen by the cases.
func place(t *testing.T, dir, kind string) string {
	t.Helper()
	d := filepath.Join(dir, kind)
	if err := os.MkdirAll(d, 0o755); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(d, "conf")
}

func TestGoProgramOnHost(t *testing.T) {
	dir := t.TempDir()
	p := filepath.Join(dir, "goconf")
	if err := buildGo(context.Background(), "goconf", p); err != nil {
		t.Fatal(err)
	}
	first, second := onHost(t, p), onHost(t, p)
	for n, d := range compare(first, second) {
		t.Errorf("%s: two runs differ: %s", n, d)
	}
	if len(first.order) < 10 {
		t.Errorf("%d cases", len(first.order))
	}
}

func TestCompare(t *testing.T) {
	a := parse([]byte("noise\n== a\n| x = 1\nkernel: says\n-- exit 0\r\n== b\n| y\n-- exit 0\n== c\n-- exit 0\nconf: 3 cases\n"))
	b := parse([]byte("== a\n| x = 1\n-- exit 0\n== b\n| z\n"))
	d := compare(a, b)
	if len(d) != 2 || d["c"] != "did not run" || !strings.Contains(d["b"], "Linux | y\n\tguest | z") || !strings.Contains(d["b"], "guest (nothing)") {
		t.Errorf("%q", d)
	}
	if a.ended != "conf: 3 cases" || b.ended != "" {
		t.Errorf("%q %q", a.ended, b.ended)
	}
}

// The programs that punish the kernel build, and do on the host what they say.
func TestOtherProgramsBuildAndRun(t *testing.T) {
	needGCC(t)
	dir := t.TempDir()
	for name, args := range map[string][]string{
		"stress": {"1", "8"}, "syzz": {"1", "300", "safe"}, "hostile": {"list"}, "sysbench": {"1"},
	} {
		p := filepath.Join(dir, name)
		if err := buildC(context.Background(), name, p, static); err != nil {
			t.Error(err)
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		cmd := exec.CommandContext(ctx, p, args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		cancel()
		if err != nil || !strings.Contains(string(out), name+":") {
			t.Errorf("%s %q: %v\n%s", name, args, err, out)
		}
	}
}

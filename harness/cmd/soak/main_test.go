package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"osv/harness/soak"
)

func soakCmd(ctx context.Context, args ...string) (code int, out, errs string) {
	var o, e bytes.Buffer
	code = run(ctx, args, &o, &e)
	return code, o.String(), e.String()
}

func TestListAndSelection(t *testing.T) {
	code, out, _ := soakCmd(t.Context(), "--list")
	if code != 0 || strings.Count(out, "\n") != len(soak.Scenarios()) || !strings.Contains(out, "mc-garbage   memcached: ") {
		t.Errorf("status %d, %q", code, out)
	}
	if _, out, _ := soakCmd(t.Context(), "--list", "--short"); strings.Contains(out, "iperf-modes") || !strings.Contains(out, "iperf-long") {
		t.Errorf("%q", out)
	}
	// One that is named runs, however long it takes.
	if _, out, _ := soakCmd(t.Context(), "--list", "--short", "--run", "modes"); !strings.HasPrefix(out, "iperf-modes ") || strings.Count(out, "\n") != 1 {
		t.Errorf("%q", out)
	}
	for want, args := range map[string][]string{
		`no scenario matches "absent"`: {"--run", "absent"},
		"--run: error parsing regexp":  {"--run", "("},
		"--duration 1ms":               {"--duration", "1ms"},
		"--count 0":                    {"--count", "0"},
		"can't be used together":       {"--short", "--duration", "1m"},
		"must be one of":               {"--accel", "xen"},
	} {
		if code, _, errs := soakCmd(t.Context(), args...); code != 2 || !strings.Contains(errs, want) {
			t.Errorf("%v: status %d, %q, want %q", args, code, errs, want)
		}
	}
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	js := filepath.Join(t.TempDir(), "r.json")
	code, _, errs := soakCmd(ctx, "--run", "iperf-modes", "--quiet", "--json", js)
	if code != 130 || !strings.Contains(errs, "interrupted in iperf-modes") {
		t.Errorf("status %d, %q", code, errs)
	}
	if b, err := os.ReadFile(js); err != nil || string(b) != "[]\n" {
		t.Errorf("%q %v", b, err)
	}
}

func TestPrint(t *testing.T) {
	var b bytes.Buffer
	print(&b, soak.Result{Name: "a", Seconds: 1.25, Figures: []soak.Figure{{Name: "rate", Value: 12.345, Unit: "/s"}, {Name: "lost", Value: 0}}})
	print(&b, soak.Result{Name: "b", Failed: "one\ntwo"})
	print(&b, soak.Result{Name: "c", Skipped: "no right"})
	for _, want := range []string{"ok   a (1.2 s)\n", "12.35 /s\n", " 0 \n", "FAIL b (0.0 s)\n    one\n    two\n", "skip c: no right\n"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in %q", want, b.String())
		}
	}
}

package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func boottestCmd(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(t.Context(), args, &o, &e)
	return code, o.String(), e.String()
}

func progs(t *testing.T, directives string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "p"), 0o755); err != nil {
		t.Fatal(err)
	}
	// Not of this module: building it fails, which is a failed boot.
	src := "package main\n\n" + directives + "\nfunc main() { undefined() }\n"
	if err := os.WriteFile(filepath.Join(dir, "p", "main.go"), []byte(src), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestListAndSelection(t *testing.T) {
	dir := progs(t, "//boot:cpus 1,2")
	code, out, _ := boottestCmd(t, dir, "--list", "--machine", "q35,pc", "--cpus", "2", "--run", "pc|q35")
	if code != 0 || out != "p/q35/2cpu\np/pc/2cpu\n" {
		t.Errorf("status %d, %q", code, out)
	}
	for want, args := range map[string][]string{
		"no boot selected of 1 cases": {dir, "--run", "absent"},
		"--run: error parsing regexp": {dir, "--run", "("},
		"no such file":                {filepath.Join(dir, "none")},
		"not a directive":             {progs(t, "//boot:frob")},
		"must be one of":              {dir, "--machine", "vax"},
	} {
		if code, _, errs := boottestCmd(t, args...); code != 2 || !strings.Contains(errs, want) {
			t.Errorf("%v: status %d, %q, want %q", args, code, errs, want)
		}
	}
}

func TestFailureIsTheStatus(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("no go command")
	}
	dir, tmp := progs(t, "//boot:cpus 1\n//boot:machine q35"), t.TempDir()
	js := filepath.Join(tmp, "r.json")
	code, out, errs := boottestCmd(t, dir, "--accel", "tcg", "--json", js, "--build", filepath.Join(tmp, "b"), "--logs", filepath.Join(tmp, "l"))
	if code != 1 || !strings.Contains(out, "FAIL p/q35/1cpu\n    build: ") || !strings.Contains(errs, "boot tests failed") {
		t.Errorf("status %d, %q, %q", code, out, errs)
	}
	if b, err := os.ReadFile(js); err != nil || !strings.Contains(string(b), `"name": "p/q35/1cpu"`) {
		t.Errorf("%s %v", b, err)
	}
	code, out, errs = boottestCmd(t, progs(t, "//boot:skip not here\n//boot:cpus 1\n//boot:machine q35"), "--json", "-")
	if code != 0 || !strings.HasPrefix(out, "{\n") || !strings.Contains(errs, "skip p/q35/1cpu: not here") {
		t.Errorf("status %d, %q, %q", code, out, errs)
	}
	if code, _, errs := boottestCmd(t, dir, "--json", "/dev/null/x"); code != 2 || !strings.Contains(errs, "/dev/null/x") {
		t.Errorf("status %d, %q", code, errs)
	}
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var b bytes.Buffer
	if code := run(ctx, []string{progs(t, "")}, &b, &b); code != 130 || !strings.Contains(b.String(), "interrupted after 0 of 9 boots") {
		t.Errorf("status %d, %q", code, b.String())
	}
}

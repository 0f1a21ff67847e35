//go:build boot

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"osv/harness/bootbench"
)

// Our guest alone, quickly: every row that needs neither Linux nor a floor.
func TestQuickWithoutLinux(t *testing.T) {
	tmp := t.TempDir()
	js := filepath.Join(tmp, "r.json")
	var out, errs bytes.Buffer
	code := run(t.Context(), []string{"--quick", "--no-linux", "--no-floor", "-v", "--accel", "tcg", "--progs", "../../../kernel/ktest/progs", "--build", tmp, "--json", js}, &out, &errs)
	if code != 0 {
		t.Fatalf("status %d, %s", code, errs.String())
	}
	for _, want := range []string{"QEMU start to first line of the program, s", "idle, of a host core, %", "size: ELF", "metal_call (2 vCPU), ns"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	if !strings.Contains(errs.String(), "boot 3/3 of OSv hello: ") {
		t.Errorf("%s", errs.String())
	}
	b, err := os.ReadFile(js)
	var r bootbench.Report
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil || len(r.Boots["OSv hello"]) != 3 {
		t.Errorf("%v", err)
	}
}

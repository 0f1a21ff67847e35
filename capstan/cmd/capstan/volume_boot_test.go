//go:build boot

package main

import (
	"path/filepath"
	"strings"
	"testing"

	"osv/capstan/hypervisor"
)

// A guest finds the data partition of its image and a --volume, writes both, and finds
// what it wrote when its instance is started again; its exit status says so.
func TestBootVolumes(t *testing.T) {
	w := newWorld(t)
	w.host = hypervisor.Local()
	w.ok("build", filepath.Join("testdata", "volumes"))
	vol := filepath.Join(t.TempDir(), "disk.img")
	w.ok("volume", "create", vol, "--size", "8M")
	code, out, errs := w.run("run", "-i", "v", "--persist", "--no-ports", "--volume", vol, "volumes")
	if code != 10 || !strings.Contains(out, "p4 has 16777216 bytes") || !strings.Contains(out, "blk1 has 8388608 bytes") {
		t.Fatalf("first run: status %d: %s%s", code, out, errs)
	}
	if code, out, errs := w.run("run", "-i", "v"); code != 12 {
		t.Fatalf("second run: status %d: %s%s", code, out, errs)
	}
	w.ok("delete", "v")
}

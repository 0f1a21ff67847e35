//go:build boot

package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"osv/harness/rootfs"
)

// TestBootBusybox runs the same script in a guest and here, with the same busybox.
func TestBootBusybox(t *testing.T) {
	const script = "testdata/script.sh"
	s := describe(t, "linux-busybox")
	s.Files = append(s.Files, rootfs.File{Dst: "/script.sh", Src: script})
	s.Run = []string{"/bin/busybox", "sh", "/script.sh"}
	disk := makeDisk(t, s)
	dir := t.TempDir()
	busybox := filepath.Join(dir, "busybox")
	if out, err := exec.Command("debugfs", "-R", "dump -p /usr/bin/busybox "+busybox, disk).CombinedOutput(); err != nil {
		t.Fatalf("debugfs: %v\n%s", err, out)
	}
	cmd := exec.Command(busybox, "sh", script)
	cmd.Env = []string{"PATH=/nonexistent", "HOME=/root", "TERM=linux"}
	want, err := cmd.Output()
	if code := cmd.ProcessState.ExitCode(); code != 3 {
		t.Fatalf("on this host: %v\n%s", err, want)
	}
	for _, cpus := range []int{1, 2} {
		s.CPUs = cpus
		g := boot(t, s, disk)
		g.ends(3)
		got := g.output("", "osv: ")
		a, b := strings.Split(string(want), "\n"), strings.Split(got, "\n")
		if len(a) < 40 {
			t.Fatalf("%d lines on this host", len(a))
		}
		for i := range a {
			if i >= len(b) || a[i] != b[i] {
				t.Errorf("%d vCPUs: line %d, after %q: here %q, guest %q", cpus, i+1, a[max(0, i-1)], a[i:min(i+5, len(a))], b[min(i, len(b)):min(i+5, len(b))])
				break
			}
		}
		clean(t, disk)
	}
}

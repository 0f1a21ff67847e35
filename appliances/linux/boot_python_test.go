//go:build boot

package main

import (
	"strings"
	"testing"

	"osv/harness/rootfs"
)

// TestBootPython runs the description's program, then what Python programs lean on:
// threads, sqlite, sockets, asyncio, processes, files and signals.
func TestBootPython(t *testing.T) {
	s := describe(t, "linux-python")
	s.Files = append(s.Files, rootfs.File{Dst: "/programs.py", Src: "testdata/programs.py"})
	disk := makeDisk(t, s)
	g := boot(t, s, disk)
	g.waitLine(`rows 800 sum 319600$`)
	g.ends(0)
	s.Run = []string{"/usr/bin/python3.11", "/programs.py"}
	for _, cpus := range []int{1, 2} {
		s.CPUs = cpus
		g := boot(t, s, disk)
		g.ends(0)
		n := 0
		for _, l := range g.Lines() {
			if strings.HasPrefix(l.Text, "python: ") && strings.HasSuffix(l.Text, " ok") {
				n++
			}
		}
		if n < 30 {
			t.Errorf("%d vCPUs: %d checks, want 30", cpus, n)
		}
		clean(t, disk)
	}
}

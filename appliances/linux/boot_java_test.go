//go:build boot

package main

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"osv/harness/rootfs"
)

// javaSpec is the description of Java with the classes of testdata/java in /app.
func javaSpec(t *testing.T) rootfs.Spec {
	t.Helper()
	needTool(t, "javac", "openjdk-17-jdk-headless")
	dir := t.TempDir()
	if out, err := exec.Command("javac", "--release", "17", "-d", dir, "testdata/java/Hello.java", "testdata/java/Serve.java").CombinedOutput(); err != nil {
		t.Fatalf("javac: %v\n%s", err, out)
	}
	s := describe(t, "linux-java")
	s.Files = append(s.Files, rootfs.File{Dst: "/app", Src: dir})
	return s
}

// TestBootJava: the version, then what Java programs lean on with each collector, then
// an HTTP server.
func TestBootJava(t *testing.T) {
	s := javaSpec(t)
	disk := makeDisk(t, s)
	t.Run("version", func(t *testing.T) {
		g := boot(t, s, disk)
		g.waitLine(`^openjdk version "17\.`)
		g.ends(0)
	})
	for _, x := range []struct {
		collector string
		cpus      int
	}{{"-XX:+UseG1GC", 2}, {"-XX:+UseSerialGC", 1}, {"-XX:+UseParallelGC", 2}, {"-XX:+UseZGC", 2}} {
		t.Run(fmt.Sprintf("hello/%s/%dcpu", x.collector, x.cpus), func(t *testing.T) {
			s.CPUs = x.cpus
			s.Run = []string{"/usr/bin/java", x.collector, "-cp", "/app", "Hello"}
			g := boot(t, s, disk)
			g.ends(7)
			want := []string{"threads: 64 true", "handover: 500", "interrupt: seen", "garbage: 327680000", "null: caught",
				"overflow: true", "overflow: true", "overflow: true", "divide: caught", "memory: caught", "sockets: through a socket",
				"selector: selected", "datagram: datagram", "files: true 8890", "lock: true", "mapped: L", "list: 1", "timers: true",
				"parallel: 19999900000", "process: 0 true", "done"}
			var got []string
			for _, l := range g.Lines() {
				if w, ok := strings.CutPrefix(l.Text, "hello: "); ok {
					got = append(got, w)
				}
			}
			if strings.Join(got, "\n") != strings.Join(want, "\n") {
				t.Errorf("got %q\nwant %q", got, want)
			}
			clean(t, disk)
		})
	}
	t.Run("serve", func(t *testing.T) {
		needTool(t, "curl", "curl")
		needTool(t, "wrk", "wrk")
		s.CPUs = 2
		s.Run = []string{"/usr/bin/java", "-cp", "/app", "Serve"}
		g := boot(t, s, disk)
		g.waitLine(`^serve: ready$`)
		url := "http://" + g.addr + ":8080"
		if got := g.must("curl", "-sS", "--max-time", "120", url+"/hello"); got != "hello from the JVM\n" {
			t.Errorf("hello: %q", got)
		}
		if got := g.must("curl", "-sS", "--max-time", "120", url+"/big?1000000"); len(got) != 1000000 {
			t.Errorf("big: %d bytes", len(got))
		}
		if got := g.must("curl", "-sS", "--max-time", "120", "-d", "sent there and back", url+"/echo"); got != "sent there and back" {
			t.Errorf("echo: %q", got)
		}
		got := g.must("wrk", "-t", "1", "-c", "16", "-d", fmt.Sprintf("%.0fs", loadTime.Seconds()), "--timeout", "60s", url+"/hello")
		if !strings.Contains(got, " requests in ") || strings.Contains(got, "Socket errors") || strings.Contains(got, "Non-2xx") {
			t.Errorf("wrk:\n%s", got)
		}
		t.Logf("wrk: %s", got)
		g.healthy()
	})
}

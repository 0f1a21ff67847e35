//go:build boot

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"osv/harness/rootfs"
)

// TestBootNginx: curl for what is right, wrk for load.
func TestBootNginx(t *testing.T) {
	needTool(t, "curl", "curl")
	needTool(t, "wrk", "wrk")
	big := filepath.Join(t.TempDir(), "big")
	want := bytes.Repeat([]byte("0123456789abcdef"), 256<<10) // 4 MiB
	for i := range want {
		want[i] ^= byte(i >> 12)
	}
	if err := os.WriteFile(big, want, 0o644); err != nil {
		t.Fatal(err)
	}
	s := describe(t, "linux-nginx")
	s.Files = append(s.Files, rootfs.File{Dst: "/var/www/html/big", Src: big})
	disk := makeDisk(t, s)
	g := boot(t, s, disk)
	g.joinIPv6()
	g.waitPort("8080")
	url := "http://" + g.addr + ":8080"
	curl := func(args ...string) string {
		t.Helper()
		return g.must(append([]string{"curl", "-sS", "--max-time", "120"}, args...)...)
	}
	for _, u := range []string{url, "http://[" + guestIP6 + "]:8080"} {
		if got := curl(u + "/"); !strings.Contains(got, "Debian's nginx on OSv") {
			t.Errorf("%s: %q", u, got)
		}
	}
	if got := curl("-I", url+"/"); !strings.HasPrefix(got, "HTTP/1.1 200 OK") || !strings.Contains(got, "Content-Type: text/html") {
		t.Errorf("HEAD: %q", got)
	}
	if got := curl("-o", "/dev/null", "-w", "%{http_code}", url+"/none"); got != "404" {
		t.Errorf("a page that is not there: %s", got)
	}
	out := filepath.Join(t.TempDir(), "got")
	curl("-o", out, url+"/big") // by sendfile
	if got, err := os.ReadFile(out); err != nil || !bytes.Equal(got, want) {
		t.Errorf("big: %d bytes, %v", len(got), err)
	}
	if got := curl("-r", "1000-1999", url+"/big"); got != string(want[1000:2000]) {
		t.Errorf("range: %d bytes", len(got))
	}
	if got := curl(url + "/status"); !strings.Contains(got, "Active connections") {
		t.Errorf("status: %q", got)
	}
	got := g.must("wrk", "-t", "2", "-c", "64", "-d", loadTime.Round(time.Second).String(), "--timeout", "30s", url+"/")
	m := regexp.MustCompile(`(\d+) requests in`).FindStringSubmatch(got)
	if m == nil || m[1] == "0" || strings.Contains(got, "Socket errors") || strings.Contains(got, "Non-2xx") {
		t.Errorf("wrk:\n%s", got)
	}
	t.Logf("wrk: %v", m)
	g.healthy()
}

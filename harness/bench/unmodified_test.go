package bench

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"osv/harness/design"
	"osv/harness/load"
)

// Debian's memcached is loaded in an OSv guest; what cannot be run so is refused.
func TestUnmodifiedGuest(t *testing.T) {
	k := osvKind(t)
	s := design.OSvUnmodified(design.Subject)
	if err := k.Can(s, "reflector"); err == nil || !strings.Contains(err.Error(), "no Debian package serves reflector") {
		t.Errorf("reflector: %v", err)
	}
	for _, tool := range []string{"apt-get", "dpkg-deb", "mke2fs"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(tool, "is not installed")
		}
	}
	cfg := bootConfig("udp:11211", "tcp:11211")
	cfg.System, cfg.MemMiB = s, 256
	if err := k.Prepare(t.Context(), s, "memcached"); err != nil {
		t.Skip("no Debian packages: ", err)
	}
	g, err := k.Boot(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Stop()
	if p := g.Facts().Parity["service"]; p != "Debian's /usr/bin/memcached -u root -l 0.0.0.0 -p 11211 -U 11211 -m 64 -c 4096 -t 4" {
		t.Errorf("service %q", p)
	}
	r := &Runner{Plan: testPlan(), LoadCommand: loadCommand}
	for port, kind := range map[string]load.Kind{"udp:11211": load.MemcachedUDP, "tcp:11211": load.MemcachedTCP} {
		w := design.Workload{Name: "x", Port: port, Spec: testSpec(kind)}
		w.Spec.Duration = load.Duration(300 * time.Millisecond)
		res, err := r.measure(t.Context(), g, w, nil, "", "test")
		if err != nil || res.Completed < 2 || res.Wrong+res.Errors > 0 {
			t.Errorf("%s: %v, %+v", port, err, res)
		}
	}
}

package bench

import (
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"

	"osv/harness/design"
)

func TestLocalGuest(t *testing.T) {
	if _, err := exec.LookPath("memcached"); err != nil {
		t.Skip("memcached is not installed")
	}
	dir := t.TempDir()
	p := testPlan()
	p.Systems[0].Guest, p.Systems[1].Guest = "local", "local"
	p.Placements = []design.Placement{design.Free, design.OneCore}
	r := &Runner{Plan: p, Dir: dir, Kinds: map[string]Kind{"local": Local{}}, LoadCommand: loadCommand, CeilingTime: 20 * time.Millisecond}
	if err := r.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	boots, samples, _, failures := entries(t, dir)
	if len(samples) != 12 || len(failures) != 0 || boots[0].Accel != "none" || !strings.Contains(boots[0].Kernel, "memcached") {
		t.Errorf("%d samples, failures %+v, %+v", len(samples), failures, boots[0])
	}
	g, err := Local{}.Boot(context.Background(), Config{Ports: []string{"tcp:11211"}, MemMiB: 64})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Addr("tcp:80"); err == nil {
		t.Error("a port that is not served has an address")
	}
	g.Stop()
	g.Stop()
	if g.Alive() == nil {
		t.Error("a stopped guest is alive")
	}
	if _, err := (Local{}).Boot(context.Background(), Config{Ports: []string{"tcp:80"}}); err == nil {
		t.Error("a service that is not there was waited for")
	}
	if _, err := (Local{Binary: "/nonexistent"}).Boot(context.Background(), Config{}); err == nil {
		t.Error("no binary, no error")
	}
	if _, err := (Local{Binary: "false"}).Boot(context.Background(), Config{Ports: []string{"tcp:11211"}}); err == nil || !strings.Contains(err.Error(), "ended") {
		t.Error(err)
	}
}

//go:build boot

package main

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"osv/harness/design"
)

// The same with real guests: no QEMU, TAP or namespace survives.
func TestGuestsInterruptedAtTenRandomPoints(t *testing.T) {
	p := design.Quick()
	p.Name, p.Boots = "chaos", 1
	for i := range p.Workloads {
		p.Workloads[i].Windows = 1
	}
	y, err := p.YAML()
	if err != nil {
		t.Fatal(err)
	}
	plan := filepath.Join(t.TempDir(), "plan.yaml")
	if err := os.WriteFile(plan, y, 0o644); err != nil {
		t.Fatal(err)
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	c := &chaos{t: t, rng: rand.New(rand.NewPCG(seed, 1)), plan: plan, guest: "qemu-system-x86", quick: 10, linger: 2 * time.Second,
		args: []string{"--module", findModule()}}
	if m := os.Getenv("OSV_MODULE"); m != "" {
		c.args = []string{"--module", m}
	}
	c.run([]blow{interrupt, kill, killGuest, fullDisk, terminate, kill, interrupt, fullDisk, killGuest, kill})
}

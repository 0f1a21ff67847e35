//go:build boot

package bench

import (
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"osv/harness/design"
	"osv/harness/vm"
)

// A run of both guests whose QEMU is killed now and then ends with every cell
// measured, and leaves no QEMU behind.
func TestRunSurvivesKilledGuests(t *testing.T) {
	q := &QEMU{Cache: t.TempDir(), Base: vm.Spec{Accel: vm.TCG}}
	if err := q.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	p := testPlan()
	p.Systems = []design.System{{Name: "linux-stock", Title: "Linux", Guest: "linux", Profile: "stock", Role: design.Baseline}, osvSystem()}
	p.Workloads[1].Systems = nil
	p.Placements = []design.Placement{design.Free}
	p.MemMiB = 256
	dir := t.TempDir()
	mine := &recordingKind{Kind: &Linux{QEMU: q}}
	r := &Runner{Plan: p, Dir: dir, Kinds: map[string]Kind{"linux": mine, "osv": &OSv{QEMU: q, Module: "../.."}}, LoadCommand: loadCommand, CeilingTime: 20 * time.Millisecond}
	kills := 0
	r.Events = func(e Event) {
		if mine.last != nil && kills < 2 && strings.Contains(e.Text, "linux-stock, tcp") {
			kills++
			_ = unix.Kill(mine.last.v.PID(), unix.SIGKILL)
		}
	}
	if err := r.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, samples, _, failures := entries(t, dir)
	if len(samples) != 2*2*2 || len(failures) != kills || kills != 2 {
		t.Errorf("%d samples, %d kills, failures %+v", len(samples), kills, failures)
	}
	if out, _ := exec.Command("pgrep", "-f", "-P", "1", "tcg-count").Output(); len(out) > 0 {
		t.Errorf("QEMU was left behind: %s", out)
	}
}

// recordingKind remembers the last guest.
type recordingKind struct {
	Kind
	last *qemuGuest
}

func (k *recordingKind) Boot(ctx context.Context, cfg Config) (Guest, error) {
	g, err := k.Kind.Boot(ctx, cfg)
	if err == nil {
		k.last = g.(*qemuGuest)
	}
	return g, err
}

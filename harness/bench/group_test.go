package bench

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"osv/harness/design"
	"osv/harness/load"
)

// pausable is a guest that the runner stops while another is under load.
type pausable struct {
	*nullGuest
	paused bool
	k      *pausableKind
}

func (g *pausable) Pause() error {
	if g.paused {
		return errors.New("paused twice")
	}
	g.paused = true
	return nil
}

func (g *pausable) Resume() error {
	if !g.paused {
		return errors.New("runs already")
	}
	g.paused = false
	return nil
}

// Run is where a load begins: the others must be stopped.
func (g *pausable) Run(ctx context.Context, cmd *exec.Cmd) error {
	for _, o := range g.k.alive {
		if o.paused != (o != g) && !o.stop {
			g.k.wrong++
		}
	}
	return g.nullGuest.Run(ctx, cmd)
}

type pausableKind struct {
	nullKind
	alive []*pausable
	wrong int
	dies  int // this boot is dead from the start
}

func (k *pausableKind) Boot(ctx context.Context, cfg Config) (Guest, error) {
	for _, o := range k.alive {
		if !o.paused && !o.stop {
			k.wrong++ // it disturbs this boot
		}
	}
	g, err := k.nullKind.Boot(ctx, cfg)
	if err != nil {
		return nil, err
	}
	p := &pausable{nullGuest: g.(*nullGuest), k: k}
	if p.boot == k.dies {
		p.dead = true
		p.udp.Close()
	}
	k.alive = append(k.alive, p)
	return p, nil
}

// Two guests are alive at once, one of them stopped, and windows alternate.
func TestWindowsOfGuestsAliveAtOnce(t *testing.T) {
	dir := t.TempDir()
	k := &pausableKind{}
	r := runner(t, dir, nil)
	r.Kinds["null"] = k
	r.Plan.Together = true
	r.Plan.Placements = r.Plan.Placements[:1]
	r.Plan.Workloads = r.Plan.Workloads[:1]
	r.Plan.Workloads[0].Windows = 3
	if err := r.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	_, samples, _, _ := entries(t, dir)
	seen := map[design.Window]bool{}
	var order []int // of what was kept: a window that lost requests is repeated
	for _, s := range samples {
		order = append(order, s.Boot)
		seen[design.Window{Boot: s.Boot, Cell: s.Cell, N: s.Window}] = true
		if !strings.HasSuffix(s.HDR, fmt.Sprintf("-%d.hlog", s.Window)) {
			t.Error(s.HDR)
		}
	}
	if want := []int{0, 1, 1, 0, 0, 1, 2, 3, 3, 2, 2, 3}; !reflect.DeepEqual(order, want) || k.wrong > 0 || k.stopped != 4 {
		t.Errorf("order %v, want %v; %d times a guest ran that should not; %d stopped", order, want, k.wrong, k.stopped)
	}
	if len(samples) != 12 || len(seen) != 12 {
		t.Errorf("%d samples, %d windows", len(samples), len(seen))
	}
}

type preparedKind struct {
	nullKind
	asked []string
	fail  error
}

func (k *preparedKind) Prepare(_ context.Context, s design.System, service string) error {
	k.asked = append(k.asked, s.Name+" "+service)
	return k.fail
}

// Images are made before the first boot, once each, and a run that is done makes
// none.
func TestImagesArePrepared(t *testing.T) {
	k := &preparedKind{fail: errors.New("no disk")}
	r := runner(t, t.TempDir(), nil)
	r.Kinds["null"] = k
	if err := r.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "no disk") || k.boots > 0 {
		t.Errorf("%v, %d boots", err, k.boots)
	}
	k.fail, k.asked = nil, nil
	if err := r.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	slices.Sort(k.asked)
	if !reflect.DeepEqual(k.asked, []string{"a memcached", "b memcached"}) {
		t.Errorf("asked for %v", k.asked)
	}
	k.asked = nil
	if err := r.Run(context.Background()); err != nil || len(k.asked) > 0 {
		t.Errorf("%v; asked for %v", err, k.asked)
	}
}

// One guest of a group dies: the other is measured all the same, and only the dead
// one is booted again.
func TestOneGuestOfAGroupDies(t *testing.T) {
	dir := t.TempDir()
	k := &pausableKind{dies: 1}
	r := runner(t, dir, nil)
	r.Kinds["null"] = k
	r.Plan.Together, r.Plan.Boots = true, 1
	for i := range r.Plan.Workloads {
		r.Plan.Workloads[i].Spec.Timeout = load.Duration(20 * time.Millisecond)
	}
	if err := r.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	boots, samples, _, failures := entries(t, dir)
	if len(boots) != 3 || len(samples) != 6 || len(failures) != 1 || failures[0].Boot != 0 || k.stopped != 3 {
		t.Errorf("%d boots, %d samples, %+v, %d stopped", len(boots), len(samples), failures, k.stopped)
	}
}

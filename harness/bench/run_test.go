package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"osv/harness/design"
	"osv/harness/load"
)

func TestRunMeasuresEveryCell(t *testing.T) {
	dir := t.TempDir()
	k := &nullKind{}
	r := runner(t, dir, k)
	var last Event
	r.Events = func(e Event) { last = e }
	if err := r.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	boots, samples, facts, failures := entries(t, dir)
	if len(boots) != 4 || len(samples) != 2*2*1+2*2*2 || len(failures) != 0 || k.stopped != 4 {
		t.Fatalf("%d boots, %d samples, failures %v, %d stopped", len(boots), len(samples), failures, k.stopped)
	}
	for _, s := range samples {
		if !s.Clean || s.Metrics["rate"] <= 0 || s.Metrics["p99"] <= 0 || s.HDR == "" {
			t.Errorf("%+v", s)
		}
		if _, err := os.Stat(filepath.Join(dir, s.HDR)); err != nil {
			t.Error(err)
		}
	}
	if boots[0].Serial == "" || boots[0].FirstReply != 0.5 {
		t.Errorf("%+v", boots[0])
	}
	count := map[string]int{}
	for _, f := range facts {
		count[f.Metric]++
	}
	if !reflect.DeepEqual(count, map[string]int{"image_bytes": 2, "idle_vcpu": 4, "idle_instructions": 4}) {
		t.Errorf("facts %v", count)
	}
	if last.Done != last.Total || last.Total != 12 || last.Left != 0 {
		t.Errorf("progress ends at %+v", last)
	}
	plan, err := os.ReadFile(filepath.Join(dir, PlanFile))
	if err != nil {
		t.Fatal(err)
	}
	if p, err := design.Read(bytes.NewReader(plan)); err != nil || !reflect.DeepEqual(p, r.Plan) {
		t.Errorf("the plan kept is another one: %v", err)
	}
}

// Interrupted after any number of progress steps, a run resumes and ends with
// the same cells, each once, and no guest left.
func TestInterruptAndResumeAnywhere(t *testing.T) {
	for stopAfter := 1; stopAfter < 22; stopAfter += 5 {
		dir := t.TempDir()
		k := &nullKind{}
		ctx, cancel := context.WithCancel(context.Background())
		r := runner(t, dir, k)
		n := 0
		r.Events = func(Event) {
			if n++; n == stopAfter {
				cancel()
			}
		}
		err := r.Run(ctx)
		cancel()
		if err != nil && !errors.Is(err, ErrInterrupted) {
			t.Fatalf("after %d steps: %v", stopAfter, err)
		}
		if err := runner(t, dir, k).Run(context.Background()); err != nil {
			t.Fatalf("resume after %d steps: %v", stopAfter, err)
		}
		_, samples, _, _ := entries(t, dir)
		seen := map[string]int{}
		for _, s := range samples {
			seen[fmt.Sprint(s.Boot, s.Cell)]++
		}
		for c, n := range seen {
			if n != 1 {
				t.Errorf("after %d steps: cell %s measured %d times", stopAfter, c, n)
			}
		}
		if len(seen) != 12 || k.stopped != k.boots {
			t.Errorf("after %d steps: %d cells, %d of %d guests stopped", stopAfter, len(seen), k.stopped, k.boots)
		}
	}
}

func TestAnotherPlanIsNotResumed(t *testing.T) {
	dir := t.TempDir()
	if err := runner(t, dir, &nullKind{}).Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	r := runner(t, dir, &nullKind{})
	r.Plan.Boots = 3
	if err := r.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "another plan") {
		t.Error(err)
	}
}

func TestFailedBootsAreRetriedThenGivenUp(t *testing.T) {
	dir := t.TempDir()
	k := &nullKind{failBoot: func(n int) error {
		if n >= 2 && n <= 4 || n == 6 {
			return errors.New("no such luck")
		}
		return nil
	}}
	r := runner(t, dir, k)
	problems := 0
	r.Events = func(e Event) {
		if e.Problem && strings.Contains(e.Text, "no such luck") {
			problems++
		}
	}
	if err := r.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	boots, _, _, failures := entries(t, dir)
	if len(boots) != 3 || len(failures) != 4 || !failures[2].Final || failures[3].Final || problems != 4 {
		t.Errorf("%d boots, failures %+v, %d problems", len(boots), failures, problems)
	}
	// What was given up is tried again by a resume.
	if err := runner(t, dir, &nullKind{}).Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	if boots, samples, _, _ := entries(t, dir); len(boots) != 4 || len(samples) != 12 {
		t.Errorf("%d boots, %d samples after the resume", len(boots), len(samples))
	}
	always := &nullKind{failBoot: func(int) error { return errors.New("broken rig") }}
	if err := runner(t, t.TempDir(), always).Run(context.Background()); err == nil || !strings.Contains(err.Error(), "3 boots in a row") {
		t.Error(err)
	}
}

func TestGeneratorFailures(t *testing.T) {
	dir := t.TempDir()
	r := runner(t, dir, &nullKind{})
	r.LoadCommand = []string{"sh", "-c", "cat > /dev/null; echo it broke >&2; exit 1"}
	if err := r.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	_, samples, _, failures := entries(t, dir)
	if len(samples) != 0 || len(failures) != 12*maxTries || !strings.Contains(failures[0].Error, "it broke") {
		t.Errorf("%d samples, %d failures: %+v", len(samples), len(failures), failures[:1])
	}
	r = runner(t, t.TempDir(), &nullKind{})
	r.LoadCommand = []string{"sh", "-c", "cat > /dev/null; echo gibberish"}
	if err := r.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, _, _, failures := entries(t, r.Dir); !strings.Contains(failures[0].Error, "generator's answer") {
		t.Errorf("%+v", failures[0])
	}
}

type dyingKind struct{ nullKind }

func (k *dyingKind) Boot(ctx context.Context, cfg Config) (Guest, error) {
	g, err := k.nullKind.Boot(ctx, cfg)
	if err == nil && k.boots == 1 {
		n := g.(*nullGuest)
		n.dead = true
		n.udp.Close()
	}
	return g, err
}

// A guest that dies under load is booted again; its cells are not lost.
func TestGuestDiesUnderLoad(t *testing.T) {
	dir := t.TempDir()
	k := &dyingKind{}
	r := runner(t, dir, &k.nullKind)
	r.Kinds["null"] = k
	r.LoadCommand = []string{"env", "OSV_TEST_LOAD=1", "GORACE=atexit_sleep_ms=0", os.Args[0]}
	for i := range r.Plan.Workloads {
		r.Plan.Workloads[i].Spec.Timeout = load.Duration(20 * time.Millisecond)
	}
	if err := r.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	boots, samples, _, failures := entries(t, dir)
	if len(samples) != 12 || len(boots) != 5 || len(failures) != 1 || !strings.Contains(failures[0].Error, "the guest is gone") {
		t.Errorf("%d boots, %d samples, %+v", len(boots), len(samples), failures)
	}
}

func TestRunnerRefusals(t *testing.T) {
	r := runner(t, t.TempDir(), &nullKind{})
	r.Plan.Boots = 0
	if r.Run(context.Background()) == nil {
		t.Error("a bad plan runs")
	}
	r = runner(t, t.TempDir(), &nullKind{})
	r.Kinds = nil
	if err := r.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "no guest of kind") {
		t.Error(err)
	}
	r = runner(t, "/dev/null/x", &nullKind{})
	if r.Run(context.Background()) == nil {
		t.Error("a folder that cannot be made")
	}
}

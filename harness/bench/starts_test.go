package bench

import (
	"context"
	"errors"
	"testing"
)

// Starts come before the loaded boots, A B B A, are journalled one by one, and are
// not repeated by a run that goes on.
func TestStarts(t *testing.T) {
	dir := t.TempDir()
	k := &nullKind{}
	r := runner(t, dir, k)
	r.Plan.Starts, r.Plan.Boots = 2, 1
	r.Plan.Workloads = r.Plan.Workloads[:1]
	if err := r.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	boots, _, facts, _ := entries(t, dir)
	var order string
	for _, f := range facts {
		if f.Metric != firstReply {
			continue
		}
		if f.Value != 0.5 || f.Pair != f.Boot/2 {
			t.Errorf("%+v", f)
		}
		order += f.System
	}
	if order != "abba" && order != "baab" {
		t.Errorf("order %q, want a b b a", order)
	}
	if len(boots) != 2 || k.boots != 4+2 || k.stopped != k.boots {
		t.Errorf("%d loaded boots, %d in all, %d stopped", len(boots), k.boots, k.stopped)
	}
	again := &nullKind{}
	r = runner(t, dir, again)
	r.Plan.Starts, r.Plan.Boots = 2, 1
	r.Plan.Workloads = r.Plan.Workloads[:1]
	if err := r.Run(context.Background()); err != nil || again.boots != 0 {
		t.Errorf("a finished run boots %d guests (%v)", again.boots, err)
	}
}

// A start that fails is named and left out; the run goes on.
func TestStartFails(t *testing.T) {
	dir := t.TempDir()
	k := &nullKind{failBoot: func(n int) error {
		if n == 1 {
			return errors.New("no spark")
		}
		return nil
	}}
	r := runner(t, dir, k)
	r.Plan.Starts, r.Plan.Boots = 1, 1
	r.Plan.Workloads = r.Plan.Workloads[:1]
	if err := r.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	_, _, facts, failures := entries(t, dir)
	n := 0
	for _, f := range facts {
		if f.Metric == firstReply {
			n++
		}
	}
	if n != 1 || len(failures) != 1 || !failures[0].Final {
		t.Errorf("%d starts, failures %+v", n, failures)
	}
}

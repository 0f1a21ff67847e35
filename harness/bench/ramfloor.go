package bench

import (
	"context"
	"fmt"
	"time"

	"osv/harness/design"
	"osv/harness/journal"
)

// The search for the least memory: whole MiB, to 4 %.
const (
	floorFrom    = 8 // MiB; nothing boots under this
	floorTimeout = 30 * time.Second
)

// ramFloors seeks, for each system, the least memory with which all its services
// answer. The floor must answer twice; what is under it failed once.
func (r *Runner) ramFloors(ctx context.Context) error {
	for _, s := range r.Plan.Systems {
		if r.fact[factKey{s.Name, "ram_floor", -1}] {
			continue
		}
		mib, tries, err := r.ramFloor(ctx, s)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			r.event(fmt.Sprintf("RAM floor of %s: %v", s.Name, err), true)
			if err := r.j.Append(journal.Entry{Failure: &journal.Failure{Boot: -1, Error: "RAM floor of " + s.Name + ": " + err.Error(), Final: true}}); err != nil {
				return err
			}
			continue
		}
		how := fmt.Sprintf("bisection, %d boots; answers twice with this, not with less", tries)
		if err := r.putFact(s.Name, "ram_floor", float64(mib), -1, 0, how); err != nil {
			return err
		}
	}
	return nil
}

func (r *Runner) ramFloor(ctx context.Context, s design.System) (mib, tries int, err error) {
	lo, hi := floorFrom, r.Plan.MemMiB // lo fails or is the least tried; hi answers
	if ok, err := r.answers(ctx, s, hi); err != nil || !ok {
		return 0, 1, fmt.Errorf("does not answer with %d MiB (%v)", hi, err)
	}
	tries = 1
	for hi-lo > max(1, hi/25) {
		mid := (lo + hi) / 2
		ok, err := r.answers(ctx, s, mid)
		tries++
		if err != nil {
			return 0, tries, err
		}
		if ok {
			hi = mid
		} else {
			lo = mid
		}
	}
	for { // the floor must hold
		ok, err := r.answers(ctx, s, hi)
		tries++
		if err != nil {
			return 0, tries, err
		}
		if ok {
			return hi, tries, nil
		}
		if hi += max(1, hi/25); hi > r.Plan.MemMiB {
			return 0, tries, fmt.Errorf("does not answer twice with %d MiB", r.Plan.MemMiB)
		}
	}
}

// answers reports whether a system comes up with so much memory. An error is one
// of the context.
func (r *Runner) answers(ctx context.Context, s design.System, mib int) (bool, error) {
	r.event(fmt.Sprintf("RAM floor: %s with %d MiB", s.Title, mib), false)
	cfg := r.config(s, r.Plan.Services()[0])
	cfg.MemMiB, cfg.Instructions = mib, false
	boot, cancel := context.WithTimeout(ctx, floorTimeout)
	defer cancel()
	g, err := r.Kinds[s.Guest].Boot(boot, cfg)
	if err == nil {
		err = g.Stop()
	}
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	return err == nil, nil
}

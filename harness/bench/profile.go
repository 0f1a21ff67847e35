package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"osv/harness/design"
	"osv/harness/guest/linux"
	"osv/harness/journal"
	"osv/harness/load"
	"osv/harness/load/drive"
	"osv/harness/tcg"
)

// profileFunctions is how many functions of a profile are kept.
const profileFunctions = 30

// profiles boots each system once more for each workload that the plan wants a
// profile of. What goes wrong is recorded and costs only that profile.
func (r *Runner) profiles(ctx context.Context) error {
	for _, name := range r.Plan.Profiles {
		for _, s := range r.Plan.Systems {
			w := r.loads[name]
			key := factKey{s.Name, "profile " + name, -1}
			if r.fact[key] || !w.Runs(s.Name) {
				continue
			}
			r.event(fmt.Sprintf("profile of %s under %s", s.Title, name), false)
			p, err := r.profile(ctx, s, w)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			r.fact[key] = true
			entry := journal.Entry{Profile: p}
			if err != nil {
				err = fmt.Errorf("profile of %s under %s: %w", s.Name, name, err)
				r.event(err.Error(), true)
				entry = journal.Entry{Failure: &journal.Failure{Boot: -1, Error: err.Error(), Final: true}}
			} else if p == nil {
				continue
			}
			if err := r.j.Append(entry); err != nil {
				return err
			}
		}
	}
	return nil
}

// profile is of one system and workload; nil where blocks are not counted.
func (r *Runner) profile(ctx context.Context, s design.System, w design.Workload) (*journal.Profile, error) {
	cfg := r.config(s, design.Service(w.Port))
	cfg.Profile = true
	cfg.Serial = filepath.Join(r.Dir, SerialDir, "profile-"+s.Name+"-"+w.Name+".log")
	g, err := r.start(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer func() {
		g.Stop()
		if b, err := os.ReadFile(cfg.Serial); err == nil {
			if err := os.WriteFile(cfg.Serial, []byte(linux.WithoutSymbols(string(b))), 0o644); err != nil {
				r.event(err.Error(), true)
			}
		}
	}()
	p, ok := g.(Profiler)
	if !ok || p.Blocks() == nil {
		return nil, nil
	}
	syms, other, err := p.Symbols(ctx)
	if err != nil {
		return nil, err
	}
	place := r.Plan.Placements[0]
	client, err := g.Place(place)
	if err != nil {
		return nil, err
	}
	// The first load stores the keys and warms the guest up; the second does
	// nothing but what is profiled.
	if _, err := r.measure(ctx, g, w, client, "", ""); err != nil {
		return nil, err
	}
	w.Spec.NoPopulate, w.Spec.Warmup = true, load.Duration(1)
	var side guestSide
	if m, ok := g.(Managed); ok {
		side.client = m.API()
	}
	side.start(ctx)
	before := p.Blocks()
	res, err := r.load(ctx, g, w, client, drive.Options{NoReadback: true})
	if err != nil {
		return nil, err
	}
	after := p.Blocks()
	if res.Completed == 0 {
		return nil, fmt.Errorf("nothing came back")
	}
	all := tcg.Profile(before, after, syms, other)
	out := &journal.Profile{System: s.Name, Workload: w.Name, Placement: string(place), Requests: res.Completed,
		Instructions: res.Probes["insn"] / float64(res.Completed), Others: max(0, len(all)-profileFunctions)}
	if out.Guest, err = side.stop(ctx); err != nil {
		return nil, err
	}
	for _, e := range all[:min(len(all), profileFunctions)] {
		out.Functions = append(out.Functions, journal.ProfileEntry{Function: e.Symbol, Share: e.Share})
	}
	return out, nil
}

package bench

import (
	"context"
	"fmt"

	"osv/harness/journal"
)

// firstReply is the metric of the time from QEMU's start to the first right reply.
const firstReply = "first_reply"

// starts times boots that serve for nothing else: no other guest is alive, and no
// instruction is counted, so that nothing of the rig is in the time.
func (r *Runner) starts(ctx context.Context) error {
	service := r.Plan.Services()[0]
	for _, s := range r.Plan.StartOrder() {
		if r.fact[factKey{s.System, firstReply, s.Index}] {
			continue
		}
		sys, _ := r.Plan.System(s.System)
		cfg := r.config(sys, service)
		cfg.Instructions = false
		r.event(fmt.Sprintf("start %d of %d: %s", s.Index+1, len(r.Plan.StartOrder()), sys.Title), false)
		g, err := r.start(ctx, cfg)
		var took float64
		if err == nil {
			took = g.Facts().FirstReply
			err = g.Stop()
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			text := fmt.Sprintf("start %d of %s: %v", s.Index+1, s.System, err)
			r.event(text, true)
			if err := r.j.Append(journal.Entry{Failure: &journal.Failure{Boot: -1, Error: text, Final: true}}); err != nil {
				return err
			}
			continue
		}
		if err := r.putFact(s.System, firstReply, took, s.Index, s.Pair, "alone, nothing counted"); err != nil {
			return err
		}
	}
	return nil
}

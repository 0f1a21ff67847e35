package soak

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"osv/harness/load"
	"osv/harness/load/drive"
)

// The two sides of mc-idle.
const (
	fewConns    = 64
	activeShare = 100 // one in
	idleRounds  = 5
	idleMost    = 0.10 // that many connections may cost
)

// mcIdle compares a cache with 64 connections, all active, to the same with 10,000
// of which 1 % are active, and to 10,000 of which just as many are: interleaved on
// one boot, in replies a second and guest instructions a reply. Instructions decide
// where they can be counted.
func mcIdle(ctx context.Context, r *Run) error {
	g, err := r.boot(ctx, memcachedApp, "tcp:11211", bootOptions{mem: 1024, args: "-p 11211 -m 64 -c 12000", count: true})
	if err != nil {
		return err
	}
	p := g.peer(11211)
	before, err := connsNow(ctx, p)
	if err != nil {
		return err
	}
	var few, same, active side
	for round := range idleRounds {
		r.logf("round %d of %d", round+1, idleRounds)
		if err := few.measure(ctx, r, g, p, fewConns, round == 0); err != nil {
			return fmt.Errorf("%d connections: %w", fewConns, err)
		}
		// An address for each round: our side of a connection that was closed in an
		// orderly way keeps its port for a minute.
		from, _, err := p.lend(round)
		if err != nil {
			return err
		}
		crowd, err := openCrowd(ctx, p, idleConns-idleConns/activeShare, 0, from)
		if err != nil {
			return err
		}
		err = errors.Join(
			same.measure(ctx, r, g, p, fewConns, false),
			active.measure(ctx, r, g, p, idleConns/activeShare, false))
		dead := crowd.broken()
		crowd.close(false) // an RST that is lost is not sent again
		if err != nil {
			return fmt.Errorf("beside %d idle connections: %w", idleConns, err)
		}
		if dead > 0 {
			return fmt.Errorf("%d idle connections were closed", dead)
		}
		if err := quiet(ctx, p, before); err != nil {
			return err
		}
	}
	few.report(r, "64 of 64 active")
	same.report(r, "64 of 10,000 active")
	active.report(r, "100 of 10,000 active")
	for _, s := range []struct {
		name string
		side
	}{{"64 of 10,000 active", same}, {"100 of 10,000 active", active}} {
		rate, insns := ratio(s.rates, few.rates), ratio(s.insns, few.insns)
		r.figure(s.name+": throughput against 64 of 64", rate, "")
		if g.counter == nil {
			// Only time can tell, and others may use the machine.
			if rate < 1-idleMost {
				return fmt.Errorf("%s: %.2f of the throughput of 64 of 64 (median of %d rounds), %.2f is allowed", s.name, rate, idleRounds, 1-idleMost)
			}
			continue
		}
		r.figure(s.name+": instructions against 64 of 64", insns, "")
		if insns > 1+idleMost {
			return fmt.Errorf("%s: %.2f of the instructions a reply of 64 of 64, %.2f is allowed", s.name, insns, 1+idleMost)
		}
	}
	return g.trouble()
}

// side is what was measured of one number of connections, a round each.
type side struct{ rates, insns []float64 }

func (s *side) measure(ctx context.Context, r *Run, g *guest, p peer, conns int, populate bool) error {
	spec := load.Spec{Kind: load.MemcachedTCP, Target: p.addr, Conns: conns, Keys: 1000, ValueSize: "100", NoPopulate: !populate,
		Warmup: load.Duration(r.Length / 4), Duration: load.Duration(r.Length), Timeout: load.Duration(replyTime)}
	var opt drive.Options
	if g.counter != nil {
		opt.Probes = g.counter.Probes("insn")
	}
	var res load.Result
	err := p.do(func() (err error) { // the engine keeps to one thread
		res, err = drive.Run(ctx, spec, opt)
		return err
	})
	if err != nil {
		return err
	}
	if ok, why := res.Clean(); !ok {
		return errors.New(why)
	}
	s.rates = append(s.rates, res.Rate)
	s.insns = append(s.insns, res.Probes["insn"]/float64(res.Completed))
	return nil
}

func (s *side) report(r *Run, name string) {
	r.figure(name, median(s.rates), "replies/s")
	if median(s.insns) > 0 {
		r.figure(name, median(s.insns), "instructions/reply")
	}
}

// ratio is the median of the rounds' own ratios: what disturbs a round disturbs
// both sides of it.
func ratio(a, b []float64) float64 {
	rs := make([]float64, min(len(a), len(b)))
	for i := range rs {
		rs[i] = a[i] / b[i]
	}
	return median(rs)
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	return (v[len(v)/2] + v[(len(v)-1)/2]) / 2
}

package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"osv/harness/design"
	"osv/harness/journal"
	"osv/harness/load"
)

// A group is what is alive at once: one boot, or the boots of a half block. The
// guests of a group are booted one after the other, each stopped as soon as it has
// answered and its idle cost is known; then the windows are measured, the guest
// under load running and the others stopped.

// Pauser is a guest that can be stopped and let run again without noticing.
type Pauser interface {
	Pause() error
	Resume() error
}

// member is one boot of a group.
type member struct {
	boot    design.Boot
	g       Guest // nil after a failure
	attempt int
	paused  bool
	placed  design.Placement
	client  []int // host cores for the generator
	tries   int
	err     error // why this attempt of the boot failed
}

func (m *member) pause() error {
	p, ok := m.g.(Pauser)
	if !ok || m.paused {
		return nil
	}
	if err := p.Pause(); err != nil {
		return err
	}
	m.paused = true
	return nil
}

func (m *member) resume() error {
	if !m.paused {
		return nil
	}
	if err := m.g.(Pauser).Resume(); err != nil {
		return err
	}
	m.paused = false
	return nil
}

// fail ends an attempt of a boot; the guest is gone when it returns.
func (r *Runner) fail(m *member, err error) {
	m.err = errors.Join(m.err, err)
	r.event(fmt.Sprintf("boot %d of %s: %v", m.boot.Index+1, m.boot.System, m.err), true)
	m.stop()
}

func (m *member) stop() {
	if m.g != nil {
		m.err = errors.Join(m.err, m.g.Stop())
		m.g = nil
	}
}

// group measures what is not done of a group. It returns the number of boots that
// were given up; an error ends the run.
func (r *Runner) group(ctx context.Context, boots []design.Boot) (lost int, err error) {
	var left []*member
	for _, b := range boots {
		left = append(left, &member{boot: b})
	}
	undone := func(m *member) bool {
		return slices.ContainsFunc(r.Plan.Windows(boots), func(w design.Window) bool { return w.Boot == m.boot.Index && !r.done[w] })
	}
	for {
		left = slices.DeleteFunc(left, func(m *member) bool { return !undone(m) })
		if len(left) == 0 {
			return lost, nil
		}
		err := r.attempt(ctx, boots, left)
		for _, m := range left {
			m.stop()
		}
		if err != nil {
			return lost, err
		}
		if ctx.Err() != nil {
			return lost, ctx.Err()
		}
		kept := left[:0]
		for _, m := range left {
			if m.err == nil {
				continue
			}
			m.tries++
			final := m.tries >= maxTries
			if err := r.j.Append(journal.Entry{Failure: &journal.Failure{Boot: m.boot.Index, Attempt: m.attempt, Error: m.err.Error(), Final: final}}); err != nil {
				return lost, err
			}
			if final {
				lost++
				continue
			}
			kept = append(kept, &member{boot: m.boot, tries: m.tries})
		}
		left = kept
	}
}

// fatalError ends a run: the journal cannot be written.
type fatalError struct{ error }

func (r *Runner) append(e journal.Entry) error {
	if err := r.j.Append(e); err != nil {
		return fatalError{err}
	}
	return nil
}

// attempt boots the members and measures their windows once. What goes wrong with
// a member is kept in it; an error ends the run.
func (r *Runner) attempt(ctx context.Context, boots []design.Boot, members []*member) error {
	var fatal fatalError
	for _, m := range members {
		err := r.up(ctx, m)
		if err == nil && len(members) > 1 {
			err = m.pause()
		}
		if errors.As(err, &fatal) {
			return fatal.error
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			r.fail(m, err)
		}
	}
	for _, w := range r.Plan.Windows(boots) {
		i := slices.IndexFunc(members, func(m *member) bool { return m.boot.Index == w.Boot })
		if i < 0 || members[i].g == nil || r.done[w] {
			continue
		}
		m := members[i]
		err := r.focus(members, m)
		if err == nil {
			err = r.window(ctx, m, w)
		}
		if errors.As(err, &fatal) {
			return fatal.error
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			r.fail(m, err)
		}
	}
	return nil
}

// focus stops every guest but m's, and lets that run.
func (r *Runner) focus(members []*member, m *member) error {
	for _, o := range members {
		if o == m || o.g == nil {
			continue
		}
		if err := o.pause(); err != nil {
			r.fail(o, err)
		}
	}
	return m.resume()
}

// up boots a member, records the boot and measures what needs no load.
func (r *Runner) up(ctx context.Context, m *member) error {
	b := m.boot
	sys, _ := r.Plan.System(b.System)
	r.tries[b.Index]++
	m.attempt = r.tries[b.Index]
	r.event(fmt.Sprintf("boot %d: %s", b.Index+1, sys.Title+" with "+b.Service), false)
	cfg := r.config(sys, b.Service)
	serial := fmt.Sprintf("%s/%03d-%s.%d.log", SerialDir, b.Index, b.System, m.attempt)
	cfg.Serial = filepath.Join(r.Dir, serial)
	g, err := r.start(ctx, cfg)
	if err != nil {
		return err
	}
	m.g = g
	f := g.Facts()
	if _, err := os.Stat(cfg.Serial); err != nil {
		serial = ""
	}
	err = r.append(journal.Entry{Boot: &journal.Boot{Boot: b, Attempt: m.attempt, FirstReply: f.FirstReply, Line: f.Line, Accel: f.Accel,
		Kernel: f.Kernel, Image: f.Image, Parity: f.Parity, Wire: f.Wire, WireNote: f.WireNote, Serial: serial}})
	if err == nil && f.ImageBytes > 0 && b.Service == r.Plan.Services()[0] {
		err = r.putFact(b.System, "image_bytes", float64(f.ImageBytes), -1, 0, "kernel and root as shipped")
	}
	if err == nil {
		err = r.idle(ctx, g, b)
	}
	return err
}

func (r *Runner) putFact(system, metric string, v float64, boot, pair int, how string) error {
	key := factKey{system, metric, boot}
	if r.fact[key] {
		return nil
	}
	r.fact[key] = true
	return r.append(journal.Entry{Fact: &journal.Fact{System: system, Metric: metric, Value: v, Boot: boot, Pair: pair, How: how}})
}

// idle watches a guest that nobody talks to.
func (r *Runner) idle(ctx context.Context, g Guest, b design.Boot) error {
	if r.Plan.Idle <= 0 || b.Service != r.Plan.Services()[0] || r.fact[factKey{b.System, "idle_vcpu", b.Index}] {
		return nil
	}
	ps, err := load.ParseProbes(g.Probes())
	if err != nil {
		return err
	}
	defer ps.Close()
	if err := ps.Start(); err != nil {
		return err
	}
	began := time.Now()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(r.Plan.Idle.Std()):
	}
	m, err := ps.Stop()
	if err != nil {
		return err
	}
	s := time.Since(began).Seconds()
	how := fmt.Sprintf("over %.1f s after boot", s)
	if v, ok := m["vcpu"]; ok {
		if err := r.putFact(b.System, "idle_vcpu", v/1e9/s, b.Index, b.Pair, how); err != nil {
			return err
		}
	}
	if v, ok := m["insn"]; ok {
		return r.putFact(b.System, "idle_instructions", v/s, b.Index, b.Pair, how)
	}
	return nil
}

// window measures one window, again if requests were lost or the host was busy.
func (r *Runner) window(ctx context.Context, m *member, win design.Window) (err error) {
	c, b, g := win.Cell, m.boot, m.g
	if c.Placement != m.placed {
		if m.client, err = g.Place(c.Placement); err != nil {
			return fmt.Errorf("placement %s: %w", c.Placement, err)
		}
		m.placed = c.Placement
	}
	w, err := r.rated(r.loads[c.Workload], c.Placement)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("%03d-%s-%s-%s", b.Index, c.System, c.Placement, c.Workload)
	if w.Times() > 1 {
		name += fmt.Sprintf("-%d", win.N)
	}
	hdr := HDRDir + "/" + name + ".hlog"
	var again []string
	for try := 1; ; try++ {
		r.event(fmt.Sprintf("boot %d: %s, %s, %s", b.Index+1, c.System, c.Workload, c.Placement), false)
		s, err := r.sample(ctx, m, w, c, filepath.Join(r.Dir, hdr), try)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			if dead := g.Alive(); dead != nil {
				return fmt.Errorf("%s: %w (%v)", c.Workload, dead, err)
			}
			final := try >= maxTries
			r.event(fmt.Sprintf("%s on %s: %v", c.Workload, c.System, err), true)
			if err := r.append(journal.Entry{Failure: &journal.Failure{Boot: b.Index, Attempt: m.attempt, Cell: &c, Error: err.Error(), Final: final}}); err != nil {
				return err
			}
			if final {
				r.done[win] = true
				return nil
			}
			continue
		}
		if s.Metrics == nil { // does not count
			again = append(again, s.Why)
			r.event(fmt.Sprintf("%s on %s: %s; again", c.Workload, c.System, s.Why), true)
			continue
		}
		s.Cell, s.Boot, s.Pair, s.Window, s.Again = c, b.Index, b.Pair, win.N, append(again, s.Again...)
		if _, err := os.Stat(filepath.Join(r.Dir, hdr)); err == nil {
			s.HDR = hdr
		}
		if err := r.append(journal.Entry{Sample: s}); err != nil {
			return err
		}
		r.learn(s)
		r.done[win] = true
		return nil
	}
}

// sample measures a cell once; a sample without metrics does not count, and Why says
// why the cell is to be measured again.
func (r *Runner) sample(ctx context.Context, m *member, w design.Workload, c design.Cell, hdr string, try int) (*journal.Sample, error) {
	if w.Knee != nil {
		return r.knee(ctx, w, c, func(ctx context.Context, spec load.Spec) (load.Result, error) {
			w.Spec = spec
			return r.measure(ctx, m.g, w, m.client, "", "")
		})
	}
	res, err := r.measure(ctx, m.g, w, m.client, hdr, fmt.Sprintf("boot %d %s %s %s", m.boot.Index, c.System, c.Placement, c.Workload))
	if err != nil {
		return nil, err
	}
	if why := r.onceMore(c, res, try); why != "" {
		return &journal.Sample{Why: why}, nil
	}
	clean, why := verdict(res, c.Placement)
	return &journal.Sample{Metrics: Metrics(res, c.Placement), Result: res, Clean: clean, Why: why}, nil
}

// onceMore says why a window is to be measured again after so many tries, "" where
// it counts as it is: requests were lost, or the host was busy, which is repeated
// within repeat.Share only.
func (r *Runner) onceMore(c design.Cell, res load.Result, try int) string {
	speed := r.hostSpeed(c, res)
	if try >= repeat.Tries {
		return ""
	}
	if clean, why := verdict(res, c.Placement); !clean {
		return why
	}
	if !r.mayRepeat() {
		return ""
	}
	why := busyHost(res, c.Placement, speed)
	if why != "" {
		r.again++
	}
	return why
}

// mayRepeat reports whether the run has repeats for a busy host left.
func (r *Runner) mayRepeat() bool { return float64(r.again) < max(3, repeat.Share*float64(r.total)) }

// hostSpeed is the guest instructions that a nanosecond of vCPU time executed, as a
// share of what is usual for the cell: the median of its windows so far, those that
// were measured again included. It is 1 where that is not known yet, and where
// instructions are not counted. A host core that is slow, because its sibling
// thread, clock or caches are somebody else's for a while, shows in neither
// run-queue wait nor steal, but here.
func (r *Runner) hostSpeed(c design.Cell, res load.Result) float64 {
	insn, ns := res.Probes["insn"], res.Probes["vcpu"]
	if insn <= 0 || ns <= 0 {
		return 1
	}
	seen := r.speeds[c]
	at, _ := slices.BinarySearch(seen, insn/ns)
	seen = slices.Insert(seen, at, insn/ns)
	r.speeds[c] = seen
	if len(seen) <= usualFrom {
		return 1
	}
	return insn / ns / seen[len(seen)/2]
}

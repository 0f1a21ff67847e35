package bench

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"osv/harness/design"
	"osv/harness/journal"
	"osv/harness/load"
	"osv/harness/load/drive"
)

// Files of a results folder that a run writes.
const (
	PlanFile    = "plan.yaml"
	JournalFile = "raw/journal.jsonl"
	HDRDir      = "raw/hdr"
	SerialDir   = "raw/serial"
)

// Runner runs one plan into one folder.
type Runner struct {
	Plan  design.Plan
	Dir   string
	Kinds map[string]Kind
	// LoadCommand starts a generator's process ("bench load --stdin").
	LoadCommand []string
	// Events reports progress; nil = silent.
	Events func(Event)
	// BootTimeout bounds a boot to first reply; 0 = 90 s.
	BootTimeout time.Duration
	// CeilingTime is the length of a null server measurement; 0 = 1 s.
	CeilingTime time.Duration

	j     *journal.Journal
	done  map[doneKey]bool
	fact  map[factKey]bool
	loads map[string]design.Workload
	tries map[int]int // attempts by boot index
}

type doneKey struct {
	boot int
	cell design.Cell
}

type factKey struct {
	system, metric string
	boot           int
}

// Event is a step of progress.
type Event struct {
	Text  string
	Done  int // steps done, of Total; a step is a cell
	Total int
	// Left is the least time that the loads still to come take.
	Left time.Duration
	// Problem marks a failure that the run goes on after.
	Problem bool
}

// maxTries is how often a boot, or a cell that lost requests, is tried.
const maxTries = 3

// maxHostWait is the share of a window that other work on the host may keep the
// vCPU waiting before the cell is measured once more (harness.md §5).
const maxHostWait = 0.10

// maxFailures in a row end the run: something is wrong with the rig.
const maxFailures = 3

// ErrInterrupted is the end of a run by its context; it can be resumed.
var ErrInterrupted = errors.New("interrupted")

// Run runs the plan, or what the journal in Dir says is left of it.
func (r *Runner) Run(ctx context.Context) (err error) {
	if err := r.Plan.Check(); err != nil {
		return err
	}
	for _, s := range r.Plan.Systems {
		if r.Kinds[s.Guest] == nil {
			return fmt.Errorf("bench: system %s: no guest of kind %q", s.Name, s.Guest)
		}
	}
	if err := r.open(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.j.Close()) }()
	if err := r.ceilings(ctx); err != nil {
		return r.ended(ctx, err)
	}
	failures := 0
	for _, b := range r.Plan.Schedule() {
		if r.bootDone(b) {
			continue
		}
		ok, err := r.boot(ctx, b)
		if err != nil {
			return r.ended(ctx, err)
		}
		if failures++; ok {
			failures = 0
		}
		if failures >= maxFailures {
			return fmt.Errorf("bench: %d boots in a row failed; see %s", failures, filepath.Join(r.Dir, JournalFile))
		}
	}
	if r.Plan.RAMFloor {
		if err := r.ramFloors(ctx); err != nil {
			return r.ended(ctx, err)
		}
	}
	r.event("done", false)
	return nil
}

// ended notes an interruption in the journal.
func (r *Runner) ended(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	return errors.Join(ErrInterrupted, r.j.Append(journal.Entry{Note: &journal.Note{Text: "interrupted"}}))
}

// open makes or reopens the folder.
func (r *Runner) open() error {
	for _, d := range []string{HDRDir, SerialDir} {
		if err := os.MkdirAll(filepath.Join(r.Dir, d), 0o755); err != nil {
			return fmt.Errorf("bench: %w", err)
		}
	}
	y, err := r.Plan.YAML()
	if err != nil {
		return err
	}
	sum := sha256.Sum256(y)
	digest := hex.EncodeToString(sum[:])
	j, old, err := journal.Open(filepath.Join(r.Dir, JournalFile))
	if err != nil {
		return err
	}
	r.j = j
	r.done, r.fact = map[doneKey]bool{}, map[factKey]bool{}
	r.loads, r.tries = map[string]design.Workload{}, map[int]int{}
	for _, w := range r.Plan.Expanded() {
		r.loads[w.Name] = w
	}
	if len(old) == 0 {
		if err := os.WriteFile(filepath.Join(r.Dir, PlanFile), y, 0o644); err != nil {
			j.Close()
			return fmt.Errorf("bench: %w", err)
		}
		return j.Append(journal.Entry{Header: &journal.Header{Format: journal.Format, Name: r.Plan.Name, PlanSHA256: digest}})
	}
	if old[0].Header.PlanSHA256 != digest {
		j.Close()
		return fmt.Errorf("bench: %s was begun with another plan; give a new folder or the same plan", r.Dir)
	}
	for _, e := range old { // what was given up is tried again
		switch {
		case e.Sample != nil:
			r.done[doneKey{e.Sample.Boot, e.Sample.Cell}] = true
		case e.Fact != nil:
			r.fact[factKey{e.Fact.System, e.Fact.Metric, e.Fact.Boot}] = true
		case e.Ceiling != nil:
			r.fact[factKey{e.Ceiling.Workload, "ceiling", -1}] = true
		case e.Boot != nil:
			r.tries[e.Boot.Boot.Index] = e.Boot.Attempt
		}
	}
	return j.Append(journal.Entry{Note: &journal.Note{Text: "resumed"}})
}

func (r *Runner) bootDone(b design.Boot) bool {
	for _, c := range r.Plan.Cells(b) {
		if !r.done[doneKey{b.Index, c}] {
			return false
		}
	}
	return true
}

// event reports progress by counting cells.
func (r *Runner) event(text string, problem bool) {
	if r.Events == nil {
		return
	}
	e := Event{Text: text, Problem: problem}
	for _, b := range r.Plan.Schedule() {
		for _, c := range r.Plan.Cells(b) {
			e.Total++
			if r.done[doneKey{b.Index, c}] {
				e.Done++
				continue
			}
			s := r.loads[c.Workload].Spec.WithDefaults()
			e.Left += s.Warmup.Std() + s.Duration.Std()
		}
	}
	r.Events(e)
}

// ceilings measures the null server once for each shape of load.
func (r *Runner) ceilings(ctx context.Context) error {
	d := r.CeilingTime
	if d == 0 {
		d = time.Second
	}
	byShape := map[load.Spec]float64{}
	for _, w := range r.Plan.Expanded() {
		key := factKey{w.Name, "ceiling", -1}
		if r.fact[key] {
			continue
		}
		shape := w.Spec
		shape.Rate, shape.Mode, shape.Warmup, shape.Duration = 0, load.Closed, 0, 0
		rate, known := byShape[shape]
		if !known {
			r.event("null server for "+w.Name, false)
			var err error
			if rate, err = drive.Ceiling(ctx, w.Spec, d); err != nil {
				return err
			}
			byShape[shape] = rate
		}
		r.fact[key] = true
		if rate > 0 {
			if err := r.j.Append(journal.Entry{Ceiling: &journal.Ceiling{Workload: w.Name, Rate: rate}}); err != nil {
				return err
			}
		}
	}
	return nil
}

// ports lists what a system has to serve in the boots of a service.
func (r *Runner) ports(system, service string) []string {
	var out []string
	for _, w := range r.Plan.Expanded() {
		if w.Runs(system) && design.Service(w.Port) == service && !slices.Contains(out, w.Port) {
			out = append(out, w.Port)
		}
	}
	return out
}

func (r *Runner) config(system design.System, service string) Config {
	return Config{System: system, Service: service, CPUs: r.Plan.CPUs, MemMiB: r.Plan.MemMiB, Ports: r.ports(system.Name, service), Instructions: r.Plan.Instructions}
}

// start boots once, within the time limit.
func (r *Runner) start(ctx context.Context, cfg Config) (Guest, error) {
	limit := r.BootTimeout
	if limit == 0 {
		limit = 90 * time.Second
	}
	boot, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return r.Kinds[cfg.System.Guest].Boot(boot, cfg)
}

// boot measures the cells of one boot that are not done. false means that the
// boot was given up; an error ends the run.
func (r *Runner) boot(ctx context.Context, b design.Boot) (bool, error) {
	sys, _ := r.Plan.System(b.System)
	for try := 0; ; try++ {
		r.tries[b.Index]++
		attempt := r.tries[b.Index]
		r.event(fmt.Sprintf("boot %d: %s", b.Index+1, sys.Title+" with "+b.Service), false)
		cfg := r.config(sys, b.Service)
		serial := fmt.Sprintf("%s/%03d-%s.%d.log", SerialDir, b.Index, b.System, attempt)
		cfg.Serial = filepath.Join(r.Dir, serial)
		g, err := r.start(ctx, cfg)
		if err == nil {
			err = r.cells(ctx, g, b, attempt, serial)
			if stop := g.Stop(); err == nil {
				err = stop
			}
		}
		if err == nil {
			return true, nil
		}
		var fatal fatalError
		if errors.As(err, &fatal) {
			return false, fatal.error
		}
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		r.event(fmt.Sprintf("boot %d of %s: %v", b.Index+1, b.System, err), true)
		final := try+1 >= maxTries
		if err := r.j.Append(journal.Entry{Failure: &journal.Failure{Boot: b.Index, Attempt: attempt, Error: err.Error(), Final: final}}); err != nil {
			return false, err
		}
		if final {
			return false, nil
		}
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

// cells records the boot and measures what is left of it.
func (r *Runner) cells(ctx context.Context, g Guest, b design.Boot, attempt int, serial string) error {
	f := g.Facts()
	if _, err := os.Stat(filepath.Join(r.Dir, serial)); err != nil {
		serial = ""
	}
	err := r.append(journal.Entry{Boot: &journal.Boot{Boot: b, Attempt: attempt, FirstReply: f.FirstReply, Line: f.Line, Accel: f.Accel,
		Kernel: f.Kernel, Image: f.Image, Parity: f.Parity, Wire: f.Wire, WireNote: f.WireNote, Serial: serial}})
	if err == nil && f.ImageBytes > 0 && b.Service == r.Plan.Services()[0] {
		err = r.putFact(b.System, "image_bytes", float64(f.ImageBytes), -1, 0, "kernel and root as shipped")
	}
	if err == nil {
		err = r.idle(ctx, g, b)
	}
	if err != nil {
		return err
	}
	placed := design.Placement("")
	var client []int
	for _, c := range r.Plan.Cells(b) {
		if r.done[doneKey{b.Index, c}] {
			continue
		}
		if c.Placement != placed {
			if client, err = g.Place(c.Placement); err != nil {
				return fmt.Errorf("placement %s: %w", c.Placement, err)
			}
			placed = c.Placement
		}
		if err := r.cell(ctx, g, b, c, client, attempt); err != nil {
			return err
		}
	}
	return nil
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

// cell measures one cell, again if requests were lost.
func (r *Runner) cell(ctx context.Context, g Guest, b design.Boot, c design.Cell, client []int, attempt int) error {
	w := r.loads[c.Workload]
	hdr := fmt.Sprintf("%s/%03d-%s-%s-%s.hlog", HDRDir, b.Index, c.System, c.Placement, c.Workload)
	for try := 1; ; try++ {
		r.event(fmt.Sprintf("boot %d: %s, %s, %s", b.Index+1, c.System, c.Workload, c.Placement), false)
		res, err := r.measure(ctx, g, w, client, filepath.Join(r.Dir, hdr), fmt.Sprintf("boot %d %s %s %s", b.Index, c.System, c.Placement, c.Workload))
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			if dead := g.Alive(); dead != nil {
				return fmt.Errorf("%s: %w (%v)", c.Workload, dead, err)
			}
			final := try >= maxTries
			r.event(fmt.Sprintf("%s on %s: %v", c.Workload, c.System, err), true)
			if err := r.append(journal.Entry{Failure: &journal.Failure{Boot: b.Index, Attempt: attempt, Cell: &c, Error: err.Error(), Final: final}}); err != nil {
				return err
			}
			if final {
				r.done[doneKey{b.Index, c}] = true
				return nil
			}
			continue
		}
		clean, why := verdict(res, c.Placement)
		if !clean && try < maxTries {
			r.event(fmt.Sprintf("%s on %s: %s; again", c.Workload, c.System, why), true)
			continue
		}
		if w := hostWait(res, c.Placement); w > maxHostWait && try == 1 {
			r.event(fmt.Sprintf("%s on %s: the host kept the vCPU waiting %.0f %% of the time; again", c.Workload, c.System, w*100), true)
			continue
		}
		s := &journal.Sample{Cell: c, Boot: b.Index, Pair: b.Pair, Metrics: Metrics(res, c.Placement), Result: res, Clean: clean, Why: why}
		if _, err := os.Stat(filepath.Join(r.Dir, hdr)); err == nil {
			s.HDR = hdr
		}
		if err := r.append(journal.Entry{Sample: s}); err != nil {
			return err
		}
		r.done[doneKey{b.Index, c}] = true
		return nil
	}
}

package bench

import (
	"cmp"
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

	j         *journal.Journal
	done      map[design.Window]bool
	fact      map[factKey]bool
	loads     map[string]design.Workload
	tries     map[int]int               // attempts by boot index
	total     int                       // windows of the plan
	preparing bool                      // images are being made
	again     int                       // windows that were repeated because the host was busy
	speeds    map[design.Cell][]float64 // seen, in order of size; see hostSpeed
	rates     map[design.Cell][]float64 // see learn
}

type factKey struct {
	system, metric string
	boot           int
}

// Event is a step of progress.
type Event struct {
	Text  string
	Done  int // windows done, of Total
	Total int
	// Left and All are estimates of what is to come and of the whole run, by
	// design.SeenCosts.
	Left, All time.Duration
	// Preparing marks the making of images, which no estimate is of.
	Preparing bool
	// Problem marks a failure that the run goes on after.
	Problem bool
}

// maxTries is how often a boot, or a cell that lost requests, is tried.
const maxTries = 3

// repeat is when a window is measured again because the host was busy (harness.md
// §5). Past its share a busy window is kept as it is and listed in the report, so
// that a busy host does not make a run endless.
//
// Speed and Share come from six runs of Linux against itself: the rates of two
// neighbouring windows differ as the speeds of their core do (r = 0.99), with 1 %
// left, and a core's speed has nothing to do with what it was half a second ago.
// Drawn from their windows, six windows of 0.3 s a boot and this rule give intervals
// about half as wide as three of 0.5 s without, and they hold 1.0 as often as 95 %
// intervals should; at 0.9 of the usual speed they no longer do.
var repeat = journal.Repeat{Wait: 0.10, Steal: 0.05, Speed: 0.85, Tries: maxTries, Share: 0.20}

// usualFrom is how many windows of a cell must have been seen to know its usual speed.
const usualFrom = 4

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
	if err := r.prepare(ctx); err != nil {
		return r.ended(ctx, err)
	}
	if err := r.ceilings(ctx); err != nil {
		return r.ended(ctx, err)
	}
	if err := r.starts(ctx); err != nil {
		return r.ended(ctx, err)
	}
	failures := 0
	for _, g := range r.Plan.Groups() {
		lost, err := r.group(ctx, g)
		if err != nil {
			return r.ended(ctx, err)
		}
		if failures += lost; lost == 0 {
			failures = 0
		}
		if failures >= maxFailures {
			return fmt.Errorf("bench: %d boots in a row failed; see %s", failures, filepath.Join(r.Dir, JournalFile))
		}
	}
	if err := r.profiles(ctx); err != nil {
		return r.ended(ctx, err)
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
	r.done, r.fact = map[design.Window]bool{}, map[factKey]bool{}
	r.loads, r.tries = map[string]design.Workload{}, map[int]int{}
	r.total, r.again, r.speeds = 0, 0, map[design.Cell][]float64{}
	for _, g := range r.Plan.Groups() {
		r.total += len(r.Plan.Windows(g))
	}
	for _, w := range r.Plan.Expanded() {
		r.loads[w.Name] = w
	}
	if len(old) == 0 {
		if err := os.WriteFile(filepath.Join(r.Dir, PlanFile), y, 0o644); err != nil {
			j.Close()
			return fmt.Errorf("bench: %w", err)
		}
		return j.Append(journal.Entry{Header: &journal.Header{Format: journal.Format, Name: r.Plan.Name, PlanSHA256: digest, Repeat: &repeat}})
	}
	if old[0].Header.PlanSHA256 != digest {
		j.Close()
		return fmt.Errorf("bench: %s was begun with another plan; give a new folder or the same plan", r.Dir)
	}
	for _, e := range old { // what was given up is tried again
		switch {
		case e.Sample != nil:
			r.hostSpeed(e.Sample.Cell, e.Sample.Result)
			r.learn(e.Sample)
			r.again += len(e.Sample.Again)
			r.done[design.Window{Boot: e.Sample.Boot, Cell: e.Sample.Cell, N: e.Sample.Window}] = true
		case e.Fact != nil:
			r.fact[factKey{e.Fact.System, e.Fact.Metric, e.Fact.Boot}] = true
		case e.Profile != nil:
			r.fact[factKey{e.Profile.System, "profile " + e.Profile.Workload, -1}] = true
		case e.Ceiling != nil:
			r.fact[factKey{e.Ceiling.Workload, "ceiling", -1}] = true
		case e.Boot != nil:
			r.tries[e.Boot.Boot.Index] = e.Boot.Attempt
		}
	}
	return j.Append(journal.Entry{Note: &journal.Note{Text: "resumed"}})
}

// event reports progress by counting windows.
func (r *Runner) event(text string, problem bool) {
	if r.Events == nil {
		return
	}
	done := func(w design.Window) bool {
		switch {
		case w.Boot >= 0:
			return r.done[w]
		case w.Cell.Workload != "":
			return r.fact[factKey{w.Cell.System, "profile " + w.Cell.Workload, -1}]
		case w.N > 0:
			return r.fact[factKey{w.Cell.System, firstReply, w.N - 1}]
		}
		return r.fact[factKey{w.Cell.System, "ram_floor", -1}]
	}
	r.Events(Event{Text: text, Problem: problem, Preparing: r.preparing, Done: len(r.done), Total: r.total,
		Left: r.Plan.Estimate(design.SeenCosts, done), All: r.Plan.Estimate(design.SeenCosts, nil)})
}

// prepare makes the images of what is still to be booted.
func (r *Runner) prepare(ctx context.Context) error {
	asked := map[string]bool{}
	defer func() { r.preparing = false }()
	for _, g := range r.Plan.Groups() {
		for _, w := range r.Plan.Windows(g) {
			key := w.Cell.System + "/" + g[0].Service
			if asked[key] || r.done[w] {
				continue
			}
			asked[key] = true
			sys, _ := r.Plan.System(w.Cell.System)
			p, ok := r.Kinds[sys.Guest].(Preparer)
			if !ok {
				continue
			}
			r.preparing = true
			r.event("preparing "+sys.Title+" with "+g[0].Service, false)
			if err := p.Prepare(ctx, sys, g[0].Service); err != nil {
				return fmt.Errorf("bench: %s with %s: %w", sys.Title, g[0].Service, err)
			}
		}
	}
	return nil
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
	return Config{System: system, Service: service, CPUs: cmp.Or(system.CPUs, r.Plan.CPUs), MemMiB: r.Plan.MemMiB, Ports: r.ports(system.Name, service), Instructions: r.Plan.Instructions}
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

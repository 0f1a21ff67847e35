// Package soak runs real clients against booted guests for as long as one likes,
// and does to them what networks do: floods, garbage, slow and vanished peers,
// thousands of idle connections, a power cut. Each scenario boots a guest in QEMU
// on a TAP device in a network namespace of its own, prints figures, and fails
// with the one reason that counts.
//
// Spec: none of its own; the scenarios are the robustness bars of the network and
// of memcached. Who may use it: harness/cmd/soak and tests. May not: know how the
// guest works inside. It sees replies, counters that the guest publishes, the
// console, and QEMU's memory.
//
// A memcached scenario is a function over a peer (peer.go), so that the hosted
// tests run the same clients against Debian's memcached: what fails there is the
// client's fault.
//
// Start reading at Scenarios in list.go, then Runner.Run and guest.go.
package soak

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"osv/harness/image"
	"osv/harness/vm"
)

// Scenario is one thing that is done to a guest.
type Scenario struct {
	Name  string
	About string
	// Short and Usual are how long the load lasts without Config.Duration; a
	// scenario that ends by itself has neither.
	Short, Usual time.Duration
	// Patience bounds all the rest: boot, opening connections, counting.
	Patience time.Duration
	// LongOnly leaves it out of the short run.
	LongOnly bool

	run func(ctx context.Context, r *Run) error
}

// Config is how scenarios are run.
type Config struct {
	Module   string        // the module's folder; "" = the current one
	Cache    string        // built images and the counting plugin
	Logs     string        // consoles of failed scenarios; "" = not kept
	Pcap     string        // every frame of every guest goes to a file in this folder; "" = none
	Short    bool          // short loads, and no scenario that is LongOnly
	Duration time.Duration // of each load that lasts; 0 = the scenario's own
	Accel    vm.Accel
	Log      func(format string, a ...any) // progress; nil = silent
}

// Figure is one number that a scenario found.
type Figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit,omitempty"`
}

// Result is the outcome of a scenario.
type Result struct {
	Name    string   `json:"name"`
	Seconds float64  `json:"seconds"`
	Figures []Figure `json:"figures"`
	// Failed is the reason, "" where all was as it must be.
	Failed string `json:"failed,omitempty"`
	// Skipped says why it could not be run here.
	Skipped string `json:"skipped,omitempty"`
}

// ErrSkip marks what a machine cannot run: no right to make a namespace, a tool
// that is not installed.
var ErrSkip = errors.New("not possible here")

// Runner runs scenarios and keeps the images that they share.
type Runner struct {
	cfg   Config
	mu    sync.Mutex
	built map[string]string // package → ELF
}

// NewRunner makes a runner; the zero Config is a full run in the current module.
func NewRunner(cfg Config) *Runner {
	if cfg.Log == nil {
		cfg.Log = func(string, ...any) {}
	}
	if cfg.Cache == "" {
		cfg.Cache = filepath.Join(os.TempDir(), "osv-soak")
	}
	return &Runner{cfg: cfg, built: map[string]string{}}
}

// Length is how long the load of s lasts.
func (x *Runner) Length(s Scenario) time.Duration {
	switch {
	case s.Usual == 0:
		return 0
	case x.cfg.Duration > 0:
		return x.cfg.Duration
	case x.cfg.Short:
		return s.Short
	}
	return s.Usual
}

// Run runs one scenario. The error is that of ctx alone: a scenario that fails is
// a Result.
func (x *Runner) Run(ctx context.Context, s Scenario) (Result, error) {
	began := time.Now()
	r := &Run{Runner: x, Scenario: s, Length: x.Length(s)}
	limit := r.Length + s.Patience
	sctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not done after %v", limit))
	err := s.run(sctx, r)
	if err != nil && sctx.Err() != nil && ctx.Err() == nil {
		err = fmt.Errorf("%w (%w)", context.Cause(sctx), err)
	}
	cancel()
	err = errors.Join(err, r.close(err != nil))
	res := Result{Name: s.Name, Seconds: time.Since(began).Seconds(), Figures: r.figures}
	switch {
	case ctx.Err() != nil:
		return res, context.Cause(ctx)
	case errors.Is(err, ErrSkip):
		res.Skipped = err.Error()
	case err != nil:
		res.Failed = err.Error()
	}
	return res, nil
}

// image builds a main package of the module as a guest, once.
func (x *Runner) image(pkg string) (string, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if elf, ok := x.built[pkg]; ok {
		return elf, nil
	}
	x.cfg.Log("building %s", pkg)
	elf := filepath.Join(x.cfg.Cache, filepath.Base(pkg)+".elf")
	if err := image.BuildWith("./"+pkg, elf, image.Options{Dir: x.cfg.Module, Strip: true}); err != nil {
		return "", fmt.Errorf("soak: %s: %w", pkg, err)
	}
	x.built[pkg] = elf
	return elf, nil
}

// Run is a scenario at work. Figure and logf may be called from several
// goroutines, the rest from one.
type Run struct {
	*Runner
	Scenario Scenario
	Length   time.Duration

	mu      sync.Mutex
	figures []Figure
	guests  []*guest
}

// figure records a number.
func (r *Run) figure(name string, value float64, unit string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.figures = append(r.figures, Figure{name, value, unit})
}

func (r *Run) logf(format string, a ...any) { r.cfg.Log(r.Scenario.Name+": "+format, a...) }

// close ends the guests that are left. Their consoles are kept where asked, if
// the scenario failed.
func (r *Run) close(failed bool) error {
	var errs []error
	for _, g := range r.guests {
		if err := g.trouble(); err != nil && !failed {
			errs = append(errs, err)
		}
		g.stop()
	}
	if failed || len(errs) > 0 {
		errs = append(errs, r.keepConsoles())
	}
	for _, w := range r.wires() {
		errs = append(errs, w.Close())
	}
	return errors.Join(errs...)
}

func (r *Run) keepConsoles() error {
	if r.cfg.Logs == "" || len(r.guests) == 0 {
		return nil
	}
	if err := os.MkdirAll(r.cfg.Logs, 0o755); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(r.cfg.Logs, r.Scenario.Name+".log"))
	if err != nil {
		return err
	}
	for i, g := range r.guests {
		fmt.Fprintf(f, "boot %d: %s\n", i, g.vm.Spec.Line())
		for _, l := range g.vm.Lines() {
			fmt.Fprintln(f, l.Text)
		}
	}
	r.cfg.Log("%s: console kept in %s", r.Scenario.Name, f.Name())
	return f.Close()
}

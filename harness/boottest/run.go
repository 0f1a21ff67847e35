package boottest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"osv/harness/vm"
)

// Builder makes a bootable ELF of the main package in folder pkg at path out.
type Builder func(pkg, out string) error

// Boot is one boot to do: a case on one board with one number of vCPUs.
type Boot struct {
	Case    Case
	Machine vm.Machine
	CPUs    int
	Round   int // from 1; above 1 only with Config.Count
}

// Name is "prog.case/machine/Ncpu", what -run matches.
func (b Boot) Name() string {
	return fmt.Sprintf("%s/%s/%dcpu", b.Case.Title(), b.Machine, b.CPUs)
}

// Result is how one boot went, as kept in the JSON output.
type Result struct {
	Name    string   `json:"name"`
	Round   int      `json:"round"`
	OK      bool     `json:"ok"`
	Skipped string   `json:"skipped,omitempty"` // reason
	Faults  []string `json:"faults,omitempty"`  // what was not as wanted
	Exit    string   `json:"exit"`
	Seconds float64  `json:"seconds"`        // QEMU's start to its end
	Log     string   `json:"log,omitempty"`  // kept serial log of a failure
	Tail    string   `json:"tail,omitempty"` // its last lines
	QEMU    string   `json:"qemu"`
}

// Config is a run over many cases.
type Config struct {
	Build    Builder
	BuildDir string // ELFs are built here and stay
	LogDir   string // serial logs of failures are kept here
	Count    int    // boots of each; 0 = 1
	Parallel int    // boots at a time; 0 = 1
	FailFast bool
	Slow     float64 // factor on timeouts; 0 = 1
	Base     vm.Spec // QEMU, Accel, CPU, Pin, Extra are used

	// Match selects boots by name; nil = all.
	Match *regexp.Regexp
	// Machines and CPUs, where not empty, restrict those of the cases.
	Machines []vm.Machine
	CPUs     []int
	// Done is told of each result as it comes, one at a time.
	Done func(Result)
}

// Plan lists the boots that cfg selects, round by round, so that an unlucky
// order of boards cannot hide behind many boots of one.
func (cfg Config) Plan(cases []Case) []Boot {
	var out []Boot
	for round := 1; round <= max(cfg.Count, 1); round++ {
		for _, c := range cases {
			for _, m := range c.Machines {
				for _, n := range c.CPUs {
					b := Boot{c, m, n, round}
					if cfg.selects(b) {
						out = append(out, b)
					}
				}
			}
		}
	}
	return out
}

func (cfg Config) selects(b Boot) bool {
	in := func() bool {
		for _, m := range cfg.Machines {
			if m == b.Machine {
				return true
			}
		}
		return len(cfg.Machines) == 0
	}
	inCPUs := func() bool {
		for _, n := range cfg.CPUs {
			if n == b.CPUs {
				return true
			}
		}
		return len(cfg.CPUs) == 0
	}
	return in() && inCPUs() && (cfg.Match == nil || cfg.Match.MatchString(b.Name()))
}

// ErrFailed: at least one boot did not go as wanted.
var ErrFailed = errors.New("boot tests failed")

// Run does all boots of plan and returns their results in the order they ended.
// The error is ErrFailed where any failed, or the context's cause.
func (cfg Config) Run(ctx context.Context, plan []Boot) ([]Result, error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var (
		mu      sync.Mutex
		results []Result
		failed  bool
		wg      sync.WaitGroup
	)
	work := make(chan Boot)
	elfs := &elfCache{build: cfg.Build, dir: cfg.BuildDir, byDir: map[string]*elfEntry{}}
	for range max(cfg.Parallel, 1) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for b := range work {
				r := cfg.boot(ctx, b, elfs)
				if ctx.Err() != nil {
					continue // interrupted: neither passed nor failed
				}
				mu.Lock()
				results = append(results, r)
				if !r.OK && r.Skipped == "" {
					failed = true
					if cfg.FailFast {
						stop(ErrFailed)
					}
				}
				if cfg.Done != nil {
					cfg.Done(r)
				}
				mu.Unlock()
			}
		}()
	}
feed:
	for _, b := range plan {
		select {
		case work <- b:
		case <-ctx.Done():
			break feed
		}
	}
	close(work)
	wg.Wait()
	switch {
	case failed:
		return results, ErrFailed
	case ctx.Err() != nil:
		return results, context.Cause(ctx)
	}
	return results, nil
}

// elfCache builds each program once.
type elfCache struct {
	build Builder
	dir   string
	mu    sync.Mutex
	byDir map[string]*elfEntry
}

type elfEntry struct {
	once sync.Once
	path string
	err  error
}

func (c *elfCache) get(b Case) (string, error) {
	c.mu.Lock()
	e := c.byDir[b.Dir]
	if e == nil {
		e = &elfEntry{}
		c.byDir[b.Dir] = e
	}
	c.mu.Unlock()
	e.once.Do(func() {
		if e.err = os.MkdirAll(c.dir, 0o755); e.err == nil {
			e.path = filepath.Join(c.dir, b.Prog+".elf")
			e.err = c.build(b.Dir, e.path)
		}
	})
	return e.path, e.err
}

// boot does one boot and judges it.
func (cfg Config) boot(ctx context.Context, b Boot, elfs *elfCache) Result {
	r := Result{Name: b.Name(), Round: b.Round, Skipped: b.Case.Skip}
	if r.Skipped != "" {
		return r
	}
	fail := func(err error) Result {
		r.Faults = append(r.Faults, err.Error())
		return r
	}
	elf, err := elfs.get(b.Case)
	if err != nil {
		return fail(fmt.Errorf("build: %w", err))
	}
	tmp, err := os.MkdirTemp("", "osv-boot-")
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(tmp)
	spec, err := b.spec(cfg.Base, elf, tmp)
	if err != nil {
		return fail(err)
	}
	log := filepath.Join(tmp, "serial.log")
	v, err := vm.Start(ctx, spec, vm.Options{LogPath: log})
	if err != nil {
		return fail(err)
	}
	r.QEMU = v.Spec.Line()
	timeout := b.Case.Timeout
	if cfg.Slow > 0 {
		timeout = time.Duration(float64(timeout) * cfg.Slow)
	}
	e, late := v.WaitTimeout(timeout)
	r.Seconds = time.Since(v.Started).Seconds()
	r.Exit = e.String()
	r.Faults = b.Case.judge(e, late, v.Lines())
	r.OK = len(r.Faults) == 0
	if !r.OK && ctx.Err() == nil {
		r.Tail = strings.TrimPrefix(v.Tail(20), "\n")
		r.Log = cfg.keep(b, log)
	}
	return r
}

// spec is the machine of a boot; scratch disks are made in tmp.
func (b Boot) spec(base vm.Spec, elf, tmp string) (vm.Spec, error) {
	s := base
	s.Machine, s.CPUs, s.MemMiB = b.Machine, b.CPUs, b.Case.MemMiB
	s.Kernel, s.Append, s.RNG = elf, b.Case.Append, !b.Case.NoRNG
	s.NICs, s.Disks = nil, nil
	for _, n := range b.Case.NICs {
		nic, err := vm.ParseNIC(n)
		if err != nil {
			return s, err
		}
		s.NICs = append(s.NICs, nic)
	}
	for i, d := range b.Case.Disks {
		size, options, err := diskSize(d)
		if err != nil {
			return s, err
		}
		path := filepath.Join(tmp, fmt.Sprintf("disk%d.img", i))
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			return s, err
		}
		if err := os.Truncate(path, size); err != nil {
			return s, err
		}
		disk, err := vm.ParseDisk(diskArg(path, options))
		if err != nil {
			return s, err
		}
		s.Disks = append(s.Disks, disk)
	}
	expand := strings.NewReplacer("$PROG", b.Case.Dir, "$TMP", tmp)
	s.Extra = append([]string(nil), base.Extra...)
	for _, a := range b.Case.QEMU {
		s.Extra = append(s.Extra, expand.Replace(a))
	}
	return s, nil
}

// judge lists what is not as c wants it.
func (c Case) judge(e vm.Exit, late bool, lines []vm.Line) []string {
	var faults []string
	add := func(format string, a ...any) { faults = append(faults, fmt.Sprintf(format, a...)) }
	switch {
	case late:
		add("%v", e)
	case e.Kind != c.Exit || e.Kind == vm.ExitGuest && e.Code != c.Code:
		want := c.Exit.String()
		if c.Exit == vm.ExitGuest {
			want = fmt.Sprintf("guest exit code %d", c.Code)
		}
		add("%v, want %s", e, want)
	}
	for _, re := range c.Want {
		found := false
		for _, l := range lines {
			found = found || re.MatchString(l.Text)
		}
		if !found {
			add("no console line matches %q", re)
		}
	}
	for _, re := range c.Reject {
		for _, l := range lines {
			if re.MatchString(l.Text) {
				add("console line %d %q matches %q", l.N+1, l.Text, re)
				break
			}
		}
	}
	return faults
}

// keep copies the serial log of a failure out of the scratch folder.
func (cfg Config) keep(b Boot, log string) string {
	if cfg.LogDir == "" {
		return ""
	}
	name := strings.ReplaceAll(b.Name(), "/", "-")
	dst := filepath.Join(cfg.LogDir, fmt.Sprintf("%s-%d.log", name, b.Round))
	text, err := os.ReadFile(log)
	if err == nil {
		err = os.MkdirAll(cfg.LogDir, 0o755)
	}
	if err == nil {
		err = os.WriteFile(dst, text, 0o644)
	}
	if err != nil {
		return "not kept: " + err.Error()
	}
	return dst
}

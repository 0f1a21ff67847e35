package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"osv/harness/design"
	"osv/harness/journal"
	"osv/harness/load"
	"osv/harness/load/drive"
	"osv/harness/load/null"
	"osv/harness/load/udp"
	"osv/harness/tcg"
)

// TestMain lets this binary be the generator's process.
func TestMain(m *testing.M) {
	if os.Getenv("OSV_TEST_LOAD") == "1" {
		if err := ServeLoad(context.Background(), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

var loadCommand = []string{"env", "OSV_TEST_LOAD=1", "GORACE=atexit_sleep_ms=0", os.Args[0]}

// nullKind boots the null server in this process: a guest that is always right,
// and that fails on request.
type nullKind struct {
	boots    int
	stopped  int
	failBoot func(boot int) error
	dieAt    int // Alive fails from this boot's second look on
	floor    map[string]int
	events   []string
}

type nullGuest struct {
	k        *nullKind
	udp, tcp *null.Server
	boot     int
	dead     bool
	placed   []design.Placement
	stop     bool
}

func (k *nullKind) Can(design.System, string) error { return nil }

func (k *nullKind) Boot(ctx context.Context, cfg Config) (Guest, error) {
	k.boots++
	k.events = append(k.events, cfg.System.Name)
	if f := k.floor[cfg.System.Name]; f > cfg.MemMiB {
		return nil, errors.New("out of memory")
	}
	if k.failBoot != nil {
		if err := k.failBoot(k.boots); err != nil {
			return nil, err
		}
	}
	it, err := drive.Items(testSpec(load.MemcachedUDP).WithDefaults())
	if err != nil {
		return nil, err
	}
	tcpItems, err := drive.Items(testSpec(load.MemcachedTCP).WithDefaults())
	if err != nil {
		return nil, err
	}
	g := &nullGuest{k: k, boot: k.boots}
	local := netip.MustParseAddrPort("127.0.0.1:0")
	if g.udp, err = null.ListenUDP(local, it); err != nil {
		return nil, err
	}
	if g.tcp, err = null.ListenTCP(local, tcpItems); err != nil {
		return nil, err
	}
	if cfg.Serial != "" {
		if err := os.WriteFile(cfg.Serial, []byte("up\n"), 0o644); err != nil {
			return nil, err
		}
	}
	return g, nil
}

func (g *nullGuest) Facts() Facts {
	return Facts{FirstReply: 0.5, Line: "null", Accel: "tcg", ImageBytes: 1 << 20, Parity: map[string]string{"memory": "1"}}
}

func (g *nullGuest) Addr(port string) (string, error) {
	if strings.HasPrefix(port, "udp") {
		return g.udp.Addr.String(), nil
	}
	return g.tcp.Addr.String(), nil
}

func (g *nullGuest) Run(ctx context.Context, cmd *exec.Cmd) error { return runCommand(ctx, cmd) }

func (g *nullGuest) Place(p design.Placement) ([]int, error) {
	g.placed = append(g.placed, p)
	return nil, nil
}

func (g *nullGuest) Probes() []string {
	pid := os.Getpid()
	return []string{fmt.Sprintf("vcpu=cpu:%d/%d", pid, pid), fmt.Sprintf("insn=cpu:%d/%d", pid, pid)}
}

func (g *nullGuest) Alive() error {
	if g.dead {
		return errors.New("the guest is gone")
	}
	return nil
}

func (g *nullGuest) Stop() error {
	if !g.stop {
		g.stop = true
		g.k.stopped++
		g.udp.Close()
		g.tcp.Close()
	}
	return nil
}

func testSpec(k load.Kind) load.Spec {
	return load.Spec{Kind: k, Mode: load.Closed, Keys: 50, Outstanding: 4, Warmup: load.Duration(5 * time.Millisecond), Duration: load.Duration(50 * time.Millisecond)}
}

func testPlan() design.Plan {
	return design.Plan{Name: "test", CPUs: 1, MemMiB: 64, Boots: 2, Seed: 3, Instructions: true, Idle: load.Duration(5 * time.Millisecond),
		Systems: []design.System{{Name: "a", Title: "A", Guest: "null", Role: design.Baseline}, {Name: "b", Title: "B", Guest: "null", Role: design.Subject}},
		Workloads: []design.Workload{
			{Name: "get", Title: "GET", Port: "udp:11211", Spec: testSpec(load.MemcachedUDP)},
			{Name: "tcp", Title: "TCP", Port: "tcp:11211", Spec: testSpec(load.MemcachedTCP), Systems: []string{"b"}},
		},
		Placements: []design.Placement{design.OneCore, design.Split}}
}

func runner(t *testing.T, dir string, k *nullKind) *Runner {
	t.Helper()
	return &Runner{Plan: testPlan(), Dir: dir, Kinds: map[string]Kind{"null": k}, LoadCommand: loadCommand, CeilingTime: 20 * time.Millisecond, BootTimeout: 10 * time.Second}
}

func entries(t *testing.T, dir string) (boots []journal.Boot, samples []journal.Sample, facts []journal.Fact, failures []journal.Failure) {
	t.Helper()
	all, err := journal.Read(filepath.Join(dir, JournalFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		switch {
		case e.Boot != nil:
			boots = append(boots, *e.Boot)
		case e.Sample != nil:
			samples = append(samples, *e.Sample)
		case e.Fact != nil:
			facts = append(facts, *e.Fact)
		case e.Failure != nil:
			failures = append(failures, *e.Failure)
		}
	}
	return
}

func TestRunMeasuresEveryCell(t *testing.T) {
	dir := t.TempDir()
	k := &nullKind{}
	r := runner(t, dir, k)
	var last Event
	r.Events = func(e Event) { last = e }
	if err := r.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	boots, samples, facts, failures := entries(t, dir)
	if len(boots) != 4 || len(samples) != 2*2*1+2*2*2 || len(failures) != 0 || k.stopped != 4 {
		t.Fatalf("%d boots, %d samples, failures %v, %d stopped", len(boots), len(samples), failures, k.stopped)
	}
	for _, s := range samples {
		if !s.Clean || s.Metrics["rate"] <= 0 || s.Metrics["p99"] <= 0 || s.HDR == "" {
			t.Errorf("%+v", s)
		}
		if _, err := os.Stat(filepath.Join(dir, s.HDR)); err != nil {
			t.Error(err)
		}
	}
	if boots[0].Serial == "" || boots[0].FirstReply != 0.5 {
		t.Errorf("%+v", boots[0])
	}
	count := map[string]int{}
	for _, f := range facts {
		count[f.Metric]++
	}
	if !reflect.DeepEqual(count, map[string]int{"image_bytes": 2, "idle_vcpu": 4, "idle_instructions": 4}) {
		t.Errorf("facts %v", count)
	}
	if last.Done != last.Total || last.Total != 12 || last.Left != 0 {
		t.Errorf("progress ends at %+v", last)
	}
	plan, err := os.ReadFile(filepath.Join(dir, PlanFile))
	if err != nil {
		t.Fatal(err)
	}
	if p, err := design.Read(bytes.NewReader(plan)); err != nil || !reflect.DeepEqual(p, r.Plan) {
		t.Errorf("the plan kept is another one: %v", err)
	}
}

// Interrupted after any number of progress steps, a run resumes and ends with
// the same cells, each once, and no guest left.
func TestInterruptAndResumeAnywhere(t *testing.T) {
	for stopAfter := 1; stopAfter < 22; stopAfter += 5 {
		dir := t.TempDir()
		k := &nullKind{}
		ctx, cancel := context.WithCancel(context.Background())
		r := runner(t, dir, k)
		n := 0
		r.Events = func(Event) {
			if n++; n == stopAfter {
				cancel()
			}
		}
		err := r.Run(ctx)
		cancel()
		if err != nil && !errors.Is(err, ErrInterrupted) {
			t.Fatalf("after %d steps: %v", stopAfter, err)
		}
		if err := runner(t, dir, k).Run(context.Background()); err != nil {
			t.Fatalf("resume after %d steps: %v", stopAfter, err)
		}
		_, samples, _, _ := entries(t, dir)
		seen := map[string]int{}
		for _, s := range samples {
			seen[fmt.Sprint(s.Boot, s.Cell)]++
		}
		for c, n := range seen {
			if n != 1 {
				t.Errorf("after %d steps: cell %s measured %d times", stopAfter, c, n)
			}
		}
		if len(seen) != 12 || k.stopped != k.boots {
			t.Errorf("after %d steps: %d cells, %d of %d guests stopped", stopAfter, len(seen), k.stopped, k.boots)
		}
	}
}

// pausable is a guest that the runner stops while another is under load.
type pausable struct {
	*nullGuest
	paused bool
	k      *pausableKind
}

func (g *pausable) Pause() error {
	if g.paused {
		return errors.New("paused twice")
	}
	g.paused = true
	return nil
}

func (g *pausable) Resume() error {
	if !g.paused {
		return errors.New("runs already")
	}
	g.paused = false
	return nil
}

// Run is where a load begins: the others must be stopped.
func (g *pausable) Run(ctx context.Context, cmd *exec.Cmd) error {
	for _, o := range g.k.alive {
		if o.paused != (o != g) && !o.stop {
			g.k.wrong++
		}
	}
	return g.nullGuest.Run(ctx, cmd)
}

type pausableKind struct {
	nullKind
	alive []*pausable
	wrong int
	dies  int // this boot is dead from the start
}

func (k *pausableKind) Boot(ctx context.Context, cfg Config) (Guest, error) {
	for _, o := range k.alive {
		if !o.paused && !o.stop {
			k.wrong++ // it disturbs this boot
		}
	}
	g, err := k.nullKind.Boot(ctx, cfg)
	if err != nil {
		return nil, err
	}
	p := &pausable{nullGuest: g.(*nullGuest), k: k}
	if p.boot == k.dies {
		p.dead = true
		p.udp.Close()
	}
	k.alive = append(k.alive, p)
	return p, nil
}

// Two guests are alive at once, one of them stopped, and windows alternate.
func TestWindowsOfGuestsAliveAtOnce(t *testing.T) {
	dir := t.TempDir()
	k := &pausableKind{}
	r := runner(t, dir, nil)
	r.Kinds["null"] = k
	r.Plan.Together = true
	r.Plan.Placements = r.Plan.Placements[:1]
	r.Plan.Workloads = r.Plan.Workloads[:1]
	r.Plan.Workloads[0].Windows = 3
	if err := r.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	_, samples, _, _ := entries(t, dir)
	seen := map[design.Window]bool{}
	var order []int // of what was kept: a window that lost requests is repeated
	for _, s := range samples {
		order = append(order, s.Boot)
		seen[design.Window{Boot: s.Boot, Cell: s.Cell, N: s.Window}] = true
		if !strings.HasSuffix(s.HDR, fmt.Sprintf("-%d.hlog", s.Window)) {
			t.Error(s.HDR)
		}
	}
	if want := []int{0, 1, 1, 0, 0, 1, 2, 3, 3, 2, 2, 3}; !reflect.DeepEqual(order, want) || k.wrong > 0 || k.stopped != 4 {
		t.Errorf("order %v, want %v; %d times a guest ran that should not; %d stopped", order, want, k.wrong, k.stopped)
	}
	if len(samples) != 12 || len(seen) != 12 {
		t.Errorf("%d samples, %d windows", len(samples), len(seen))
	}
}

type preparedKind struct {
	nullKind
	asked []string
	fail  error
}

func (k *preparedKind) Prepare(_ context.Context, s design.System, service string) error {
	k.asked = append(k.asked, s.Name+" "+service)
	return k.fail
}

// Images are made before the first boot, once each, and a run that is done makes
// none.
func TestImagesArePrepared(t *testing.T) {
	k := &preparedKind{fail: errors.New("no disk")}
	r := runner(t, t.TempDir(), nil)
	r.Kinds["null"] = k
	if err := r.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "no disk") || k.boots > 0 {
		t.Errorf("%v, %d boots", err, k.boots)
	}
	k.fail, k.asked = nil, nil
	if err := r.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	slices.Sort(k.asked)
	if !reflect.DeepEqual(k.asked, []string{"a memcached", "b memcached"}) {
		t.Errorf("asked for %v", k.asked)
	}
	k.asked = nil
	if err := r.Run(context.Background()); err != nil || len(k.asked) > 0 {
		t.Errorf("%v; asked for %v", err, k.asked)
	}
}

// profiledGuest executes two functions and the program of another.
type profiledGuest struct {
	*nullGuest
	reads  uint64
	broken bool
}

func (g *profiledGuest) Blocks() []tcg.Block {
	g.reads++
	return []tcg.Block{{Addr: 0xffffffff81000010, Insns: 10, Execs: 70 * g.reads}, {Addr: 0xffffffff81000100, Insns: 5, Execs: 40 * g.reads}, {Addr: 0x400000, Insns: 1, Execs: 100 * g.reads}}
}

func (g *profiledGuest) Symbols(context.Context) (*tcg.Symbols, string, error) {
	if g.broken {
		return nil, "", errors.New("no symbols today")
	}
	s, err := tcg.ParseKallsyms(strings.NewReader("ffffffff81000000 T udp_rcv\nffffffff81000100 T tcp_rcv\n"))
	return s, "programs", err
}

type profiledKind struct {
	nullKind
	broken string
}

func (k *profiledKind) Boot(ctx context.Context, cfg Config) (Guest, error) {
	g, err := k.nullKind.Boot(ctx, cfg)
	if err != nil || !cfg.Profile {
		return g, err
	}
	return &profiledGuest{nullGuest: g.(*nullGuest), broken: k.broken == cfg.System.Name}, nil
}

// Each system is booted once more for its profile; one that fails costs only
// itself, and a resume does the rest.
func TestProfiles(t *testing.T) {
	dir := t.TempDir()
	k := &profiledKind{broken: "b"}
	run := func() (out []journal.Profile, failures int) {
		t.Helper()
		r := runner(t, dir, nil)
		r.Kinds["null"] = k
		r.Plan.Profiles = []string{"get"}
		if err := r.Run(context.Background()); err != nil {
			t.Fatal(err)
		}
		all, err := journal.Read(filepath.Join(dir, JournalFile))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range all {
			if e.Profile != nil {
				out = append(out, *e.Profile)
			}
			if e.Failure != nil && strings.Contains(e.Failure.Error, "no symbols today") {
				failures++
			}
		}
		return
	}
	got, failures := run()
	if len(got) != 1 || failures != 1 || k.stopped != k.boots {
		t.Fatalf("%+v, %d failures, %d of %d stopped", got, failures, k.stopped, k.boots)
	}
	want := []journal.ProfileEntry{{Function: "udp_rcv", Share: 0.7}, {Function: "tcp_rcv", Share: 0.2}, {Function: "programs", Share: 0.1}}
	if p := got[0]; p.System != "a" || p.Workload != "get" || p.Requests == 0 || !reflect.DeepEqual(p.Functions, want) {
		t.Errorf("%+v", p)
	}
	k.broken = ""
	if got, _ := run(); len(got) != 2 || got[1].System != "b" {
		t.Errorf("after the resume: %+v", got)
	}
}

// One guest of a group dies: the other is measured all the same, and only the dead
// one is booted again.
func TestOneGuestOfAGroupDies(t *testing.T) {
	dir := t.TempDir()
	k := &pausableKind{dies: 1}
	r := runner(t, dir, nil)
	r.Kinds["null"] = k
	r.Plan.Together, r.Plan.Boots = true, 1
	for i := range r.Plan.Workloads {
		r.Plan.Workloads[i].Spec.Timeout = load.Duration(20 * time.Millisecond)
	}
	if err := r.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	boots, samples, _, failures := entries(t, dir)
	if len(boots) != 3 || len(samples) != 6 || len(failures) != 1 || failures[0].Boot != 0 || k.stopped != 3 {
		t.Errorf("%d boots, %d samples, %+v, %d stopped", len(boots), len(samples), failures, k.stopped)
	}
}

func TestBusyHost(t *testing.T) {
	r := &Runner{speeds: map[design.Cell][]float64{}}
	c := design.Cell{System: "a"}
	at := func(insn float64) load.Result {
		return load.Result{Seconds: 1, Completed: 1, Probes: map[string]float64{"insn": insn, "vcpu": 1e9}}
	}
	for i := range usualFrom { // one that is far faster is not what is usual
		if s := r.hostSpeed(c, at([]float64{2e8, 9e8}[i&1&(i>>1)])); s != 1 {
			t.Errorf("window %d has speed %v", i, s)
		}
	}
	slow := at(1e8)
	if s := r.hostSpeed(c, slow); s != 0.5 || !strings.Contains(busyHost(slow, design.Split, s), "50 %") {
		t.Errorf("speed %v: %q", s, busyHost(slow, design.Split, s))
	}
	if s := r.hostSpeed(c, load.Result{}); s != 1 {
		t.Errorf("speed %v where nothing is counted", s)
	}
	// A slow window is measured again twice, in all a fifth of the run's windows.
	r.total, r.speeds[c] = 20, slices.Repeat([]float64{0.2}, 40)
	for i, want := range []bool{true, true, false, true, true} {
		try := i%3 + 1
		if why := r.onceMore(c, slow, try); (why != "") != want {
			t.Errorf("window %d, try %d: %q", i/3, try, why)
		}
	}
	if why := r.onceMore(c, slow, 1); why != "" || r.again != 4 {
		t.Errorf("after %d repeats of 20 windows: %q", r.again, why)
	}
	if why := r.onceMore(c, load.Result{Lost: 1}, 1); why == "" || r.again != 4 {
		t.Errorf("a lost request: %q, %d repeats for a busy host", why, r.again)
	}
	waits := load.Result{Seconds: 1, Probes: map[string]float64{"vcpu_wait": 0.3e9, "main": 0.1e9}}
	if s := busyHost(waits, design.OneCore, 1); !strings.Contains(s, "20 %") {
		t.Error(s)
	}
	stolen := load.Result{Probes: map[string]float64{"seconds": 2, "steal": 0.2e9 * float64(runtime.NumCPU())}}
	if s := busyHost(stolen, design.OneCore, 1); !strings.Contains(s, "took 10 %") {
		t.Error(s)
	}
	if s := busyHost(load.Result{Seconds: 1}, design.OneCore, 1); s != "" {
		t.Error(s)
	}
}

func TestAnotherPlanIsNotResumed(t *testing.T) {
	dir := t.TempDir()
	if err := runner(t, dir, &nullKind{}).Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	r := runner(t, dir, &nullKind{})
	r.Plan.Boots = 3
	if err := r.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "another plan") {
		t.Error(err)
	}
}

func TestFailedBootsAreRetriedThenGivenUp(t *testing.T) {
	dir := t.TempDir()
	k := &nullKind{failBoot: func(n int) error {
		if n >= 2 && n <= 4 || n == 6 {
			return errors.New("no such luck")
		}
		return nil
	}}
	r := runner(t, dir, k)
	problems := 0
	r.Events = func(e Event) {
		if e.Problem && strings.Contains(e.Text, "no such luck") {
			problems++
		}
	}
	if err := r.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	boots, _, _, failures := entries(t, dir)
	if len(boots) != 3 || len(failures) != 4 || !failures[2].Final || failures[3].Final || problems != 4 {
		t.Errorf("%d boots, failures %+v, %d problems", len(boots), failures, problems)
	}
	// What was given up is tried again by a resume.
	if err := runner(t, dir, &nullKind{}).Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	if boots, samples, _, _ := entries(t, dir); len(boots) != 4 || len(samples) != 12 {
		t.Errorf("%d boots, %d samples after the resume", len(boots), len(samples))
	}
	always := &nullKind{failBoot: func(int) error { return errors.New("broken rig") }}
	if err := runner(t, t.TempDir(), always).Run(context.Background()); err == nil || !strings.Contains(err.Error(), "3 boots in a row") {
		t.Error(err)
	}
}

func TestGeneratorFailures(t *testing.T) {
	dir := t.TempDir()
	r := runner(t, dir, &nullKind{})
	r.LoadCommand = []string{"sh", "-c", "cat > /dev/null; echo it broke >&2; exit 1"}
	if err := r.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	_, samples, _, failures := entries(t, dir)
	if len(samples) != 0 || len(failures) != 12*maxTries || !strings.Contains(failures[0].Error, "it broke") {
		t.Errorf("%d samples, %d failures: %+v", len(samples), len(failures), failures[:1])
	}
	r = runner(t, t.TempDir(), &nullKind{})
	r.LoadCommand = []string{"sh", "-c", "cat > /dev/null; echo gibberish"}
	if err := r.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, _, _, failures := entries(t, r.Dir); !strings.Contains(failures[0].Error, "generator's answer") {
		t.Errorf("%+v", failures[0])
	}
}

type dyingKind struct{ nullKind }

func (k *dyingKind) Boot(ctx context.Context, cfg Config) (Guest, error) {
	g, err := k.nullKind.Boot(ctx, cfg)
	if err == nil && k.boots == 1 {
		n := g.(*nullGuest)
		n.dead = true
		n.udp.Close()
	}
	return g, err
}

// A guest that dies under load is booted again; its cells are not lost.
func TestGuestDiesUnderLoad(t *testing.T) {
	dir := t.TempDir()
	k := &dyingKind{}
	r := runner(t, dir, &k.nullKind)
	r.Kinds["null"] = k
	r.LoadCommand = []string{"env", "OSV_TEST_LOAD=1", "GORACE=atexit_sleep_ms=0", os.Args[0]}
	for i := range r.Plan.Workloads {
		r.Plan.Workloads[i].Spec.Timeout = load.Duration(20 * time.Millisecond)
	}
	if err := r.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	boots, samples, _, failures := entries(t, dir)
	if len(samples) != 12 || len(boots) != 5 || len(failures) != 1 || !strings.Contains(failures[0].Error, "the guest is gone") {
		t.Errorf("%d boots, %d samples, %+v", len(boots), len(samples), failures)
	}
}

func TestRAMFloor(t *testing.T) {
	dir := t.TempDir()
	k := &nullKind{floor: map[string]int{"a": 37, "b": 9}}
	r := runner(t, dir, k)
	r.Plan.RAMFloor = true
	r.Plan.Boots = 1
	r.Plan.Workloads = r.Plan.Workloads[:1]
	if err := r.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	_, _, facts, _ := entries(t, dir)
	got := map[string]float64{}
	for _, f := range facts {
		if f.Metric == "ram_floor" {
			got[f.System] = f.Value
		}
	}
	if got["a"] < 37 || got["a"] > 38 || got["b"] < 9 || got["b"] > 10 {
		t.Errorf("floors %v", got)
	}
	k.floor["a"] = 1000
	r = runner(t, t.TempDir(), k)
	r.Plan.RAMFloor, r.Plan.Boots = true, 1
	k.failBoot = nil
	r.Plan.MemMiB = 2000
	r.open()
	if mib, _, err := r.ramFloor(context.Background(), r.Plan.Systems[0]); err != nil || mib < 1000 || mib > 1045 {
		t.Errorf("%d %v", mib, err)
	}
	r.Plan.MemMiB = 500
	if _, _, err := r.ramFloor(context.Background(), r.Plan.Systems[0]); err == nil {
		t.Error("a system that does not boot has a floor")
	}
}

func TestLocalGuest(t *testing.T) {
	if _, err := exec.LookPath("memcached"); err != nil {
		t.Skip("memcached is not installed")
	}
	dir := t.TempDir()
	p := testPlan()
	p.Systems[0].Guest, p.Systems[1].Guest = "local", "local"
	p.Placements = []design.Placement{design.Free, design.OneCore}
	r := &Runner{Plan: p, Dir: dir, Kinds: map[string]Kind{"local": Local{}}, LoadCommand: loadCommand, CeilingTime: 20 * time.Millisecond}
	if err := r.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	boots, samples, _, failures := entries(t, dir)
	if len(samples) != 12 || len(failures) != 0 || boots[0].Accel != "none" || !strings.Contains(boots[0].Kernel, "memcached") {
		t.Errorf("%d samples, failures %+v, %+v", len(samples), failures, boots[0])
	}
	g, err := Local{}.Boot(context.Background(), Config{Ports: []string{"tcp:11211"}, MemMiB: 64})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Addr("tcp:80"); err == nil {
		t.Error("a port that is not served has an address")
	}
	g.Stop()
	g.Stop()
	if g.Alive() == nil {
		t.Error("a stopped guest is alive")
	}
	if _, err := (Local{}).Boot(context.Background(), Config{Ports: []string{"tcp:80"}}); err == nil {
		t.Error("a service that is not there was waited for")
	}
	if _, err := (Local{Binary: "/nonexistent"}).Boot(context.Background(), Config{}); err == nil {
		t.Error("no binary, no error")
	}
	if _, err := (Local{Binary: "false"}).Boot(context.Background(), Config{Ports: []string{"tcp:11211"}}); err == nil || !strings.Contains(err.Error(), "ended") {
		t.Error(err)
	}
}

type frameGuest struct{ *nullGuest }

func (g frameGuest) Frames(port string) (udp.Port, error) { return udp.OpenSocket(g.udp.Addr, 1) }

type frameKind struct{ *nullKind }

func (k frameKind) Boot(ctx context.Context, cfg Config) (Guest, error) {
	g, err := k.nullKind.Boot(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return frameGuest{g.(*nullGuest)}, nil
}

// A guest whose wire is in this process is loaded from this process.
func TestFrameGuest(t *testing.T) {
	r := runner(t, t.TempDir(), nil)
	r.Kinds["null"] = frameKind{&nullKind{}}
	r.LoadCommand = []string{"false"}
	r.Plan.Workloads = r.Plan.Workloads[:1]
	if err := r.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, samples, _, _ := entries(t, r.Dir); len(samples) != 8 {
		t.Errorf("%d samples", len(samples))
	}
}

func TestWaitReply(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	var d net.Dialer
	if _, err := WaitReply(ctx, d.DialContext, "tcp:80", "tcp", "127.0.0.1:1", nil); err == nil || !strings.Contains(err.Error(), "no reply on tcp:80") {
		t.Error(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Write([]byte("220 not memcached\r\n"))
			c.Close()
		}
	}()
	if _, err := WaitReply(context.Background(), d.DialContext, "tcp:5201", "tcp", l.Addr().String(), nil); err != nil {
		t.Error(err)
	}
	if err := ping(context.Background(), d.DialContext, "tcp:11211", "tcp", l.Addr().String(), time.Second); err == nil {
		t.Error("a server of something else is taken for memcached")
	}
}

func TestServeLoadRefusals(t *testing.T) {
	for _, in := range []string{"", "{", `{"spec":{},"what":1}`, `{"spec":{"kind":"nope"}}`, `{"spec":{"kind":"memcached-udp"},"cpus":[9999]}`} {
		if err := ServeLoad(context.Background(), strings.NewReader(in), &bytes.Buffer{}); err == nil {
			t.Errorf("%q accepted", in)
		}
	}
}

func TestRunnerRefusals(t *testing.T) {
	r := runner(t, t.TempDir(), &nullKind{})
	r.Plan.Boots = 0
	if r.Run(context.Background()) == nil {
		t.Error("a bad plan runs")
	}
	r = runner(t, t.TempDir(), &nullKind{})
	r.Kinds = nil
	if err := r.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "no guest of kind") {
		t.Error(err)
	}
	r = runner(t, "/dev/null/x", &nullKind{})
	if r.Run(context.Background()) == nil {
		t.Error("a folder that cannot be made")
	}
}

func TestVerdict(t *testing.T) {
	open := load.Result{Spec: load.Spec{Kind: load.MemcachedUDP, Mode: load.Open}, Seconds: 1, Offered: 1000, Rate: 700, Lost: 200}
	kept := open
	kept.Rate = 990
	noisy := open
	noisy.Probes = map[string]float64{"vcpu_wait": 0.5e9}
	closed := open
	closed.Spec.Mode = load.Closed
	wrong := open
	wrong.Wrong = 1
	iperf := load.Result{Spec: load.Spec{Kind: load.Iperf, IperfUDP: true}, Lost: 5}
	for name, c := range map[string]struct {
		r    load.Result
		want bool
	}{"overload": {open, true}, "loss at a rate that was kept": {kept, false}, "overload of a starved vCPU": {noisy, false}, "closed loop": {closed, false},
		"wrong replies": {wrong, false}, "iperf over UDP": {iperf, true}, "clean": {load.Result{Completed: 1}, true}, "silence": {load.Result{}, false}} {
		if got, why := verdict(c.r, design.Split); got != c.want || got != (why == "") {
			t.Errorf("%s: %v %q", name, got, why)
		}
	}
}

func TestMetrics(t *testing.T) {
	m := Metrics(load.Result{Spec: load.Spec{Kind: load.Iperf}, BitRate: 1e9}, design.Split)
	if !reflect.DeepEqual(m, map[string]float64{"bit_rate": 1e9}) {
		t.Errorf("%v", m)
	}
	m = Metrics(load.Result{Spec: load.Spec{Kind: load.MemcachedUDP}, Rate: 50, Completed: 100, Seconds: 2, ClientCPU: 0.5,
		Probes: map[string]float64{"interrupts": 50, "doorbells": 0, "halts": 20, "sensitive": 100, "exits": 300, "insn": 2.3e6, "vcpu": 1e7, "main": 2e6, "vcpu_wait": 1.002e9}, Latency: load.Quantiles{P50: 1, P99: 2, P999: 3}}, design.OneCore)
	want := map[string]float64{"interrupts": 0.5, "doorbells": 0, "halts": 0.2, "sensitive": 1, "exits": 3, "rate": 50, "p50": 1, "p99": 2, "p999": 3, "instructions": 23000, "vcpu_ns": 1e5, "main_ns": 2e4, "client_ns": 1e7, "host_wait": 0.5}
	if !reflect.DeepEqual(m, want) {
		t.Errorf("%v", m)
	}
}

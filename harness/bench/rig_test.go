package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"osv/harness/design"
	"osv/harness/journal"
	"osv/harness/load"
	"osv/harness/load/drive"
	"osv/harness/load/null"
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

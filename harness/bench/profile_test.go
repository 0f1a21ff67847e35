package bench

import (
	"context"
	"errors"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"osv/harness/journal"
	"osv/harness/tcg"
)

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

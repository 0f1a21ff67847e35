package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"osv/harness/bench"
	"osv/harness/design"
	"osv/harness/doctor"
	"osv/harness/journal"
	"osv/harness/load"
	"osv/harness/report"
	"osv/harness/vm"
	"osv/harness/wire"

	"golang.org/x/sys/unix"
)

type runCmd struct {
	planFlags
	kindFlags
	Out     string `help:"Results folder (default: results/TIME-NAME)." type:"path" placeholder:"DIR"`
	Resume  string `help:"Go on with an interrupted run in this folder." type:"existingdir" placeholder:"DIR"`
	Host    string `help:"Run it on this machine by ssh and bring the results back; the same command goes on with a run that was interrupted." placeholder:"USER@HOST"`
	SSH     string `help:"The ssh program for --host, with its options." default:"ssh -o BatchMode=yes -o ServerAliveInterval=15" name:"ssh" placeholder:"COMMAND"`
	Commit  string `hidden:"" help:"The commit that this program was built from."`
	JSON    bool   `help:"Print the summary as JSON instead of a table."`
	Verbose bool   `help:"A line for each step even on a terminal." short:"v"`
}

// now is the clock; tests replace it.
var now = time.Now

func (c *runCmd) Run(ctx context.Context, std streams) error {
	plan, dir, err := c.prepare()
	if err != nil {
		return err
	}
	if c.Host != "" {
		return c.away(ctx, std, plan, dir)
	}
	p := newProgress(std.err, c.Verbose)
	kinds, q, err := c.kinds(p.note)
	if err != nil {
		return err
	}
	usesQEMU := false
	for _, s := range plan.Systems {
		usesQEMU = usesQEMU || s.Guest == "linux" || s.Guest == "osv"
	}
	plan, missing := plan.Limit(func(s design.System, service string) error {
		if kinds[s.Guest] == nil {
			return fmt.Errorf("no guest of kind %q", s.Guest)
		}
		return kinds[s.Guest].Can(s, service)
	})
	for _, m := range missing {
		p.note("left out: " + m)
	}
	if c.Wire == "vhost-user" {
		plan, missing = udpOnly(plan, missing)
	}
	if len(plan.Workloads) == 0 {
		return errors.New("nothing of the plan can be run here")
	}
	checks := doctor.Examine(ctx, hostOf(usesQEMU))
	if usesQEMU && doctor.Worst(checks) == doctor.Fail {
		for _, k := range checks {
			if k.Level == doctor.Fail {
				return fmt.Errorf("%s is %s: %s", k.Name, k.Value, k.Advice)
			}
		}
	}
	if usesQEMU {
		// With a user namespace of our own a TAP needs no root, if the device may be
		// opened.
		if (c.Wire == "" || c.Wire == "auto" || c.Wire == "tap") && unix.Access("/dev/net/tun", unix.R_OK|unix.W_OK) == nil {
			wire.Become()
		}
		if err := q.Open(ctx); err != nil {
			return err
		}
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	meta := report.Meta{Name: plan.Name, Started: now().UTC().Truncate(time.Second), Command: "bench " + strings.Join(c.commandLine(), " "),
		Tool: runtime.Version(), Host: doctor.Facts(checks), Warnings: append(missing, doctor.Warnings(checks)...)}
	if meta.Commit, meta.Dirty = commit(ctx); c.Commit != "" {
		meta.Commit, meta.Dirty = strings.CutSuffix(c.Commit, "+")
	}
	if c.Resume != "" {
		old, err := journal.Read(filepath.Join(dir, bench.JournalFile))
		if err != nil {
			return err
		}
		if len(old) > 0 {
			meta.Started = old[0].Time.Truncate(time.Second)
		}
	}
	p.note("results in " + dir)
	p.note(lengthOf(plan))
	r := &bench.Runner{Plan: plan, Dir: dir, Kinds: kinds, LoadCommand: loadCommand(self), Events: p.event}
	runErr := r.Run(ctx)
	p.done()
	if errors.Is(runErr, bench.ErrInterrupted) {
		fmt.Fprintf(std.err, "interrupted; go on with: bench run --resume %s\n", dir)
		return failure{exitInterrupted}
	}
	if runErr != nil {
		fmt.Fprintf(std.err, "bench: %v\nwhat was measured is kept; go on with: bench run --resume %s\n", runErr, dir)
		return failure{exitFailed}
	}
	meta.Finished = now().UTC().Truncate(time.Second)
	if err := report.WriteMeta(dir, meta); err != nil {
		return err
	}
	s, err := report.Write(dir)
	if err != nil {
		return err
	}
	return printSummary(std.out, dir, s, c.JSON)
}

// lengthOf says how long a plan takes, and of what.
func lengthOf(p design.Plan) string {
	windows := 0
	for _, g := range p.Groups() {
		windows += len(p.Windows(g))
	}
	return fmt.Sprintf("about %.0f minutes on a quiet host: %d boots, %d windows of load; images that are not cached take longer once",
		max(1, p.Estimate(design.SeenCosts, nil).Minutes()), len(p.Schedule()), windows)
}

// udpOnly keeps the workloads that raw frames can carry.
func udpOnly(p design.Plan, missing []string) (design.Plan, []string) {
	var kept []design.Workload
	for _, w := range p.Workloads {
		if w.Spec.Kind == load.MemcachedUDP {
			kept = append(kept, w)
			continue
		}
		missing = append(missing, w.Name+" is left out: vhost-user carries UDP only")
	}
	p.Workloads = kept
	return p, missing
}

// prepare settles plan and folder.
func (c *runCmd) prepare() (design.Plan, string, error) {
	if c.Resume != "" {
		c.Config = filepath.Join(c.Resume, bench.PlanFile)
		c.planFlags = planFlags{Config: c.Config}
		p, err := c.choose()
		return p, c.Resume, err
	}
	p, err := c.choose()
	if err != nil {
		return p, "", err
	}
	dir := c.Out
	if dir == "" {
		dir = filepath.Join("results", now().UTC().Format("20060102T150405Z")+"-"+p.Name)
	}
	if _, err := os.Stat(filepath.Join(dir, bench.JournalFile)); err == nil {
		return p, dir, fmt.Errorf("%s holds a run; go on with it by --resume, or choose another folder", dir)
	}
	return p, dir, nil
}

// commandLine is how this run can be asked for again.
func (c *runCmd) commandLine() []string {
	args := []string{"run"}
	add := func(on bool, s string) {
		if on {
			args = append(args, s)
		}
	}
	add(c.Plan != "" && c.Plan != "default", "--plan="+c.Plan)
	add(c.Config != "", "--config=plan.yaml")
	add(c.Quick, "--quick")
	add(c.Dry, "--dry")
	add(c.AA, "--aa")
	add(c.Boots > 0, fmt.Sprintf("--boots=%d", c.Boots))
	add(c.Seed > 0, fmt.Sprintf("--seed=%d", c.Seed))
	add(c.Accel != "" && c.Accel != "auto", "--accel="+c.Accel)
	add(c.Wire != "" && c.Wire != "auto", "--wire="+c.Wire)
	return args
}

// loadCommand starts this program as a generator; tests replace it.
var loadCommand = func(self string) []string { return []string{self, "load", "--stdin"} }

func hostOf(qemu bool) doctor.Host {
	if !qemu {
		return doctor.Host{}
	}
	return doctor.Host{Accel: func(ctx context.Context) string { return string(vm.Probe(ctx, "qemu-system-x86_64")) }, Netns: wire.MayUnshare}
}

// commit names the work tree's commit, where there is one.
func commit(ctx context.Context) (hash string, dirty bool) {
	out, err := exec.CommandContext(ctx, "git", "rev-parse", "HEAD").Output()
	if err != nil {
		return "", false
	}
	st, err := exec.CommandContext(ctx, "git", "status", "--porcelain", "--untracked-files=no").Output()
	return strings.TrimSpace(string(out)), err != nil || len(bytes.TrimSpace(st)) > 0
}

// printSummary writes the outcome and where the report is.
func printSummary(w io.Writer, dir string, s report.Summary, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(s)
	}
	d, err := report.Load(dir)
	if err != nil {
		return err
	}
	if err := d.Table(w, s); err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "\nreport: %s\n", filepath.Join(dir, "report.html"))
	return err
}

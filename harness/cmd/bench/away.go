package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"osv/harness/bench"
	"osv/harness/design"
	"osv/harness/remote"
	"osv/harness/report"
)

// awayGrace is how long an interrupted run on another machine may take to remove
// its guests.
const awayGrace = 30 * time.Second

// away runs the plan on another machine: this program, the plan and the appliances
// are copied, the run is made there, and its folder comes back. A folder over there
// belongs to one program and plan, so the same command resumes.
func (c *runCmd) away(ctx context.Context, std streams, plan design.Plan, dir string) error {
	h := remote.Host{Target: c.Host, SSH: strings.Fields(c.SSH)}
	if err := h.Check(); err != nil {
		return err
	}
	say := func(s string) { fmt.Fprintln(std.err, s) }
	f := c.kindFlags
	kinds, _, err := f.kinds(say)
	if err != nil {
		return err
	}
	images, err := kinds["osv"].(*bench.OSv).Build(plan)
	if err != nil {
		return err
	}
	loader, err := kinds["linux"].(*bench.Linux).Build(ctx, plan)
	if err != nil {
		return err
	}
	images = append(images, loader...)
	self, err := os.Executable()
	if err != nil {
		return err
	}
	y, err := plan.YAML()
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp("", "osv-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	planFile := filepath.Join(tmp, bench.PlanFile)
	if err := os.WriteFile(planFile, y, 0o644); err != nil {
		return err
	}
	files := map[string]string{"bench": self, bench.PlanFile: planFile}
	for _, i := range images {
		files[path.Base(i)] = i
	}
	id, err := digestOf(files)
	if err != nil {
		return err
	}
	// Relative to the home folder, where ssh begins.
	there := ".cache/osv/remote/" + id
	results := there + "/results"
	say(fmt.Sprintf("copying %d files to %s:%s", len(files), c.Host, there))
	if err := h.Put(ctx, there, files); err != nil {
		return err
	}
	begun, err := h.Do(ctx, "test -e "+remote.Quote(results+"/"+bench.JournalFile)+" && echo yes || true", nil)
	if err != nil {
		return err
	}
	args := append(append([]string{}, awayCommand(there+"/bench")...), "run", "--verbose", "--images", there)
	if strings.TrimSpace(begun) == "yes" {
		args = append(args, "--resume", results)
	} else {
		args = append(args, "--config", there+"/"+bench.PlanFile, "--out", results)
	}
	for name, v := range map[string]string{"--accel": c.Accel, "--wire": c.Wire} {
		if v != "" && v != "auto" {
			args = append(args, name, v)
		}
	}
	if hash, dirty := commit(ctx); hash != "" {
		if dirty {
			hash += "+"
		}
		args = append(args, "--commit", hash)
	}
	code, err := h.Run(ctx, args, io.Discard, std.err, awayGrace)
	switch {
	case ctx.Err() != nil || code == exitInterrupted:
		say("interrupted; the same command goes on with it on " + c.Host)
		return failure{exitInterrupted}
	case err != nil:
		return err
	case code != exitOK:
		return fmt.Errorf("the run on %s failed with status %d; the same command goes on with it", c.Host, code)
	}
	if err := h.Fetch(ctx, results, dir); err != nil {
		return err
	}
	problems, err := report.Verify(dir)
	if err != nil {
		return err
	}
	if len(problems) > 0 {
		return fmt.Errorf("the results of %s do not verify: %s", c.Host, problems[0])
	}
	if _, err := h.Do(ctx, "rm -rf "+remote.Quote(results), nil); err != nil {
		return err
	}
	d, err := report.Load(dir)
	if err != nil {
		return err
	}
	return printSummary(std.out, dir, d.Summarize(), c.JSON)
}

// awayCommand starts this program over there; tests replace it.
var awayCommand = func(program string) []string { return []string{program} }

// digestOf names a set of files by what is in them.
func digestOf(files map[string]string) (string, error) {
	names := make([]string, 0, len(files))
	for n := range files {
		names = append(names, n)
	}
	slices.Sort(names)
	h := sha256.New()
	for _, n := range names {
		b, err := os.ReadFile(files[n])
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%s %x\n", n, sha256.Sum256(b))
	}
	return hex.EncodeToString(h.Sum(nil))[:16], nil
}

// Command boottest boots every program under kernel/ktest/progs on each board
// with each number of vCPUs and judges how it ends. Exit status: 0 all as wanted,
// 1 a boot failed, 2 wrong usage or nothing selected, 130 interrupted.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"

	"osv/harness/boottest"
	"osv/harness/image"
	flags "osv/harness/internal/cli"
	"osv/harness/vm"
)

type cli struct {
	Progs    string   `arg:"" optional:"" help:"Folder of the programs." default:"kernel/ktest/progs"`
	Run      string   `help:"Only boots whose name (prog.case/machine/Ncpu) matches this regular expression."`
	Machine  []string `help:"Only these boards." enum:"q35,pc,microvm"`
	CPUs     []int    `help:"Only these numbers of vCPUs." name:"cpus"`
	Count    int      `help:"Boots of each." default:"1"`
	Parallel int      `help:"Boots at a time." default:"1"`
	FailFast bool     `help:"Stop at the first failure." name:"failfast"`
	Slow     float64  `help:"Factor on the programs' timeouts." default:"1"`
	Accel    string   `help:"auto, kvm or tcg." default:"auto" enum:"auto,kvm,tcg"`
	List     bool     `help:"Print the names of the boots and stop." short:"l"`
	JSON     string   `help:"Write the results to this file; - for standard output." name:"json"`
	Logs     string   `help:"Keep serial logs of failures here." default:"build/boottest"`
	Build    string   `help:"Build the programs here." default:"build/progs"`
	Quiet    bool     `help:"Print failures and the summary only." short:"q"`

	out, err io.Writer
}

func (c *cli) run(ctx context.Context) (int, error) {
	cases, err := boottest.Discover(c.Progs)
	if err != nil {
		return 2, err
	}
	cfg := boottest.Config{
		Build: image.Build, BuildDir: c.Build, LogDir: c.Logs, Count: c.Count, Parallel: c.Parallel,
		FailFast: c.FailFast, Slow: c.Slow, CPUs: c.CPUs,
	}
	for _, m := range c.Machine {
		cfg.Machines = append(cfg.Machines, vm.Machine(m))
	}
	if c.Accel != "auto" {
		cfg.Base.Accel = vm.Accel(c.Accel)
	}
	if c.Run != "" {
		if cfg.Match, err = regexp.Compile(c.Run); err != nil {
			return 2, fmt.Errorf("--run: %w", err)
		}
	}
	plan := cfg.Plan(cases)
	if len(plan) == 0 {
		return 2, fmt.Errorf("no boot selected of %d cases in %s", len(cases), c.Progs)
	}
	if c.List {
		for _, b := range plan {
			fmt.Fprintln(c.out, b.Name())
		}
		return 0, nil
	}
	out := c.out
	if c.JSON == "-" {
		out = c.err
	}
	p := &boottest.Progress{W: out, TTY: flags.IsTerminal(out), Total: len(plan), Quiet: c.Quiet}
	cfg.Done = p.Done
	results, runErr := cfg.Run(ctx, plan)
	boottest.Summary(out, results)
	if err := c.writeJSON(results); err != nil {
		return 2, err
	}
	switch {
	case errors.Is(runErr, boottest.ErrFailed):
		return 1, runErr
	case runErr != nil:
		return 130, fmt.Errorf("interrupted after %d of %d boots: %w", len(results), len(plan), runErr)
	}
	return 0, nil
}

func (c *cli) writeJSON(rs []boottest.Result) error {
	switch c.JSON {
	case "":
		return nil
	case "-":
		return boottest.WriteJSON(c.out, rs)
	}
	f, err := os.Create(c.JSON)
	if err != nil {
		return err
	}
	return errors.Join(boottest.WriteJSON(f, rs), f.Close())
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c := cli{out: stdout, err: stderr}
	if code, done := flags.Parse("boottest", "Boot the test programs and judge how they end.", &c, args, stdout, stderr); done {
		return code
	}
	code, err := c.run(ctx)
	if err != nil {
		fmt.Fprintln(stderr, "boottest:", err)
	}
	return code
}

func main() { flags.Main(run) }

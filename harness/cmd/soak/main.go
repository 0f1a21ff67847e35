// Command soak runs real clients, floods, garbage and power cuts against booted
// guests; see package osv/harness/soak. Exit status: 0 all as it must be, 1 a
// scenario failed, 2 wrong usage or nothing selected, 130 interrupted.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"

	flags "osv/harness/internal/cli"
	"osv/harness/soak"
	"osv/harness/vm"
	"osv/harness/wire"
)

type cli struct {
	Run      string        `help:"Only scenarios whose name matches this regular expression."`
	Short    bool          `help:"Loads of seconds, and without the longest scenarios: two to three minutes in all." xor:"length"`
	Duration time.Duration `help:"Length of each load that lasts, for example 10m." xor:"length"`
	Count    int           `help:"Repeat the whole so often." default:"1"`
	FailFast bool          `help:"Stop at the first failure." name:"failfast"`
	Accel    string        `help:"auto, kvm or tcg." default:"auto" enum:"auto,kvm,tcg"`
	List     bool          `help:"Print the scenarios and stop." short:"l"`
	JSON     string        `help:"Write the results to this file; - for standard output." name:"json"`
	Logs     string        `help:"Keep the consoles of failed scenarios here." default:"build/soak"`
	Pcap     string        `help:"Write every frame of every guest to a file in this folder."`
	Cache    string        `help:"Build the guests here." default:"build/soak"`
	Quiet    bool          `help:"Print results only." short:"q"`

	out, err io.Writer
	mu       sync.Mutex
}

func (c *cli) run(ctx context.Context) (int, error) {
	list, err := c.selected()
	if err != nil {
		return flags.Usage, err
	}
	if c.List {
		for _, s := range list {
			fmt.Fprintf(c.out, "%-12s %s\n", s.Name, s.About)
		}
		return 0, nil
	}
	cfg := soak.Config{Cache: c.Cache, Logs: c.Logs, Pcap: c.Pcap, Short: c.Short, Duration: c.Duration}
	if c.Accel != "auto" {
		cfg.Accel = vm.Accel(c.Accel)
	}
	if !c.Quiet {
		began := time.Now()
		cfg.Log = func(format string, a ...any) {
			c.mu.Lock()
			defer c.mu.Unlock()
			fmt.Fprintf(c.err, "[%5.1fs] "+format+"\n", append([]any{time.Since(began).Seconds()}, a...)...)
		}
	}
	out := c.out
	if c.JSON == "-" {
		out = c.err
	}
	runner := soak.NewRunner(cfg)
	results := []soak.Result{} // an empty list, not null
	failed := 0
	var stopped error
all:
	for range c.Count {
		for _, s := range list {
			res, err := runner.Run(ctx, s)
			if err != nil {
				stopped = fmt.Errorf("interrupted in %s: %w", s.Name, err)
				break all
			}
			results = append(results, res)
			c.mu.Lock()
			print(out, res)
			c.mu.Unlock()
			if res.Failed != "" {
				if failed++; c.FailFast {
					break all
				}
			}
		}
	}
	if err := c.writeJSON(results); err != nil {
		return flags.Usage, err
	}
	switch {
	case stopped != nil:
		return 130, stopped
	case failed > 0:
		return 1, fmt.Errorf("%d of %d scenarios failed", failed, len(results))
	}
	return 0, nil
}

// selected are the scenarios of the command line.
func (c *cli) selected() ([]soak.Scenario, error) {
	match, err := regexp.Compile(c.Run)
	if err != nil {
		return nil, fmt.Errorf("--run: %w", err)
	}
	var list []soak.Scenario
	for _, s := range soak.Scenarios() {
		// One that is named is meant, however long it takes.
		if match.MatchString(s.Name) && !(c.Short && s.LongOnly && c.Run == "") {
			list = append(list, s)
		}
	}
	switch {
	case len(list) == 0:
		return nil, fmt.Errorf("no scenario matches %q", c.Run)
	case c.Duration < 0 || c.Duration > 0 && c.Duration < time.Second:
		return nil, fmt.Errorf("--duration %v: a second or more", c.Duration)
	case c.Count < 1:
		return nil, fmt.Errorf("--count %d: one or more", c.Count)
	}
	return list, nil
}

// print shows a result: the verdict, then a line for each figure.
func print(w io.Writer, res soak.Result) {
	switch {
	case res.Failed != "":
		fmt.Fprintf(w, "FAIL %s (%.1f s)\n    %s\n", res.Name, res.Seconds, strings.ReplaceAll(res.Failed, "\n", "\n    "))
	case res.Skipped != "":
		fmt.Fprintf(w, "skip %s: %s\n", res.Name, res.Skipped)
	default:
		fmt.Fprintf(w, "ok   %s (%.1f s)\n", res.Name, res.Seconds)
	}
	for _, f := range res.Figures {
		fmt.Fprintf(w, "    %-60s %12s %s\n", f.Name, number(f.Value), f.Unit)
	}
}

// number writes whole numbers whole.
func number(v float64) string {
	if v == float64(int64(v)) {
		return fmt.Sprintf("%d", int64(v))
	}
	return fmt.Sprintf("%.2f", v)
}

func (c *cli) writeJSON(rs []soak.Result) error {
	if c.JSON == "" {
		return nil
	}
	b, err := json.MarshalIndent(rs, "", "  ")
	if err != nil {
		return err
	}
	b = append(b, '\n')
	if c.JSON == "-" {
		_, err = c.out.Write(b)
		return err
	}
	f, err := os.Create(c.JSON)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Close())
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c := cli{out: stdout, err: stderr}
	if code, done := flags.Parse("soak", "Real clients, floods, garbage and power cuts against booted guests.", &c, args, stdout, stderr); done {
		return code
	}
	code, err := c.run(ctx)
	if err != nil {
		fmt.Fprintln(stderr, "soak:", err)
	}
	return code
}

func main() {
	wire.Become()
	flags.Main(run)
}

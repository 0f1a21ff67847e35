// Command bench compares a Linux guest with an OSv guest: it boots both on the
// same machine, loads them the same way, and leaves a report that can be checked
// and repeated.
//
//	bench run                 the default plan, then a table and results/.../report.html
//	bench run --quick         a look in a few minutes, without intervals
//	bench run --config F.yaml a plan of your own (bench plan prints one to start from)
//	bench verify DIR          is this report what its raw data says?
//	bench compare OLD NEW     did anything get slower?
//
// Exit status: 0 done, 1 failed (a run broke, a report does not verify, something
// regressed), 2 wrong usage, 130 interrupted (bench run --resume DIR goes on).
//
// One file for each command; the work is done by harness/bench and harness/report.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"osv/harness/bench"
)

// The exit codes.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130
)

// streams are the program's standard streams.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// failure is an error whose text has been written already, or is empty.
type failure struct{ code int }

func (f failure) Error() string { return fmt.Sprintf("exit %d", f.code) }

type cli struct {
	Run       runCmd       `cmd:"" help:"Boot the guests, load them, write a report."`
	Report    reportCmd    `cmd:"" help:"Make the report of a results folder again."`
	Verify    verifyCmd    `cmd:"" help:"Check a results folder against its hashes and raw data."`
	Compare   compareCmd   `cmd:"" help:"Compare two runs; status 1 when something got worse."`
	Doctor    doctorCmd    `cmd:"" help:"Look at this host: what is missing, what makes noise."`
	Guests    guestsCmd    `cmd:"" help:"List the systems of a plan and whether they can run here."`
	Workloads workloadsCmd `cmd:"" help:"List the workloads of a plan."`
	Plan      planCmd      `cmd:"" help:"Print a plan as YAML, to be changed and run with --config."`
	Load      loadCmd      `cmd:"" help:"Load one server that is already running."`
	Publish   publishCmd   `cmd:"" help:"Make a site of results folders."`
	Manifests manifestsCmd `cmd:"" help:"Write the guests and a load job as KubeVirt manifests (not tried on a real cluster)."`
}

const description = `Compares a Linux guest with an OSv guest on the same hypervisor and leaves a report that can be checked and repeated.

Exit status: 0 done; 1 failed, not verified or regressed; 2 wrong usage; 130 interrupted (resume with "bench run --resume DIR").`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], streams{os.Stdin, os.Stdout, os.Stderr})
	stop()
	os.Exit(code)
}

// run is main with everything it touches as parameters.
func run(ctx context.Context, args []string, io streams) int {
	var c cli
	exited := -1
	k, err := kong.New(&c, kong.Name("bench"), kong.Description(description), kong.Writers(io.out, io.err),
		kong.Exit(func(code int) { exited = code; panic(exitPanic{}) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.BindTo(ctx, (*context.Context)(nil)), kong.Bind(io))
	if err != nil {
		fmt.Fprintln(io.err, "bench:", err)
		return exitUsage
	}
	kctx, err := parse(k, args)
	if exited >= 0 {
		return exited // --help
	}
	if err != nil {
		fmt.Fprintln(io.err, "bench:", err)
		return exitUsage
	}
	err = kctx.Run()
	var f failure
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &f):
		return f.code
	case errors.Is(err, bench.ErrInterrupted) || ctx.Err() != nil:
		fmt.Fprintln(io.err, "bench: interrupted")
		return exitInterrupted
	}
	fmt.Fprintln(io.err, "bench:", err)
	return exitFailed
}

// exitPanic unwinds from kong's --help, which wants to end the process.
type exitPanic struct{}

func parse(k *kong.Kong, args []string) (ctx *kong.Context, err error) {
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(exitPanic); !ok {
				panic(r)
			}
		}
	}()
	return k.Parse(args)
}

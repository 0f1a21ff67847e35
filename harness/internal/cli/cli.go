// Package cli holds what the small commands of harness share: flags by kong that
// can be tested, a context that ends with the usual signals, and whether a stream
// is a terminal.
//
// Who may use it: harness/cmd. Start reading at Main.
package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
	"golang.org/x/sys/unix"
)

// Usage is the exit status for a command line that is not understood.
const Usage = 2

// Main runs a command with a context that ends at the first interrupt, hang-up or
// termination signal, and exits with its status. A second signal ends the process
// at once.
func Main(run func(ctx context.Context, args []string, stdout, stderr io.Writer) int) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, stop)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// Parse reads args into flags, a pointer to a kong struct. done says that there is
// nothing more to do, with code as the exit status: help was asked for, or the
// line is wrong.
func Parse(name, description string, flags any, args []string, stdout, stderr io.Writer) (code int, done bool) {
	asked := false
	p, err := kong.New(flags, kong.Name(name), kong.Description(description), kong.Writers(stdout, stderr),
		kong.WithHyphenPrefixedParameters(true), kong.Exit(func(c int) { asked, code = true, c }))
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", name, err)
		return Usage, true
	}
	_, err = p.Parse(args)
	if asked { // kong went on after --help
		return code, true
	}
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v (%s --help)\n", name, err, name)
		return Usage, true
	}
	return 0, false
}

// IsTerminal reports whether w is a terminal.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

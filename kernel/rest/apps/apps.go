// Package apps runs programs for PUT /app: commands that are built into the image,
// and, where it is given one, whatever runs Linux programs.
//
// Who may use it: kernel/platform/manage, appliances. It knows no file format and no
// process. Start reading at Runner.
package apps

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"osv/kernel/rest/machine"
	"osv/kernel/trace"
)

var log = trace.For("app")

// Command is a built-in command. args[0] is its name; it ends when ctx does.
type Command func(ctx context.Context, args []string, out io.Writer) error

// maxRunning is how many programs may run at once.
const maxRunning = 64

// Runner runs programs. The zero value runs none.
type Runner struct {
	Commands map[string]Command
	// Linux starts a Linux program and returns what waits for its end; nil where the
	// image cannot.
	Linux func(ctx context.Context, args []string, out io.Writer) (wait func() error, err error)
	// Out is where programs print.
	Out io.Writer

	mu      sync.Mutex
	last    int64
	running map[string]bool
	wg      sync.WaitGroup
}

// Run starts the programs of a command line, "&" between several, and returns their
// numbers with spaces between. They outlive ctx, which is the request's.
func (r *Runner) Run(ctx context.Context, command string) (string, error) {
	ctx = context.WithoutCancel(ctx)
	var starts []func() (string, error)
	programs, err := split(command, "&")
	if err != nil {
		return "", err
	}
	for _, args := range programs {
		if len(args) == 0 {
			continue
		}
		start, err := r.find(ctx, args)
		if err != nil {
			return "", err
		}
		starts = append(starts, start)
	}
	if len(starts) == 0 {
		return "", fmt.Errorf("command %q is empty: %w", command, errInvalid)
	}
	var ids []string
	for _, start := range starts {
		id, err := start()
		if err != nil {
			return "", err
		}
		ids = append(ids, id)
	}
	return strings.Join(ids, " "), nil
}

// find returns what starts a program, so that nothing is started where a later one
// does not exist.
func (r *Runner) find(ctx context.Context, args []string) (func() (string, error), error) {
	out := r.Out
	if out == nil {
		out = io.Discard
	}
	if c := r.Commands[args[0]]; c != nil {
		return func() (string, error) {
			return r.watch(args, func() error { return c(ctx, args, out) })
		}, nil
	}
	if r.Linux == nil {
		names := slices.Sorted(maps.Keys(r.Commands))
		return nil, machine.Unavailable("there is no command %s (there are: %s), and this image runs no Linux programs", args[0], strings.Join(names, ", "))
	}
	return func() (string, error) {
		wait, err := r.Linux(ctx, args, out)
		if err != nil {
			return "", err
		}
		return r.watch(args, wait)
	}, nil
}

// watch gives a program a number and waits for its end in the background.
func (r *Runner) watch(args []string, wait func() error) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.running) >= maxRunning {
		return "", machine.Unavailable("%d programs run already", maxRunning)
	}
	r.last++
	id := strconv.FormatInt(r.last, 10)
	if r.running == nil {
		r.running = map[string]bool{}
	}
	r.running[id] = true
	r.wg.Go(func() {
		if err := wait(); err != nil {
			log.Warnf("%s: %v", args[0], err)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.running, id)
	})
	return id, nil
}

// Finished says whether a program has ended, or never was.
func (r *Runner) Finished(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.running[id]
}

// Wait returns once all programs have ended.
func (r *Runner) Wait() { r.wg.Wait() }

// Package bootbench measures what does not depend on load: time to the first line
// of the program, the least memory a guest boots with, its size, what it costs
// idle, and the prices that a guest measures of itself; side by side for two
// guests under one QEMU line.
//
// Method: boots are interleaved in pairs of alternating order (ABBA), a value is
// one boot, a ratio is paired over neighbours; the floor is found by bisection
// and boots again, what is one MiB below it fails again.
//
// Who may use it: harness/cmd/bootbench. May not: build guests, know what they
// are.
//
// Start reading at Subject, then floor.go, idle.go, suite.go (all of it in order) and
// report.go.
package bootbench

import (
	"context"
	"fmt"
	"regexp"
	"time"

	"osv/harness/vm"
)

// Subject is a guest under test.
type Subject struct {
	Name string
	Spec vm.Spec
	// First matches the first line that the program in the guest prints: its own,
	// not the kernel's.
	First *regexp.Regexp
	// Ends says that the guest must then end by itself with code 0.
	Ends bool
	// Timeout bounds one boot; 0 = 30 s.
	Timeout time.Duration
}

func (s Subject) timeout() time.Duration {
	if s.Timeout == 0 {
		return 30 * time.Second
	}
	return s.Timeout
}

// Bench runs measurements; Log, if not nil, is told of each boot in one line.
type Bench struct {
	Log func(format string, a ...any)

	fake func(s Subject) (t Boot, fault string, err error) // tests; nil = QEMU
}

func (b Bench) log(format string, a ...any) {
	if b.Log != nil {
		b.Log(format, a...)
	}
}

// Boot is the timing of one boot, in seconds.
type Boot struct {
	// Total is from the start of the QEMU process to the program's first line.
	Total float64 `json:"total"`
	// Guest is the part from the guest's first instruction, firmware included.
	Guest float64 `json:"guest"`
}

// boot starts s, waits for its first line and, where it ends by itself, for its
// end. fault says what went wrong in the guest; err is one of the context or of
// QEMU.
func (b Bench) boot(ctx context.Context, s Subject) (t Boot, fault string, err error) {
	if b.fake != nil {
		return b.fake(s)
	}
	v, err := vm.Start(ctx, s.Spec, vm.Options{})
	if err != nil {
		return t, "", fmt.Errorf("%s: %w", s.Name, err)
	}
	defer v.Kill()
	l, err := v.WaitLine(s.First, s.timeout())
	if ctx.Err() != nil {
		return t, "", context.Cause(ctx)
	}
	if err != nil {
		return t, shortFault(v), nil
	}
	t.Total = l.At.Sub(v.Started).Seconds()
	t.Guest = l.At.Sub(v.Continued()).Seconds()
	if s.Ends {
		if e, late := v.WaitTimeout(s.timeout()); ctx.Err() != nil {
			return t, "", context.Cause(ctx)
		} else if late || !e.OK() {
			return t, shortFault(v), nil
		}
	}
	return t, "", nil
}

// shortFault says in one line how a boot failed: how the machine stands and the
// last line it printed.
func shortFault(v *vm.VM) string {
	how := "no first line in time"
	select {
	case <-v.Done():
		how = v.Wait().String()
	default:
	}
	if ls := v.Lines(); len(ls) > 0 {
		return fmt.Sprintf("%s; last line %q", how, ls[len(ls)-1].Text)
	}
	return how + "; nothing on the console"
}

// Boots boots each subject n times, interleaved: in even rounds in the order
// given, in odd rounds in the reverse. Result i belongs to subject i.
func (b Bench) Boots(ctx context.Context, n int, subjects ...Subject) ([][]Boot, error) {
	out := make([][]Boot, len(subjects))
	for round := range n {
		for k := range subjects {
			i := k
			if round%2 == 1 {
				i = len(subjects) - 1 - k
			}
			s := subjects[i]
			t, fault, err := b.boot(ctx, s)
			if err != nil {
				return nil, err
			}
			if fault != "" {
				return nil, fmt.Errorf("%s: boot %d: %s", s.Name, round+1, fault)
			}
			b.log("boot %d/%d of %s: %.3f s", round+1, n, s.Name, t.Total)
			out[i] = append(out[i], t)
		}
	}
	return out, nil
}

package main

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"strconv"
	"strings"
	"time"

	"osv/kernel/rest/apps"
)

// commands are what PUT /app runs: enough to see that programs run, and to give the
// dashboard something to show.
var commands = map[string]apps.Command{
	"echo":  echo,
	"sleep": sleep,
	"spin":  spin,
}

// echo prints its arguments.
func echo(_ context.Context, args []string, out io.Writer) error {
	_, err := fmt.Fprintln(out, strings.Join(args[1:], " "))
	return err
}

// maxSeconds is the longest that a command may be asked to take.
const maxSeconds = 86400

// seconds reads the one argument of a command.
func seconds(args []string) (time.Duration, error) {
	if len(args) != 2 {
		return 0, fmt.Errorf("%s: want seconds, have %d arguments", args[0], len(args)-1)
	}
	s, err := strconv.ParseFloat(args[1], 64)
	if err != nil || !(s >= 0 && s <= maxSeconds) {
		return 0, fmt.Errorf("%s: %q: want seconds, 0 to %d", args[0], args[1], maxSeconds)
	}
	return time.Duration(s * float64(time.Second)), nil
}

// sleep waits.
func sleep(ctx context.Context, args []string, _ io.Writer) error {
	d, err := seconds(args)
	if err != nil {
		return err
	}
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
	return nil
}

// spin keeps one processor busy.
func spin(ctx context.Context, args []string, _ io.Writer) error {
	d, err := seconds(args)
	if err != nil {
		return err
	}
	for end := time.Now().Add(d); time.Now().Before(end) && ctx.Err() == nil; {
		for range 100000 {
			spun++
		}
		runtime.Gosched()
	}
	return nil
}

// spun keeps the loop from being left out.
var spun uint64

package hypervisor

import (
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const followStep = 100 * time.Millisecond

// follow copies the console log of a machine in the foreground until it has ended. The
// end of ctx stops the machine.
func follow(ctx context.Context, v Hypervisor, h *Host, m Machine, fg *IO) func() error {
	if fg == nil {
		return nil
	}
	return func() error {
		var at int64
		for {
			ended := v.State(ctx, h, m) != Running
			n, err := copyFrom(fg.Out, filepath.Join(m.Dir, ConsoleLog), at)
			at += n
			if err != nil || ended {
				return err
			}
			select {
			case <-ctx.Done():
				stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*pressedWait)
				defer cancel()
				return v.Stop(stop, h, m, true)
			case <-time.After(followStep):
			}
		}
	}
}

// copyFrom copies what a file has from offset on.
func copyFrom(w io.Writer, name string, at int64) (int64, error) {
	f, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if _, err := f.Seek(at, io.SeekStart); err != nil {
		return 0, err
	}
	return io.Copy(w, f)
}

// waitStopped polls until the machine does not run any more, for at most d.
func waitStopped(ctx context.Context, v Hypervisor, h *Host, m Machine, d time.Duration) bool {
	for end := time.Now().Add(d); ; {
		if v.State(ctx, h, m) == Stopped {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(followStep):
		}
		if time.Now().After(end) {
			return false
		}
	}
}

func sorted(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

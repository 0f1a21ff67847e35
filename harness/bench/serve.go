package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"osv/harness/load/drive"
)

// ServeLoad is a generator's process: it reads a LoadRequest, runs it, and
// writes the load.Result.
func ServeLoad(ctx context.Context, in io.Reader, out io.Writer) error {
	var req LoadRequest
	dec := json.NewDecoder(in)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&req); err != nil {
		return fmt.Errorf("load request: %w", err)
	}
	if err := useCPUs(req.CPUs); err != nil {
		return err
	}
	res, err := drive.Run(ctx, req.Spec, req.Options)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(res)
}

// useCPUs moves every thread of this process to the given cores; threads made
// later inherit it.
func useCPUs(cpus []int) error {
	if len(cpus) == 0 {
		return nil
	}
	var set unix.CPUSet
	for _, c := range cpus {
		set.Set(c)
	}
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return fmt.Errorf("bench: threads: %w", err)
	}
	for _, t := range tasks {
		tid, err := strconv.Atoi(t.Name())
		if err != nil {
			continue
		}
		if err := unix.SchedSetaffinity(tid, &set); err != nil && err != unix.ESRCH {
			return fmt.Errorf("bench: host cores %v: %w", cpus, err)
		}
	}
	return nil
}

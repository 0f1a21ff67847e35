package bootbench

import (
	"context"
	"errors"
	"fmt"
)

// Floor is the least memory a guest boots with.
type Floor struct {
	MiB   int    `json:"mib"`
	Boots int    `json:"boots"` // that were needed to find it
	Below string `json:"below"` // how it fails with one MiB less
}

// errNeverBoots: the guest fails even with the most memory that was tried.
var errNeverBoots = errors.New("does not boot")

// Floor seeks, by bisection between 1 and high MiB, the least memory with which s
// boots. The answer has booted three times, and one MiB less has failed twice.
func (b Bench) Floor(ctx context.Context, s Subject, high int) (Floor, error) {
	var f Floor
	faults := map[int]string{}
	try := func(mib int) (bool, error) {
		f.Boots++
		s.Spec.MemMiB = mib
		// A QEMU that refuses so little memory is a guest that does not boot.
		_, fault, err := b.boot(ctx, s)
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		if err != nil {
			fault = "QEMU refuses"
		}
		if fault != "" {
			faults[mib] = fault
			b.log("floor of %s: %d MiB fails: %s", s.Name, mib, fault)
		} else {
			b.log("floor of %s: %d MiB boots", s.Name, mib)
		}
		return fault == "", nil
	}
	ok, err := try(high)
	if err != nil {
		return f, err
	}
	if !ok {
		return f, fmt.Errorf("%s: %w with %d MiB: %s", s.Name, errNeverBoots, high, faults[high])
	}
	lo, hi := 0, high // lo fails, hi boots
	for {
		for hi-lo > 1 {
			mid := (lo + hi) / 2
			if ok, err = try(mid); err != nil {
				return f, err
			}
			if ok {
				hi = mid
			} else {
				lo = mid
			}
		}
		// Both sides must hold; a flaky boundary moves up.
		steady := true
		for range 2 {
			if ok, err = try(hi); err != nil {
				return f, err
			}
			steady = steady && ok
		}
		if !steady {
			if lo, hi = hi, hi+max(1, hi/10); hi > high {
				return f, fmt.Errorf("%s: boots with %d MiB only sometimes", s.Name, lo)
			}
			continue
		}
		if lo > 0 {
			if ok, err = try(lo); err != nil {
				return f, err
			}
			if ok {
				lo, hi = lo-max(1, lo/10), lo
				lo = max(lo, 0)
				continue
			}
		}
		f.MiB, f.Below = hi, faults[lo]
		return f, nil
	}
}

// Package typical loads memcached through github.com/bradfitz/gomemcache, the
// client that a Go program would use: TCP, one request at a time on each pooled
// connection. It allocates and schedules as such a program does, so it shows what
// an application sees, never what a server can do.
//
// Who may use it: drive. MaxIdleConns is raised to the number of workers, or the
// figure would be that of connecting.
package typical

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/bradfitz/gomemcache/memcache"

	"osv/harness/load"
	"osv/harness/load/dist"
	"osv/harness/load/mctext"
)

// Run measures in the closed loop with spec.Conns workers. Every key has been
// stored before.
func Run(ctx context.Context, spec load.Spec, it *mctext.Items, probes load.Probes) (load.Result, *load.Recorder, time.Time, error) {
	var at time.Time
	if spec.Mode != load.Closed {
		return load.Result{}, nil, at, errors.New("typical: gomemcache is measured in the closed loop only")
	}
	client := memcache.New(spec.Target)
	client.MaxIdleConns = spec.Conns
	client.Timeout = spec.Timeout.Std()
	defer client.Close()
	picker, err := dist.NewPicker(spec.Popularity, it.Len())
	if err != nil {
		return load.Result{}, nil, at, err
	}
	for i := range uint32(it.Len()) {
		if err := store(client, it, i, 0); err != nil {
			return load.Result{}, nil, at, fmt.Errorf("typical: store key %d: %w", i, err)
		}
		if ctx.Err() != nil {
			return load.Result{}, nil, at, ctx.Err()
		}
	}

	base := time.Now()
	start, end := int64(spec.Warmup), int64(spec.Warmup+spec.Duration)
	recs := make([]*load.Recorder, spec.Conns)
	var workers sync.WaitGroup
	for w := range recs {
		recs[w] = load.NewRecorder(start, end)
		workers.Add(1)
		go func() {
			defer workers.Done()
			rng := dist.NewRand(spec.Seed + uint64(w)*7919)
			work(ctx, client, it, picker, rng, spec.SetRatio, recs[w], base, end)
		}()
	}
	cpu := load.NewMeter()
	edge := func(t int64) bool {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(time.Duration(t) - time.Since(base)):
			return true
		}
	}
	var result load.Result
	if edge(start) {
		at = time.Now()
		cpu.Start()
		err = probes.Start()
		if err == nil && edge(end) {
			result.ClientCPU = cpu.Share()
			result.Probes, err = probes.Stop()
		}
	}
	workers.Wait()
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return load.Result{}, nil, at, err
	}
	rec := recs[0]
	for _, r := range recs[1:] {
		rec.Merge(r)
	}
	result.Spec = spec
	rec.Fill(&result)
	result.Guard = load.Judge(result, 0)
	return result, rec, at, nil
}

func store(c *memcache.Client, it *mctext.Items, i uint32, epoch uint8) error {
	return c.Set(&memcache.Item{Key: string(it.Key(i)), Value: it.Value(i, epoch), Flags: mctext.Flags(i)})
}

func work(ctx context.Context, c *memcache.Client, it *mctext.Items, pick *dist.Picker, rng dist.Rand, sets float64, rec *load.Recorder, base time.Time, end int64) {
	for ctx.Err() == nil {
		i := pick.Pick(rng)
		t0 := int64(time.Since(base))
		if t0 >= end {
			return
		}
		rec.Sent(t0, t0)
		if rng.Float64() < sets {
			if err := store(c, it, i, 1); err != nil {
				rec.Fault(&rec.Errors, "set: %v", err)
				continue
			}
			rec.Done(t0, t0, int64(time.Since(base)), false)
			continue
		}
		got, err := c.Get(string(it.Key(i)))
		t1 := int64(time.Since(base))
		switch {
		case errors.Is(err, memcache.ErrCacheMiss):
			rec.Missed(t0)
			rec.Done(t0, t0, t1, false)
		case err != nil:
			rec.Fault(&rec.Errors, "get: %v", err)
		case !bytes.Equal(got.Value, it.Value(i, 0)) && !bytes.Equal(got.Value, it.Value(i, 1)) || got.Flags != mctext.Flags(i):
			rec.Fault(&rec.Wrong, "get: key %d has %d bytes of another value", i, len(got.Value))
		default:
			rec.Done(t0, t0, t1, true)
		}
	}
}

package soak

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"time"
)

// mcReboot cuts the power of a guest that is being written to, boots it again at
// the same address, and wants every key to be a miss: over new connections, by
// UDP, and from a connection that was open before.
func mcReboot(ctx context.Context, r *Run) error {
	const (
		cuts = 3
		keys = 500
		args = "-p 11211 -U 11211"
	)
	g, err := r.boot(ctx, memcachedApp, "tcp:11211", bootOptions{args: args})
	if err != nil {
		return err
	}
	for cut := range cuts {
		p := g.peer(11211)
		old, err := p.client(ctx)
		if err != nil {
			return err
		}
		for i := range keys {
			if err := old.set(fmt.Sprint("key-", i), fmt.Sprintf("life %d of key %d", cut, i)); err != nil {
				return err
			}
		}
		// The cut falls into writes and reads.
		check := &checker{p: p, prefix: "own", udp: true}
		wctx, stop := context.WithCancel(ctx)
		var wg sync.WaitGroup
		wg.Go(func() { check.run(wctx) }) //nolint:errcheck // it ends with its server
		for check.count() < 200 {
			if !sleep(ctx, time.Millisecond) {
				break
			}
		}
		g.stop()
		stop()
		began := time.Now()
		if g, err = r.boot(ctx, memcachedApp, "tcp:11211", bootOptions{args: args, wire: g.wire}); err != nil {
			return fmt.Errorf("after cut %d: %w", cut+1, err)
		}
		r.figure(fmt.Sprintf("cut %d: until it accepts again", cut+1), time.Since(began).Seconds()*1e3, "ms")
		if err := allMissing(ctx, g.peer(11211), old, keys); err != nil {
			return fmt.Errorf("after cut %d: %w", cut+1, err)
		}
		old.close()
		wg.Wait()
	}
	return g.trouble()
}

func allMissing(ctx context.Context, p peer, old *client, keys int) error {
	cl, err := p.client(ctx)
	if err != nil {
		return err
	}
	defer cl.close()
	d, err := p.datagrams(ctx)
	if err != nil {
		return err
	}
	defer d.nc.Close()
	names := make([]string, 0, keys+checkerKeys)
	for i := range keys {
		names = append(names, fmt.Sprint("key-", i))
	}
	for i := range checkerKeys {
		names = append(names, (&checker{prefix: "own"}).key(i))
	}
	for _, k := range names {
		if v, found, err := cl.get(k); err != nil || found {
			return fmt.Errorf("get %s: found %v, %s, error %v", k, found, abridge(v), err)
		}
		if got, err := d.say(ctx, "get "+k+"\r\n"); err != nil || got != "END\r\n" {
			return fmt.Errorf("get %s by UDP: %s, error %v", k, abridge(got), err)
		}
	}
	st, err := cl.stats("")
	if err != nil {
		return err
	}
	if n := counter(st, "curr_items"); n != 0 {
		return fmt.Errorf("the new cache has %.0f items", n)
	}
	// A connection to the life before may be reset or stay silent.
	old.nc.SetDeadline(time.Now().Add(2 * time.Second)) //nolint:errcheck // an open socket
	if _, err := io.WriteString(old.nc, "get key-1\r\n"); err == nil {
		if l, err := old.line(); err == nil {
			return fmt.Errorf("a connection of the life before answers %s", abridge(l))
		}
	}
	return nil
}

// mcSmall boots with the least memory that the appliance promises to serve with, all
// options at their defaults, and fills the cache beyond what there is.
func mcSmall(ctx context.Context, r *Run) error {
	const (
		mem  = 48
		size = 2000
		fill = 96 << 20 / size
	)
	began := time.Now()
	g, err := r.boot(ctx, memcachedApp, "tcp:11211", bootOptions{mem: mem, args: "-p 11211 -U 11211"})
	if err != nil {
		return err
	}
	r.figure("until it accepts", time.Since(began).Seconds()*1e3, "ms")
	cl, err := g.peer(11211).client(ctx)
	if err != nil {
		return err
	}
	defer cl.close()
	r.logf("storing %d values of %d bytes", fill, size)
	value := func(i int) string { return strings.Repeat(fmt.Sprintf("%09d,", i), size/10) }
	full := 0
	for i := range fill {
		l, err := cl.say(fmt.Sprintf("set fill-%d 0 0 %d\r\n%s\r\n", i, size, value(i)))
		switch {
		case err != nil:
			return errors.Join(fmt.Errorf("set %d of %d: %w", i+1, fill, err), g.ended())
		case l == "SERVER_ERROR out of memory storing object":
			full++
		case l != "STORED":
			return fmt.Errorf("set %d of %d: %q", i+1, fill, l)
		}
	}
	st, err := cl.stats("")
	if err != nil {
		return err
	}
	for _, name := range []string{"limit_maxbytes", "bytes", "go_heap_bytes"} {
		r.figure(name, counter(st, name)/(1<<20), "MiB")
	}
	r.figure("evictions", counter(st, "evictions"), "")
	r.figure("sets refused for memory", float64(full), "")
	if full == fill {
		return errors.New("every set was refused for memory")
	}
	// Random keys: what is found must be right; and the last one is there, if it
	// was stored.
	rng, hits := rand.New(rand.NewPCG(7, 8)), 0
	for range 5000 {
		i := rng.IntN(fill)
		v, ok, err := cl.get(fmt.Sprint("fill-", i))
		if err != nil || ok && v != value(i) {
			return fmt.Errorf("get fill-%d: %s, error %v", i, abridge(v), err)
		}
		if ok {
			hits++
		}
	}
	r.figure("found of 5,000", float64(hits), "")
	if hits == 0 {
		return errors.New("nothing of what was stored is found")
	}
	// A newcomer is served too, by both protocols.
	check := &checker{p: g.peer(11211), prefix: "own", udp: true}
	err = check.with(ctx, func(ctx context.Context) error { sleep(ctx, 2*time.Second); return nil })
	return errors.Join(err, check.report(r), g.trouble())
}

// ended waits a moment for a guest that may be about to end, and says so.
func (g *guest) ended() error {
	select {
	case <-g.vm.Done():
	case <-time.After(time.Second):
	}
	return g.trouble()
}

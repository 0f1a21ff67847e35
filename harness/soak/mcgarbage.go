package soak

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"osv/harness/wire"
)

// What the cache of a garbage scenario is told: UDP on, nobody empties it.
const garbageArgs = "-p 11211 -U 11211 -m 128 -F -c 1024"

// Garbage comes on this many connections, one burst or datagram each pause.
const (
	garbageConns = 8
	garbagePause = time.Millisecond
	rawRate      = 500 // malformed frames a second
)

func mcGarbage(ctx context.Context, r *Run) error {
	g, err := r.boot(ctx, memcachedApp, "tcp:11211", bootOptions{mem: 384, args: garbageArgs})
	if err != nil {
		return err
	}
	p := g.peer(11211)
	p.rss = g.rss
	raw, err := openRaw(g)
	if err != nil {
		return err
	}
	defer raw.close()
	frames := 0
	also := func(ctx context.Context) error {
		gb, dst := newGarbage(99), netip.AddrPortFrom(wire.Guest.Addr(), 11211)
		return paced(ctx, rawRate, func() error {
			frames++
			return raw.send(gb.ether(raw, dst))
		})
	}
	err = garbageOn(ctx, r, p, also)
	r.figure("malformed frames", float64(frames), "")
	return errors.Join(err, g.trouble())
}

// ether is a frame for the guest's card whose IP packet, UDP header or TCP segment
// is damaged. It never claims to come from an address that somebody uses.
func (g *garbage) ether(s *rawSocket, dst netip.AddrPort) []byte {
	src := stranger(g.rng)
	var f []byte
	if g.rng.IntN(2) == 0 {
		f = ipFrame(s.hw, s.host, src.Addr(), dst.Addr(), 17, udpDatagram(src, dst, g.datagram()[:]))
	} else {
		seg := synSegment(src, dst, g.rng.Uint32())
		seg[13] = byte(g.rng.Uint32()) // any flags
		f = ipFrame(s.hw, s.host, src.Addr(), dst.Addr(), 6, append(seg, g.burst()...))
	}
	f = f[:min(len(f), etherSize+1500)]
	for range g.rng.IntN(4) {
		i := etherSize + g.rng.IntN(len(f)-etherSize)
		if i >= etherSize+12 && i < etherSize+20 {
			continue // the addresses stay
		}
		f[i] = byte(g.rng.Uint32())
	}
	if g.rng.IntN(4) == 0 {
		f = f[:etherSize+g.rng.IntN(len(f)-etherSize+1)]
	}
	return f
}

// garbageOn sends garbage to p for the run's length while a client checks its own
// keys, and looks at the server's memory all the while. also is load besides, nil
// for none.
func garbageOn(ctx context.Context, r *Run, p peer, also func(context.Context) error) error {
	check := &checker{p: p, prefix: fmt.Sprintf("own-%08x", rand.Uint32()), udp: true, pause: garbagePause}
	load := &garbageLoad{p: p, conns: garbageConns, seed: 1, pause: garbagePause}
	before, err := connsNow(ctx, p)
	if err != nil {
		return err
	}
	var ms []memorySample
	r.logf("for %v", r.Length)
	err = check.with(ctx, func(ctx context.Context) error {
		lctx, stop := context.WithTimeout(ctx, r.Length)
		defer stop()
		jobs := []func(context.Context) error{load.run, func(lctx context.Context) (err error) {
			ms, err = sampleMemory(lctx, r, p, check)
			return err
		}}
		if also != nil {
			jobs = append(jobs, also)
		}
		return together(lctx, jobs)
	})
	if err := errors.Join(err, check.report(r), load.report(r)); err != nil {
		return err
	}
	if err := flat(r, ms); err != nil {
		return err
	}
	return quiet(ctx, p, before)
}

// together runs jobs at once; the first error ends them all.
func together(ctx context.Context, jobs []func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make(chan error, len(jobs))
	for _, job := range jobs {
		go func() {
			err := job(ctx)
			if err != nil {
				cancel()
			}
			errs <- err
		}()
	}
	var all []error
	for range jobs {
		all = append(all, <-errs)
	}
	return errors.Join(all...)
}

// memorySample is what a server holds at one moment, in bytes.
type memorySample struct {
	rss, heap, pages float64 // process or QEMU; Go heap in use; slab pages, as far as they have been handed out
	evictions        float64
	conns            float64
}

// samples is how often memory is looked at in a run, at most once a second.
const samples = 100

func sampleMemory(ctx context.Context, r *Run, p peer, check *checker) ([]memorySample, error) {
	cl, err := p.client(ctx)
	if err != nil {
		return nil, fmt.Errorf("the client that reads statistics: %w", err)
	}
	defer cl.close()
	var ms []memorySample
	began, last := time.Now(), time.Now()
	for step := max(r.Length/samples, time.Second); sleep(ctx, step); {
		m, err := sampleOnce(cl, p)
		if err != nil {
			return ms, fmt.Errorf("the client that reads statistics: %w", err)
		}
		ms = append(ms, m)
		if time.Since(last) > 30*time.Second {
			last = time.Now()
			r.logf("%3.0f s: %d checked replies, %.1f MiB resident, %.1f MiB of slabs, %.1f MiB of heap", time.Since(began).Seconds(),
				check.count(), m.rss/(1<<20), m.pages/(1<<20), m.heap/(1<<20))
		}
	}
	return ms, nil
}

func sampleOnce(cl *client, p peer) (m memorySample, err error) {
	st, err := cl.stats("")
	if err != nil {
		return m, err
	}
	slabs, err := cl.stats("slabs")
	if err != nil {
		return m, err
	}
	m = memorySample{heap: counter(st, "go_heap_bytes"), pages: counter(slabs, "total_malloced"), evictions: counter(st, "evictions"),
		conns: counter(st, "curr_connections")}
	if p.rss != nil {
		m.rss, err = p.rss()
	}
	return m, err
}

// What may be more at the end of a run than after its first third.
const (
	heapSlack = 8 << 20  // the collector lets the heap double
	rssSlack  = 24 << 20 // above what the cache took for items
)

// flat compares the last third of the samples with the first: memory outside the
// cache's own pages must not have grown.
func flat(r *Run, ms []memorySample) error {
	third := len(ms) / 3
	if third == 0 {
		return fmt.Errorf("only %d looks at the server's memory", len(ms))
	}
	most := func(ms []memorySample, f func(memorySample) float64) float64 {
		v := f(ms[0])
		for _, m := range ms {
			v = max(v, f(m))
		}
		return v
	}
	first, last := ms[:third], ms[len(ms)-third:]
	end := ms[len(ms)-1]
	for _, what := range []struct {
		name  string
		f     func(memorySample) float64
		slack float64
	}{
		{"heap", func(m memorySample) float64 { return m.heap }, heapSlack},
		{"resident memory without slabs", func(m memorySample) float64 { return m.rss - m.pages }, rssSlack},
	} {
		a, b := most(first, what.f), most(last, what.f)
		r.figure(what.name+", first third", a/(1<<20), "MiB")
		r.figure(what.name+", last third", b/(1<<20), "MiB")
		if b > a+what.slack {
			return fmt.Errorf("%s grew from %.1f to %.1f MiB; %.0f MiB more is allowed", what.name, a/(1<<20), b/(1<<20), what.slack/(1<<20))
		}
	}
	r.figure("slabs at the end", end.pages/(1<<20), "MiB")
	r.figure("resident at the end", end.rss/(1<<20), "MiB")
	if end.evictions > 0 {
		return fmt.Errorf("%.0f evictions: the garbage did not fit, and the checking client's keys may have gone rightly", end.evictions)
	}
	return nil
}

// connsNow is how many connections the server says it holds, the asking one
// included.
func connsNow(ctx context.Context, p peer) (float64, error) {
	cl, err := p.client(ctx)
	if err != nil {
		return 0, err
	}
	defer cl.close()
	st, err := cl.stats("")
	return counter(st, "curr_connections"), err
}

// quiet waits until the server holds no more connections than before the load.
func quiet(ctx context.Context, p peer, before float64) error {
	for end := time.Now().Add(60 * time.Second); ; {
		now, err := connsNow(ctx, p)
		if err != nil || now <= before {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("%.0f connections a minute after the load ended, %.0f before it", now, before)
		}
		if !sleep(ctx, 200*time.Millisecond) {
			return context.Cause(ctx)
		}
	}
}

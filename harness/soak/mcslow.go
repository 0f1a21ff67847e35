package soak

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"time"
)

// The crowds of mc-slow, and what a connection of each may cost in resident memory
// of the server: the TCP send buffer and a reply buffer; what came of a request.
const (
	slowReaders  = 100
	slowRequests = 50
	bigValue     = 500_000
	slowMost     = 1 << 20

	halfRequests = 1000
	halfMost     = 32 << 10

	vanished     = 300
	vanishedMost = 512 << 10
)

func mcSlow(ctx context.Context, r *Run) error {
	g, err := r.boot(ctx, memcachedApp, "tcp:11211", bootOptions{mem: 512, args: "-p 11211 -U 11211 -m 128 -c 4096"})
	if err != nil {
		return err
	}
	p := g.peer(11211)
	p.rss = g.rss
	return errors.Join(slowOn(ctx, r, p), g.trouble())
}

func slowOn(ctx context.Context, r *Run, p peer) error {
	check := &checker{p: p, prefix: fmt.Sprintf("own-%08x", rand.Uint32()), pause: time.Millisecond}
	err := check.with(ctx, func(ctx context.Context) error {
		cl, err := p.client(ctx)
		if err != nil {
			return err
		}
		defer cl.close()
		if err := cl.set("big", strings.Repeat("b", bigValue)); err != nil {
			return err
		}
		if !sleep(ctx, time.Second) { // the checking client's first keys
			return context.Cause(ctx)
		}
		for _, c := range []struct {
			name   string
			n      int
			rcvbuf int
			most   float64
			send   string
			vanish bool
		}{
			{"readers that do not read", slowReaders, 4096, slowMost, strings.Repeat("get big\r\n", slowRequests), false},
			{"requests that stop in the middle", halfRequests, 0, halfMost, "set half 0 0 2000\r\n" + strings.Repeat("h", 1000), false},
			{"hosts that vanish", vanished, 4096, vanishedMost, "get big\r\n", true},
		} {
			if err := slowCrowd(ctx, r, p, cl, check, c.name, c.n, c.rcvbuf, c.most, c.send, c.vanish); err != nil {
				return fmt.Errorf("%d %s: %w", c.n, c.name, err)
			}
		}
		return nil
	})
	return errors.Join(err, check.report(r))
}

// slowCrowd opens n connections that send one thing and are then left alone, and
// looks at what that costs.
func slowCrowd(ctx context.Context, r *Run, p peer, cl *client, check *checker, name string, n, rcvbuf int, most float64, send string, vanish bool) error {
	before, err := sampleOnce(cl, p)
	if err != nil {
		return err
	}
	var from netip.Addr
	takeAway := func() error { return nil }
	if vanish && p.lend != nil {
		if from, takeAway, err = p.lend(0); err != nil {
			return err
		}
	}
	c, err := openCrowd(ctx, p, n, rcvbuf, from)
	if err != nil {
		return err
	}
	defer func() { c.close(true) }()
	if err := c.write(send); err != nil {
		return err
	}
	if vanish {
		if err := errors.Join(c.vanish(), takeAway()); err != nil {
			return err
		}
	}
	r.logf("%d %s for %v", n, name, r.Length)
	replies := check.count()
	if !sleep(ctx, r.Length) {
		return context.Cause(ctx)
	}
	during, err := sampleOnce(cl, p)
	if err != nil {
		return err
	}
	if check.count() == replies {
		return fmt.Errorf("the checking client had no reply beside them in %v", r.Length)
	}
	cost := (during.rss - during.pages - before.rss + before.pages) / float64(n)
	r.figure(name+": memory each", cost, "bytes")
	r.figure(name+": heap each", (during.heap-before.heap)/float64(n), "bytes")
	r.figure(name+": connections while there", during.conns, "")
	if cost > most {
		return fmt.Errorf("%.0f bytes of resident memory for each, %.0f are allowed", cost, most)
	}
	if vanish {
		return nil // TCP gives them up when it has sent often enough, in a quarter of an hour
	}
	if during.conns < before.conns+float64(n) {
		return fmt.Errorf("the server holds %.0f connections, want %.0f", during.conns, before.conns+float64(n))
	}
	c.close(true)
	for end := time.Now().Add(60 * time.Second); ; {
		after, err := sampleOnce(cl, p)
		if err != nil {
			return err
		}
		if after.conns <= before.conns {
			r.figure(name+": heap above before, when gone", after.heap-before.heap, "bytes")
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("a minute after they were closed the server holds %.0f connections, %.0f before", after.conns, before.conns)
		}
		if !sleep(ctx, 200*time.Millisecond) {
			return context.Cause(ctx)
		}
	}
}

package soak

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"
)

// checker is a client that reads and writes keys of its own, by TCP and by UDP,
// and compares each reply with what it must be. One reply that is not right, or a
// key that is gone, ends it with an error: the caller sees to it that nothing has
// to be evicted.
type checker struct {
	p      peer
	prefix string
	udp    bool
	pause  time.Duration // between two requests; 0 = as fast as it goes

	mu       sync.Mutex
	tcpDone  int           // replies by TCP
	udpDone  int           // by UDP
	udpLost  int           // requests by UDP that were sent again
	longest  time.Duration // the slowest reply by TCP
	versions [checkerKeys]int
}

const checkerKeys = 128

func (c *checker) key(i int) string { return fmt.Sprintf("%s-%03d", c.prefix, i) }

// value is what key i holds in its version-th life: 1 to 1,000 bytes that name
// both, so that a stale or torn value shows.
func (c *checker) value(i, version int) string {
	s := fmt.Sprintf("%s/%d/%d;", c.prefix, i, version)
	n := 1 + (i*7919+version*104729)%1000
	return (strings.Repeat(s, n/len(s)+1))[:n]
}

// run stores the keys and checks until ctx ends; its end is no error.
func (c *checker) run(ctx context.Context) error {
	cl, err := c.p.client(ctx)
	if err != nil {
		return fmt.Errorf("the checking client: %w", err)
	}
	defer cl.close()
	for i := range checkerKeys {
		if err := cl.set(c.key(i), c.value(i, 0)); err != nil {
			return fmt.Errorf("the checking client: %w", err)
		}
	}
	if !c.udp {
		return c.byTCP(ctx, cl)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		err := c.byUDP(ctx)
		if err != nil {
			cancel()
		}
		done <- err
	}()
	err = c.byTCP(ctx, cl)
	cancel()
	return errors.Join(err, <-done)
}

func (c *checker) wait(ctx context.Context) bool {
	if c.pause == 0 {
		return ctx.Err() == nil
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(c.pause):
		return true
	}
}

// byTCP reads the first half of the keys and now and then writes one.
func (c *checker) byTCP(ctx context.Context, cl *client) error {
	rng := rand.New(rand.NewPCG(1, 2))
	const half = checkerKeys / 2
	for c.wait(ctx) {
		i := rng.IntN(half)
		began := time.Now()
		if rng.IntN(10) == 0 {
			c.versions[i]++
			if err := cl.set(c.key(i), c.value(i, c.versions[i])); err != nil {
				return fmt.Errorf("the checking client by TCP: %w", err)
			}
		}
		got, ok, err := cl.get(c.key(i))
		if err != nil {
			return fmt.Errorf("the checking client by TCP: get %s: %w", c.key(i), err)
		}
		if want := c.value(i, c.versions[i]); !ok || got != want {
			return fmt.Errorf("the checking client by TCP: %s: found %v, %s, want %s", c.key(i), ok, abridge(got), abridge(want))
		}
		d := time.Since(began)
		c.mu.Lock()
		c.tcpDone++
		c.longest = max(c.longest, d)
		c.mu.Unlock()
	}
	return nil
}

// byUDP reads the second half, which nobody writes any more.
func (c *checker) byUDP(ctx context.Context) error {
	d, err := c.p.datagrams(ctx)
	if err != nil {
		return fmt.Errorf("the checking client by UDP: %w", err)
	}
	defer d.nc.Close()
	rng := rand.New(rand.NewPCG(3, 4))
	for c.wait(ctx) {
		i := checkerKeys/2 + rng.IntN(checkerKeys/2)
		got, err := d.say(ctx, "get "+c.key(i)+"\r\n")
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("the checking client by UDP: get %s: %w", c.key(i), err)
		}
		v := c.value(i, 0)
		if want := fmt.Sprintf("VALUE %s 0 %d\r\n%s\r\nEND\r\n", c.key(i), len(v), v); got != want {
			return fmt.Errorf("the checking client by UDP: %s: %s, want %s", c.key(i), abridge(got), abridge(want))
		}
		c.mu.Lock()
		c.udpDone++
		c.udpLost = d.Lost
		c.mu.Unlock()
	}
	return nil
}

// count is how many right replies there were so far.
func (c *checker) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tcpDone + c.udpDone
}

// report records what the client saw, and fails if it saw nothing.
func (c *checker) report(r *Run) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	r.figure("checked TCP replies", float64(c.tcpDone), "")
	r.figure("slowest checked TCP reply", c.longest.Seconds()*1e3, "ms")
	if c.udp {
		r.figure("checked UDP replies", float64(c.udpDone), "")
		r.figure("UDP requests sent again", float64(c.udpLost), "")
	}
	if c.tcpDone == 0 || c.udp && c.udpDone == 0 {
		return fmt.Errorf("the checking client had %d replies by TCP and %d by UDP", c.tcpDone, c.udpDone)
	}
	return nil
}

// abridge quotes the beginning of a long text.
func abridge(s string) string {
	const most = 60
	if len(s) <= most {
		return strconv.Quote(s)
	}
	return fmt.Sprintf("%q… (%d bytes)", s[:most], len(s))
}

// with runs load while the checking client works, and joins what both say. The
// client goes on until load is done, and the load ends early with the client.
func (c *checker) with(ctx context.Context, load func(ctx context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan error, 1)
	cctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		err := c.run(cctx)
		if err != nil {
			cancel(err)
		}
		done <- err
	}()
	err := load(ctx)
	stop()
	if cerr := <-done; cerr != nil {
		return cerr // the load's own error is its echo
	}
	return err
}

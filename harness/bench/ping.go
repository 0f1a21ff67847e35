package bench

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"osv/harness/design"
)

// Dialer opens connections to a guest.
type Dialer func(ctx context.Context, network, addr string) (net.Conn, error)

// Attempts to get a first reply begin this far apart, short against the boot time
// whose error it bounds, and overlap: none waits for one before it, whose datagram
// or SYN may be lost, and each waits long enough for a service that is slow.
const (
	pingEvery    = 20 * time.Millisecond // attempts cost the host what the guest boots with
	pingPatience = 300 * time.Millisecond
)

// WaitReply asks the service at addr until it answers rightly, and returns when
// it did. "udp:11211" and "tcp:11211" are asked for memcached's version, a reflector
// for what it is sent, any other TCP port for a connection. alive ends the wait early with its error.
func WaitReply(ctx context.Context, dial Dialer, port, network, addr string, alive func() error) (time.Time, error) {
	all, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	type answer struct {
		at  time.Time
		err error
	}
	answers := make(chan answer)
	every := time.NewTicker(pingEvery)
	defer every.Stop()
	var last error
	for {
		if alive != nil {
			if err := alive(); err != nil {
				return time.Time{}, err
			}
		}
		running.Go(func() {
			err := ping(all, dial, port, network, addr, pingPatience)
			select {
			case answers <- answer{time.Now(), err}:
			case <-all.Done():
			}
		})
		for next := false; !next; {
			select {
			case <-ctx.Done():
				return time.Time{}, fmt.Errorf("no reply on %s: %w (last: %v)", port, ctx.Err(), last)
			case a := <-answers:
				if a.err == nil {
					return a.at, nil
				}
				last = a.err
			case <-every.C:
				next = true
			}
		}
	}
}

func ping(ctx context.Context, dial Dialer, port, network, addr string, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c, err := dial(ctx, network, addr)
	if err != nil {
		return err
	}
	defer c.Close()
	want := "VERSION "
	req := "version\r\n"
	switch {
	case port == design.ReflectorPort:
		want = req
	case !strings.HasSuffix(port, ":11211"):
		return nil
	}
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if network == "udp" {
		req = "\x00\x01\x00\x00\x00\x01\x00\x00" + req
	}
	if _, err := c.Write([]byte(req)); err != nil {
		return err
	}
	b := make([]byte, 256)
	n, err := c.Read(b)
	if err != nil {
		return err
	}
	if !strings.Contains(string(b[:n]), want) {
		return fmt.Errorf("answer without %q", want)
	}
	return nil
}

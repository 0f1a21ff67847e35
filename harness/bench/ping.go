package bench

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"osv/harness/design"
)

// Dialer opens connections to a guest.
type Dialer func(ctx context.Context, network, addr string) (net.Conn, error)

// pingEvery is the pause between two attempts to get a first reply: short
// against the boot time that it bounds the error of.
const pingEvery = 2 * time.Millisecond

// WaitReply asks the service at addr until it answers rightly, and returns when
// it did. "udp:11211" and "tcp:11211" are asked for memcached's version, a reflector
// for what it is sent, any other TCP port for a connection. alive ends the wait early with its error.
func WaitReply(ctx context.Context, dial Dialer, port, network, addr string, alive func() error) (time.Time, error) {
	var last error
	for n := 1; ; n++ {
		patience := shortPatience
		if n%8 == 0 {
			patience = longPatience
		}
		err := ping(ctx, dial, port, network, addr, patience)
		if err == nil {
			return time.Now(), nil
		}
		if ctx.Err() == nil {
			last = err
		}
		if alive != nil {
			if err := alive(); err != nil {
				return time.Time{}, err
			}
		}
		select {
		case <-ctx.Done():
			return time.Time{}, fmt.Errorf("no reply on %s: %w (last: %v)", port, ctx.Err(), last)
		case <-time.After(pingEvery):
		}
	}
}

// A lost datagram or SYN is not waited for: most attempts give up soon, so that
// the first reply is not missed by a second; some wait, for a service that is
// slow.
const (
	shortPatience = 15 * time.Millisecond
	longPatience  = 300 * time.Millisecond
)

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

package drive

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// idleConns are connections that are open and say nothing while a load runs.
type idleConns []*net.TCPConn

// openIdle opens n connections to addr.
func openIdle(ctx context.Context, addr netip.AddrPort, n int) (c idleConns, err error) {
	d := net.Dialer{Timeout: 20 * time.Second, KeepAlive: -1}
	for len(c) < n {
		nc, err := d.DialContext(ctx, "tcp", addr.String())
		if err != nil {
			c.close()
			return nil, fmt.Errorf("drive: idle connection %d of %d: %w", len(c)+1, n, err)
		}
		c = append(c, nc.(*net.TCPConn))
	}
	return c, nil
}

// close resets them, so that the next window does not find their ports waiting.
func (c idleConns) close() {
	for _, nc := range c {
		_ = nc.SetLinger(0)
		_ = nc.Close()
	}
}

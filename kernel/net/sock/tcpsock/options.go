package tcpsock

import (
	"net"
	"time"

	"osv/kernel/net/tcp"
)

// options changes what change says.
func (c *Conn) options(change func(*tcp.Options)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return opError("set", c.local, c.remote, errClosed)
	}
	now := c.h.clock.Now()
	o := c.core.Options()
	change(&o)
	c.core.SetOptions(now, o)
	c.settle(now)
	return nil
}

// SetNoDelay switches the Nagle algorithm off or on. It is off at first, unless
// Config.Nagle says otherwise.
func (c *Conn) SetNoDelay(on bool) error {
	return c.options(func(o *tcp.Options) { o.NoDelay = on })
}

// SetKeepAlive switches keepalive probes on or off. They are off at first.
func (c *Conn) SetKeepAlive(on bool) error {
	return c.options(func(o *tcp.Options) { o.Keepalive = on })
}

// SetKeepAlivePeriod sets both the time before the first probe and that between
// probes.
func (c *Conn) SetKeepAlivePeriod(d time.Duration) error {
	return c.options(func(o *tcp.Options) { o.KeepIdle, o.KeepInterval = d, d })
}

// SetKeepAliveConfig sets all of the keepalive parameters; a zero or negative one
// is left as it is.
func (c *Conn) SetKeepAliveConfig(k net.KeepAliveConfig) error {
	return c.options(func(o *tcp.Options) {
		o.Keepalive = k.Enable
		if k.Idle > 0 {
			o.KeepIdle = k.Idle
		}
		if k.Interval > 0 {
			o.KeepInterval = k.Interval
		}
		if k.Count > 0 {
			o.KeepCount = k.Count
		}
	})
}

// SetUserTimeout ends the connection when data is not acknowledged for d; 0 is
// the host's default.
func (c *Conn) SetUserTimeout(d time.Duration) error {
	return c.options(func(o *tcp.Options) { o.UserTimeout = d })
}

// SetLinger says what Close does about octets the peer does not have yet: with a
// negative sec it leaves them to the background, which is so at first; with 0 it
// drops them and sends a RST; else it waits up to sec seconds and then does so.
func (c *Conn) SetLinger(sec int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return opError("set", c.local, c.remote, errClosed)
	}
	c.linger = time.Duration(sec) * time.Second
	return nil
}

// SetReadBuffer sets the size of the receive buffer in bytes.
func (c *Conn) SetReadBuffer(n int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.core.SetRecvBuffer(n)
	return nil
}

// SetWriteBuffer sets the size of the send buffer in bytes.
func (c *Conn) SetWriteBuffer(n int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.core.SetSendBuffer(n)
	return nil
}

// Info is what is known of a connection.
type Info struct {
	State      tcp.State
	tcp.Sender     // what the sender knows
	Readable   int // octets that have come in and were not read
	Unsent     int // octets written and not sent
	Unacked    int // octets sent and not acknowledged
}

// Info tells how c is doing.
func (c *Conn) Info() Info {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Info{State: c.core.State(), Sender: c.core.Sender(), Readable: c.core.Readable(), Unsent: c.core.Unsent(), Unacked: c.core.Unacked()}
}

// Ready says what would not block.
type Ready uint8

const (
	// Readable: TryRead returns octets, the end of the stream or an error.
	Readable Ready = 1 << iota
	// Writable: TryWrite takes octets or returns an error.
	Writable
	// HungUp: the peer sends no more.
	HungUp
	// Failed: the connection has ended with an error.
	Failed
	// Urgent: octets that the peer has marked urgent are to be read.
	Urgent
)

// Ready reports what would not block now. It takes segments out of the channel
// if there are any, and no other lock than the connection's.
func (c *Conn) Ready() Ready {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.h.clock.Now()
	if c.pull(now) {
		c.settle(now)
	}
	return c.ready()
}

// ready is what core says. Caller must hold mu.
func (c *Conn) ready() Ready {
	var r Ready
	if _, err := c.core.Peek(); err != nil || c.core.Readable() > 0 {
		r |= Readable
	}
	if c.core.Writable() {
		r |= Writable
	}
	if c.core.HungUp() {
		r |= HungUp
	}
	if c.core.Err() != nil {
		r |= Failed
	}
	if c.core.Urgent() > 0 {
		r |= Urgent
	}
	return r
}

// SetNotify makes f be called when Ready may have changed, nil ends that. f runs
// in the receive loop, or under the connection's lock: it must not block, and
// not call the connection. This is how a connection takes part in poll or epoll.
func (c *Conn) SetNotify(f func()) {
	if f == nil {
		c.notify.Store(nil)
		return
	}
	c.notify.Store(&f)
}

// Package dhcp is a DHCPv4 client: it gets an address, keeps it, and says when
// it is lost.
//
// Spec: RFC 2131 §4.4 (client behaviour), RFC 2132 (options), RFC 3396 (long
// options), RFC 3442 (classless routes), RFC 6842 is not needed, since the
// server's echo of the client identifier is not looked at. Not covered: INFORM,
// authentication.
//
// Who may use it: kernel/net/stack, which sends the datagrams and applies the
// lease. May not: know interfaces; block. Everything happens in calls of Input
// and in timers; the callbacks of Config are made without a lock held.
//
// Start reading at State, then Client.Input and Client.timeout.
package dhcp

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

	"osv/kernel/net/clock"
	"osv/kernel/net/wire"
)

// State is the client's state (RFC 2131 §4.4, figure 5).
type State uint8

const (
	Stopped    State = iota
	Init             // waiting before the first DISCOVER
	Selecting        // DISCOVER sent
	Requesting       // offer taken, REQUEST sent
	Checking         // granted; making sure that nobody else has the address
	Bound
	Renewing  // asking the server that granted it
	Rebinding // asking any server
	Rebooting // asking whether the lease holds on the link that came back
)

func (s State) String() string {
	return [...]string{"stopped", "init", "selecting", "requesting", "checking", "bound", "renewing", "rebinding", "rebooting"}[s]
}

// Config is what the client needs of its interface.
type Config struct {
	Clock    clock.Clock
	Random   func() uint64
	MAC      wire.MAC
	Hostname string // sent, if not empty; see Client.SetHostname
	// Send sends a datagram from port 68 to port 67; src is 0.0.0.0 while there
	// is no address.
	Send func(src, dst netip.Addr, payload []byte)
	// Bound tells of a lease, also of each renewal. Lost tells that the address
	// may not be used any more.
	Bound func(Lease)
	Lost  func(Lease)
	// Check, if not nil, finds out whether somebody else uses an address.
	Check func(a netip.Prefix, done func(free bool))
	Log   func(format string, args ...any)
}

// Retransmission (RFC 2131 §4.1 says 4 s first; a guest whose first packet fell
// to a bridge that was not ready would boot 4 s late for it).
const (
	firstWait   = 1 * time.Second
	maxWait     = 64 * time.Second
	maxRequests = 4                // then back to Init (RFC 2131 §3.1 5)
	minRenew    = 60 * time.Second // RFC 2131 §4.4.5
	afterNAK    = 1 * time.Second
	afterInUse  = 10 * time.Second // RFC 2131 §3.1 5
)

var (
	any4       = netip.IPv4Unspecified()
	broadcast4 = netip.AddrFrom4([4]byte{255, 255, 255, 255})
)

// Client is a DHCP client. Make one with New.
type Client struct {
	cfg Config

	mu    sync.Mutex // guards all below
	name  string     // to send, see again.go
	told  string     // the name in the last REQUEST
	state State
	xid   uint32
	began int64 // ns; of the first message of this exchange
	tries int
	lease Lease // offered, or held from Bound on
	held  bool
	timer clock.Timer
	epoch int // raised when the timer is set anew: a late call of the old one is no more
	stats Stats
}

// Stats counts messages.
type Stats struct{ Sent, Received, Ignored, NAKs, Renewals int }

// New makes a client; Start sets it going.
func New(cfg Config) *Client {
	if cfg.Log == nil {
		cfg.Log = func(string, ...any) {}
	}
	return &Client{cfg: cfg, name: cfg.Hostname}
}

// State, and the lease if one is held.
func (c *Client) State() (State, Lease, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state, c.lease, c.held
}

// Stats copies the counters.
func (c *Client) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stats
}

// Start begins with DISCOVER.
func (c *Client) Start() {
	c.mu.Lock()
	c.restart(0)
	c.finish(nil)
}

// Stop gives the lease back (RFC 2131 §4.4.6) and ends the client.
func (c *Client) Stop() {
	c.mu.Lock()
	if c.state == Stopped {
		c.mu.Unlock()
		return
	}
	c.state = Stopped
	c.epoch++
	if c.timer != nil {
		c.timer.Stop()
	}
	var out []func()
	if c.held {
		m := newMessage(msgRelease, uint32(c.cfg.Random()), 0, c.cfg.MAC, c.lease.Addr.Addr())
		m.addr(optServerID, c.lease.Server)
		l, pkt := c.lease, m.done()
		c.held = false
		c.stats.Sent++
		out = append(out, func() { c.cfg.Send(l.Addr.Addr(), l.Server, pkt); c.cfg.Lost(l) })
	}
	c.finish(out)
}

// finish leaves the lock and then makes the calls out.
func (c *Client) finish(out []func()) {
	c.mu.Unlock()
	for _, f := range out {
		f()
	}
}

// restart goes to Init and from there to Selecting after d. Caller must hold mu.
func (c *Client) restart(d time.Duration) {
	c.state, c.tries = Init, 0
	c.after(d)
}

// after sets the timer. Caller must hold mu.
func (c *Client) after(d time.Duration) {
	c.epoch++
	epoch := c.epoch
	if c.timer != nil {
		c.timer.Stop()
	}
	if d == wire.Forever {
		return
	}
	c.timer = c.cfg.Clock.AfterFunc(d, func() { c.timeout(epoch) })
}

// backoff is the wait before the next retransmission: doubling, with up to one
// second less or more at random. Caller must hold mu.
func (c *Client) backoff() time.Duration {
	d := min(firstWait<<min(c.tries, 10), maxWait)
	spread := min(d, 2*time.Second)
	return d - spread/2 + time.Duration(c.cfg.Random()%uint64(spread))
}

// timeout does what the state asks for when its time is up.
func (c *Client) timeout(epoch int) {
	c.mu.Lock()
	if epoch != c.epoch {
		c.mu.Unlock()
		return
	}
	var out []func()
	now := c.cfg.Clock.Now()
	switch c.state {
	case Init, Selecting:
		if c.state == Init {
			c.xid, c.began, c.tries = uint32(c.cfg.Random()), now, 0
		}
		c.state = Selecting
		out = append(out, c.send(msgDiscover))
		c.after(c.backoff())
		c.tries++
	case Requesting:
		if c.tries >= maxRequests {
			c.restart(0)
			break
		}
		out = append(out, c.send(msgRequest))
		c.after(c.backoff())
		c.tries++
	case Rebooting:
		out = c.insist(func() func() { return c.send(msgRequest) })
	case Bound, Renewing, Rebinding:
		age := c.age()
		switch {
		case age >= c.lease.Time:
			l := c.lease
			c.held = false
			c.cfg.Log("dhcp: lease of %v ended", l.Addr)
			out = append(out, func() { c.cfg.Lost(l) })
			c.restart(0)
		case age >= c.lease.Rebind:
			out = append(out, c.renew(Rebinding, c.lease.Time-age))
		case age < c.lease.Renew:
			out = c.insist(func() func() { return c.renew(Renewing, 0) })
		default:
			out = append(out, c.renew(Renewing, c.lease.Rebind-age))
		}
	}
	c.finish(out)
}

// renew asks for more time and waits half of what is left of this state's,
// but not less than a minute (RFC 2131 §4.4.5). Caller must hold mu.
func (c *Client) renew(s State, left time.Duration) func() {
	if c.state != s {
		c.state = s
		c.xid, c.began = uint32(c.cfg.Random()), c.cfg.Clock.Now()
	}
	wait := left / 2
	if wait < minRenew {
		wait = min(minRenew, left)
	}
	c.after(wait)
	return c.send(msgRequest)
}

// send builds a message for the state and returns what sends it. Caller must
// hold mu.
func (c *Client) send(kind byte) func() {
	secs := min((c.cfg.Clock.Now()-c.began)/int64(time.Second), 0xffff)
	src, dst := any4, broadcast4
	var ciaddr netip.Addr
	if c.state == Renewing || c.state == Rebinding {
		src, ciaddr = c.lease.Addr.Addr(), c.lease.Addr.Addr()
		if c.state == Renewing {
			dst = c.lease.Server
		}
	}
	m := newMessage(kind, c.xid, uint16(secs), c.cfg.MAC, ciaddr)
	if kind == msgRequest && c.state == Requesting || kind == msgDecline {
		m.addr(optRequestedIP, c.lease.Addr.Addr())
		m.addr(optServerID, c.lease.Server)
	}
	if c.state == Rebooting { // RFC 2131 §4.3.2: any server may answer
		m.addr(optRequestedIP, c.lease.Addr.Addr())
	}
	if kind == msgRequest {
		c.told = c.name
	}
	if kind != msgDecline {
		m.option(optParams, optMask, optRouter, optDNS, optHostname, optDomain, optMTU, optLeaseTime, optServerID, optT1, optT2, optRoutes)
		m.option(optMaxSize, 1500>>8, 1500&0xff)
		if c.name != "" {
			m.option(optHostname, []byte(c.name)...)
		}
	}
	p := m.done()
	c.stats.Sent++
	return func() { c.cfg.Send(src, dst, p) }
}

// Input takes in a datagram that came to port 68. payload is not kept.
func (c *Client) Input(payload []byte) {
	m, ok := parse(payload)
	c.mu.Lock()
	if !ok || m.xid != c.xid || m.chaddr != c.cfg.MAC || c.state == Stopped {
		c.stats.Ignored++
		c.mu.Unlock()
		return
	}
	c.stats.Received++
	var out []func()
	a := m.lease.Addr.Addr()
	usable := !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback() && a != broadcast4
	switch {
	case c.state == Selecting && m.kind == msgOffer && usable && m.lease.Server.IsValid():
		c.state, c.tries, c.lease = Requesting, 0, m.lease
		out = append(out, c.send(msgRequest))
		c.after(c.backoff())
		c.tries++
	case c.state == Requesting && m.kind == msgACK && usable && a == c.lease.Addr.Addr() && m.lease.Time > 0:
		out = c.granted(m.lease)
	case c.asking() && m.kind == msgACK && a == c.lease.Addr.Addr() && m.lease.Time > 0:
		c.stats.Renewals++
		out = c.bind(m.lease)
	case m.kind == msgNAK && (c.state == Requesting && m.lease.Server == c.lease.Server || c.asking()):
		c.stats.NAKs++
		c.cfg.Log("dhcp: server %v refused %v %s", m.lease.Server, c.lease.Addr, m.text)
		if c.held {
			l := c.lease
			c.held = false
			out = append(out, func() { c.cfg.Lost(l) })
		}
		c.restart(afterNAK)
	default:
		c.stats.Ignored++
	}
	c.finish(out)
}

// granted takes a lease, once the address has been found free. Caller must hold mu.
func (c *Client) granted(l Lease) []func() {
	if c.cfg.Check == nil {
		return c.bind(l)
	}
	c.state = Checking
	c.epoch++
	epoch := c.epoch
	if c.timer != nil {
		c.timer.Stop()
	}
	return []func(){func() {
		c.cfg.Check(l.Addr, func(free bool) {
			c.mu.Lock()
			if c.epoch != epoch || c.state != Checking {
				c.mu.Unlock()
				return
			}
			if free {
				c.finish(c.bind(l))
				return
			}
			c.cfg.Log("dhcp: %v is in use, declined", l.Addr)
			out := []func(){c.send(msgDecline)}
			c.restart(afterInUse)
			c.finish(out)
		})
	}}
}

// bind holds a lease from now on. Caller must hold mu.
func (c *Client) bind(l Lease) []func() {
	if !l.Server.IsValid() {
		l.Server = c.lease.Server
	}
	// The lease counts from when it was asked for (RFC 2131 §4.4.1); now is
	// later than that by less than a retransmission.
	l.obtained = c.cfg.Clock.Now()
	var out []func()
	c.state, c.tries, c.lease, c.held = Bound, 0, l, true
	if c.after(l.Renew); c.told != c.name { // it changed while the server was asked
		c.after(0)
	}
	return append(out, func() { c.cfg.Bound(l) })
}

func (l Lease) String() string {
	return fmt.Sprintf("%v from %v for %v, routers %v, dns %v, mtu %d", l.Addr, l.Server, l.Time, l.Routers, l.DNS, l.MTU)
}

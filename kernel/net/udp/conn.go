// Package udp is the datagram socket: a port, a net channel, and the blocking,
// batched and zero-copy ways to read from it.
//
// Spec: RFC 768, RFC 1122 §4.1. A Conn is a net.PacketConn and, when dialled, a
// net.Conn; errors are those that users of package net expect.
//
// Who may use it: kernel/net/sock, the Linux layer, appliances. Protocol work
// (checksums that the device did not verify, copying out) is done by the
// reader. Readers take turns; any number of goroutines may write.
//
// Start reading at Conn, then read.go and write.go.
package udp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"osv/kernel/net/clock"
	"osv/kernel/net/demux"
	"osv/kernel/net/netchan"
	"osv/kernel/net/stack"
	"osv/kernel/net/wire"
	"osv/kernel/pkt"
)

// Options of a socket; the zero value has a meaning in each field.
type Options struct {
	Queue int // datagrams that wait for the reader; 0: 256
	TTL   uint8
	TOS   uint8
	// V6Only keeps a socket on :: from taking IPv4 as well.
	V6Only bool
	// Share lets several sockets that were made with it listen to one address and
	// port: each sender's datagrams go to one of them (Spread), or all to the last.
	Share, Spread bool
	// Arrival, if not nil, is called in the receive loop after each batch that
	// brought something: see try.go. Reads must not block then.
	Arrival func()
}

// Conn is a UDP socket.
type Conn struct {
	stack *stack.Stack
	opts  Options
	ends  atomic.Pointer[ends] // replaced as a whole, by Connect and Disconnect
	sink  stack.Sink
	ch    *netchan.Chan

	read     sync.Mutex // readers take turns: guards pending and Pop
	pending  [32]*pkt.Buf
	pendingN int
	pendingI int

	change sync.Mutex    // of ends, and of the table's entry
	life   atomic.Uint32 // TTL of groups << 16 | TTL << 8 | TOS
	sema   chan struct{} // a token: look again
	notify atomic.Pointer[func()]
	closed atomic.Bool
	err    atomic.Pointer[error] // from ICMP, told once
	rd, wd deadline

	routes  [routeCache]atomic.Pointer[stack.Route]
	badSums atomic.Uint64
}

// ends are the two addresses of a socket.
type ends struct {
	local  netip.AddrPort
	remote netip.AddrPort // zero unless connected
}

func (c *Conn) local() netip.AddrPort  { return c.ends.Load().local }
func (c *Conn) remote() netip.AddrPort { return c.ends.Load().remote }

// routeCache is the number of destinations whose routes a socket keeps; by the
// low bits of the address.
const routeCache = 64

var (
	_ net.PacketConn = (*Conn)(nil)
	_ net.Conn       = (*Conn)(nil)
)

// Listen makes a socket that takes datagrams to local from anyone. The zero
// address, or an unspecified one, is any of this host; port 0 asks for a free one.
func Listen(s *stack.Stack, local netip.AddrPort, o Options) (*Conn, error) {
	if a := local.Addr(); a.IsValid() && !a.IsUnspecified() && !a.IsMulticast() && !s.IsLocal(a) {
		return nil, opError("listen", local, netip.AddrPort{}, syscall.EADDRNOTAVAIL)
	}
	if local.Addr() == netip.IPv6Unspecified() && !o.V6Only {
		local = netip.AddrPortFrom(netip.Addr{}, local.Port())
	}
	return open(s, local, netip.AddrPort{}, o, (*Conn).bind)
}

// Dial makes a socket that exchanges datagrams with remote alone. The zero local
// address and port are chosen.
func Dial(s *stack.Stack, local, remote netip.AddrPort, o Options) (*Conn, error) {
	fail := func(err error) (*Conn, error) { return nil, opError("dial", local, remote, err) }
	if remote.Port() == 0 {
		return fail(syscall.EINVAL)
	}
	r, err := s.Route(local.Addr(), remote.Addr())
	if err != nil {
		return fail(err)
	}
	if r.Remote().IsMulticast() {
		return fail(syscall.EINVAL) // replies come from elsewhere: use Listen
	}
	local = netip.AddrPortFrom(r.Local(), local.Port())
	remote = netip.AddrPortFrom(remote.Addr().Unmap(), remote.Port())
	c, err := open(s, local, remote, o, func(c *Conn, e *ends) error { return s.Insert(e.tuple(), &c.sink) })
	if err == nil {
		c.setRoute(r)
	}
	return c, err
}

// bind puts a socket that is not connected into the table.
func (c *Conn) bind(e *ends) error {
	if c.opts.Share {
		return c.stack.BindShared(wire.ProtoUDP, e.local, &c.sink, c.opts.Spread)
	}
	return c.stack.Bind(wire.ProtoUDP, e.local, &c.sink)
}

// unbind takes it out.
func (c *Conn) unbind(e *ends) {
	if c.opts.Share {
		c.stack.UnbindShared(wire.ProtoUDP, e.local.Port(), &c.sink)
		return
	}
	c.stack.Unbind(wire.ProtoUDP, e.local.Port(), &c.sink)
}

// open makes a socket and has bind put it into the table.
func open(s *stack.Stack, local, remote netip.AddrPort, o Options, bind func(*Conn, *ends) error) (*Conn, error) {
	if o.Queue == 0 {
		o.Queue = 256
	}
	c := &Conn{stack: s, opts: o, sema: make(chan struct{}, 1)}
	c.life.Store(uint32(o.TTL)<<8 | uint32(o.TOS))
	if o.Arrival != nil {
		c.ch = netchan.NewEvery(o.Queue, o.Arrival)
	} else {
		c.ch = netchan.New(o.Queue)
		c.ch.SetNotify(c.wake)
	}
	c.sink.Chan, c.sink.Lossy, c.sink.Owner, c.sink.OnError = c.ch, true, c, c.icmp
	c.rd.init(s.Clock(), c.ch.Kick)
	c.wd.init(s.Clock(), func() {})
	var err error
	for range 16 { // another socket may take the free port first
		e := &ends{local, remote}
		if local.Port() == 0 {
			p := s.FreePort(wire.ProtoUDP)
			if p == 0 {
				return nil, opError("listen", local, netip.AddrPort{}, syscall.EADDRINUSE)
			}
			e.local = netip.AddrPortFrom(local.Addr(), p)
		}
		c.ends.Store(e)
		if err = bind(c, e); err == nil {
			if !e.local.Addr().IsValid() {
				c.ends.Store(&ends{netip.AddrPortFrom(netip.IPv6Unspecified(), e.local.Port()), remote})
			}
			return c, nil
		}
		if local.Port() != 0 || !errors.Is(err, demux.ErrExists) {
			break
		}
	}
	if errors.Is(err, demux.ErrExists) {
		err = syscall.EADDRINUSE
	}
	return nil, opError("listen", local, remote, err)
}

func (e *ends) tuple() demux.Tuple {
	return demux.Tuple{Proto: wire.ProtoUDP, Local: e.local, Remote: netip.AddrPortFrom(e.remote.Addr().WithZone(""), e.remote.Port())}
}

func (c *Conn) connected() bool { return c.remote().IsValid() }

// Close ends the socket, its readers and writers, and puts back what waits.
func (c *Conn) Close() error {
	if c.closed.Swap(true) {
		return opError("close", c.local(), c.remote(), net.ErrClosed)
	}
	c.change.Lock()
	if e := c.ends.Load(); e.remote.IsValid() {
		c.stack.Remove(e.tuple(), &c.sink)
	} else {
		c.unbind(e)
	}
	c.change.Unlock()
	c.ch.Kick() // a reader that sleeps holds read
	c.read.Lock()
	defer c.read.Unlock()
	c.ch.Close()
	for _, b := range c.pending[c.pendingI:c.pendingN] {
		b.Put()
	}
	c.pendingI, c.pendingN = 0, 0
	c.rd.stop()
	c.wd.stop()
	return nil
}

// wake is the channel's notify: it ends a blocked read and tells the poller.
func (c *Conn) wake() {
	select {
	case c.sema <- struct{}{}:
	default:
	}
	if f := c.notify.Load(); f != nil {
		(*f)()
	}
}

// Notify makes f be called, in the receive loop, once after each Arm when there
// is something to read: the socket's part in poll. f must not block. nil ends it.
func (c *Conn) Notify(f func()) {
	if f == nil {
		c.notify.Store(nil)
		return
	}
	c.notify.Store(&f)
}

// Arm asks for one call of the function given to Notify. It reports false, and
// asks for nothing, where a read would not block.
func (c *Conn) Arm() bool {
	c.read.Lock()
	defer c.read.Unlock()
	return c.pendingI == c.pendingN && c.err.Load() == nil && !c.closed.Load() && c.ch.Arm()
}

// Readable reports whether a read would not block.
func (c *Conn) Readable() bool {
	c.read.Lock()
	defer c.read.Unlock()
	return c.pendingI < c.pendingN || c.ch.Len() > 0 || c.err.Load() != nil || c.closed.Load()
}

// icmp is told of ICMP errors. A connected socket passes them on, once (RFC
// 1122 §4.1.3.3); for another they would concern one peer of many.
func (c *Conn) icmp(e *stack.ICMPError) {
	if !c.connected() || e.Kind == stack.TooBig {
		return
	}
	err := e.Err
	c.err.Store(&err)
	c.ch.Kick()
}

// takeErr returns the error that waits, if any.
func (c *Conn) takeErr() error {
	if c.err.Load() == nil {
		return nil
	}
	if p := c.err.Swap(nil); p != nil {
		return *p
	}
	return nil
}

// Drops counts datagrams that found the queue full, and those with a bad checksum.
func (c *Conn) Drops() (full, badSum uint64) { return c.sink.Drops(), c.badSums.Load() }

// LocalAddr is the address the socket is bound to.
func (c *Conn) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(c.local()) }

// LocalAddrPort is LocalAddr as a value.
func (c *Conn) LocalAddrPort() netip.AddrPort { return c.local() }

// RemoteAddr is the peer of a dialled socket, nil for others.
func (c *Conn) RemoteAddr() net.Addr {
	if !c.connected() {
		return nil
	}
	return net.UDPAddrFromAddrPort(c.remote())
}

// SetDeadline sets both deadlines; the zero time is none.
func (c *Conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// SetReadDeadline ends reads that block beyond t.
func (c *Conn) SetReadDeadline(t time.Time) error {
	if c.closed.Load() {
		return opError("set", c.local(), c.remote(), net.ErrClosed)
	}
	c.rd.set(t)
	return nil
}

// SetWriteDeadline ends writes begun after t; a write does not block for long.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	if c.closed.Load() {
		return opError("set", c.local(), c.remote(), net.ErrClosed)
	}
	c.wd.set(t)
	return nil
}

// opError wraps err as package net does.
func opError(op string, local, remote netip.AddrPort, err error) error {
	e := &net.OpError{Op: op, Net: "udp", Err: err}
	if local.IsValid() {
		e.Source = net.UDPAddrFromAddrPort(local)
	}
	if remote.IsValid() {
		e.Addr = net.UDPAddrFromAddrPort(remote)
	}
	if _, ok := err.(syscall.Errno); ok {
		e.Err = os.NewSyscallError(op, err)
	}
	return e
}

// deadline is one of a socket's two.
type deadline struct {
	clock   clock.Clock
	kick    func()
	expired atomic.Bool

	mu    sync.Mutex // guards all below
	timer clock.Timer
	epoch int // a timer of an earlier setting finds another number
}

func (d *deadline) init(c clock.Clock, kick func()) { d.clock, d.kick = c, kick }

func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.epoch++
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	left := time.Until(t)
	d.expired.Store(!t.IsZero() && left <= 0)
	if t.IsZero() {
		return
	}
	if left <= 0 {
		d.kick()
		return
	}
	epoch := d.epoch
	d.timer = d.clock.AfterFunc(left, func() {
		d.mu.Lock()
		now := epoch == d.epoch
		if now {
			d.expired.Store(true)
		}
		d.mu.Unlock()
		if now {
			d.kick()
		}
	})
}

func (d *deadline) stop() { d.set(time.Time{}) }

func (c *Conn) String() string { return fmt.Sprintf("udp %v<-%v", c.local(), c.remote()) }

package udp

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"runtime"
	"syscall"

	"osv/kernel/net/demux"
	"osv/kernel/net/stack"
	"osv/kernel/net/wire"
	"osv/kernel/pkt"
)

// The calls of a socket whose user waits elsewhere (Options.Arrival), has its
// datagrams in memory that only it can reach, and may connect and disconnect. None
// of them waits but for a full transmit ring, none allocates once routes are known,
// and errors are syscall.Errno or those of the stack, as they are.

// ErrWouldBlock is what TryReadTo returns where there is nothing.
var ErrWouldBlock = errors.New("udp: operation would block")

// Dst takes a datagram. Put copies from p and returns how much it took; less than
// len(p), where there is room, only with an error.
type Dst interface {
	Room() int
	Put(p []byte) (int, error)
}

// Src gives a datagram. Take fills p from it and returns how much that was.
type Src interface {
	Left() int
	Take(p []byte) (int, error)
}

// Connect makes the socket exchange datagrams with remote alone, in place of any
// peer before, from the address local, which is chosen where it is unspecified.
// Datagrams that have come in before stay to be read.
func (c *Conn) Connect(local netip.Addr, remote netip.AddrPort) error {
	c.change.Lock()
	defer c.change.Unlock()
	if c.closed.Load() {
		return net.ErrClosed
	}
	old := c.ends.Load()
	r, err := c.stack.Route(local, remote.Addr())
	if err != nil {
		return err
	}
	e := &ends{netip.AddrPortFrom(r.Local(), old.local.Port()), netip.AddrPortFrom(remote.Addr().Unmap(), remote.Port())}
	if *e == *old {
		return nil
	}
	if err := c.stack.Insert(e.tuple(), &c.sink); err != nil {
		if errors.Is(err, demux.ErrExists) {
			return syscall.EADDRINUSE
		}
		return err
	}
	c.ends.Store(e)
	c.setRoute(r)
	if old.remote.IsValid() {
		c.stack.Remove(old.tuple(), &c.sink)
	} else {
		c.unbind(old)
	}
	return nil
}

// Disconnect makes a connected socket take datagrams to local, at the port that it
// has, from anyone again; the zero address is any of this host.
func (c *Conn) Disconnect(local netip.Addr) error {
	c.change.Lock()
	defer c.change.Unlock()
	old := c.ends.Load()
	if c.closed.Load() || !old.remote.IsValid() {
		return nil
	}
	e := &ends{local: netip.AddrPortFrom(local, old.local.Port())}
	if err := c.bind(e); err != nil {
		if errors.Is(err, demux.ErrExists) {
			return syscall.EADDRINUSE
		}
		return err
	}
	if !local.IsValid() {
		e = &ends{local: netip.AddrPortFrom(netip.IPv6Unspecified(), old.local.Port())}
	}
	c.ends.Store(e)
	c.stack.Remove(old.tuple(), &c.sink)
	return nil
}

// Leave takes the socket's port away. What has come in stays to be read; Rebind gives
// it another.
func (c *Conn) Leave() {
	c.change.Lock()
	defer c.change.Unlock()
	old := c.ends.Swap(&ends{})
	switch {
	case c.closed.Load():
	case old.remote.IsValid():
		c.stack.Remove(old.tuple(), &c.sink)
	default:
		c.unbind(old)
	}
}

// Rebind makes a socket that has left its port take datagrams to local, as Listen.
func (c *Conn) Rebind(local netip.AddrPort) error {
	c.change.Lock()
	defer c.change.Unlock()
	if local.Addr() == netip.IPv6Unspecified() && !c.opts.V6Only {
		local = netip.AddrPortFrom(netip.Addr{}, local.Port())
	}
	e := &ends{local: local}
	if err := c.bind(e); err != nil {
		if errors.Is(err, demux.ErrExists) {
			return syscall.EADDRINUSE
		}
		return err
	}
	if !local.Addr().IsValid() {
		e = &ends{local: netip.AddrPortFrom(netip.IPv6Unspecified(), local.Port())}
	}
	c.ends.Store(e)
	return nil
}

// RemoteAddrPort is the peer, the zero AddrPort without one.
func (c *Conn) RemoteAddrPort() netip.AddrPort { return c.remote() }

// SetLife sets time to live (0: the stack's), that of datagrams to groups (0: ttl),
// and type of service of what is sent from now on.
func (c *Conn) SetLife(ttl, group, tos uint8) {
	c.life.Store(uint32(group)<<16 | uint32(ttl)<<8 | uint32(tos))
	for i := range c.routes {
		c.routes[i].Store(nil)
	}
}

// PathMTU is the largest packet, in bytes, that the way to a takes whole.
func (c *Conn) PathMTU(a netip.Addr) (int, error) {
	r, err := c.route(netip.Addr{}, a)
	if err != nil {
		return 0, err
	}
	return r.MTU(), nil
}

// NextLen is the payload length of the datagram that would be read next; false
// where there is none.
func (c *Conn) NextLen() (int, bool) {
	c.read.Lock()
	defer c.read.Unlock()
	b := c.front()
	if b == nil {
		return 0, false
	}
	return int(binary.BigEndian.Uint16(b.Bytes()[b.L4+4:])) - wire.UDPLen, true
}

// TakeErr returns the error that waits, as a read would, nil without one.
func (c *Conn) TakeErr() error { return c.takeErr() }

// HasErr reports whether an error waits.
func (c *Conn) HasErr() bool { return c.err.Load() != nil }

// Waiting reports whether a datagram waits. Its checksum may still turn out bad.
func (c *Conn) Waiting() bool {
	c.read.Lock()
	defer c.read.Unlock()
	return c.front() != nil
}

// front is the datagram that next would return. Caller must hold read.
func (c *Conn) front() *pkt.Buf {
	b := c.next()
	if b != nil { // next has taken it out of pending just now
		c.pendingI--
		c.pending[c.pendingI] = b
	}
	return b
}

// TryReadTo copies one datagram to d, as much as there is room for, and fills m in,
// but for Data; m.N is the datagram's length. With peek it stays to be read again.
// Without one it returns ErrWouldBlock, or the error that waits.
func (c *Conn) TryReadTo(d Dst, m *Message, peek bool) (int, error) {
	c.read.Lock()
	if c.err.Load() != nil { // errors come first, as on Linux
		if err := c.takeErr(); err != nil {
			c.read.Unlock()
			return 0, err
		}
	}
	if peek {
		defer c.read.Unlock()
		b := c.front()
		if b == nil {
			return 0, c.nothing()
		}
		return copyTo(b, d, m)
	}
	b := c.next()
	if b == nil {
		err := c.nothing()
		c.read.Unlock()
		return 0, err
	}
	c.read.Unlock()
	n, err := copyTo(b, d, m)
	b.Put()
	return n, err
}

// nothing is what a read says that finds no datagram.
func (c *Conn) nothing() error {
	if c.closed.Load() {
		return net.ErrClosed
	}
	return ErrWouldBlock
}

// copyTo copies the payload of b to d.
func copyTo(b *pkt.Buf, d Dst, m *Message) (int, error) {
	f := b.Bytes()
	u := f[b.L4:]
	left := int(binary.BigEndian.Uint16(u[4:])) - wire.UDPLen
	m.N, m.Time = left, b.RxTime
	ip := f[b.L3:]
	m.Addr = netip.AddrPortFrom(source(ip), binary.BigEndian.Uint16(u))
	m.Local = dest(ip)
	if ip[0]>>4 == 6 {
		m.TTL, m.TOS = ip[7], ip[0]<<4|ip[1]>>4
	} else {
		m.TTL, m.TOS = ip[8], ip[1]
	}
	n, room := 0, d.Room()
	src := u[wire.UDPLen:]
	for p := b; ; {
		src = src[:min(left, len(src), room)]
		if len(src) > 0 {
			k, err := d.Put(src)
			n, room, left = n+k, room-k, left-k
			if err != nil {
				return n, err
			}
		}
		if p = p.Next; p == nil || left == 0 || room == 0 {
			return n, nil
		}
		src = p.Bytes()
	}
}

// TryWriteFrom sends one datagram of n bytes of s to m.Addr, or to the peer, from
// m.Local. With whole set it fails with EMSGSIZE rather than to be cut into
// fragments.
func (c *Conn) TryWriteFrom(s Src, n int, m *Message, whole bool) error {
	e := c.ends.Load()
	to := e.remote
	if m.Addr.IsValid() {
		to = m.Addr
	}
	if !to.IsValid() {
		return syscall.EDESTADDRREQ
	}
	if to.Port() == 0 {
		return syscall.EINVAL
	}
	if err := c.check(n); err != nil {
		return err
	}
	r, err := c.route(m.Local, to.Addr())
	if err != nil {
		return err
	}
	if whole && n > r.MTU()-headers(r) {
		return syscall.EMSGSIZE
	}
	b, err := c.buildFrom(r, s, n)
	if err != nil {
		return err
	}
	wire.PutUDP(b.Prepend(wire.UDPLen), e.local.Port(), to.Port(), wire.UDPLen+n, 0)
	bufs := scratch.Get().(*[32]*pkt.Buf)
	bufs[0] = b
	sent := r.Send(wire.ProtoUDP, 6, bufs[:1])
	for try := 0; sent == 0 && try < fullTries && r.Err() == nil; try++ {
		runtime.Gosched()
		sent = r.Send(wire.ProtoUDP, 6, bufs[:1])
	}
	bufs[0] = nil
	scratch.Put(bufs)
	if sent == 0 {
		b.Put()
		if err := r.Err(); err != nil {
			return err
		}
		return syscall.ENOBUFS
	}
	return nil
}

func headers(r *stack.Route) int {
	if r.Remote().Is4() {
		return wire.IPv4MinLen + wire.UDPLen
	}
	return wire.IPv6Len + wire.UDPLen
}

// buildFrom is build from a Src, without the header.
func (c *Conn) buildFrom(r *stack.Route, s Src, n int) (*pkt.Buf, error) {
	first := allocWait(r)
	if first == nil {
		return nil, syscall.ENOBUFS
	}
	for b := first; ; {
		k := min(b.Tailroom(), n)
		if k > 0 {
			if got, err := s.Take(b.Append(k)); err != nil || got < k {
				first.Put()
				if err == nil {
					err = syscall.EFAULT
				}
				return nil, err
			}
		}
		if n -= k; n == 0 {
			return first, nil
		}
		if b.Next = allocWait(r); b.Next == nil {
			first.Put()
			return nil, syscall.ENOBUFS
		}
		b = b.Next
	}
}

// allocWait is Alloc that lets others run a while where all buffers are out.
func allocWait(r *stack.Route) *pkt.Buf {
	b := r.Alloc()
	for try := 0; b == nil && try < fullTries; try++ {
		runtime.Gosched()
		b = r.Alloc()
	}
	return b
}

package udp

import (
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"syscall"

	"osv/kernel/net/stack"
	"osv/kernel/net/wire"
	"osv/kernel/pkt"
)

// Packet path, transmit, step 2 of 4.
// From: the writer, whose context this is.  To: stack/output.go.
// May not: allocate per packet, block but for a full ring.

// maxPayload is the most data of one datagram: 65,535 bytes of IPv4 packet.
const maxPayload = wire.IPv4MaxLen - wire.IPv4MinLen - wire.UDPLen

// fullTries is how often a writer lets others run and tries again when the
// transmit ring or the buffers are full, before it gives up.
const fullTries = 256

// slot is where the route to a is kept.
func slot(a netip.Addr) int {
	b := a.As16()
	return int(b[15]^b[14]<<1^b[13]<<2) % routeCache
}

func (c *Conn) setRoute(r *stack.Route) {
	life := c.life.Load()
	ttl := uint8(life >> 8)
	if group := uint8(life >> 16); group != 0 && r.Remote().IsMulticast() {
		ttl = group
	}
	if ttl != 0 {
		r.TTL = ttl
	}
	r.TOS = uint8(life)
	c.routes[slot(r.Remote())].Store(r)
}

// route finds the way from local (or any) to a.
func (c *Conn) route(local, a netip.Addr) (*stack.Route, error) {
	a = a.Unmap()
	if !local.IsValid() || local.IsMulticast() {
		if local = c.local().Addr(); local.IsValid() && local.Is4() != a.Is4() {
			local = netip.Addr{} // a socket of both families, whose peer is of the other
		}
	}
	r := c.routes[slot(a)].Load()
	if r != nil && r.Remote() == a && (r.Local() == local || !local.IsValid() || local.IsUnspecified()) {
		return r, nil
	}
	r, err := c.stack.Route(local, a)
	if err != nil {
		return nil, err
	}
	c.setRoute(r)
	return r, nil
}

// build makes a datagram for r. nil: no buffer is free.
func (c *Conn) build(r *stack.Route, data []byte, port uint16) *pkt.Buf {
	first := r.Alloc()
	if first == nil {
		return nil
	}
	n := len(data)
	for b := first; ; {
		k := min(b.Tailroom(), len(data))
		copy(b.Append(k), data)
		if data = data[k:]; len(data) == 0 {
			break
		}
		if b.Next = r.Alloc(); b.Next == nil {
			first.Put()
			return nil
		}
		b = b.Next
	}
	wire.PutUDP(first.Prepend(wire.UDPLen), c.local().Port(), port, wire.UDPLen+n, 0)
	return first
}

// check says why nothing can be written.
func (c *Conn) check(n int) error {
	switch {
	case c.closed.Load():
		return net.ErrClosed
	case c.wd.expired.Load():
		return os.ErrDeadlineExceeded
	case n > maxPayload:
		return syscall.EMSGSIZE
	}
	return c.takeErr()
}

// writeMsgs sends ms and returns how many went out. Datagrams to one receiver
// that follow each other share a doorbell.
func (c *Conn) writeMsgs(ms []Message) (int, error) {
	bufs := scratch.Get().(*[32]*pkt.Buf)
	defer scratch.Put(bufs)
	done := 0
	for done < len(ms) {
		to, err := c.target(&ms[done])
		if err != nil {
			return done, err
		}
		if err := c.check(len(ms[done].Data)); err != nil {
			return done, err
		}
		r, err := c.route(ms[done].Local, to.Addr())
		if err != nil {
			return done, err
		}
		n := 0
		for n < len(bufs) && done+n < len(ms) {
			m := &ms[done+n]
			if n > 0 {
				if t, err := c.target(m); err != nil || t.Addr() != to.Addr() || m.Local != ms[done].Local || len(m.Data) > maxPayload {
					break
				}
			}
			t, _ := c.target(m)
			b := c.build(r, m.Data, t.Port())
			for try := 0; b == nil && n == 0 && try < fullTries; try++ {
				runtime.Gosched()
				b = c.build(r, m.Data, t.Port())
			}
			if b == nil {
				break
			}
			bufs[n] = b
			n++
		}
		if n == 0 {
			return done, syscall.ENOBUFS
		}
		sent := r.Send(wire.ProtoUDP, 6, bufs[:n])
		for try := 0; sent < n && try < fullTries && r.Err() == nil; try++ {
			runtime.Gosched()
			sent += r.Send(wire.ProtoUDP, 6, bufs[sent:n])
		}
		done += sent
		if sent < n {
			for _, b := range bufs[sent:n] {
				b.Put()
			}
			if err := r.Err(); err != nil {
				return done, err
			}
			return done, syscall.ENOBUFS
		}
	}
	return done, nil
}

// scratch holds the slices that are handed to the link.
var scratch = sync.Pool{New: func() any { return new([32]*pkt.Buf) }}

// target is where m goes.
func (c *Conn) target(m *Message) (netip.AddrPort, error) {
	if to := c.remote(); to.IsValid() {
		if m.Addr.IsValid() && m.Addr != to {
			return m.Addr, syscall.EISCONN
		}
		return to, nil
	}
	if !m.Addr.IsValid() {
		return m.Addr, syscall.EDESTADDRREQ
	}
	if m.Addr.Port() == 0 {
		return m.Addr, syscall.EINVAL
	}
	return m.Addr, nil
}

// WriteBatch sends datagrams and returns how many went out; with fewer than all
// there is an error.
func (c *Conn) WriteBatch(ms []Message) (int, error) {
	n, err := c.writeMsgs(ms)
	if err != nil {
		return n, opError("write", c.local(), c.remote(), err)
	}
	return n, nil
}

// Write sends a datagram to the peer of a dialled socket.
func (c *Conn) Write(p []byte) (int, error) {
	return c.WriteToUDPAddrPort(p, netip.AddrPort{})
}

// WriteToUDPAddrPort is WriteTo without an allocation.
func (c *Conn) WriteToUDPAddrPort(p []byte, to netip.AddrPort) (int, error) {
	ms := [1]Message{{Data: p, Addr: to}}
	if _, err := c.writeMsgs(ms[:]); err != nil {
		if !to.IsValid() {
			to = c.remote()
		}
		return 0, opError("write", c.local(), to, err)
	}
	return len(p), nil
}

// WriteTo sends a datagram.
func (c *Conn) WriteTo(p []byte, to net.Addr) (int, error) {
	u, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, opError("write", c.local(), netip.AddrPort{}, &net.AddrError{Err: "not a UDP address", Addr: to.String()})
	}
	return c.WriteToUDPAddrPort(p, u.AddrPort())
}

package udp

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"

	"osv/kernel/net/stack"
	"osv/kernel/net/wire"
	"osv/kernel/pkt"
)

// Packet path, receive, step 4 of 5.
// From: netchan/netchan.go.  To: the reader, whose context this is.
// May not: hold a packet back from a reader that waits; allocate per packet.

// Message is one datagram of a batch.
type Message struct {
	// Data is where to put the payload, or what to send.
	Data []byte
	// N is the length of the payload, which may be more than Data took.
	N int
	// Addr is the sender, or the receiver of a socket that is not connected.
	Addr netip.AddrPort
	// Local is the address it came to, or is to be sent from; the zero Addr lets
	// the stack choose.
	Local netip.Addr
	// TTL and TOS are those that it came with, of TryReadTo.
	TTL, TOS uint8
	// Time is the stack's clock, in ns, when it came in.
	Time int64
}

// next returns the next datagram; nil where there is none. Caller must hold read.
func (c *Conn) next() *pkt.Buf {
	for {
		if c.pendingI == c.pendingN {
			c.pendingI, c.pendingN = 0, 0
			if c.closed.Load() {
				return nil
			}
			if c.pendingN = c.ch.Pop(c.pending[:]); c.pendingN == 0 {
				return nil
			}
		}
		b := c.pending[c.pendingI]
		c.pending[c.pendingI] = nil
		c.pendingI++
		if stack.ChecksumOK(b) {
			return b
		}
		c.badSums.Add(1)
		b.Put()
	}
}

// wait blocks until there is a datagram, and returns it. Caller must hold read.
func (c *Conn) wait() (*pkt.Buf, error) {
	for {
		if b := c.next(); b != nil {
			return b, nil
		}
		switch {
		case c.closed.Load():
			return nil, net.ErrClosed
		case c.rd.expired.Load():
			return nil, os.ErrDeadlineExceeded
		}
		if err := c.takeErr(); err != nil {
			return nil, err
		}
		if c.ch.Arm() {
			// What the switch looked at may have changed before the Arm, but then
			// the Kick that follows such a change has left a token.
			<-c.sema
		}
	}
}

// Payload is the data of a datagram that ReadBufs returned, as far as it is in
// the first piece, and its sender.
func Payload(b *pkt.Buf) ([]byte, netip.AddrPort) {
	f := b.Bytes()
	u := f[b.L4:]
	n := int(binary.BigEndian.Uint16(u[4:]))
	return u[wire.UDPLen:min(n, len(u))], netip.AddrPortFrom(source(f[b.L3:]), binary.BigEndian.Uint16(u))
}

func source(ip []byte) netip.Addr {
	if ip[0]>>4 == 6 {
		return wire.IPv6(ip).Src()
	}
	return wire.IPv4(ip).Src()
}

func dest(ip []byte) netip.Addr {
	if ip[0]>>4 == 6 {
		return wire.IPv6(ip).Dst()
	}
	return wire.IPv4(ip).Dst()
}

// copyOut moves a datagram into m and puts it back.
func copyOut(b *pkt.Buf, m *Message) {
	f := b.Bytes()
	u := f[b.L4:]
	left := int(binary.BigEndian.Uint16(u[4:])) - wire.UDPLen
	m.N, m.Time = left, b.RxTime
	m.Addr = netip.AddrPortFrom(source(f[b.L3:]), binary.BigEndian.Uint16(u))
	m.Local = dest(f[b.L3:])
	dst, src := m.Data, u[wire.UDPLen:]
	for p := b; ; {
		src = src[:min(left, len(src))]
		dst = dst[copy(dst, src):]
		left -= len(src)
		if p = p.Next; p == nil || left == 0 || len(dst) == 0 {
			break
		}
		src = p.Bytes()
	}
	b.Put()
}

// readMsg reads one datagram.
func (c *Conn) readMsg(m *Message) error {
	c.read.Lock()
	b, err := c.wait()
	c.read.Unlock()
	if err != nil {
		return opError("read", c.local(), c.remote(), err)
	}
	copyOut(b, m)
	return nil
}

// Read reads one datagram's payload; what does not fit into p is lost.
func (c *Conn) Read(p []byte) (int, error) {
	m := Message{Data: p}
	if err := c.readMsg(&m); err != nil {
		return 0, err
	}
	return min(m.N, len(p)), nil
}

// ReadFromUDPAddrPort is ReadFrom without an allocation.
func (c *Conn) ReadFromUDPAddrPort(p []byte) (int, netip.AddrPort, error) {
	m := Message{Data: p}
	if err := c.readMsg(&m); err != nil {
		return 0, netip.AddrPort{}, err
	}
	return min(m.N, len(p)), m.Addr, nil
}

// ReadFrom reads one datagram's payload and its sender.
func (c *Conn) ReadFrom(p []byte) (int, net.Addr, error) {
	n, a, err := c.ReadFromUDPAddrPort(p)
	if err != nil {
		return 0, nil, err
	}
	return n, net.UDPAddrFromAddrPort(a), nil
}

// ReadBatch reads at least one datagram, and as many more as are there and ms
// takes, and returns how many.
func (c *Conn) ReadBatch(ms []Message) (int, error) {
	if len(ms) == 0 {
		return 0, nil
	}
	c.read.Lock()
	defer c.read.Unlock()
	b, err := c.wait()
	if err != nil {
		return 0, opError("read", c.local(), c.remote(), err)
	}
	n := 0
	for b != nil {
		copyOut(b, &ms[n])
		if n++; n == len(ms) {
			break
		}
		b = c.next()
	}
	return n, nil
}

// TryReadBatch is ReadBatch that returns 0 instead of blocking.
func (c *Conn) TryReadBatch(ms []Message) (int, error) {
	c.read.Lock()
	defer c.read.Unlock()
	n := 0
	for n < len(ms) {
		b := c.next()
		if b == nil {
			break
		}
		copyOut(b, &ms[n])
		n++
	}
	if n == 0 {
		if c.closed.Load() {
			return 0, opError("read", c.local(), c.remote(), net.ErrClosed)
		}
		if err := c.takeErr(); err != nil {
			return 0, opError("read", c.local(), c.remote(), err)
		}
	}
	return n, nil
}

// ReadBufs is ReadBatch without the copy: the packets themselves, which the
// caller Puts. Payload finds the data in them.
func (c *Conn) ReadBufs(dst []*pkt.Buf) (int, error) {
	if len(dst) == 0 {
		return 0, nil
	}
	c.read.Lock()
	defer c.read.Unlock()
	b, err := c.wait()
	if err != nil {
		return 0, opError("read", c.local(), c.remote(), err)
	}
	n := 0
	for b != nil {
		dst[n] = b
		if n++; n == len(dst) {
			break
		}
		b = c.next()
	}
	return n, nil
}

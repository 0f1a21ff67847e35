package host

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"osv/kernel/net/sock"
	"osv/kernel/net/sock/tcpsock"
	"osv/kernel/net/stack"
	"osv/kernel/net/tcp"
	"osv/kernel/net/udp"
	"osv/kernel/pkt"
)

// Stack is a Host on our own network stack.
type Stack struct {
	net   *sock.Net
	stack *stack.Stack
	tcp   *tcpsock.Host
	out   io.Writer
	name  string
}

var _ Host = (*Stack)(nil)

// NewStack makes a Host of the sockets of a stack. system is what System says.
func NewStack(n *sock.Net, out io.Writer, system string) *Stack {
	return &Stack{net: n, stack: n.Stack(), tcp: n.TCP(), out: out, name: system}
}

// anyOf is local as the stack wants it: both families are one unspecified IPv6
// address that takes IPv4 too.
func anyOf(local netip.AddrPort) netip.AddrPort {
	if !local.Addr().IsValid() {
		return netip.AddrPortFrom(netip.IPv6Unspecified(), local.Port())
	}
	return local
}

// Listen is tcpsock's.
func (h *Stack) Listen(local netip.AddrPort, o Socket) (Listener, error) {
	l, err := h.tcp.Listen(anyOf(local), tcpsock.ListenConfig{
		OneKind: local.Addr().IsValid(), Options: tcp.Options{NoDelay: o.NoDelay}, Nagle: !o.NoDelay,
		RecvBuf: o.Window, SendBuf: o.Window,
	})
	if err != nil {
		return nil, err
	}
	return stackListener{l}, nil
}

type stackListener struct{ l *tcpsock.Listener }

func (l stackListener) Accept() (Conn, error) {
	c, err := l.l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	return stackConn{c}, nil
}

func (l stackListener) Addr() netip.AddrPort { return l.l.Addr().(*net.TCPAddr).AddrPort() }
func (l stackListener) Close() error         { return l.l.Close() }

// Dial is tcpsock's.
func (h *Stack) Dial(ctx context.Context, local, remote netip.AddrPort, o Socket) (Conn, error) {
	c, err := h.tcp.Dial(ctx, local, remote)
	if err != nil {
		return nil, err
	}
	s := stackConn{c}
	return s, s.Configure(o)
}

// stackConn adds to a tcpsock.Conn what a Conn has more.
type stackConn struct{ *tcpsock.Conn }

// Sink counts the octets without looking at them.
func (c stackConn) Sink(n *atomic.Uint64) error { return c.Discard(n) }

func (c stackConn) Configure(o Socket) error {
	err := c.SetNoDelay(o.NoDelay)
	if o.Window > 0 {
		err = errors.Join(err, c.SetReadBuffer(o.Window), c.SetWriteBuffer(o.Window))
	}
	return err
}

func (c stackConn) Info() (TCPInfo, bool) {
	i := c.Conn.Info()
	return TCPInfo{
		MSS: i.MSS, Cwnd: i.Cwnd, PeerWindow: i.PeerWindow, RTT: i.SRTT, RTTVar: i.RTTVar,
		Retransmits: int64(i.Retransmits),
	}, true
}

// udpQueue is how many datagrams wait for a reader: some 20 ms of a fast sender.
const udpQueue = 2048

func udpOptions(o Socket) udp.Options { return udp.Options{Queue: udpQueue, TOS: o.TOS} }

// ListenPacket is udp's.
func (h *Stack) ListenPacket(local netip.AddrPort, o Socket) (PacketConn, error) {
	c, err := udp.Listen(h.stack, local, udpOptions(o))
	if err != nil {
		return nil, err
	}
	return &stackPacket{h: h, c: c}, nil
}

// DialPacket is udp's.
func (h *Stack) DialPacket(local, remote netip.AddrPort, o Socket) (PacketConn, error) {
	c, err := udp.Dial(h.stack, local, remote, udpOptions(o))
	if err != nil {
		return nil, err
	}
	return &stackPacket{h: h, c: c, remote: remote}, nil
}

type stackPacket struct {
	h      *Stack
	c      *udp.Conn
	remote netip.AddrPort
	ms     [32]udp.Message // of WriteBatch; its caller is one at a time
}

// Receive looks at the datagrams in the packets they came in.
func (p *stackPacket) Receive(f func(*Datagram) error) error {
	var bufs [32]*pkt.Buf
	var d Datagram
	for {
		n, err := p.c.ReadBufs(bufs[:])
		if errors.Is(err, syscall.ECONNREFUSED) {
			continue
		}
		if err != nil {
			return err
		}
		for _, b := range bufs[:n] {
			if err == nil {
				d.Data, d.From = udp.Payload(b)
				u := b.Bytes()[b.L4:]
				d.Len = int(binary.BigEndian.Uint16(u[4:])) - 8
				d.To = destination(b.Bytes()[b.L3:])
				d.Time = b.RxTime
				err = f(&d)
			}
			b.Put()
		}
		if err != nil {
			return err
		}
	}
}

// destination is the address that an IP packet was sent to.
func destination(ip []byte) netip.Addr {
	if ip[0]>>4 == 6 {
		return netip.AddrFrom16([16]byte(ip[24:40]))
	}
	return netip.AddrFrom4([4]byte(ip[16:20]))
}

func (p *stackPacket) Write(b []byte) (int, error) { return p.c.Write(b) }

func (p *stackPacket) WriteBatch(ps [][]byte) (int, error) {
	done := 0
	for done < len(ps) {
		ms := p.ms[:min(len(ps)-done, len(p.ms))]
		for i := range ms {
			ms[i].Data = ps[done+i]
		}
		n, err := p.c.WriteBatch(ms)
		done += n
		if errors.Is(err, syscall.ENOBUFS) {
			return done, nil
		}
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

func (p *stackPacket) Connect(d *Datagram, o Socket) (PacketConn, error) {
	return p.h.DialPacket(netip.AddrPortFrom(d.To, p.c.LocalAddrPort().Port()), d.From, o)
}

func (p *stackPacket) SetReadDeadline(t time.Time) error { return p.c.SetReadDeadline(t) }
func (p *stackPacket) Local() netip.AddrPort             { return p.c.LocalAddrPort() }
func (p *stackPacket) Remote() netip.AddrPort            { return p.remote }
func (p *stackPacket) Close() error                      { return p.c.Close() }

func (p *stackPacket) Drops() uint64 {
	full, sum := p.c.Drops()
	return full + sum
}

// Lookup asks the name servers that the stack knows.
func (h *Stack) Lookup(ctx context.Context, name string) ([]netip.Addr, error) {
	return h.net.Lookup(ctx, name)
}

// Missing is the MSS of our own segments, which follows the path alone, and any
// congestion control but the one that there is.
func (h *Stack) Missing(o Socket) string {
	var out []string
	if o.MSS > 0 {
		out = append(out, "the segment size")
	}
	if o.Congestion != "" && o.Congestion != h.Congestion() {
		out = append(out, "congestion control "+o.Congestion)
	}
	return strings.Join(out, ", ")
}

// NumCPU is the number of processors.
func (h *Stack) NumCPU() int { return runtime.GOMAXPROCS(0) }

// CPUTime is the time that processors were busy, in a guest; the process's
// elsewhere.
func (h *Stack) CPUTime() (user, system time.Duration) { return cpuTime() }

// Counters are those of the links, of the classifier and of TCP.
func (h *Stack) Counters() []Counter {
	var out []Counter
	add := func(name string, n uint64) { out = append(out, Counter{name, n}) }
	for _, i := range h.stack.Interfaces() {
		if i.IsLoopback() {
			continue
		}
		s, c, name := i.Link().Stats(), i.Counters(), i.Name()
		add(name+".rx.frames", s.RxFrames)
		add(name+".rx.bytes", s.RxBytes)
		add(name+".rx.nobuf", s.RxNoBuf)
		add(name+".rx.irqs", s.RxIRQs)
		add(name+".tx.frames", s.TxFrames)
		add(name+".tx.bytes", s.TxBytes)
		add(name+".tx.full", s.TxFull)
		add(name+".doorbells", s.Doorbells)
		add(name+".fast", c.Fast)
		add(name+".slow", c.Slow)
	}
	s := &h.tcp.Stats
	add("tcp.idle-drains", s.IdleDrains.Load())
	add("tcp.tx-full", s.TxFull.Load())
	add("tcp.bad-checksum", s.BadChecksum.Load())
	return out
}

// System is the name given to NewStack.
func (h *Stack) System() string { return h.name }

// Congestion is what kernel/net/tcp uses (RFC 9438).
func (h *Stack) Congestion() string { return "cubic" }

// Console is where reports go.
func (h *Stack) Console() io.Writer { return h.out }

package host

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Hosted is a Host on the sockets of the operating system.
type Hosted struct{ Out io.Writer }

var _ Host = Hosted{}

// control sets what must be set before bind or connect.
func control(o Socket, udp, reuse bool) func(network, address string, c syscall.RawConn) error {
	return func(network, _ string, c syscall.RawConn) error {
		var err error
		cerr := c.Control(func(fd uintptr) {
			err = setOptions(int(fd), o, udp, network[len(network)-1] == '6')
			if err == nil && reuse {
				err = os.NewSyscallError("SO_REUSEADDR", syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1))
			}
		})
		return errors.Join(cerr, err)
	}
}

// udpBuffer is asked for as the receive buffer of a UDP socket, bytes.
const udpBuffer = 4 << 20

// setOptions applies o to a socket.
func setOptions(fd int, o Socket, udp, v6 bool) error {
	if o.Window > 0 {
		for _, opt := range []int{syscall.SO_SNDBUF, syscall.SO_RCVBUF} {
			if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, opt, o.Window); err != nil {
				return os.NewSyscallError("socket buffer", err)
			}
		}
	}
	if o.TOS != 0 {
		level, opt := syscall.IPPROTO_IP, syscall.IP_TOS
		if v6 {
			level, opt = syscall.IPPROTO_IPV6, syscall.IPV6_TCLASS
		}
		if err := syscall.SetsockoptInt(fd, level, opt, int(o.TOS)); err != nil {
			return os.NewSyscallError("type of service", err)
		}
	}
	if udp {
		if o.Window == 0 { // the default holds a few ms only; the system may grant less
			_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUF, udpBuffer)
		}
		return nil
	}
	if o.MSS > 0 {
		if err := syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, o.MSS); err != nil {
			return os.NewSyscallError("TCP_MAXSEG", err)
		}
	}
	if o.Congestion != "" {
		if err := syscall.SetsockoptString(fd, syscall.IPPROTO_TCP, syscall.TCP_CONGESTION, o.Congestion); err != nil {
			return os.NewSyscallError("TCP_CONGESTION", err)
		}
	}
	return nil
}

// network is the name package net has for the family of a, and the address
// itself as it wants it.
func network(base string, a netip.AddrPort) (string, string) {
	switch ip := a.Addr(); {
	case !ip.IsValid():
		return base, net.JoinHostPort("", portText(a.Port()))
	case ip.Is4():
		return base + "4", a.String()
	}
	return base + "6", a.String()
}

func portText(p uint16) string { return netip.AddrPortFrom(netip.IPv4Unspecified(), p).String()[8:] }

// unmap is a as package net reports it, without the v4-in-v6 form.
func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// Listen is net.Listen.
func (Hosted) Listen(local netip.AddrPort, o Socket) (Listener, error) {
	lc := net.ListenConfig{Control: control(o, false, false)}
	n, addr := network("tcp", local)
	l, err := lc.Listen(context.Background(), n, addr)
	if err != nil {
		return nil, err
	}
	return hostedListener{l.(*net.TCPListener)}, nil
}

type hostedListener struct{ l *net.TCPListener }

func (l hostedListener) Accept() (Conn, error) {
	c, err := l.l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	return hostedConn{c}, nil
}

func (l hostedListener) Addr() netip.AddrPort { return unmap(l.l.Addr().(*net.TCPAddr).AddrPort()) }
func (l hostedListener) Close() error         { return l.l.Close() }

// Dial is net.Dialer.DialContext.
func (Hosted) Dial(ctx context.Context, local, remote netip.AddrPort, o Socket) (Conn, error) {
	d := net.Dialer{Control: control(o, false, false)}
	if local != (netip.AddrPort{}) {
		d.LocalAddr = net.TCPAddrFromAddrPort(local)
	}
	n, addr := network("tcp", remote)
	c, err := d.DialContext(ctx, n, addr)
	if err != nil {
		return nil, err
	}
	return hostedConn{c.(*net.TCPConn)}, c.(*net.TCPConn).SetNoDelay(o.NoDelay)
}

// hostedConn adds to a TCPConn what a Conn has more. SetKeepAlive is TCPConn's.
type hostedConn struct{ *net.TCPConn }

var blocks = sync.Pool{New: func() any { return new([blockSize]byte) }}

// Sink reads large blocks into memory that nobody looks at.
func (c hostedConn) Sink(n *atomic.Uint64) error {
	p := blocks.Get().(*[blockSize]byte)
	defer blocks.Put(p)
	for {
		k, err := c.Read(p[:])
		n.Add(uint64(k))
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (c hostedConn) Configure(o Socket) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	o.MSS = 0 // it was agreed on in the handshake
	var serr error
	v6 := !unmap(c.LocalAddr().(*net.TCPAddr).AddrPort()).Addr().Is4()
	cerr := raw.Control(func(fd uintptr) { serr = setOptions(int(fd), o, false, v6) })
	return errors.Join(cerr, serr, c.SetNoDelay(o.NoDelay))
}

func (c hostedConn) Info() (TCPInfo, bool) {
	raw, err := c.SyscallConn()
	if err != nil {
		return TCPInfo{}, false
	}
	var t TCPInfo
	ok := false
	if raw.Control(func(fd uintptr) { t, ok = tcpInfo(fd) }) != nil {
		return TCPInfo{}, false
	}
	return t, ok
}

// ListenPacket makes a UDP socket whose port others of ours may share.
func (Hosted) ListenPacket(local netip.AddrPort, o Socket) (PacketConn, error) {
	lc := net.ListenConfig{Control: control(o, true, true)}
	n, addr := network("udp", local)
	c, err := lc.ListenPacket(context.Background(), n, addr)
	if err != nil {
		return nil, err
	}
	return &hostedPacket{c: c.(*net.UDPConn)}, nil
}

// DialPacket makes a connected UDP socket.
func (Hosted) DialPacket(local, remote netip.AddrPort, o Socket) (PacketConn, error) {
	return dialPacket(local, remote, o, false)
}

func dialPacket(local, remote netip.AddrPort, o Socket, reuse bool) (PacketConn, error) {
	d := net.Dialer{Control: control(o, true, reuse)}
	if local != (netip.AddrPort{}) {
		d.LocalAddr = net.UDPAddrFromAddrPort(local)
	}
	n, addr := network("udp", remote)
	c, err := d.Dial(n, addr)
	if err != nil {
		return nil, err
	}
	return &hostedPacket{c: c.(*net.UDPConn), remote: remote}, nil
}

type hostedPacket struct {
	c      *net.UDPConn
	remote netip.AddrPort
}

var start = time.Now()

func (p *hostedPacket) Receive(f func(*Datagram) error) error {
	buf := blocks.Get().(*[blockSize]byte)
	defer blocks.Put(buf)
	var d Datagram
	for {
		n, from, err := p.c.ReadFromUDPAddrPort(buf[:])
		if errors.Is(err, syscall.ECONNREFUSED) {
			continue // the peer closed before us: its answer to what we sent last
		}
		if err != nil {
			return err
		}
		d = Datagram{Data: buf[:n], Len: n, From: unmap(from), Time: int64(time.Since(start))}
		if p.remote.IsValid() && d.From != p.remote {
			continue // came between bind and connect
		}
		if err := f(&d); err != nil {
			return err
		}
	}
}

func (p *hostedPacket) Write(b []byte) (int, error) { return p.c.Write(b) }

func (p *hostedPacket) WriteBatch(ps [][]byte) (int, error) {
	for i, b := range ps {
		if _, err := p.c.Write(b); errors.Is(err, syscall.ENOBUFS) {
			return i, nil
		} else if err != nil {
			return i, err
		}
	}
	return len(ps), nil
}

func (p *hostedPacket) Connect(d *Datagram, o Socket) (PacketConn, error) {
	local := p.Local()
	if local.Addr().IsUnspecified() { // of the peer's family, or bind and connect do not fit
		any := netip.IPv4Unspecified()
		if !d.From.Addr().Is4() {
			any = netip.IPv6Unspecified()
		}
		local = netip.AddrPortFrom(any, local.Port())
	}
	return dialPacket(local, d.From, o, true)
}

func (p *hostedPacket) SetReadDeadline(t time.Time) error { return p.c.SetReadDeadline(t) }
func (p *hostedPacket) Local() netip.AddrPort {
	return unmap(p.c.LocalAddr().(*net.UDPAddr).AddrPort())
}
func (p *hostedPacket) Remote() netip.AddrPort { return p.remote }
func (p *hostedPacket) Drops() uint64          { return 0 }
func (p *hostedPacket) Close() error           { return p.c.Close() }

// Lookup asks the operating system.
func (Hosted) Lookup(ctx context.Context, name string) ([]netip.Addr, error) {
	as, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
	for i := range as {
		as[i] = as[i].Unmap()
	}
	return as, err
}

// Missing is nothing: what Linux refuses is an error.
func (Hosted) Missing(Socket) string { return "" }

// NumCPU is GOMAXPROCS.
func (Hosted) NumCPU() int { return runtime.GOMAXPROCS(0) }

// CPUTime is the process's.
func (Hosted) CPUTime() (user, system time.Duration) { return cpuTime() }

func cpuTime() (user, system time.Duration) {
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) != nil {
		return 0, 0
	}
	return time.Duration(r.Utime.Nano()), time.Duration(r.Stime.Nano())
}

// Counters are none: the process sees no frames.
func (Hosted) Counters() []Counter { return nil }

// System is what uname says.
func (Hosted) System() string { return uname() }

// Congestion is the system's default.
func (Hosted) Congestion() string {
	b, err := os.ReadFile("/proc/sys/net/ipv4/tcp_congestion_control")
	if err != nil || len(b) == 0 {
		return ""
	}
	return string(b[:len(b)-1])
}

// Console is Out.
func (h Hosted) Console() io.Writer { return h.Out }

func uname() string {
	var u syscall.Utsname
	if syscall.Uname(&u) != nil {
		return "Linux"
	}
	text := func(p [65]int8) string {
		var b []byte
		for _, c := range p {
			if c == 0 {
				break
			}
			b = append(b, byte(c))
		}
		return string(b)
	}
	return text(u.Sysname) + " " + text(u.Nodename) + " " + text(u.Release) + " " + text(u.Version) + " " + text(u.Machine)
}

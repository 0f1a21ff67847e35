package sock

import (
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	nudp "osv/kernel/net/udp"
	"osv/kernel/vfs"
	"osv/kernel/vfs/poll"
)

// udp is a SOCK_DGRAM socket of AF_INET or AF_INET6.
type udp struct {
	base
	conn    atomic.Pointer[nudp.Conn] // nil before the socket has had a port
	bound   atomic.Bool               // it has one now
	shut    atomic.Uint32
	wanted  atomic.Uint32 // ControlSet of what Recv is to tell
	whole   atomic.Bool   // no fragments: IP_PMTUDISC_DO
	bcast   atomic.Bool   // SO_BROADCAST
	errs    atomic.Bool   // IP_RECVERR or IPV6_RECVERR
	more    atomic.Bool   // there is something in corked, or UDP_CORK is set
	segment atomic.Int32  // UDP_SEGMENT

	// Guarded by mu.
	claim  *binding
	auto   bool       // the port was not asked for
	at     netip.Addr // that bind has asked for
	gro    bool
	corkOn bool   // UDP_CORK
	corked []byte // of MSG_MORE and UDP_CORK: the datagram so far
	corkTo Addr
}

// udpQueue is how many datagrams wait for a reader: what the default SO_RCVBUF holds
// of small ones, and some more, since a burst comes all at once here.
const udpQueue = 512

func newUDP(n *Net, domain int) *udp {
	s := &udp{}
	s.init(n, domain, syscall.SOCK_DGRAM, syscall.IPPROTO_UDP)
	n.open.add(s, &s.base)
	return s
}

func (s *udp) arrive() { s.list.Notify(poll.In | poll.Err) }

// Ready is udp_poll.
func (s *udp) Ready() poll.Events {
	e := poll.Out
	if c := s.conn.Load(); c != nil {
		if c.Waiting() {
			e |= poll.In
		}
		if c.HasErr() {
			e |= poll.Err
		}
	}
	switch s.shut.Load() {
	case shutRd | shutWr:
		e |= poll.In | poll.RdHup | poll.Hup
	case shutRd:
		e |= poll.In | poll.RdHup
	}
	return e
}

// Read is recv without flags.
func (s *udp) Read(d vfs.Dst, _ int64) (int, error) { return s.Recv(d, nil, 0) }

// Write is send without flags.
func (s *udp) Write(src vfs.Src, _ int64, _ bool) (int, int64, error) {
	n, err := s.Send(nil, src, nil, 0)
	return n, 0, err
}

// Recv takes a datagram.
func (s *udp) Recv(d vfs.Dst, m *Message, flags int) (int, error) {
	if m != nil {
		m.Addr, m.Control.Have, m.Flags = Addr{}, 0, 0
	}
	if flags&msgErrQueue != 0 {
		return 0, syscall.EAGAIN
	}
	c := s.conn.Load()
	if c == nil {
		return 0, s.nothing(flags)
	}
	var um nudp.Message
	room := d.Room()
	n, err := c.TryReadTo(d, &um, flags&msgPeek != 0)
	if err != nil {
		if err == nudp.ErrWouldBlock {
			return 0, s.nothing(flags)
		}
		return 0, errno(err, syscall.EIO)
	}
	if m != nil {
		if um.N > room {
			m.Flags |= msgTrunc
		}
		m.Addr = inetAddr(s.net, s.domain, um.Addr)
		if w := ControlSet(s.wanted.Load()); w != 0 {
			s.tell(m, &um, w)
		}
	}
	if flags&msgTrunc != 0 {
		n = um.N
	}
	return n, nil
}

// nothing is what Recv says where there is no datagram: the end, after a shutdown, is
// only for those who wait.
func (s *udp) nothing(flags int) error {
	if s.shut.Load()&shutRd != 0 && flags&syscall.MSG_DONTWAIT == 0 {
		return nil
	}
	return syscall.EAGAIN
}

// tell fills in the control messages that the program has asked for.
func (s *udp) tell(m *Message, um *nudp.Message, w ControlSet) {
	c := &m.Control
	if w&(HasTime|HasTimeNS) != 0 {
		c.Time = time.Now().Add(-time.Duration(s.net.stack.Clock().Now() - um.Time))
	}
	if um.Local.Is4() {
		w &^= HasHops | HasTClass
	} else {
		w &^= HasTTL | HasTOS | HasPktInfo
	}
	if w&(HasPktInfo|HasPktInfo6) != 0 {
		c.Dst, c.Local, c.If = um.Local, um.Local, s.net.ifOf(um.Local)
		if um.Local.Is4() && um.Local.IsLoopback() && c.If == 0 {
			c.If = 1
		}
		if um.Local.IsMulticast() {
			c.Local = netip.Addr{}
		}
	}
	c.TTL, c.TOS = int(um.TTL), int(um.TOS)
	c.Have = w
}

// Send sends a datagram.
func (s *udp) Send(_ Caller, src vfs.Src, m *Message, flags int) (int, error) {
	n := src.Left()
	switch {
	case n > 65535:
		return 0, syscall.EMSGSIZE
	case flags&msgOOB != 0:
		return 0, syscall.EOPNOTSUPP
	}
	c := s.conn.Load()
	if !s.bound.Load() { // also where nothing will be sent
		var err error
		if c, err = s.autobind(); err != nil {
			return 0, err
		}
	}
	var um nudp.Message
	seg := int(s.segment.Load())
	if m != nil {
		if m.Addr.Family != syscall.AF_UNSPEC {
			to, err := s.peerAddr(&m.Addr)
			if err != nil {
				return 0, err
			}
			if to.Port() == 0 {
				return 0, syscall.EINVAL
			}
			um.Addr = to
		}
		if m.Control.Have&(HasPktInfo|HasPktInfo6) != 0 && !m.Control.Local.IsUnspecified() {
			um.Local = m.Control.Local
		}
		if m.Control.Have&HasSegment != 0 {
			seg = m.Control.Segment
		}
	}
	if !um.Addr.IsValid() && !c.RemoteAddrPort().IsValid() {
		return 0, syscall.EDESTADDRREQ
	}
	if !s.bcast.Load() && um.Addr.Addr() == broadcast4 {
		return 0, syscall.EACCES
	}
	if s.shut.Load()&shutWr != 0 {
		if err := c.TakeErr(); err != nil {
			return 0, errno(err, syscall.EIO)
		}
		return 0, syscall.EPIPE
	}
	if flags&msgMore != 0 || s.more.Load() {
		return s.sendCorked(c, src, m, &um, flags&msgMore != 0)
	}
	if err := s.send(c, src, n, &um, seg); err != nil {
		return 0, err
	}
	return n, nil
}

// send sends n bytes as one datagram, or cut into datagrams of seg bytes. What finds a
// full ring is lost without an error, as in Linux's queue of a device, unless the
// program has asked for IP_RECVERR. A program that is told ENOBUFS believes that nothing
// was sent: memcached then answers the next request with this reply.
func (s *udp) send(c *nudp.Conn, src vfs.Src, n int, um *nudp.Message, seg int) error {
	whole := s.whole.Load()
	for {
		k := n
		if seg > 0 {
			k = min(n, seg)
		}
		if err := c.TryWriteFrom(src, k, um, whole); err != nil {
			e := errno(err, syscall.ENETUNREACH)
			if e == syscall.ENOBUFS && !s.errs.Load() {
				return nil
			}
			return e
		}
		if n -= k; n == 0 {
			return nil
		}
	}
}

// sendCorked adds to the datagram that MSG_MORE or UDP_CORK have begun, and sends it
// where neither holds any more.
func (s *udp) sendCorked(c *nudp.Conn, src vfs.Src, m *Message, um *nudp.Message, more bool) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := src.Left()
	if len(s.corked)+n > 65507 {
		return 0, syscall.EMSGSIZE
	}
	at := len(s.corked)
	if at == 0 {
		s.corkTo = Addr{}
		if m != nil {
			s.corkTo = m.Addr
		}
	}
	s.corked = append(s.corked, make([]byte, n)...)
	if k, err := src.Take(s.corked[at:]); err != nil {
		s.corked = s.corked[:at]
		return k, err
	}
	s.more.Store(true)
	if more || s.corkOn {
		return n, nil
	}
	return n, s.push(c, um)
}

// push sends what is corked. Caller must hold mu.
func (s *udp) push(c *nudp.Conn, um *nudp.Message) error {
	if s.corkTo.Family != syscall.AF_UNSPEC {
		to, err := s.peerAddr(&s.corkTo)
		if err != nil {
			return err
		}
		um.Addr = to
	}
	b := vfs.Bytes{B: s.corked}
	err := s.send(c, &b, len(s.corked), um, int(s.segment.Load()))
	s.corked = s.corked[:0]
	s.more.Store(s.corkOn)
	return err
}

// autobind gives the socket a port.
func (s *udp) autobind() (*nudp.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bound.Load() {
		return s.conn.Load(), nil
	}
	s.auto = true
	at := s.at
	if !at.IsValid() {
		at = anyOf(s.domain)
	}
	if err := s.bindTo(netip.AddrPortFrom(at, 0)); err != nil {
		return nil, syscall.EAGAIN
	}
	return s.conn.Load(), nil
}

// Bind is bind(2).
func (s *udp) Bind(_ Caller, a *Addr) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	ap, err := s.bindAddr(a)
	if err != nil {
		return err
	}
	if s.bound.Load() {
		return syscall.EINVAL
	}
	if err := s.bindTo(ap); err != nil {
		return err
	}
	s.auto, s.at = ap.Port() == 0, ap.Addr()
	s.hasBound(ap)
	return nil
}

// bindTo takes the port of ap, or one that is free. Caller must hold mu.
func (s *udp) bindTo(ap netip.AddrPort) error {
	n := s.net
	b := &binding{
		port: ap.Port(), addr: ap.Addr().WithZone(""), v6: s.domain == syscall.AF_INET6,
		only: s.opt.ip.v6only, reuse: s.opt.reuseAddr, share: s.opt.reusePort,
	}
	explicit := ap.Port() != 0
	busy := func(p uint16, _ func(netip.Addr) bool) bool { return !explicit && n.stack.PortInUse(17, p) }
	if err := n.udpPorts.claim(b, firstPort, lastPort, rand.Uint32(), busy); err != nil {
		return err
	}
	queue := udpQueue
	if s.opt.rcvBuf > defaultBuf {
		queue = min(udpQueue*s.opt.rcvBuf/defaultBuf, 4096)
	}
	if c := s.conn.Load(); c != nil { // it has left a port before
		if err := c.Rebind(netip.AddrPortFrom(ap.Addr(), b.port)); err != nil {
			n.udpPorts.release(b)
			return errno(err, syscall.EADDRINUSE)
		}
		s.claim = b
		s.bound.Store(true)
		return nil
	}
	c, err := nudp.Listen(n.stack, netip.AddrPortFrom(ap.Addr(), b.port), nudp.Options{
		Queue: queue, V6Only: s.opt.ip.v6only, Share: b.reuse || b.share, Spread: b.share, Arrival: s.arrive,
	})
	if err != nil {
		n.udpPorts.release(b)
		return errno(err, syscall.EADDRINUSE)
	}
	s.claim = b
	s.conn.Store(c)
	s.bound.Store(true)
	s.setLife(c)
	return nil
}

// setLife tells c of time to live and type of service. Caller must hold mu.
func (s *udp) setLife(c *nudp.Conn) {
	o := &s.opt.ip
	ttl, tos, group := o.ttl, o.tos, 1
	if o.mcastTTL != 0 {
		group = o.mcastTTL - 1
	}
	if s.domain == syscall.AF_INET6 {
		ttl, tos = max(o.hops-1, 0), o.tclass
		if o.mcastHops != 0 {
			group = o.mcastHops - 1
		}
	}
	c.SetLife(uint8(ttl), uint8(max(group, 1)), uint8(tos))
}

// Listen and Accept are of no use here.
func (s *udp) Listen(Caller, int) error { return syscall.EOPNOTSUPP }

// Accept is EOPNOTSUPP.
func (s *udp) Accept(int) (Socket, Addr, error) { return nil, Addr{}, syscall.EOPNOTSUPP }

// Connect is connect(2): from now on the socket knows one peer only.
func (s *udp) Connect(_ Caller, a *Addr) error {
	if a.Family == syscall.AF_UNSPEC {
		return s.disconnect()
	}
	c, err := s.autobind() // also where it fails then
	if err != nil {
		return err
	}
	to, err := s.peerAddr(a)
	if err != nil {
		return err
	}
	if to.Addr() == broadcast4 && !s.bcast.Load() {
		return syscall.EACCES
	}
	if to.Port() == 0 { // as good as nobody
		return s.disconnect()
	}
	s.mu.Lock()
	local := s.claim.addr
	s.mu.Unlock()
	if err := c.Connect(local, to); err != nil {
		return errno(err, syscall.ENETUNREACH)
	}
	return nil
}

// Connected is what Connect said.
func (s *udp) Connected() error { return nil }

func (s *udp) disconnect() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.conn.Load()
	if c == nil || !s.bound.Load() {
		return nil
	}
	if s.auto { // the port goes, also where there was no peer
		s.bound.Store(false)
		s.net.udpPorts.release(s.claim)
		s.claim = nil
		c.Leave()
		return nil
	}
	if !c.RemoteAddrPort().IsValid() {
		return nil
	}
	local := s.claim.addr
	if local == netip.IPv6Unspecified() && !s.claim.only {
		local = netip.Addr{}
	}
	return errnoOf(c.Disconnect(local))
}

func errnoOf(err error) error {
	if err == nil {
		return nil
	}
	return errno(err, syscall.EADDRINUSE)
}

// Shutdown is shutdown(2).
func (s *udp) Shutdown(how int) error {
	if how < syscall.SHUT_RD || how > syscall.SHUT_RDWR {
		return syscall.EINVAL
	}
	c := s.conn.Load()
	connected := c != nil && c.RemoteAddrPort().IsValid()
	s.shut.Or(uint32(how + 1)) // also where it is not connected
	s.list.Notify(poll.In | poll.Out | poll.RdHup | poll.Hup)
	if !connected {
		return syscall.ENOTCONN
	}
	return nil
}

// LocalAddr is getsockname(2).
func (s *udp) LocalAddr() Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.bound.Load() {
		return inetAddr(s.net, s.domain, netip.AddrPortFrom(s.at, 0))
	}
	return inetAddr(s.net, s.domain, s.conn.Load().LocalAddrPort())
}

// PeerAddr is getpeername(2).
func (s *udp) PeerAddr() (Addr, error) {
	if c := s.conn.Load(); c != nil {
		if r := c.RemoteAddrPort(); r.IsValid() {
			return inetAddr(s.net, s.domain, r), nil
		}
	}
	return Addr{}, syscall.ENOTCONN
}

// Close ends the socket.
func (s *udp) Close() error {
	s.net.open.remove(s)
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.conn.Load(); c != nil {
		_ = c.Close()
	}
	if s.claim != nil {
		s.net.udpPorts.release(s.claim)
		s.claim = nil
	}
	return nil
}

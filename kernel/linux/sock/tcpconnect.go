package sock

import (
	"math/rand/v2"
	"net/netip"
	"syscall"

	"osv/kernel/linux/abi"
	"osv/kernel/net/sock/tcpsock"
	ntcp "osv/kernel/net/tcp"
	"osv/kernel/vfs/poll"
)

// How a TCP socket gets its ends, and loses them: bind, listen, accept, connect,
// shutdown.

// Bind is bind(2).
func (s *tcp) Bind(_ Caller, a *Addr) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	ap, err := s.bindAddr(a)
	if err != nil {
		return err
	}
	c := s.conn.Load()
	over := c != nil && c.Status().State == ntcp.StateClosed
	if over { // and with it the claim to a port that was not asked for
		s.forget(c)
	}
	if s.claim != nil || c != nil && !over || s.lis.Load() != nil {
		return syscall.EINVAL
	}
	if err := s.claimPort(ap); err != nil {
		return err
	}
	s.claim.fresh = over
	s.hasBound(ap)
	return nil
}

// claimPort takes the port of ap, or one that is free. Caller must hold mu.
func (s *tcp) claimPort(ap netip.AddrPort) error {
	b := &binding{
		port: ap.Port(), addr: ap.Addr().WithZone(""), v6: s.domain == syscall.AF_INET6,
		only: s.opt.ip.v6only, reuse: s.opt.reuseAddr, share: s.opt.reusePort,
	}
	n := s.net
	if err := n.ports.claim(b, firstPort, lastPort, rand.Uint32(), n.portBusy); err != nil {
		return err
	}
	s.claim, s.local = b, netip.AddrPortFrom(ap.Addr(), b.port)
	return nil
}

// forget ends what the connection c, if any, has had of addresses: a port that the
// program has not asked for can be had by others, though getsockname goes on telling
// it, as on Linux. Caller must hold mu.
func (s *tcp) forget(c *tcpsock.Conn) {
	switch {
	case s.claim == nil && c != nil:
		at := s.local.Addr() // of an earlier bind
		if !at.IsValid() {
			at = anyOf(s.domain)
		}
		s.local = netip.AddrPortFrom(at, c.Ends().Local.Port())
	case s.claim != nil && s.claim.chosen && !s.claim.fresh:
		s.net.ports.release(s.claim)
		s.claim = nil
	}
}

// portBusy says whether the stack knows of users of a TCP port beside those that the
// port table has.
func (n *Net) portBusy(port uint16, is func(netip.Addr) bool) bool {
	return n.stack.PortInUse(6, port) && n.tcp.PortBusy(port, is)
}

// Listen is listen(2).
func (s *tcp) Listen(_ Caller, backlog int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn.Load() != nil || s.link != unconnected {
		return syscall.EINVAL
	}
	if backlog = int(min(uint32(backlog), abi.SOMAXCONN)); s.lis.Load() != nil {
		s.lis.Load().SetBacklog(backlog + 1)
		return nil
	}
	if s.claim == nil {
		at := s.local.Addr() // of an earlier bind
		if !at.IsValid() {
			at = anyOf(s.domain)
		}
		if err := s.claimPort(netip.AddrPortFrom(at, 0)); err != nil {
			return err
		}
	}
	if err := s.net.ports.listen(s.claim); err != nil {
		return err
	}
	l, err := s.net.tcp.Listen(s.local, tcpsock.ListenConfig{
		Backlog: backlog + 1, OneKind: s.opt.ip.v6only, Options: s.tcpOptions(), Nagle: true,
		RecvBuf: s.opt.rcvBuf / 2, SendBuf: s.opt.sndBuf / 2, Share: s.opt.reusePort, Path: s.pathFunc(),
	})
	if err != nil {
		s.claim.listening = false
		return errno(err, syscall.EADDRINUSE)
	}
	l.SetNotify(func() { s.list.Notify(poll.In) })
	s.lis.Store(l)
	return nil
}

func anyOf(domain int) netip.Addr {
	if domain == syscall.AF_INET {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// Accept takes a connection that waits.
func (s *tcp) Accept(int) (Socket, Addr, error) {
	l := s.lis.Load()
	if l == nil {
		return nil, Addr{}, syscall.EINVAL
	}
	c, err := l.TryAccept()
	if err != nil {
		return nil, Addr{}, errno(err, syscall.EINVAL)
	}
	n := newTCP(s.net, s.domain)
	s.mu.Lock()
	n.opt, n.tcp = s.opt, s.tcp
	s.mu.Unlock()
	n.opt.ip.groups = nil
	n.link = connected
	n.open.Store(true)
	n.corked.Store(n.tcp.cork)
	n.inq.Store(s.inq.Load())
	n.conn.Store(c)
	c.SetArrival(n.arrived)
	n.applyTo(c)
	return n, inetAddr(s.net, s.domain, c.Ends().Remote), nil
}

// Connect is connect(2), inet_stream_connect.
func (s *tcp) Connect(_ Caller, a *Addr) error {
	if a.Family == syscall.AF_UNSPEC {
		s.disconnect()
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.lis.Load() != nil || s.link == connected:
		return syscall.EISCONN
	case s.link == disconnecting:
		return syscall.EINVAL
	case s.link == connecting:
		if err := s.connectEnd(); err != syscall.EAGAIN {
			return err
		}
		return syscall.EALREADY
	}
	to, err := s.peerAddr(a)
	if err != nil {
		return err
	}
	if ip := to.Addr(); ip.IsMulticast() || ip == broadcast4 {
		return syscall.ENETUNREACH
	}
	if to.Port() == 0 {
		return syscall.ECONNREFUSED
	}
	var from netip.AddrPort
	if s.local.Addr().IsValid() {
		from = s.local
		if s.claim == nil {
			from = netip.AddrPortFrom(from.Addr(), 0)
		}
		if from.Addr().IsUnspecified() {
			from = netip.AddrPortFrom(netip.Addr{}, from.Port())
		} else if from.Addr().Is4() != to.Addr().Is4() {
			return syscall.ENETUNREACH
		}
	}
	s.open.Store(false)
	s.err = 0
	s.told.Store(false)
	s.over.Store(false)
	c, err := s.net.tcp.Connect(from, to, &tcpsock.DialConfig{
		Options: s.tcpOptions(), RecvBuf: s.opt.rcvBuf / 2, SendBuf: s.opt.sndBuf / 2,
		Path: s.pathFunc(), Arrival: s.arrived, PortFrom: firstPort, PortTo: lastPort,
	})
	if err != nil {
		e := errno(err, syscall.ENETUNREACH)
		if e == syscall.EADDRINUSE {
			e = syscall.EADDRNOTAVAIL
		}
		return e
	}
	if s.opt.linger >= 0 {
		_ = c.SetLinger(s.opt.linger)
	}
	if old := s.conn.Swap(c); old != nil {
		old.SetArrival(nil)
		_ = old.Close()
	}
	if s.claim != nil {
		s.claim.fresh = false
	}
	s.link = connecting
	if err := s.connectEnd(); err != syscall.EAGAIN {
		return err
	}
	return syscall.EINPROGRESS
}

// Connected tells how a Connect has ended.
func (s *tcp) Connected() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch s.link {
	case connected:
		return nil
	case unconnected:
		return syscall.ENOTCONN
	}
	return s.connectEnd()
}

// connectEnd is Connected while connecting: EAGAIN where it has not ended. Caller must
// hold mu.
func (s *tcp) connectEnd() error {
	st := s.conn.Load().Status()
	switch {
	case st.State == ntcp.StateSynSent || st.State == ntcp.StateSynReceived:
		return syscall.EAGAIN
	case st.State == ntcp.StateClosed && st.Err != nil:
		e := s.connErr(st.Err)
		c := s.conn.Swap(nil)
		s.link = unconnected
		s.shut.Store(0)
		s.forget(c)
		c.SetArrival(nil)
		_ = c.Close()
		if e != 0 {
			return e
		}
		return syscall.ECONNABORTED
	}
	s.link = connected
	s.open.Store(true)
	return nil
}

// disconnect is connect to AF_UNSPEC: the socket is as new, but for its options.
func (s *tcp) disconnect() {
	s.mu.Lock()
	c, l := s.conn.Swap(nil), s.lis.Swap(nil)
	s.link, s.err = unconnected, 0
	if s.claim != nil {
		s.claim.listening = false
	}
	if c != nil || l != nil {
		s.forget(c)
	}
	s.shut.Store(0)
	s.open.Store(false)
	s.mu.Unlock()
	if c != nil {
		e := syscall.Errno(0)
		switch st := c.Status(); {
		case st.Err != nil:
			e = s.connErr(st.Err)
		case st.State != ntcp.StateClosed && st.State != ntcp.StateLastAck && st.State != ntcp.StateClosing:
			e = syscall.ECONNRESET
		}
		s.mu.Lock()
		s.err = e
		s.mu.Unlock()
		c.SetArrival(nil)
		_ = c.SetLinger(0)
		_ = c.Close()
	}
	if l != nil {
		_ = l.Close()
	}
	s.list.Notify(poll.In | poll.Out | poll.Hup | poll.RdHup | poll.Err)
}

// Shutdown is shutdown(2).
func (s *tcp) Shutdown(how int) error {
	if how < syscall.SHUT_RD || how > syscall.SHUT_RDWR {
		return syscall.EINVAL
	}
	bits := uint32(how + 1)
	if s.lis.Load() != nil {
		if bits&shutRd != 0 {
			s.disconnect()
		}
		return nil
	}
	c := s.conn.Load()
	if c == nil {
		s.shut.Or(bits) // all the same
		s.list.Notify(poll.In | poll.Out | poll.RdHup | poll.Hup)
		return syscall.ENOTCONN
	}
	state := c.Status().State
	s.mu.Lock()
	if s.link == connecting { // nobody has asked yet how that ended
		switch state {
		case ntcp.StateClosed:
			s.link = disconnecting
		case ntcp.StateSynSent, ntcp.StateSynReceived:
		default:
			s.link = connected
		}
	}
	s.mu.Unlock()
	switch state {
	case ntcp.StateClosed:
		s.shut.Or(bits)
		return syscall.ENOTCONN
	case ntcp.StateSynSent, ntcp.StateSynReceived:
		s.disconnect()
		return nil
	}
	s.shut.Or(bits)
	if bits&shutWr != 0 {
		_ = c.CloseWrite() // a second time is no error
	}
	s.list.Notify(poll.In | poll.Out | poll.RdHup | poll.Hup)
	return nil
}

package sock

import (
	"io"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"osv/kernel/linux/abi"
	"osv/kernel/net/sock/tcpsock"
	ntcp "osv/kernel/net/tcp"
	"osv/kernel/vfs"
	"osv/kernel/vfs/poll"
)

// tcp is a SOCK_STREAM socket of AF_INET or AF_INET6: unconnected at first, then for
// good a listener (lis) or one end of a connection (conn).
type tcp struct {
	base
	conn atomic.Pointer[tcpsock.Conn]
	lis  atomic.Pointer[tcpsock.Listener]

	shut    atomic.Uint32 // SHUT_RD and SHUT_WR of this end, as shutRd and shutWr
	open    atomic.Bool   // conn has been seen established
	over    atomic.Bool   // conn has been seen closed, and its port given back
	told    atomic.Bool   // the error that ended conn has been given to somebody
	noSpace atomic.Bool   // somebody waits for room to send
	arrived func()        // arrive, as a value
	inq     atomic.Bool   // TCP_INQ

	// Guarded by mu.
	claim  *binding       // of bind, nil without
	local  netip.AddrPort // of bind
	link   linkState
	err    syscall.Errno // SO_ERROR that is not conn's
	tcp    tcpOptions
	corkMu sync.Mutex
	cork   *time.Timer // ends a cork that has lasted for long
	corked atomic.Bool
}

const (
	shutRd = 1
	shutWr = 2
)

// linkState is Linux's socket_state, which connect goes by.
type linkState uint8

const (
	unconnected linkState = iota
	connecting
	connected
	disconnecting
)

func newTCP(n *Net, domain int) *tcp {
	s := &tcp{}
	s.init(n, domain, syscall.SOCK_STREAM, syscall.IPPROTO_TCP)
	s.arrived = s.arrive
	n.open.add(s, &s.base)
	return s
}

// arrive tells the waiters that something has come in. What, the one finds out who
// looks. It runs in the receive loop, or with the connection locked.
func (s *tcp) arrive() {
	e := poll.In | poll.RdHup | poll.Pri | poll.Err | poll.Hup
	if s.noSpace.Load() || !s.open.Load() {
		e |= poll.Out
	}
	s.list.Notify(e)
}

// Ready is tcp_poll.
func (s *tcp) Ready() poll.Events {
	if l := s.lis.Load(); l != nil {
		if l.Waiting() > 0 {
			return poll.In
		}
		return 0
	}
	c := s.conn.Load()
	if c == nil {
		return s.readyUnconnected()
	}
	st := c.Status()
	e := s.events(&st)
	if e&poll.Out == 0 && !s.noSpace.Swap(true) {
		// What came in between was told as no reason to send.
		st = c.Status()
		e = s.events(&st)
	}
	return e
}

func (s *tcp) readyUnconnected() poll.Events {
	e := poll.Out | poll.Hup
	s.mu.Lock()
	if s.err != 0 {
		e |= poll.Err
	}
	s.mu.Unlock()
	if s.shut.Load()&shutRd != 0 {
		e |= poll.In | poll.RdHup
	}
	return e
}

// events are the readiness bits of a connection.
func (s *tcp) events(st *tcpsock.Status) poll.Events {
	var e poll.Events
	shut := s.shut.Load()
	if st.Ready&tcpsock.Failed != 0 && !s.told.Load() {
		e |= poll.Err
	}
	if st.State == ntcp.StateSynSent || st.State == ntcp.StateSynReceived {
		if shut == shutRd|shutWr {
			e |= poll.Hup
		}
		return e
	}
	s.open.Store(true)
	over := st.State == ntcp.StateClosed
	if over && !s.over.Swap(true) {
		s.mu.Lock()
		s.forget(s.conn.Load())
		s.mu.Unlock()
	}
	rdEnd := shut&shutRd != 0 || st.Ready&tcpsock.HungUp != 0
	wrEnd := shut&shutWr != 0 || over && st.Err != nil
	if over || rdEnd && wrEnd {
		e |= poll.Hup
	}
	if rdEnd {
		e |= poll.In | poll.RdHup
	}
	if st.Ready&tcpsock.Readable != 0 {
		e |= poll.In
	}
	if wrEnd || st.Ready&tcpsock.Writable != 0 {
		e |= poll.Out
	}
	if st.Ready&tcpsock.Urgent != 0 {
		e |= poll.Pri
	}
	return e
}

// takeErr is the error that SO_ERROR would tell, which is gone then.
func (s *tcp) takeErr() syscall.Errno {
	s.mu.Lock()
	e := s.err
	s.err = 0
	s.mu.Unlock()
	if e != 0 {
		return e
	}
	if c := s.conn.Load(); c != nil {
		if st := c.Status(); st.Err != nil {
			return s.connErr(st.Err)
		}
	}
	return 0
}

// connErr is the error that ended the connection, the first time; 0 from then on.
func (s *tcp) connErr(err error) syscall.Errno {
	if s.told.Swap(true) {
		return 0
	}
	if c := s.conn.Load(); c != nil && err == ntcp.ErrReset && c.Status().Ended {
		return syscall.EPIPE // RST in CLOSE-WAIT
	}
	return errno(err, syscall.ECONNRESET)
}

// Read is recv without flags.
func (s *tcp) Read(d vfs.Dst, _ int64) (int, error) { return s.Recv(d, nil, 0) }

// Write is send without flags.
func (s *tcp) Write(src vfs.Src, _ int64, _ bool) (int, int64, error) {
	n, err := s.Send(nil, src, nil, 0)
	return n, 0, err
}

// Recv takes octets of the stream.
func (s *tcp) Recv(d vfs.Dst, m *Message, flags int) (int, error) {
	if flags&(msgErrQueue|msgOOB) != 0 {
		if flags&msgErrQueue != 0 {
			return 0, syscall.EAGAIN
		}
		return 0, s.recvOOB()
	}
	if m != nil {
		m.Addr, m.Control.Have, m.Flags = Addr{}, 0, 0
	}
	c := s.conn.Load()
	if c == nil {
		if e := s.takeErr(); e != 0 {
			return 0, e
		}
		if s.lis.Load() == nil && s.shut.Load()&shutRd != 0 {
			return 0, nil
		}
		return 0, syscall.ENOTCONN
	}
	var n int
	var err error
	switch {
	case flags&msgPeek != 0:
		n, err = c.TryPeekTo(d, 0)
	case flags&msgTrunc != 0:
		drop := discard{d.Room()}
		n, err = c.TryReadTo(&drop)
	default:
		n, err = c.TryReadTo(d)
	}
	if n > 0 || err == nil {
		if m != nil && s.inq.Load() {
			m.Control.Have |= HasInq
			m.Control.Inq = c.Info().Readable
		}
		return n, nil
	}
	return 0, s.recvEnd(err)
}

// recvEnd is what Recv says where there are no octets.
func (s *tcp) recvEnd(err error) error {
	switch err {
	case tcpsock.ErrWouldBlock:
		if s.shut.Load()&shutRd != 0 {
			return nil
		}
		return syscall.EAGAIN
	case io.EOF, ntcp.ErrNotOpen:
		return nil
	}
	if e, ok := err.(syscall.Errno); ok && e == syscall.EFAULT {
		return e
	}
	if e := s.connErr(err); e != 0 {
		return e
	}
	return nil
}

// recvOOB is MSG_OOB: urgent octets are in line here, so there never is one.
func (s *tcp) recvOOB() error {
	if s.conn.Load() == nil {
		return syscall.ENOTCONN
	}
	return syscall.EINVAL
}

// Send gives octets to the stream.
func (s *tcp) Send(_ Caller, src vfs.Src, m *Message, flags int) (int, error) {
	c := s.conn.Load()
	if c == nil || s.shut.Load()&shutWr != 0 {
		if e := s.takeErr(); e != 0 {
			return 0, e
		}
		return 0, syscall.EPIPE
	}
	if !s.open.Load() {
		if st := c.Status(); st.State == ntcp.StateSynSent || st.State == ntcp.StateSynReceived {
			s.noSpace.Store(true)
			return 0, syscall.EAGAIN
		}
		s.open.Store(true)
	}
	var how tcpsock.WriteHow
	if s.corked.Load() {
		how = tcpsock.WriteCork
	} else if flags&msgMore != 0 {
		how = tcpsock.WriteCork
		s.uncorkLater()
	}
	if flags&msgOOB != 0 {
		how |= tcpsock.WriteUrgent
	}
	n, err := c.TryWriteFrom(src, how)
	if err == tcpsock.ErrWouldBlock && !s.noSpace.Swap(true) {
		n, err = c.TryWriteFrom(src, how) // as in Ready
	}
	if n > 0 || err == nil {
		if src.Left() == 0 {
			s.noSpace.Store(false)
		}
		return n, nil
	}
	switch err {
	case tcpsock.ErrWouldBlock:
		return 0, syscall.EAGAIN
	case ntcp.ErrClosing, ntcp.ErrNotOpen:
		return 0, syscall.EPIPE
	case syscall.EFAULT:
		return 0, err
	}
	if e := s.connErr(err); e != 0 {
		return 0, e
	}
	return 0, syscall.EPIPE
}

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

// LocalAddr is getsockname(2).
func (s *tcp) LocalAddr() Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.conn.Load()
	if c == nil || s.claim != nil && s.claim.fresh { // bound after its end
		return inetAddr(s.net, s.domain, s.local)
	}
	return inetAddr(s.net, s.domain, c.Ends().Local)
}

// PeerAddr is getpeername(2).
func (s *tcp) PeerAddr() (Addr, error) {
	c := s.conn.Load()
	if c == nil {
		return Addr{}, syscall.ENOTCONN
	}
	switch c.Status().State {
	case ntcp.StateClosed, ntcp.StateSynSent:
		return Addr{}, syscall.ENOTCONN
	}
	return inetAddr(s.net, s.domain, c.Ends().Remote), nil
}

// Close ends the socket. What was written is still sent, in the background, unless
// SO_LINGER said otherwise.
func (s *tcp) Close() error {
	s.net.open.remove(s)
	s.mu.Lock()
	c, l, b := s.conn.Load(), s.lis.Load(), s.claim
	s.claim = nil
	s.mu.Unlock()
	if c != nil {
		c.SetArrival(nil)
		_ = c.Close()
	}
	if l != nil {
		l.SetNotify(nil)
		_ = l.Close()
	}
	if b != nil {
		s.net.ports.release(b)
	}
	s.stopCork()
	return nil
}

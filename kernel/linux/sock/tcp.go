package sock

import (
	"io"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

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

package sock

import (
	"bytes"
	"syscall"
	"time"

	"osv/kernel/linux/abi"
	"osv/kernel/net/sock/tcpsock"
	"osv/kernel/net/stack"
	ntcp "osv/kernel/net/tcp"
)

// tcpOptions are those of IPPROTO_TCP. Zero is Linux's default in each.
type tcpOptions struct {
	noDelay, cork          bool
	maxSeg                 int
	keepIdle, keepIntvl    int // seconds
	keepCount, synCount    int
	linger2, deferAccept   int // seconds
	windowClamp            int
	noQuickAck             bool
	userTimeout            int // ms
	notSentLowat           uint32
	fastOpen               int
	fastOpenConnect        bool
	thinTimeouts, thinDups bool
	saveSyn                bool
	congestion             string
}

// corkMax is how long TCP_CORK and MSG_MORE hold octets back (tcp(7)).
const corkMax = 200 * time.Millisecond

// tcpOptions are the options as package tcp wants them. Caller must hold mu.
func (s *tcp) tcpOptions() ntcp.Options {
	o := ntcp.Options{NoDelay: s.tcp.noDelay, Cork: s.tcp.cork, Keepalive: s.opt.keepAlive}
	o.KeepIdle = time.Duration(s.tcp.keepIdle) * time.Second
	o.KeepInterval = time.Duration(s.tcp.keepIntvl) * time.Second
	o.KeepCount = s.tcp.keepCount
	o.UserTimeout = time.Duration(s.tcp.userTimeout) * time.Millisecond
	return o
}

// pathFunc makes what this socket's options say of the way to its peers, nil where
// that is nothing. Caller must hold mu.
func (s *tcp) pathFunc() func(*ntcp.Path) {
	seg := s.tcp.maxSeg
	tos, ttl, hops, class := s.opt.ip.tos, s.opt.ip.ttl, max(s.opt.ip.hops-1, 0), s.opt.ip.tclass
	if seg == 0 && tos == 0 && ttl == 0 && hops == 0 && class == 0 {
		return nil
	}
	return func(p *ntcp.Path) {
		r := p.Link.(*stack.Route)
		head := 40
		if r.Remote().Is6() {
			head, ttl, tos = 60, hops, class
		}
		if seg != 0 {
			p.MTU = min(p.MTU, seg+head)
		}
		r.TOS = uint8(tos)
		if ttl != 0 {
			r.TTL = uint8(ttl)
		}
	}
}

// applyTo brings the options to a connection that has been accepted.
func (s *tcp) applyTo(c *tcpsock.Conn) {
	if s.opt.linger >= 0 {
		_ = c.SetLinger(s.opt.linger)
	}
	if o := s.tcpOptions(); o != (ntcp.Options{}) {
		_ = c.SetOptions(o)
	}
	if s.opt.rcvBuf != 0 {
		_ = c.SetReadBuffer(s.opt.rcvBuf / 2)
	}
	if s.opt.sndBuf != 0 {
		_ = c.SetWriteBuffer(s.opt.sndBuf / 2)
	}
}

// SetOption is setsockopt(2).
func (s *tcp) SetOption(level, name int, v []byte) error {
	var err error
	switch level {
	case syscall.SOL_SOCKET:
		err = s.setSocket(name, v)
	case syscall.IPPROTO_TCP:
		err = s.setTCP(name, v)
	case syscall.IPPROTO_IP:
		s.mu.Lock()
		err = s.setIP(name, v)
		s.mu.Unlock()
	case syscall.IPPROTO_IPV6:
		if s.domain != syscall.AF_INET6 {
			return syscall.ENOPROTOOPT
		}
		s.mu.Lock()
		err = s.setIPv6(name, v, s.claim != nil || s.conn.Load() != nil)
		s.mu.Unlock()
	default:
		return syscall.ENOPROTOOPT
	}
	if c := s.conn.Load(); err == nil && c != nil {
		s.changed(c, level, name)
	}
	return err
}

// changed brings one option to the connection.
func (s *tcp) changed(c *tcpsock.Conn, level, name int) {
	s.mu.Lock()
	o, path := s.tcpOptions(), s.pathFunc()
	linger, rcv, snd := s.opt.linger, s.opt.rcvBuf, s.opt.sndBuf
	s.mu.Unlock()
	switch {
	case level == syscall.SOL_SOCKET && name == syscall.SO_LINGER:
		_ = c.SetLinger(linger)
	case level == syscall.SOL_SOCKET && (name == syscall.SO_RCVBUF || name == syscall.SO_RCVBUFFORCE):
		_ = c.SetReadBuffer(rcv / 2)
	case level == syscall.SOL_SOCKET && (name == syscall.SO_SNDBUF || name == syscall.SO_SNDBUFFORCE):
		_ = c.SetWriteBuffer(snd / 2)
	case level == syscall.IPPROTO_IP || level == syscall.IPPROTO_IPV6:
		if path != nil {
			c.WithPath(path)
		}
	case level == syscall.IPPROTO_TCP && name == syscall.TCP_CORK:
		c.SetCork(o.Cork)
	default:
		_ = c.SetOptions(o)
	}
}

func (s *tcp) setTCP(name int, v []byte) error {
	if name == syscall.TCP_CONGESTION {
		cc, _, _ := bytes.Cut(v[:min(len(v), 15)], []byte{0})
		if string(cc) != "cubic" && string(cc) != "reno" {
			return syscall.ENOENT
		}
		s.mu.Lock()
		s.tcp.congestion = string(cc)
		s.mu.Unlock()
		return nil
	}
	n, err := intArg(v)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o := &s.tcp
	within := func(p *int, lo, hi int) error {
		if n < lo || n > hi {
			return syscall.EINVAL
		}
		*p = n
		return nil
	}
	switch name {
	case syscall.TCP_NODELAY:
		o.noDelay = n != 0
	case syscall.TCP_CORK:
		o.cork = n != 0
		s.corked.Store(o.cork)
		if o.cork {
			s.uncorkLater()
		}
	case syscall.TCP_MAXSEG:
		if n == 0 {
			o.maxSeg = 0
			return nil
		}
		return within(&o.maxSeg, 88, 32767)
	case syscall.TCP_KEEPIDLE:
		return within(&o.keepIdle, 1, 32767)
	case syscall.TCP_KEEPINTVL:
		return within(&o.keepIntvl, 1, 32767)
	case syscall.TCP_KEEPCNT:
		return within(&o.keepCount, 1, 127)
	case syscall.TCP_SYNCNT:
		return within(&o.synCount, 1, 127)
	case abi.TCP_USER_TIMEOUT:
		return within(&o.userTimeout, 0, 1<<31-1)
	case syscall.TCP_LINGER2:
		o.linger2 = max(n, -1)
	case syscall.TCP_DEFER_ACCEPT:
		o.deferAccept = max(n, 0)
	case syscall.TCP_WINDOW_CLAMP:
		o.windowClamp = n
	case syscall.TCP_QUICKACK:
		o.noQuickAck = n == 0
	case abi.TCP_NOTSENT_LOWAT:
		o.notSentLowat = uint32(n)
	case abi.TCP_FASTOPEN:
		if n < 0 {
			return syscall.EINVAL
		}
		o.fastOpen = n
	case abi.TCP_FASTOPEN_CONNECT:
		if n != 0 && n != 1 {
			return syscall.EINVAL
		}
		o.fastOpenConnect = n != 0
	case abi.TCP_THIN_LINEAR_TIMEOUTS:
		if n != 0 && n != 1 {
			return syscall.EINVAL
		}
		o.thinTimeouts = n != 0
	case abi.TCP_THIN_DUPACK:
		if n != 0 && n != 1 {
			return syscall.EINVAL
		}
		o.thinDups = n != 0
	case abi.TCP_INQ:
		if n != 0 && n != 1 {
			return syscall.EINVAL
		}
		s.inq.Store(n != 0)
	case abi.TCP_TIMESTAMP, abi.TCP_TX_DELAY:
		return syscall.EPERM
	default:
		return syscall.ENOPROTOOPT
	}
	return nil
}

// Option is getsockopt(2).
func (s *tcp) Option(level, name int, v []byte) (int, error) {
	switch level {
	case syscall.SOL_SOCKET:
		switch name {
		case syscall.SO_ERROR:
			return putInt(v, int(s.takeErr()))
		case syscall.SO_ACCEPTCONN:
			return putBool(v, s.lis.Load() != nil)
		case abi.SO_INCOMING_CPU:
			return putInt(v, 0)
		}
		return s.socketOption(name, v)
	case syscall.IPPROTO_TCP:
		return s.tcpOption(name, v)
	case syscall.IPPROTO_IP:
		s.mu.Lock()
		defer s.mu.Unlock()
		if name == syscall.IP_MTU {
			return s.pathMTU(v)
		}
		return s.ipOption(name, v)
	case syscall.IPPROTO_IPV6:
		if s.domain != syscall.AF_INET6 {
			return 0, syscall.EOPNOTSUPP
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if name == syscall.IPV6_MTU {
			return s.pathMTU(v)
		}
		return s.ipv6Option(name, v)
	}
	return 0, syscall.EOPNOTSUPP
}

func (s *tcp) pathMTU(v []byte) (int, error) {
	c := s.conn.Load()
	if c == nil {
		return 0, syscall.ENOTCONN
	}
	var mtu int
	c.WithPath(func(p *ntcp.Path) { mtu = p.MTU })
	return putInt(v, mtu)
}

func (s *tcp) tcpOption(name int, v []byte) (int, error) {
	if name == syscall.TCP_INFO {
		var b [abi.SizeofTCPInfo]byte
		s.info(&b)
		return copy(v, b[:]), nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o := &s.tcp
	or := func(n, def int) (int, error) {
		if n == 0 {
			n = def
		}
		return putInt(v, n)
	}
	switch name {
	case syscall.TCP_CONGESTION:
		var b [16]byte
		copy(b[:], "cubic")
		if o.congestion != "" {
			b = [16]byte{}
			copy(b[:], o.congestion)
		}
		return copy(v, b[:]), nil
	case syscall.TCP_NODELAY:
		return putBool(v, o.noDelay)
	case syscall.TCP_CORK:
		return putBool(v, o.cork)
	case syscall.TCP_MAXSEG:
		if c := s.conn.Load(); c != nil {
			if mss := c.Info().MSS; mss > 0 {
				return putInt(v, mss)
			}
		}
		return or(o.maxSeg, 536)
	case syscall.TCP_KEEPIDLE:
		return or(o.keepIdle, 7200)
	case syscall.TCP_KEEPINTVL:
		return or(o.keepIntvl, 75)
	case syscall.TCP_KEEPCNT:
		return or(o.keepCount, 9)
	case syscall.TCP_SYNCNT:
		return or(o.synCount, 6)
	case abi.TCP_USER_TIMEOUT:
		return putInt(v, o.userTimeout)
	case syscall.TCP_LINGER2:
		return or(o.linger2, 60)
	case syscall.TCP_DEFER_ACCEPT:
		return putInt(v, o.deferAccept)
	case syscall.TCP_WINDOW_CLAMP:
		return putInt(v, o.windowClamp)
	case syscall.TCP_QUICKACK:
		return putBool(v, !o.noQuickAck)
	case abi.TCP_NOTSENT_LOWAT:
		return putInt(v, int(o.notSentLowat))
	case abi.TCP_FASTOPEN:
		return putInt(v, o.fastOpen)
	case abi.TCP_FASTOPEN_CONNECT:
		return putBool(v, o.fastOpenConnect)
	case abi.TCP_THIN_LINEAR_TIMEOUTS:
		return putBool(v, o.thinTimeouts)
	case abi.TCP_THIN_DUPACK:
		return putBool(v, o.thinDups)
	case abi.TCP_INQ:
		return putBool(v, s.inq.Load())
	case abi.TCP_TIMESTAMP:
		return putInt(v, int(uint32(time.Now().UnixMilli())))
	case abi.TCP_ULP:
		return 0, nil
	}
	return 0, syscall.ENOPROTOOPT
}

// uncorkLater has what is held back sent after corkMax, if it still is.
func (s *tcp) uncorkLater() {
	s.corkMu.Lock()
	defer s.corkMu.Unlock()
	if s.cork == nil {
		s.cork = time.AfterFunc(corkMax, s.pushCorked)
		return
	}
	s.cork.Reset(corkMax)
}

func (s *tcp) pushCorked() {
	c := s.conn.Load()
	if c == nil {
		return
	}
	c.SetCork(false)
	if s.corked.Load() {
		c.SetCork(true)
	}
}

func (s *tcp) stopCork() {
	s.corkMu.Lock()
	defer s.corkMu.Unlock()
	if s.cork != nil {
		s.cork.Stop()
	}
}

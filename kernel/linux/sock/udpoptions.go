package sock

import (
	"syscall"

	"osv/kernel/linux/abi"
	nudp "osv/kernel/net/udp"
)

// SetOption is setsockopt(2).
func (s *udp) SetOption(level, name int, v []byte) error {
	var err error
	switch level {
	case syscall.SOL_SOCKET:
		err = s.setSocket(name, v)
		s.mu.Lock()
	case syscall.IPPROTO_IP:
		s.mu.Lock()
		err = s.setIP(name, v)
	case syscall.IPPROTO_IPV6:
		if s.domain != syscall.AF_INET6 {
			return syscall.ENOPROTOOPT
		}
		s.mu.Lock()
		err = s.setIPv6(name, v, s.claim != nil)
	case abi.SOL_UDP:
		s.mu.Lock()
		err = s.setUDP(name, v)
	default:
		return syscall.ENOPROTOOPT
	}
	defer s.mu.Unlock()
	if err == nil {
		s.changed()
	}
	return err
}

// changed brings the options to where the paths of datagrams look. Caller must hold mu.
func (s *udp) changed() {
	o := &s.opt
	var w ControlSet
	for _, x := range []struct {
		on bool
		is ControlSet
	}{
		{o.stampUS, HasTime}, {o.stampNS, HasTimeNS}, {o.ip.pktInfo, HasPktInfo}, {o.ip.pktInfo6, HasPktInfo6},
		{o.ip.recvTTL, HasTTL}, {o.ip.recvTOS, HasTOS}, {o.ip.recvHops, HasHops}, {o.ip.recvTClass, HasTClass},
	} {
		if x.on {
			w |= x.is
		}
	}
	s.wanted.Store(uint32(w))
	s.bcast.Store(o.broadcast)
	d := o.ip.mtuDiscover
	if s.domain == syscall.AF_INET6 {
		d = o.ip.mtuDiscover6
	}
	s.whole.Store(d == abi.IP_PMTUDISC_DO+1 || d == abi.IP_PMTUDISC_PROBE+1)
	s.errs.Store(o.ip.recvErr[0] || o.ip.recvErr[1])
	if c := s.conn.Load(); c != nil {
		s.setLife(c)
	}
}

// setUDP is setsockopt of SOL_UDP. Caller must hold mu.
func (s *udp) setUDP(name int, v []byte) error {
	n, err := intArg(v)
	if err != nil {
		return err
	}
	switch name {
	case abi.UDP_CORK:
		s.corkOn = n != 0
		if !s.corkOn && len(s.corked) > 0 {
			var um nudp.Message
			_ = s.push(s.conn.Load(), &um)
		}
		s.more.Store(s.corkOn)
	case abi.UDP_SEGMENT:
		if n < 0 || n > 65535 {
			return syscall.EINVAL
		}
		s.segment.Store(int32(n))
	case abi.UDP_GRO:
		s.gro = n != 0
	default:
		return syscall.ENOPROTOOPT
	}
	return nil
}

// Option is getsockopt(2).
func (s *udp) Option(level, name int, v []byte) (int, error) {
	switch level {
	case syscall.SOL_SOCKET:
		if name == syscall.SO_ERROR {
			if c := s.conn.Load(); c != nil {
				if err := c.TakeErr(); err != nil {
					return putInt(v, int(errno(err, syscall.EIO)))
				}
			}
			return putInt(v, 0)
		}
		return s.socketOption(name, v)
	case syscall.IPPROTO_IP, syscall.IPPROTO_IPV6:
		if level == syscall.IPPROTO_IPV6 && s.domain != syscall.AF_INET6 {
			return 0, syscall.EOPNOTSUPP
		}
		if level == syscall.IPPROTO_IP && name == syscall.IP_MTU || level == syscall.IPPROTO_IPV6 && name == syscall.IPV6_MTU {
			c := s.conn.Load()
			if c == nil || !c.RemoteAddrPort().IsValid() {
				return 0, syscall.ENOTCONN
			}
			mtu, err := c.PathMTU(c.RemoteAddrPort().Addr())
			if err != nil {
				return 0, errno(err, syscall.ENOTCONN)
			}
			return putInt(v, mtu)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if level == syscall.IPPROTO_IP {
			return s.ipOption(name, v)
		}
		return s.ipv6Option(name, v)
	case abi.SOL_UDP:
		s.mu.Lock()
		defer s.mu.Unlock()
		switch name {
		case abi.UDP_CORK:
			return putBool(v, s.corkOn)
		case abi.UDP_SEGMENT:
			return putInt(v, int(s.segment.Load()))
		case abi.UDP_GRO:
			return putBool(v, s.gro)
		}
		return 0, syscall.ENOPROTOOPT
	}
	return 0, syscall.EOPNOTSUPP
}

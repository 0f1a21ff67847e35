package sock

import (
	"syscall"

	"osv/kernel/vfs"
	"osv/kernel/vfs/poll"
)

// netlink is a socket of AF_NETLINK, protocol NETLINK_ROUTE: it answers dumps of links,
// addresses and routes (rtnetlink(7)), and refuses what would change them.
type netlink struct {
	base

	// Guarded by mu.
	pid, groups uint32
	bound       bool
	dst         Addr     // of connect
	answers     [][]byte // each read by one recv
}

func (n *Net) newNetlink(typ, proto int) (Socket, error) {
	if typ != syscall.SOCK_RAW && typ != syscall.SOCK_DGRAM {
		return nil, syscall.ESOCKTNOSUPPORT
	}
	if proto != syscall.NETLINK_ROUTE {
		return nil, syscall.EPROTONOSUPPORT
	}
	s := &netlink{}
	s.init(n, syscall.AF_NETLINK, typ, proto)
	return s, nil
}

// Ready says whether an answer waits.
func (s *netlink) Ready() poll.Events {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.answers) > 0 {
		return poll.In | poll.Out
	}
	return poll.Out
}

// bind gives the socket its number. Caller must hold mu.
func (s *netlink) bind(c Caller, pid uint32) {
	if s.bound {
		return
	}
	if pid == 0 {
		pid = s.net.netlinkPID.Add(1)
		if c != nil && pid == 0x80000001 { // the first is the process's own number
			pid = c.Cred().PID
		}
	}
	s.pid, s.bound = pid, true
}

// Bind is bind(2).
func (s *netlink) Bind(c Caller, a *Addr) error {
	if a.Family != syscall.AF_NETLINK {
		return syscall.EINVAL
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bound && a.PID != s.pid && a.PID != 0 {
		return syscall.EINVAL
	}
	s.bind(c, a.PID)
	s.groups = a.Groups
	return nil
}

// Listen is EOPNOTSUPP, as Accept is.
func (s *netlink) Listen(Caller, int) error { return syscall.EOPNOTSUPP }

// Accept is EOPNOTSUPP.
func (s *netlink) Accept(int) (Socket, Addr, error) { return nil, Addr{}, syscall.EOPNOTSUPP }

// Connect sets where messages go, which is the kernel in any case.
func (s *netlink) Connect(c Caller, a *Addr) error {
	if a.Family != syscall.AF_NETLINK && a.Family != syscall.AF_UNSPEC {
		return syscall.EINVAL
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bind(c, 0)
	s.dst = *a
	return nil
}

// Connected is nil.
func (s *netlink) Connected() error { return nil }

// Shutdown is EOPNOTSUPP.
func (s *netlink) Shutdown(int) error { return syscall.EOPNOTSUPP }

// LocalAddr is getsockname(2).
func (s *netlink) LocalAddr() Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Addr{Family: syscall.AF_NETLINK, PID: s.pid, Groups: s.groups}
}

// PeerAddr is the kernel.
func (s *netlink) PeerAddr() (Addr, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Addr{Family: syscall.AF_NETLINK, PID: s.dst.PID, Groups: s.dst.Groups}, nil
}

// Read is recv without flags.
func (s *netlink) Read(d vfs.Dst, _ int64) (int, error) { return s.Recv(d, nil, 0) }

// Write is send without flags.
func (s *netlink) Write(src vfs.Src, _ int64, _ bool) (int, int64, error) {
	n, err := s.Send(nil, src, nil, 0)
	return n, 0, err
}

// maxRequest is the longest message of a program, bytes.
const maxRequest = 32 << 10

// Send takes requests and has their answers ready at once.
func (s *netlink) Send(c Caller, src vfs.Src, m *Message, flags int) (int, error) {
	if flags&msgOOB != 0 {
		return 0, syscall.EOPNOTSUPP
	}
	if m != nil && m.Addr.Family != syscall.AF_UNSPEC {
		if m.Addr.Family != syscall.AF_NETLINK {
			return 0, syscall.EINVAL
		}
		if m.Addr.PID != 0 {
			return 0, syscall.ECONNREFUSED
		}
	}
	n := src.Left()
	if n > maxRequest {
		return 0, syscall.EMSGSIZE
	}
	b := make([]byte, n)
	if k, err := src.Take(b); err != nil {
		return k, err
	}
	s.mu.Lock()
	s.bind(c, 0)
	pid := s.pid
	s.mu.Unlock()
	answers := s.net.route(b, pid)
	s.mu.Lock()
	s.answers = append(s.answers, answers...)
	s.mu.Unlock()
	if len(answers) > 0 {
		s.list.Notify(poll.In)
	}
	return n, nil
}

// Recv takes one answer.
func (s *netlink) Recv(d vfs.Dst, m *Message, flags int) (int, error) {
	if m != nil {
		m.Addr, m.Control.Have, m.Flags = Addr{Family: syscall.AF_NETLINK}, 0, 0
	}
	if flags&msgOOB != 0 {
		return 0, syscall.EOPNOTSUPP
	}
	s.mu.Lock()
	if len(s.answers) == 0 {
		s.mu.Unlock()
		return 0, syscall.EAGAIN
	}
	a := s.answers[0]
	if flags&msgPeek == 0 {
		s.answers = s.answers[1:]
	}
	s.mu.Unlock()
	n := min(len(a), d.Room())
	if k, err := d.Put(a[:n]); err != nil {
		return k, err
	}
	if n < len(a) && m != nil {
		m.Flags |= msgTrunc
	}
	if flags&msgTrunc != 0 {
		n = len(a)
	}
	return n, nil
}

// Close ends the socket.
func (s *netlink) Close() error { return nil }

// Options of SOL_NETLINK.
const (
	netlinkAddMembership  = 1
	netlinkDropMembership = 2
	netlinkPktInfo        = 3
	netlinkExtAck         = 11
	netlinkGetStrict      = 12
	netlinkMax            = 12
	solNetlink            = 270
)

// SetOption is setsockopt(2). Memberships are taken, and nothing is ever told to them:
// the interfaces do not change under a program.
func (s *netlink) SetOption(level, name int, v []byte) error {
	switch level {
	case syscall.SOL_SOCKET:
		return s.setSocket(name, v)
	case solNetlink:
		if name < netlinkAddMembership || name > netlinkMax {
			return syscall.ENOPROTOOPT
		}
		_, err := intArg(v)
		return err
	}
	return syscall.ENOPROTOOPT
}

// Option is getsockopt(2).
func (s *netlink) Option(level, name int, v []byte) (int, error) {
	switch level {
	case syscall.SOL_SOCKET:
		if name == syscall.SO_ERROR {
			return putInt(v, 0)
		}
		return s.socketOption(name, v)
	case solNetlink:
		return putInt(v, 0)
	}
	return 0, syscall.ENOPROTOOPT
}

// Control is ioctl(2).
func (s *netlink) Control(mem vfs.Memory, req uint32, arg uint64) (uint64, error) {
	return s.net.control(mem, req, arg)
}

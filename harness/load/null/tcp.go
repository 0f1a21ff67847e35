package null

import (
	"net/netip"
	"runtime"

	"golang.org/x/sys/unix"

	"osv/harness/load/mctext"
)

// conn is one accepted connection: what was read and not yet used, and what was
// answered and not yet written.
type conn struct {
	fd      int
	in, out []byte
	writing bool // EPOLLOUT is armed
}

// ListenTCP starts a null server for connections. Port 0 picks one.
func ListenTCP(addr netip.AddrPort, items *mctext.Items) (*Server, error) {
	s, err := newServer(items)
	if err != nil {
		return nil, err
	}
	fd, at, err := listen(addr, unix.SOCK_STREAM)
	if err != nil {
		s.Close()
		return nil, err
	}
	s.Addr, s.fds = at, []int{fd}
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err == nil {
		s.fds = append(s.fds, ep)
		err = unix.Listen(fd, 1024)
	}
	for _, f := range []int{fd, s.wake[0]} {
		if err == nil {
			err = unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, f, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(f)})
		}
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	s.done.Add(1)
	go s.tcpLoop(ep, fd)
	return s, nil
}

func (s *Server) tcpLoop(ep, lfd int) {
	defer s.done.Done()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	conns := map[int32]*conn{}
	defer func() {
		for _, c := range conns {
			unix.Close(c.fd)
		}
	}()
	events := make([]unix.EpollEvent, 256)
	for {
		n, err := unix.EpollWait(ep, events, -1)
		if err != nil && err != unix.EINTR {
			return
		}
		for _, ev := range events[:max(n, 0)] {
			switch ev.Fd {
			case int32(s.wake[0]):
				return
			case int32(lfd):
				s.accept(ep, lfd, conns)
			default:
				if c := conns[ev.Fd]; c != nil && !s.serve(ep, c, ev.Events) {
					unix.Close(c.fd)
					delete(conns, ev.Fd)
				}
			}
		}
	}
}

func (s *Server) accept(ep, lfd int, conns map[int32]*conn) {
	for {
		fd, _, err := unix.Accept4(lfd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err != nil {
			return
		}
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		if unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}) != nil {
			unix.Close(fd)
			continue
		}
		conns[int32(fd)] = &conn{fd: fd, in: make([]byte, 0, 16<<10)}
	}
}

// serve reads, answers and writes; false ends the connection.
func (s *Server) serve(ep int, c *conn, events uint32) bool {
	if events&(unix.EPOLLIN|unix.EPOLLHUP|unix.EPOLLERR) != 0 && len(c.out) < 1<<20 {
		if cap(c.in)-len(c.in) < 4096 {
			c.in = append(make([]byte, 0, 2*cap(c.in)), c.in...)
		}
		n, err := unix.Read(c.fd, c.in[len(c.in):cap(c.in)])
		switch {
		case n > 0:
			c.in = c.in[:len(c.in)+n]
		case err == unix.EAGAIN || err == unix.EINTR:
		default:
			return false
		}
		used := 0
		for used < len(c.in) {
			var k int
			if c.out, k = s.answer(c.out, c.in[used:]); k < 0 {
				return false
			} else if k == 0 {
				break
			}
			used += k
		}
		c.in = c.in[:copy(c.in, c.in[used:])]
	}
	for len(c.out) > 0 {
		n, err := unix.Write(c.fd, c.out)
		if n > 0 {
			c.out = c.out[:copy(c.out, c.out[n:])]
			continue
		}
		if err != unix.EAGAIN && err != unix.EINTR {
			return false
		}
		break
	}
	if want := len(c.out) > 0; want != c.writing {
		c.writing = want
		ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(c.fd)}
		if want {
			ev.Events |= unix.EPOLLOUT
		}
		return unix.EpollCtl(ep, unix.EPOLL_CTL_MOD, c.fd, &ev) == nil
	}
	return true
}

package soak

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// crowd is many TCP connections that nobody reads: plain descriptors without a
// goroutine each.
type crowd struct{ fds []int }

// openWindow is how many connections are opened at a time, under the backlog that
// servers commonly ask for.
const openWindow = 64

// needFiles raises the limit on open descriptors to what n connections need.
func needFiles(n int) error {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return fmt.Errorf("descriptor limit: %w", err)
	}
	want := uint64(n + 200)
	if lim.Cur >= want {
		return nil
	}
	lim.Cur, lim.Max = want, max(lim.Max, want)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return fmt.Errorf("%w: %d descriptors are allowed, %d wanted: %v", ErrSkip, lim.Cur, want, err)
	}
	return nil
}

// openCrowd connects n times to p. rcvbuf, if not 0, is the socket's receive
// buffer in bytes; from, if valid, the address to connect from.
func openCrowd(ctx context.Context, p peer, n, rcvbuf int, from netip.Addr) (*crowd, error) {
	if err := needFiles(n); err != nil {
		return nil, err
	}
	addr, err := netip.ParseAddrPort(p.addr)
	if err != nil {
		return nil, err
	}
	c := &crowd{}
	err = p.do(func() error {
		for len(c.fds) < n {
			first := len(c.fds)
			for range min(openWindow, n-first) {
				if err := c.start(addr, rcvbuf, from); err != nil {
					return err
				}
			}
			for i, fd := range c.fds[first:] {
				if err := established(ctx, fd); err != nil {
					return fmt.Errorf("connection %d of %d to %v: %w", first+i+1, n, addr, err)
				}
			}
		}
		return nil
	})
	if err != nil {
		c.close(true)
		return nil, err
	}
	return c, nil
}

func (c *crowd) start(addr netip.AddrPort, rcvbuf int, from netip.Addr) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket %d: %w", len(c.fds)+1, err)
	}
	c.fds = append(c.fds, fd)
	if rcvbuf > 0 {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, rcvbuf); err != nil {
			return err
		}
	}
	if from.IsValid() {
		if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: from.As4()}); err != nil {
			return fmt.Errorf("bind %v: %w", from, err)
		}
	}
	err = unix.Connect(fd, &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()})
	if err != nil && err != unix.EINPROGRESS {
		return fmt.Errorf("connect %v: %w", addr, err)
	}
	return nil
}

func established(ctx context.Context, fd int) error {
	for end := time.Now().Add(replyTime); ; {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, 50)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil && err != unix.EINTR:
			return err
		case n > 0:
			soerr, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
			if err == nil && soerr != 0 {
				err = unix.Errno(soerr)
			}
			return err
		case time.Now().After(end):
			return fmt.Errorf("not established within %v", replyTime)
		}
	}
}

// write sends b on each connection without waiting for room.
func (c *crowd) write(b string) error {
	for i, fd := range c.fds {
		if _, err := unix.Write(fd, []byte(b)); err != nil && err != unix.EAGAIN {
			return fmt.Errorf("connection %d of %d: %w", i+1, len(c.fds), err)
		}
	}
	return nil
}

// broken is how many connections the peer has closed or reset.
func (c *crowd) broken() int {
	var b [1]byte
	dead := 0
	for _, fd := range c.fds {
		n, _, err := unix.Recvfrom(fd, b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		if n == 0 && err == nil || err != nil && err != unix.EAGAIN {
			dead++
		}
	}
	return dead
}

// close ends the connections: with an RST, which leaves nothing waiting on this
// side, or with a FIN.
func (c *crowd) close(reset bool) {
	for _, fd := range c.fds {
		if reset {
			unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}) //nolint:errcheck // a FIN will do
		}
		unix.Close(fd)
	}
	c.fds = nil
}

// vanish ends the connections without a word, as a host that lost its power does:
// sockets under repair send nothing (needs CAP_NET_ADMIN in the namespace).
func (c *crowd) vanish() error {
	for i, fd := range c.fds {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR, 1); err != nil {
			return fmt.Errorf("connection %d: TCP_REPAIR: %w", i+1, err)
		}
		unix.Close(fd)
		c.fds[i] = -1
	}
	c.fds = nil
	return nil
}

// readReply reads one small HTTP reply, which comes as a whole, and its end.
func readReply(fd int) error {
	var got []byte
	for end := time.Now().Add(replyTime); time.Now().Before(end); {
		if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 100); err != nil && err != unix.EINTR {
			return err
		}
		b := make([]byte, 4096)
		n, err := unix.Read(fd, b)
		switch {
		case err == unix.EAGAIN || err == unix.EINTR:
			continue
		case err != nil:
			return err
		case n == 0:
			return fmt.Errorf("closed after %s", abridge(string(got)))
		}
		got = append(got, b[:n]...)
		if s := string(got); strings.HasSuffix(s, "\r\n\r\n1\n") {
			if !strings.HasPrefix(s, "HTTP/1.1 200 ") {
				return fmt.Errorf("reply %s", abridge(s))
			}
			return nil
		}
	}
	return fmt.Errorf("no reply within %v, only %s", replyTime, abridge(string(got)))
}

package stream

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// connectPatience bounds the opening of all connections.
const connectPatience = 30 * time.Second

// connectWindow is how many connections are opened at a time: under the backlog
// that servers commonly ask for.
const connectWindow = 64

// connect opens every connection, a window at a time.
func (e *engine) connect(ctx context.Context, addr netip.AddrPort) error {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err == nil && lim.Cur < uint64(len(e.conns)+64) {
		lim.Cur = min(lim.Max, uint64(len(e.conns)+64))
		_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &lim) // a socket call says so if it was not enough
	}
	end := time.Now().Add(connectPatience)
	for first := 0; first < len(e.conns); first += connectWindow {
		last := min(first+connectWindow, len(e.conns))
		for i := first; i < last; i++ {
			if err := e.open(i, addr); err != nil {
				return err
			}
		}
		for i := first; i < last; i++ {
			if err := e.established(ctx, i, addr, end); err != nil {
				return err
			}
		}
	}
	e.alive = len(e.conns)
	return nil
}

func (e *engine) open(i int, addr netip.AddrPort) error {
	family := unix.AF_INET
	var sa unix.Sockaddr = &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().Unmap().As4()}
	if addr.Addr().Unmap().Is6() {
		family = unix.AF_INET6
		sa = &unix.SockaddrInet6{Port: int(addr.Port()), Addr: addr.Addr().As16()}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("stream: socket %d of %d: %w", i+1, len(e.conns), err)
	}
	e.conns[i].fd = fd
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if err := unix.Connect(fd, sa); err != nil && err != unix.EINPROGRESS {
		return fmt.Errorf("stream: connect %v: %w", addr, err)
	}
	return nil
}

func (e *engine) established(ctx context.Context, i int, addr netip.AddrPort, end time.Time) error {
	fd := e.conns[i].fd
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, 50)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && err != unix.EINTR:
			return fmt.Errorf("stream: poll: %w", err)
		case n > 0:
			soerr, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
			if err == nil && soerr != 0 {
				err = unix.Errno(soerr)
			}
			if err != nil {
				return fmt.Errorf("stream: connect %v: %w", addr, err)
			}
			return unix.EpollCtl(e.ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(i)})
		case time.Now().After(end):
			return fmt.Errorf("stream: connect %v: %d of %d connections within %v", addr, i, len(e.conns), connectPatience)
		}
	}
}

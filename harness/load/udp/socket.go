package udp

import (
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"osv/harness/load/mmsg"
)

// batch is the most datagrams that one system call moves.
const batch = 64

// socketPort is a Port over connected kernel sockets, one per source port. Sends
// go round robin by call, so that a server that spreads flows over threads or
// queues is exercised.
type socketPort struct {
	fds     []int
	poll    []unix.PollFd
	tx, rx  *mmsg.Vec
	bufs    [][]byte
	next    int // socket of the next Send
	rxNext  int // socket that the next Recv looks at first
	timeout unix.Timespec
}

// OpenSocket makes a port of flows sockets to addr.
func OpenSocket(addr netip.AddrPort, flows int) (Port, error) {
	p := &socketPort{tx: mmsg.New(batch, false), rx: mmsg.New(batch, false)}
	for i := range batch {
		p.bufs = append(p.bufs, make([]byte, 2048))
		p.rx.Set(i, p.bufs[i])
	}
	for range flows {
		fd, err := dialUDP(addr)
		if err != nil {
			p.Close()
			return nil, err
		}
		p.fds = append(p.fds, fd)
		p.poll = append(p.poll, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	return p, nil
}

func dialUDP(addr netip.AddrPort) (int, error) {
	family := unix.AF_INET
	var sa unix.Sockaddr = &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().Unmap().As4()}
	if addr.Addr().Unmap().Is6() {
		family = unix.AF_INET6
		sa = &unix.SockaddrInet6{Port: int(addr.Port()), Addr: addr.Addr().As16()}
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("udp: socket: %w", err)
	}
	// A burst of replies must not be dropped on our own side; the kernel halves
	// nothing that it cannot give.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<20)
	if err := unix.Connect(fd, sa); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("udp: connect %v: %w", addr, err)
	}
	return fd, nil
}

// Send transmits on the next socket.
func (p *socketPort) Send(dgrams [][]byte) (int, error) {
	n := min(len(dgrams), batch)
	for i, d := range dgrams[:n] {
		p.tx.Set(i, d)
	}
	fd := p.fds[p.next]
	p.next++
	if p.next == len(p.fds) {
		p.next = 0
	}
	got, e := p.tx.Send(fd, n)
	switch e {
	case 0:
		return got, nil
	case unix.EAGAIN, unix.ENOBUFS, unix.EINTR:
		return 0, nil
	}
	return 0, e
}

// Recv takes from the sockets in turn until one batch is full.
func (p *socketPort) Recv(dgrams [][]byte) (int, error) {
	want := min(len(dgrams), batch)
	for range p.fds {
		fd := p.fds[p.rxNext]
		p.rxNext++
		if p.rxNext == len(p.fds) {
			p.rxNext = 0
		}
		n, e := p.rx.Recv(fd, want)
		switch e {
		case 0:
			for i := range n {
				dgrams[i] = p.bufs[i][:p.rx.Len(i)]
			}
			if n > 0 {
				return n, nil
			}
		case unix.EAGAIN, unix.EINTR:
		default:
			return 0, e
		}
	}
	return 0, nil
}

// Wait sleeps in ppoll.
func (p *socketPort) Wait(d time.Duration) error {
	p.timeout = unix.NsecToTimespec(int64(d))
	_, err := unix.Ppoll(p.poll, &p.timeout, nil)
	if err == unix.EINTR {
		return nil
	}
	return err
}

func (p *socketPort) Polls() bool { return false }

// Close closes the sockets.
func (p *socketPort) Close() error {
	for _, fd := range p.fds {
		unix.Close(fd)
	}
	p.fds = nil
	return nil
}

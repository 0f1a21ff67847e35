// Package null is the null server: it answers the memcached requests of package
// mctext as cheaply as it can, so that a load run against it shows the
// generator's own ceiling. It keeps no cache, only which of an item's two values
// was stored last.
//
// Who may use it: the benchmark's client guard, and tests as a server that is
// always right. It trusts its client: malformed requests are dropped (UDP) or
// end the connection (TCP), but never read past a buffer.
//
// Each server is one goroutine locked to a thread. Start reading at udp.go.
package null

import (
	"bytes"
	"fmt"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"

	"osv/harness/load/mctext"
)

// Server is a running null server.
type Server struct {
	Addr netip.AddrPort

	items *mctext.Items
	epoch []uint8
	wake  [2]int // pipe that ends the loop
	done  sync.WaitGroup
	fds   []int
	once  sync.Once // of Close
}

func newServer(items *mctext.Items) (*Server, error) {
	s := &Server{items: items, epoch: make([]uint8, items.Len())}
	if err := unix.Pipe2(s.wake[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, fmt.Errorf("null: pipe: %w", err)
	}
	return s, nil
}

// Close ends the server and waits for its thread.
func (s *Server) Close() error {
	s.once.Do(func() { // a second time the numbers may be another's
		_, _ = unix.Write(s.wake[1], []byte{0})
		s.done.Wait()
		for _, fd := range s.fds {
			unix.Close(fd)
		}
		unix.Close(s.wake[0])
		unix.Close(s.wake[1])
	})
	return nil
}

// answer handles the first command in b: it appends the reply to dst and returns
// how many bytes it used. 0 means that the command is not complete, -1 that it
// is not one of ours.
func (s *Server) answer(dst, b []byte) ([]byte, int) {
	eol := bytes.IndexByte(b, '\n')
	if eol < 0 {
		if len(b) > mctext.MaxKey+64 {
			return dst, -1
		}
		return dst, 0
	}
	if eol == 0 || b[eol-1] != '\r' {
		return dst, -1
	}
	line, used := b[:eol-1], eol+1
	if key, ok := bytes.CutPrefix(line, []byte("get ")); ok {
		i, ok := s.items.Find(key)
		if !ok {
			return append(dst, "END\r\n"...), used
		}
		return s.items.AppendValue(dst, i, s.epoch[i]), used
	}
	rest, ok := bytes.CutPrefix(line, []byte("set "))
	if !ok {
		return dst, -1
	}
	key, _, ok := bytes.Cut(rest, []byte(" "))
	if !ok {
		return dst, -1
	}
	i, ok := s.items.Find(key)
	if !ok {
		return dst, -1
	}
	v := s.items.Value(i, 0)
	if len(b) < used+len(v)+2 {
		return dst, 0
	}
	body := b[used : used+len(v)]
	switch {
	case b[used+len(v)] != '\r' || b[used+len(v)+1] != '\n':
		return dst, -1
	case bytes.Equal(body, v):
		s.epoch[i] = 0
	case bytes.Equal(body, s.items.Value(i, 1)):
		s.epoch[i] = 1
	default:
		return dst, -1
	}
	return append(dst, "STORED\r\n"...), used + len(v) + 2
}

// sockaddr converts an address for bind.
func sockaddr(a netip.AddrPort) (int, unix.Sockaddr) {
	if a.Addr().Unmap().Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().Unmap().As4()}
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// listen makes a bound non-blocking socket and learns its port.
func listen(addr netip.AddrPort, typ int) (int, netip.AddrPort, error) {
	family, sa := sockaddr(addr)
	fd, err := unix.Socket(family, typ|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, addr, fmt.Errorf("null: socket: %w", err)
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<20)
	if err := unix.Bind(fd, sa); err != nil {
		unix.Close(fd)
		return -1, addr, fmt.Errorf("null: bind %v: %w", addr, err)
	}
	got, err := unix.Getsockname(fd)
	if err != nil {
		unix.Close(fd)
		return -1, addr, fmt.Errorf("null: getsockname: %w", err)
	}
	switch g := got.(type) {
	case *unix.SockaddrInet4:
		addr = netip.AddrPortFrom(netip.AddrFrom4(g.Addr), uint16(g.Port))
	case *unix.SockaddrInet6:
		addr = netip.AddrPortFrom(netip.AddrFrom16(g.Addr), uint16(g.Port))
	}
	return fd, addr, nil
}

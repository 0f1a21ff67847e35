package iperf2

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"osv/appliances/iperf/host"
)

// DefaultPort is where a server listens, by TCP and UDP.
const DefaultPort = 5001

// Server serves any number of clients at a time.
type Server struct {
	Host     host.Host
	Local    netip.AddrPort // without an address: any
	Interval time.Duration  // between reports; 0: one at the end
	Verbose  bool
	Format   byte
	Out      io.Writer

	tcp   host.Listener
	udp   host.PacketConn
	ids   atomic.Int64
	slots chan struct{} // tests that run

	mu     sync.Mutex // guards what follows
	flows  map[netip.AddrPort]*flow
	closed bool
	wg     sync.WaitGroup
}

// maxTests bounds the tests at a time.
const maxTests = 512

// Listen opens the ports.
func (s *Server) Listen() error {
	l, err := s.Host.Listen(s.Local, host.Socket{})
	if err != nil {
		return err
	}
	u, err := s.Host.ListenPacket(netip.AddrPortFrom(s.Local.Addr(), l.Addr().Port()), host.Socket{})
	if err != nil {
		return errors.Join(err, l.Close())
	}
	s.tcp, s.udp = l, u
	s.slots = make(chan struct{}, maxTests)
	s.flows = map[netip.AddrPort]*flow{}
	return nil
}

// Addr is where the server listens.
func (s *Server) Addr() netip.AddrPort { return s.tcp.Addr() }

// Serve serves until ctx ends. The ports are closed when it returns.
func (s *Server) Serve(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer s.wg.Wait()
	defer stop()
	s.printf("%s\nServer listening on TCP and UDP port %d (iperf 2)\n%[1]s\n", dashes, s.Addr().Port())
	s.wg.Go(func() {
		<-ctx.Done()
		s.tcp.Close()
		s.udp.Close()
	})
	s.wg.Go(func() { s.udp.Receive(func(d *host.Datagram) error { s.datagram(ctx, d); return nil }) })
	s.wg.Go(func() { s.sweep(ctx) })
	for {
		c, err := s.tcp.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			var t interface{ Temporary() bool }
			if errors.As(err, &t) && t.Temporary() {
				time.Sleep(10 * time.Millisecond)
				continue
			}
			return err
		}
		if !s.enter() {
			c.Close()
			continue
		}
		s.wg.Go(func() {
			defer s.leave()
			s.connection(ctx, c)
		})
	}
}

// enter takes one of the places for tests.
func (s *Server) enter() bool {
	select {
	case s.slots <- struct{}{}:
		return true
	default:
		return false
	}
}

func (s *Server) leave() { <-s.slots }

const dashes = "------------------------------------------------------------"

// printf writes whole lines with one Write.
func (s *Server) printf(format string, args ...any) {
	io.WriteString(s.Out, fmt.Sprintf(format, args...))
}

package server

import (
	"errors"
	"net"
	"net/netip"

	"osv/appliances/memcached/proto"
)

// The socket engine for datagrams: as many goroutines as threads read from the
// one socket; each answers what it read.

// addrPortConn is what *net.UDPConn offers beyond net.PacketConn: the same
// without an allocation per datagram.
type addrPortConn interface {
	ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error)
	WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error)
}

// ServePacket answers the datagrams that come to pc, until the server is closed,
// and closes pc then.
func (s *Server) ServePacket(pc net.PacketConn) {
	s.closers = append(s.closers, pc)
	for range s.opt.Threads {
		s.wg.Add(1)
		go func() {
			defer s.wg.Done()
			if ap, ok := pc.(addrPortConn); ok {
				s.datagrams(pc, ap)
			} else {
				s.datagramsAnyAddr(pc)
			}
		}()
	}
}

// maxUDP is the largest UDP payload.
const maxUDP = 65535

func (s *Server) datagrams(pc net.PacketConn, ap addrPortConn) {
	d := proto.NewDatagram(s.proto, s.id())
	in, out := make([]byte, maxUDP), make([]byte, proto.MaxDatagram)
	for {
		n, from, err := ap.ReadFromUDPAddrPort(in)
		if err != nil {
			if s.stopped(err) {
				return
			}
			continue
		}
		proven := s.proven.has(from.Addr())
		for m := d.Handle(in[:n], out, proven); m > 0; m = d.More(out) {
			if _, err := ap.WriteToUDPAddrPort(out[:m], from); err != nil {
				s.stats.udpDropped.Add(1)
				break
			}
		}
	}
}

func (s *Server) datagramsAnyAddr(pc net.PacketConn) {
	d := proto.NewDatagram(s.proto, s.id())
	in, out := make([]byte, maxUDP), make([]byte, proto.MaxDatagram)
	for {
		n, from, err := pc.ReadFrom(in)
		if err != nil {
			if s.stopped(err) {
				return
			}
			continue
		}
		proven := s.proven.on && s.proven.has(addrOf(from))
		for m := d.Handle(in[:n], out, proven); m > 0; m = d.More(out) {
			if _, err := pc.WriteTo(out[:m], from); err != nil {
				s.stats.udpDropped.Add(1)
				break
			}
		}
	}
}

// stopped reports whether a failed read ends the reader. An ICMP error that came
// back for a reply does not.
func (s *Server) stopped(err error) bool {
	if s.closing() || errors.Is(err, net.ErrClosed) {
		return true
	}
	s.log.printf(1, "UDP read: %v", err)
	return false
}

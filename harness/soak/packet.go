package soak

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"osv/harness/wire"
)

// rawSocket sends whole Ethernet frames to the guest (packet(7)).
type rawSocket struct {
	fd       int
	hw, host net.HardwareAddr // the guest's card and the TAP's own
}

func openRaw(g *guest) (*rawSocket, error) {
	hw, err := net.ParseMAC(g.wire.NIC(0).MAC)
	if err != nil {
		return nil, err
	}
	s := &rawSocket{fd: -1, hw: hw}
	err = g.wire.Space.Do(func() error {
		ifc, err := net.InterfaceByName(g.wire.NIC(0).IfName)
		if err != nil {
			return err
		}
		s.host = ifc.HardwareAddr
		if s.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return fmt.Errorf("%w: packet socket: %v", ErrSkip, err)
		}
		return unix.Bind(s.fd, &unix.SockaddrLinklayer{Ifindex: ifc.Index})
	})
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *rawSocket) send(frame []byte) error {
	_, err := unix.Write(s.fd, frame)
	if err == unix.ENOBUFS || err == unix.EINTR {
		return nil // the interface's queue is full; the caller's rate is a bound
	}
	if err != nil {
		return fmt.Errorf("packet socket: %w", err)
	}
	return nil
}

func (s *rawSocket) close() {
	if s.fd >= 0 {
		unix.Close(s.fd)
	}
}

// Sizes of headers without options.
const (
	etherSize = 14
	ipSize    = 20
	tcpSize   = 20
	udpSize   = 8
)

// ipFrame is an Ethernet frame with an IPv4 packet (RFC 791, section 3.1) around
// payload.
func ipFrame(dstHW, srcHW net.HardwareAddr, src, dst netip.Addr, proto byte, payload []byte) []byte {
	f := make([]byte, etherSize+ipSize+len(payload))
	copy(f, dstHW)
	copy(f[6:], srcHW)
	binary.BigEndian.PutUint16(f[12:], 0x0800)
	ip := f[etherSize:]
	ip[0] = 0x45
	binary.BigEndian.PutUint16(ip[2:], uint16(ipSize+len(payload)))
	ip[8], ip[9] = 64, proto
	s, d := src.As4(), dst.As4()
	copy(ip[12:], s[:])
	copy(ip[16:], d[:])
	binary.BigEndian.PutUint16(ip[10:], fold(sum(ip[:ipSize], 0)))
	copy(ip[ipSize:], payload)
	return f
}

// synSegment is a SYN with the options that Linux sends (RFC 9293, section 3.1).
func synSegment(src, dst netip.AddrPort, seq uint32) []byte {
	opts := []byte{2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7} // MSS 1460, SACK, timestamps, scale
	t := make([]byte, tcpSize, tcpSize+len(opts))
	binary.BigEndian.PutUint16(t, src.Port())
	binary.BigEndian.PutUint16(t[2:], dst.Port())
	binary.BigEndian.PutUint32(t[4:], seq)
	t[12], t[13] = byte((tcpSize+len(opts))/4<<4), 0x02
	binary.BigEndian.PutUint16(t[14:], 64240)
	t = append(t, opts...)
	binary.BigEndian.PutUint16(t[16:], transportSum(src.Addr(), dst.Addr(), 6, t))
	return t
}

// udpDatagram is a UDP header and payload (RFC 768).
func udpDatagram(src, dst netip.AddrPort, payload []byte) []byte {
	u := make([]byte, udpSize, udpSize+len(payload))
	binary.BigEndian.PutUint16(u, src.Port())
	binary.BigEndian.PutUint16(u[2:], dst.Port())
	binary.BigEndian.PutUint16(u[4:], uint16(udpSize+len(payload)))
	u = append(u, payload...)
	binary.BigEndian.PutUint16(u[6:], transportSum(src.Addr(), dst.Addr(), 17, u))
	return u
}

// transportSum is the checksum of a segment whose own field is zero, over the
// pseudo-header too.
func transportSum(src, dst netip.Addr, proto byte, seg []byte) uint16 {
	s, d := src.As4(), dst.As4()
	pseudo := append(append(s[:], d[:]...), 0, proto, byte(len(seg)>>8), byte(len(seg)))
	return fold(sum(seg, sum(pseudo, 0)))
}

func sum(b []byte, acc uint32) uint32 {
	for ; len(b) > 1; b = b[2:] {
		acc += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		acc += uint32(b[0]) << 8
	}
	return acc
}

// fold is RFC 1071's end.
func fold(acc uint32) uint16 {
	for acc > 0xffff {
		acc = acc>>16 + acc&0xffff
	}
	return ^uint16(acc)
}

// stranger is a random source: mostly of the benchmark network 198.18.0.0/15
// (RFC 2544), to which the way is the gateway, at times of the guest's own network,
// where nobody answers for it.
func stranger(rng *rand.Rand) netip.AddrPort {
	port := uint16(1024 + rng.IntN(64000))
	if rng.IntN(8) == 0 {
		a := wire.Guest.Addr().As4()
		a[3] = byte(3 + rng.IntN(250))
		return netip.AddrPortFrom(netip.AddrFrom4(a), port)
	}
	v := rng.Uint32()
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18 | byte(v>>16&1), byte(v >> 8), byte(v)}), port)
}

// flood sends SYNs of strangers to the guest's port 80, rate of them a second, until
// ctx ends.
func flood(ctx context.Context, s *rawSocket, rate int) (sent int, err error) {
	rng := rand.New(rand.NewPCG(5, 6))
	dst := netip.AddrPortFrom(wire.Guest.Addr(), 80)
	err = paced(ctx, rate, func() error {
		src := stranger(rng)
		sent++
		return s.send(ipFrame(s.hw, s.host, src.Addr(), dst.Addr(), 6, synSegment(src, dst, rng.Uint32())))
	})
	return sent, err
}

// paced calls f rate times a second until ctx ends; what the machine was too slow
// for is left out, not made up for.
func paced(ctx context.Context, rate int, f func() error) error {
	const step = 5 * time.Millisecond
	t := time.NewTicker(step)
	defer t.Stop()
	n := max(1, rate*int(step)/int(time.Second))
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		for range n {
			if err := f(); err != nil {
				return err
			}
		}
	}
}

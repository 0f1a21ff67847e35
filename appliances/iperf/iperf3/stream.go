package iperf3

import (
	"errors"
	"io"
	"math"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"osv/appliances/iperf/host"
)

// stream is one flow of data in one direction. Its goroutine counts, that of the
// test reads the counts.
type stream struct {
	t      *test
	id     int // 1, 3, 4, 5, …: there is no 2
	sender bool
	tcp    host.Conn       // one of the two
	udp    host.PacketConn //

	bytes      atomic.Uint64
	packets    atomic.Int64 // datagrams sent, or the highest number received
	lost       atomic.Int64
	outOfOrder atomic.Int64
	jitter     atomic.Uint64 // seconds, as math.Float64bits

	base, last mark // at the beginning of what counts; of this interval
	end        mark
	conns      connStats

	done chan struct{} // closed when the goroutine has ended
	err  error         // then: why, if not by the end of the test
}

// mark is a reading of the counts.
type mark struct {
	at                        time.Time
	bytes                     uint64
	packets, lost, outOfOrder int64
	retransmits               int64
}

// connStats sums up what a sender's TCP said of itself at the marks.
type connStats struct {
	n                              int
	maxCwnd, maxWindow             int
	sumRTT, minRTT, maxRTT         time.Duration
	retransmitsAtStart, retransmit int64
	known                          bool
	last                           host.TCPInfo
}

// streamID is the id of the n-th stream, from 0.
func streamID(n int) int {
	if n == 0 {
		return 1
	}
	return n + 2
}

func (s *stream) ends() (local, remote netip.AddrPort) {
	if s.udp != nil {
		return s.udp.Local(), s.udp.Remote()
	}
	return addrPort(s.tcp.LocalAddr()), addrPort(s.tcp.RemoteAddr())
}

func addrPort(a net.Addr) netip.AddrPort {
	if t, ok := a.(*net.TCPAddr); ok {
		ap := t.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return netip.AddrPort{}
}

// read takes a mark, and asks TCP about itself.
func (s *stream) read(now time.Time) mark {
	m := mark{at: now, bytes: s.bytes.Load(), packets: s.packets.Load(), lost: s.lost.Load(), outOfOrder: s.outOfOrder.Load()}
	if s.tcp == nil || !s.sender {
		return m
	}
	i, ok := s.tcp.Info()
	if !ok {
		return m
	}
	c := &s.conns
	c.known, c.last = true, i
	c.n++
	c.maxCwnd, c.maxWindow = max(c.maxCwnd, i.Cwnd), max(c.maxWindow, i.PeerWindow)
	c.sumRTT += i.RTT
	c.maxRTT = max(c.maxRTT, i.RTT)
	if c.minRTT == 0 || i.RTT < c.minRTT {
		c.minRTT = i.RTT
	}
	m.retransmits = i.Retransmits
	return m
}

// sample is what happened between two marks, as seconds since zero.
func (s *stream) sample(from, to mark, zero time.Time) Sample {
	out := Sample{
		ID: s.id, Sender: s.sender, Start: from.at.Sub(zero).Seconds(), End: to.at.Sub(zero).Seconds(),
		Bytes: to.bytes - from.bytes, Packets: to.packets - from.packets, Lost: to.lost - from.lost,
		OutOfOrder: to.outOfOrder - from.outOfOrder, Jitter: math.Float64frombits(s.jitter.Load()),
		Retransmits: -1,
	}
	if s.sender && s.conns.known {
		out.Retransmits, out.Info = to.retransmits-from.retransmits, &s.conns.last
	}
	return out
}

// run moves data until the test stops it.
func (s *stream) run() {
	defer close(s.done)
	var err error
	switch {
	case s.udp != nil && s.sender:
		err = s.sendUDP()
	case s.udp != nil:
		err = s.receiveUDP()
	case s.sender:
		err = s.sendTCP()
	default:
		err = s.tcp.Sink(&s.bytes)
		if err == nil && !s.t.stopped() {
			err = io.EOF // the peer closed before the test was over
		}
	}
	if s.t.stopped() || errors.Is(err, os.ErrDeadlineExceeded) {
		err = nil
	}
	s.err = err
	s.t.streamEnded(s)
}

// unblock ends a Read or Write that waits.
func (s *stream) unblock() {
	now := time.Now()
	if s.udp != nil {
		s.udp.SetReadDeadline(now)
	} else {
		s.tcp.SetDeadline(now)
	}
}

func (s *stream) close() {
	if s.udp != nil {
		s.udp.Close()
	} else {
		s.tcp.Close()
	}
}

// sendTCP writes blocks out of the test's one buffer.
func (s *stream) sendTCP() error {
	pacing := s.t.pacing()
	for {
		n := s.t.claim(s.t.p.Block)
		if n == 0 {
			return nil
		}
		if !pacing.wait(n) {
			return nil
		}
		k, err := s.tcp.Write(s.t.block[:n])
		s.bytes.Add(uint64(k))
		if err != nil {
			return err
		}
		if s.t.stopped() {
			return nil
		}
	}
}

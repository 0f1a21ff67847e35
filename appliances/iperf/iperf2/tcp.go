package iperf2

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"osv/appliances/iperf/host"
	"osv/appliances/iperf/pace"
)

// headerWait is how long a client may take for its first octets.
const headerWait = 10 * time.Second

// endWait is how long both ends of a connection may take to close it after the
// last octet was sent.
const endWait = 10 * time.Second

// connection serves one TCP client.
func (s *Server) connection(ctx context.Context, c host.Conn) {
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Now()) })
	defer stop()
	l := s.newLine(addrPort(c.LocalAddr()), addrPort(c.RemoteAddr()))
	var n atomic.Uint64
	h, ok := readHeader(c, &n)
	if !ok {
		return // it said nothing: a probe of the port
	}
	c.SetReadDeadline(time.Time{})
	if ctx.Err() != nil {
		return
	}
	l.connected()
	if h.needsAck() {
		c.Write(appendAck(nil, h.wants(extTripTime), time.Now()))
	}
	reverse, both := h.wants(extReverse), h.wants(extFullDuplex)
	var wg sync.WaitGroup
	if h.dual() && h.flags&flagRunNow != 0 {
		wg.Go(func() { s.back(ctx, l.remote, h) })
	}
	if reverse || both {
		wg.Go(func() { s.send(ctx, c, l, h) })
	}
	begin := time.Now()
	done := s.reports(l, &n, begin, reverse)
	if reverse {
		wg.Wait()
		c.SetReadDeadline(time.Now().Add(endWait))
	}
	err := c.Sink(&n)
	wg.Wait()
	done()
	if !reverse {
		l.summary(n.Load(), time.Since(begin))
	}
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) && s.Verbose {
		l.failed(err)
	}
	if h.dual() && h.flags&flagRunNow == 0 && ctx.Err() == nil {
		c.Close()
		s.back(ctx, l.remote, h)
	}
}

// readHeader reads as much as the client's header has, and counts it: its octets
// belong to the test. false: the client said nothing.
func readHeader(c host.Conn, n *atomic.Uint64) (header, bool) {
	c.SetReadDeadline(time.Now().Add(headerWait))
	var b [v1Len + extLen]byte
	k, err := io.ReadFull(c, b[:4])
	n.Add(uint64(k))
	if err != nil {
		return header{}, k > 0
	}
	if want := headerLen(binary.BigEndian.Uint32(b[:])); want > 4 {
		m, err := io.ReadFull(c, b[4:want])
		n.Add(uint64(m))
		k += m
		if err != nil {
			return header{}, true
		}
	}
	return parseHeader(b[:k]), true
}

func addrPort(a net.Addr) netip.AddrPort {
	if t, ok := a.(*net.TCPAddr); ok {
		ap := t.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return netip.AddrPort{}
}

// pattern is what is sent.
var pattern = sync.OnceValue(func() []byte {
	b := make([]byte, maxBlock)
	for i := range b {
		b[i] = byte('0' + i%10)
	}
	return b
})

// limits are a sender's: octets or time.
func (h *header) limits() (octets int64, end time.Time) {
	d := h.time
	if d == 0 && h.amount == 0 {
		d = defaultTime
	}
	if d > 0 {
		end = time.Now().Add(d)
	}
	return h.amount, end
}

// send sends what h asks for on c, and ends the stream.
func (s *Server) send(ctx context.Context, c host.Conn, l *line, h header) {
	block := h.block
	if block == 0 {
		block = defaultBlock
	}
	octets, end := h.limits()
	if !end.IsZero() {
		c.SetWriteDeadline(end)
		defer c.SetWriteDeadline(time.Time{})
	}
	p := pace.New(h.rate, 1, time.Millisecond, time.Now())
	var n atomic.Uint64
	begin := time.Now()
	done := s.reports(l, &n, begin, false)
	for ctx.Err() == nil {
		k := block
		if octets > 0 {
			k = int(min(int64(k), octets-int64(n.Load())))
		}
		if k <= 0 || !end.IsZero() && !time.Now().Before(end) {
			break
		}
		if d := p.Due(k, time.Now()); d > 0 {
			sleep(ctx, d)
			continue
		}
		m, err := c.Write(pattern()[:k])
		n.Add(uint64(m))
		if err != nil {
			if s.Verbose && !errors.Is(err, os.ErrDeadlineExceeded) {
				l.failed(err)
			}
			break
		}
	}
	done()
	c.CloseWrite()
	l.summary(n.Load(), time.Since(begin))
}

// sleep is time.Sleep that ctx cuts short.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// A client asks for the connection back before it listens: a refusal is tried
// again, for some time.
const (
	backWait  = 3 * time.Second
	backEvery = 20 * time.Millisecond
)

func (s *Server) dialBack(ctx context.Context, to netip.AddrPort) (host.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, backWait)
	defer cancel()
	for {
		c, err := s.Host.Dial(ctx, netip.AddrPort{}, to, host.Socket{})
		if !errors.Is(err, syscall.ECONNREFUSED) || ctx.Err() != nil {
			return c, err
		}
		sleep(ctx, backEvery)
	}
}

// back is the server's half of -d and -r: a connection to the client, which
// listens there.
func (s *Server) back(ctx context.Context, peer netip.AddrPort, h header) {
	if h.port == 0 {
		return
	}
	to := netip.AddrPortFrom(peer.Addr(), h.port)
	c, err := s.dialBack(ctx, to)
	if err != nil {
		s.printf("iperf: connection back to %v: %v\n", to, err)
		return
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Now()) })
	defer stop()
	l := s.newLine(addrPort(c.LocalAddr()), to)
	l.connected()
	s.send(ctx, c, l, h)
	c.SetReadDeadline(time.Now().Add(endWait))
	var n atomic.Uint64
	c.Sink(&n) // until the client has all
}

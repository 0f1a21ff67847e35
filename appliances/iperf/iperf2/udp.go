package iperf2

import (
	"context"
	"errors"
	"math"
	"net/netip"
	"sync"
	"time"

	"osv/appliances/iperf/host"
	"osv/appliances/iperf/pace"
)

// flow is one UDP client's test. Its datagrams come from its own socket, and those
// that were on their way when that was made from the listener's.
type flow struct {
	s    *Server
	c    host.PacketConn
	l    *line
	head header
	wide bool

	mu     sync.Mutex // guards what follows
	acc    account
	began  time.Time
	ended  time.Time // when the last datagram came
	answer []byte    // to that, and to its repetitions
	quiet  int       // sweeps without a datagram
	shown  mark
	gone   bool
}

// account keeps count of datagrams.
type account struct {
	started       bool
	first         int64 // the number that clients of this kind begin with
	highest       int64
	lost, late    int64
	bytes         uint64
	jitter, prev  float64 // seconds
	datagramsHere int64
}

// take counts a datagram of n octets that came at ns.
func (a *account) take(q sequence, n int, ns int64) {
	if !a.started {
		a.started, a.highest = true, a.first-1
	}
	a.bytes += uint64(n)
	a.datagramsHere++
	switch {
	case q.id > a.highest:
		a.lost += q.id - a.highest - 1
		a.highest = q.id
	default:
		a.late++
		if a.lost > 0 {
			a.lost--
		}
	}
	transit := float64(ns)/1e9 - float64(q.sec) - float64(q.usec)/1e6
	if a.datagramsHere > 1 {
		a.jitter += (math.Abs(transit-a.prev) - a.jitter) / 16
	}
	a.prev = transit
}

// packets is how many datagrams the client has sent, as far as is known.
func (a *account) packets() int64 {
	if !a.started {
		return 0
	}
	return a.highest - a.first + 1
}

// datagram takes what comes to the listening socket.
func (s *Server) datagram(ctx context.Context, d *host.Datagram) {
	s.mu.Lock()
	f := s.flows[d.From]
	s.mu.Unlock()
	if f == nil {
		if f = s.newFlow(ctx, d); f == nil {
			return
		}
	}
	f.take(d)
}

// newFlow begins a test with its first datagram d; nil where that is none.
func (s *Server) newFlow(ctx context.Context, d *host.Datagram) *flow {
	wide := isWide(d.Data)
	q, ok := parseSequence(d.Data, wide)
	if !ok || q.id < 0 || !s.enter() { // negative: the end of a test that is over
		return nil
	}
	c, err := s.udp.Connect(d, host.Socket{})
	if err != nil {
		s.leave()
		return nil
	}
	f := &flow{s: s, c: c, l: s.newLine(c.Local(), d.From), wide: wide, head: udpHeader(d.Data, wide), began: time.Now()}
	f.acc.first = 1
	if !wide && q.id == 0 {
		f.acc.first = 0 // 2.0.5
	}
	f.shown.at = f.began
	f.l.udp = true
	f.l.connected()
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		c.Close()
		s.leave()
		return nil
	}
	s.flows[d.From] = f
	s.mu.Unlock()
	s.wg.Go(func() {
		defer s.leave()
		f.serve(ctx)
	})
	return f
}

// settle is how long a new flow's socket lets the listener's reader go first.
const settle = 5 * time.Millisecond

// serve is a flow's goroutine.
func (f *flow) serve(ctx context.Context) {
	var wg sync.WaitGroup
	if f.head.wants(extReverse | extFullDuplex) {
		wg.Go(func() { f.s.sendUDP(ctx, f.c, f.l, f.head, f.wide, false) })
	}
	if f.head.dual() && f.head.flags&flagRunNow != 0 {
		wg.Go(func() { f.s.backUDP(ctx, f.c.Remote(), f.head, f.wide) })
	}
	// What came before this socket was made is in the listener's queue, and first.
	sleep(ctx, settle)
	f.c.Receive(func(d *host.Datagram) error { f.take(d); return nil })
	wg.Wait()
	s := f.s
	s.mu.Lock()
	delete(s.flows, f.c.Remote())
	s.mu.Unlock()
	f.c.Close()
	if f.head.dual() && f.head.flags&flagRunNow == 0 && ctx.Err() == nil {
		s.backUDP(ctx, f.c.Remote(), f.head, f.wide)
	}
}

// take counts a datagram, or ends the test with it.
func (f *flow) take(d *host.Datagram) {
	q, ok := parseSequence(d.Data, f.wide)
	if !ok {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.quiet = 0
	if q.id >= 0 {
		if f.ended.IsZero() {
			f.acc.take(q, d.Len, d.Time)
		}
		return
	}
	if f.ended.IsZero() {
		f.finish(time.Now())
		if !f.head.wants(extReverse) && f.head.ext&extNoFin == 0 {
			r := f.report()
			f.answer = appendReport(nil, d.Data, &r, f.wide)
		}
	}
	if f.answer != nil {
		f.c.Write(f.answer)
	}
}

// finish ends what counts. Caller must hold mu.
func (f *flow) finish(now time.Time) {
	f.ended = now
	if f.acc.started && !f.head.wants(extReverse) {
		r := f.report()
		f.l.udpSummary(&r)
	}
}

// report is the test's so far. Caller must hold mu.
func (f *flow) report() report {
	return report{
		bytes: f.acc.bytes, span: f.ended.Sub(f.began), lost: f.acc.lost, outOfOrder: f.acc.late,
		packets: f.acc.packets(), jitter: time.Duration(f.acc.jitter * 1e9),
	}
}

// A flow that has ended answers repetitions for lingerSweeps seconds; one whose
// client has fallen silent is given up after idleSweeps.
const (
	sweepEvery   = time.Second
	lingerSweeps = 2
	idleSweeps   = 15
)

// sweep ends flows that are over or silent, and prints what is due.
func (s *Server) sweep(ctx context.Context) {
	every := sweepEvery
	if s.Interval > 0 {
		every = min(every, s.Interval)
	}
	t := time.NewTicker(every)
	defer t.Stop()
	last := time.Now()
	for {
		end := false
		select {
		case <-ctx.Done():
			end = true
		case <-t.C:
		}
		now := time.Now()
		second := now.Sub(last) >= sweepEvery*9/10
		if second {
			last = now
		}
		s.mu.Lock()
		s.closed = end
		fs := make([]*flow, 0, len(s.flows))
		for _, f := range s.flows {
			fs = append(fs, f)
		}
		s.mu.Unlock()
		for _, f := range fs {
			f.sweep(now, second, end)
		}
		if end {
			return
		}
	}
}

func (f *flow) sweep(now time.Time, second, end bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.s.Interval > 0 && f.ended.IsZero() && now.Sub(f.shown.at) >= f.s.Interval*9/10 && !f.head.wants(extReverse) {
		f.l.udpInterval(&f.shown, &f.acc, f.began, now)
	}
	if second {
		f.quiet++
	}
	limit := idleSweeps
	if !f.ended.IsZero() {
		limit = lingerSweeps
	}
	if (f.quiet > limit && !f.sending() || end) && !f.gone {
		f.gone = true
		if f.ended.IsZero() {
			f.finish(now)
		}
		f.c.SetReadDeadline(now)
	}
}

// sending reports that the client is silent because it was to be sent to.
func (f *flow) sending() bool {
	if !f.head.wants(extReverse | extFullDuplex) {
		return false
	}
	d := f.head.time
	if d == 0 {
		d = defaultTime
		if f.head.amount > 0 {
			d = maxTime
		}
	}
	return f.ended.IsZero() && time.Since(f.began) < d+idleSweeps*sweepEvery
}

// finTries is how often the end is told, finEvery how long an answer is waited for.
const (
	finTries = 10
	finEvery = 100 * time.Millisecond
)

var errReported = errors.New("reported")

// sendUDP sends datagrams on c as h asks. ack says that the receiver will answer
// the last with its report.
func (s *Server) sendUDP(ctx context.Context, c host.PacketConn, l *line, h header, wide, ack bool) {
	size := h.block
	if size == 0 {
		size = udpBlock
	}
	size = min(max(size, seqLen), maxDatagram)
	b := append([]byte(nil), pattern()[:size]...)
	if wide && size >= seqLen+4 {
		clear(b[:min(size, seqLen+v1Len+extLen)])
		b[seqLen] = byte(flagSeq64 >> 24)
	} else if size >= oldSeqLen+4 {
		clear(b[:min(size, oldSeqLen+v1Len)])
	}
	put := func(id int64) {
		if wide {
			putSequence(b, id, time.Now())
		} else {
			putSequence(b[:oldSeqLen], id, time.Now())
		}
	}
	octets, end := h.limits()
	rate := h.rate
	if rate == 0 {
		rate = 1 << 20
	}
	p := pace.New(rate, 1, time.Millisecond, time.Now())
	begin, id, sent := time.Now(), int64(1), uint64(0)
	if !wide {
		id = 0
	}
	first := id
	for ctx.Err() == nil {
		if octets > 0 && sent >= uint64(octets) || !end.IsZero() && !time.Now().Before(end) {
			break
		}
		if d := p.Due(size, time.Now()); d > 0 {
			sleep(ctx, d)
			continue
		}
		put(id)
		if _, err := c.Write(b); err != nil {
			sleep(ctx, time.Millisecond)
			continue
		}
		id++
		sent += uint64(size)
	}
	l.summary(sent, time.Since(begin))
	s.printf("%s Sent %d datagrams\n", l.tag(), id-first)
	for range finTries {
		put(-id)
		id++
		c.Write(b)
		if !ack {
			sleep(ctx, finEvery/10)
			continue
		}
		c.SetReadDeadline(time.Now().Add(finEvery))
		err := c.Receive(func(d *host.Datagram) error {
			if r, ok := parseReport(d.Data, wide); ok {
				s.printf("%s Server Report:\n", l.tag())
				l.udpSummary(&r)
				return errReported
			}
			return nil
		})
		if err == errReported || ctx.Err() != nil {
			break
		}
	}
}

// backUDP is the server's half of -d and -r by UDP.
func (s *Server) backUDP(ctx context.Context, peer netip.AddrPort, h header, wide bool) {
	if h.port == 0 {
		return
	}
	to := netip.AddrPortFrom(peer.Addr(), h.port)
	c, err := s.Host.DialPacket(netip.AddrPort{}, to, host.Socket{})
	if err != nil {
		s.printf("iperf: datagrams back to %v: %v\n", to, err)
		return
	}
	defer c.Close()
	l := s.newLine(c.Local(), to)
	l.connected()
	s.sendUDP(ctx, c, l, h, wide, true)
}

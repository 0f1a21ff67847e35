package server

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"

	"osv/appliances/memcached/proto"
	"osv/kernel/net/sock/tcpsock"
	"osv/kernel/net/tcp"
	"osv/kernel/net/udp"
)

// The batch engine, on our own stack: as many goroutines as threads, each of
// which reads many datagrams, or looks after many connections, at a time. What
// the packets cost in the receive loop is only the classifier's work.

const batchSize = 64

// batchUDP answers datagrams to host and port in batches.
func (s *Server) batchUDP(host string, port int) error {
	addr, err := localAddr(host, port)
	if err != nil {
		return err
	}
	uc, err := udp.Listen(s.host.Stack(), addr, udp.Options{Queue: 4 * batchSize})
	if err != nil {
		return err
	}
	s.closers = append(s.closers, uc)
	for range s.opt.Threads {
		s.wg.Add(1)
		go func() {
			defer s.wg.Done()
			s.udpBatches(uc)
		}()
	}
	return nil
}

func (s *Server) udpBatches(uc *udp.Conn) {
	d := proto.NewDatagram(s.proto, s.id())
	var in, out [batchSize]udp.Message
	for i := range in {
		in[i].Data = make([]byte, maxUDP/32)
		out[i].Data = make([]byte, proto.MaxDatagram)
	}
	n := 0 // replies in out
	send := func() {
		for m := out[:n]; len(m) > 0; {
			k, err := uc.WriteBatch(m)
			if m = m[k:]; err != nil && len(m) > 0 {
				// This one cannot go out; the others may.
				s.stats.udpDropped.Add(1)
				m = m[1:]
			}
		}
		n = 0
	}
	for {
		got, err := uc.ReadBatch(in[:])
		if err != nil {
			if s.stopped(err) {
				return
			}
			continue
		}
		for i := range in[:got] {
			m := &in[i]
			if m.N > len(m.Data) {
				continue // cut; a request fits a frame
			}
			proven := s.proven.has(m.Addr.Addr())
			for k := d.Handle(m.Data[:m.N], out[n].Data[:cap(out[n].Data)], proven); k > 0; {
				o := &out[n]
				o.Data, o.Addr, o.Local = o.Data[:k], m.Addr, m.Local
				if n++; n == batchSize {
					send()
				}
				k = d.More(out[n].Data[:cap(out[n].Data)])
			}
		}
		send()
	}
}

// batchTCP serves connections to host and port with a few goroutines.
func (s *Server) batchTCP(host string, port int) error {
	addr, err := localAddr(host, port)
	if err != nil {
		return err
	}
	l, err := s.host.TCP().Listen(addr, tcpsock.ListenConfig{Backlog: s.opt.Backlog, Options: tcp.Options{Keepalive: true}})
	if err != nil {
		return err
	}
	s.closers = append(s.closers, l)
	pollers := make([]*poller, s.opt.Threads)
	for i := range pollers {
		p := &poller{s: s, sema: make(chan struct{}, 1)}
		pollers[i] = p
		s.closers = append(s.closers, closeFunc(p.wake))
		s.wg.Add(1)
		go p.run()
	}
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		for i := 0; ; i++ {
			nc, err := l.Accept()
			if err != nil {
				if s.stopped(err) {
					return
				}
				continue
			}
			pollers[i%len(pollers)].open(nc.(*tcpsock.Conn))
		}
	}()
	return nil
}

// poller looks after some of the connections. A connection whose segments have
// come queues itself, once, and the poller's goroutine runs it.
type poller struct {
	s    *Server
	sema chan struct{}

	mu    sync.Mutex // guards what follows
	ready []*polled
	n     int // connections
}

// polled is a connection of a poller.
type polled struct {
	stream
	tc     *tcpsock.Conn
	queued atomic.Bool
	rest   []byte // requests that were read and wait for their turn
	werr   error
	over   bool // these three are the poller goroutine's
}

func (p *poller) wake() {
	select {
	case p.sema <- struct{}{}:
	default:
	}
}

func (c *polled) tryWrite(b []byte) int {
	n, err := c.tc.TryWrite(b)
	if err != nil && !errors.Is(err, tcpsock.ErrWouldBlock) {
		c.werr = err
	}
	return n
}

// open takes a new connection.
func (p *poller) open(tc *tcpsock.Conn) {
	s := p.s
	c := &polled{tc: tc}
	c.id = s.id()
	c.write = c.tryWrite
	c.kill = func() { tc.Close(); p.queue(c) }
	s.begin(&c.conn, tc.LocalAddr(), tc.RemoteAddr())
	if !s.conns.add(&c.conn) {
		s.refuse(tc)
		return
	}
	s.opened(&c.conn)
	p.mu.Lock()
	p.n++
	p.mu.Unlock()
	tc.SetNotify(func() { p.queue(c) })
	p.queue(c)
}

// queue puts c where the poller finds it. It is called in the receive loop.
func (p *poller) queue(c *polled) {
	if c.queued.Swap(true) {
		return
	}
	p.mu.Lock()
	p.ready = append(p.ready, c)
	p.mu.Unlock()
	p.wake()
}

func (p *poller) run() {
	defer p.s.wg.Done()
	in := make([]byte, bigRead)
	var work []*polled
	for {
		p.mu.Lock()
		work, p.ready = p.ready, work[:0]
		left := p.n
		p.mu.Unlock()
		if len(work) == 0 {
			if left == 0 && p.s.closing() {
				return
			}
			<-p.sema
			continue
		}
		for i, c := range work {
			work[i] = nil
			// Before the read, so that what comes during it queues c again.
			c.queued.Store(false)
			if !c.over && !p.serve(c, in) {
				c.over = true
				c.tc.SetNotify(nil)
				c.tc.Close()
				p.s.ended(&c.conn)
				p.mu.Lock()
				p.n--
				p.mu.Unlock()
			}
		}
	}
}

// serve runs what c has to offer, one buffer full at most, so that no connection
// keeps the others waiting. It reports whether the connection goes on.
func (p *poller) serve(c *polled, in []byte) bool {
	c.state.Store(int32(connParse))
	defer c.state.Store(int32(connRead))
	if c.waiting() || len(c.rest) > 0 {
		n, open := c.step(c.rest, p.s)
		c.rest = c.rest[:copy(c.rest, c.rest[n:])]
		if !open || c.werr != nil {
			return false
		}
		if c.waiting() {
			return true // Notify tells of room
		}
	}
	k, err := c.tc.TryRead(in)
	if k > 0 {
		n, open := c.step(in[:k], p.s)
		if !open || c.werr != nil {
			return false
		}
		c.rest = append(c.rest[:0], in[n:k]...)
		p.queue(c) // there may be more
		return true
	}
	switch {
	case err == nil, errors.Is(err, tcpsock.ErrWouldBlock):
		return true
	case errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed):
	default:
		p.s.log.printf(2, "%d: read: %v", c.id, err)
	}
	return false
}

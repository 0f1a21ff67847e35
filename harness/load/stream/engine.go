// Package stream is the TCP engine: many connections, pipelining, open and
// closed loop, from one thread without allocation. The protocol is a load.Codec.
//
// Requests due go to the connections in turn, passing over those whose pipeline
// is full; when all are full the schedule waits, but keeps its intended times.
// Replies of a connection come in the order of its requests.
//
// Who may use it: drive and tests. A broken connection spoils the sample: it is
// counted as an error and not reopened, since a server that drops connections
// under load is not measured but reported.
//
// Start reading at turn.
package stream

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"osv/harness/load"
)

// pending is one request on its way.
type pending struct {
	intended, sent int64
	q              load.Req
}

// conn is one connection. ring holds its requests in order: head is the oldest
// without a reply; unsent of the youngest are still in tx.
type conn struct {
	fd     int
	tx     []byte // bytes not yet written
	rx     []byte // a reply that has not come in full
	ring   []pending
	head   uint32
	tail   uint32
	fresh  uint32 // requests in tx since the last write, youngest of the ring
	armed  bool   // EPOLLOUT
	queued bool   // in the engine's flush list
	dead   bool
}

func (c *conn) outstanding() int { return int(c.tail - c.head) }

// engine is one run.
type engine struct {
	*load.Engine
	ep       int
	conns    []conn
	next     int // connection that the next request tries first
	inflight int
	alive    int
	buf      []byte // one read
	events   []unix.EpollEvent
	flush    []int // connections with something to write
	timeout  unix.Timespec
	scanAt   int64 // next look for requests that are overdue
}

const (
	readBytes  = 256 << 10
	maxEvents  = 512
	scanPeriod = 100e6
)

// Run connects, sends load to addr and ends with the window or the codec.
func Run(ctx context.Context, spec load.Spec, codec load.Codec, addr netip.AddrPort, probes load.Probes) (*load.Engine, error) {
	base, err := load.NewEngine(spec, codec, false)
	if err != nil {
		return nil, err
	}
	base.Probe = probes
	return base, runOn(ctx, base, addr)
}

// RunJob runs a finite codec to its end, closed loop.
func RunJob(ctx context.Context, spec load.Spec, codec load.Codec, addr netip.AddrPort) error {
	base, err := load.NewEngine(spec, codec, true)
	if err != nil {
		return err
	}
	if err := runOn(ctx, base, addr); err != nil {
		return err
	}
	if base.Rec.Errors+base.Rec.Wrong > 0 {
		var r load.Result
		base.Rec.Fill(&r)
		_, why := r.Clean()
		return fmt.Errorf("stream: %s", why)
	}
	return nil
}

func runOn(ctx context.Context, base *load.Engine, addr netip.AddrPort) error {
	e, err := newEngine(base)
	if err != nil {
		return err
	}
	defer e.close()
	if err := e.connect(ctx, addr); err != nil {
		return err
	}
	// Connecting may have taken longer than the warm-up: the clock starts here.
	t0 := base.Now()
	clock := base.Now
	base.Now = func() int64 { return clock() - t0 }
	defer base.Begin(ctx)()
	for {
		more, err := e.turn()
		if err != nil {
			return err
		}
		if !more {
			return ctx.Err()
		}
	}
}

func newEngine(base *load.Engine) (*engine, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("stream: epoll: %w", err)
	}
	size := uint32(1)
	for int(size) < base.Spec.Outstanding {
		size *= 2
	}
	n := base.Spec.Conns
	e := &engine{Engine: base, ep: ep, conns: make([]conn, n), buf: make([]byte, max(readBytes, 2*base.Codec.MaxReply())),
		events: make([]unix.EpollEvent, maxEvents), flush: make([]int, 0, n)}
	// A connection's transmit room holds its whole pipeline when that is small,
	// and at least one request.
	room := max(base.Codec.MaxRequest(), min(base.Spec.Outstanding*base.Codec.MaxRequest(), 64<<10))
	for i := range e.conns {
		e.conns[i] = conn{fd: -1, ring: make([]pending, size), tx: make([]byte, 0, room), rx: make([]byte, 0, base.Codec.MaxReply())}
	}
	return e, nil
}

func (e *engine) close() {
	for i := range e.conns {
		if e.conns[i].fd >= 0 {
			unix.Close(e.conns[i].fd)
		}
	}
	unix.Close(e.ep)
}

// turn is one pass: wait or poll, take replies, send what is due.
func (e *engine) turn() (bool, error) {
	now := e.Now()
	if err := e.Edge(now); err != nil {
		return false, err
	}
	if e.Stopped() {
		return false, nil
	}

	// 1. Requests that are due, then one write per connection.
	for e.Issuing(now) {
		c := e.free()
		if c < 0 {
			break
		}
		intended, q, ok := e.Due(now)
		if !ok {
			break
		}
		e.push(c, intended, now, q)
	}
	e.flushAll()

	// 2. Done, or everything broken.
	if e.alive == 0 {
		return false, fmt.Errorf("stream: every connection failed: %s", e.Rec.FaultText())
	}
	if e.inflight == 0 && !e.Issuing(now) {
		return false, e.Edge(e.Now())
	}

	// 3. Replies.
	wait := e.WaitTime(now, e.scanAt, e.free() >= 0)
	n, err := e.wait(wait)
	if err != nil {
		return false, fmt.Errorf("stream: epoll: %w", err)
	}
	for i := range e.events[:n] {
		ev := &e.events[i]
		c := &e.conns[ev.Fd]
		if c.dead {
			continue
		}
		if ev.Events&unix.EPOLLOUT != 0 {
			e.write(int(ev.Fd))
		}
		if ev.Events&(unix.EPOLLIN|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
			e.read(int(ev.Fd))
		}
	}
	if now = e.Now(); now >= e.scanAt {
		e.scan(now)
	}
	return true, nil
}

// wait is epoll_pwait2 where the kernel has it (5.11), for its resolution of a
// nanosecond instead of a millisecond.
func (e *engine) wait(d time.Duration) (int, error) {
	if d <= 0 {
		n, err := unix.EpollWait(e.ep, e.events, 0)
		if err == unix.EINTR {
			return 0, nil
		}
		return n, err
	}
	e.timeout = unix.NsecToTimespec(int64(d))
	n, errno := pwait2(e.ep, e.events, &e.timeout)
	switch errno {
	case 0:
		return n, nil
	case unix.EINTR:
		return 0, nil
	case unix.ENOSYS:
		n, err := unix.EpollWait(e.ep, e.events, max(1, int(d/time.Millisecond)))
		if err == unix.EINTR {
			return 0, nil
		}
		return n, err
	}
	return 0, errno
}

// free gives the next connection with room in its pipeline and its buffer, -1
// when all are full.
func (e *engine) free() int {
	for range e.conns {
		i := e.next
		if e.next++; e.next == len(e.conns) {
			e.next = 0
		}
		c := &e.conns[i]
		if !c.dead && c.outstanding() < e.Spec.Outstanding && cap(c.tx)-len(c.tx) >= e.Codec.MaxRequest() {
			e.next = i // taken only when a request follows
			return i
		}
	}
	return -1
}

func (e *engine) push(i int, intended, now int64, q load.Req) {
	c := &e.conns[i]
	c.ring[c.tail&uint32(len(c.ring)-1)] = pending{intended: intended, sent: now, q: q}
	c.tail++
	c.fresh++
	e.inflight++
	c.tx = e.Codec.Append(c.tx, q)
	if !c.queued && !c.armed {
		c.queued = true
		e.flush = append(e.flush, i)
	}
	// Closed loop: fill one connection's pipeline before the next, so that its
	// requests share a segment. Open loop: spread.
	if e.OpenLoop() || c.outstanding() == e.Spec.Outstanding {
		if e.next = i + 1; e.next == len(e.conns) {
			e.next = 0
		}
	}
}

func (e *engine) flushAll() {
	for _, i := range e.flush {
		e.conns[i].queued = false
		if !e.conns[i].dead {
			e.write(i)
		}
	}
	e.flush = e.flush[:0]
}

// write sends what a connection has, and stamps its fresh requests: the kernel
// has them, or holds the writer back, from here on.
func (e *engine) write(i int) {
	c := &e.conns[i]
	now := e.Now()
	for ; c.fresh > 0; c.fresh-- {
		p := &c.ring[(c.tail-c.fresh)&uint32(len(c.ring)-1)]
		p.sent = now
		if !e.OpenLoop() {
			p.intended = now
		}
		e.Rec.Sent(p.intended, now)
	}
	if len(c.tx) > 0 {
		n, err := unix.Write(c.fd, c.tx)
		switch {
		case err == unix.EAGAIN || err == unix.EINTR:
		case err != nil:
			e.fail(i, err)
			return
		default:
			c.tx = c.tx[:copy(c.tx, c.tx[n:])]
		}
	}
	if want := len(c.tx) > 0; want != c.armed {
		c.armed = want
		e.arm(i, want)
	}
}

func (e *engine) arm(i int, out bool) {
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(i)}
	if out {
		ev.Events |= unix.EPOLLOUT
	}
	if err := unix.EpollCtl(e.ep, unix.EPOLL_CTL_MOD, e.conns[i].fd, &ev); err != nil {
		e.fail(i, err)
	}
}

// read takes one buffer of replies. What remains of a cut-off reply is kept.
func (e *engine) read(i int) {
	c := &e.conns[i]
	kept := copy(e.buf, c.rx)
	c.rx = c.rx[:0]
	n, err := unix.Read(c.fd, e.buf[kept:])
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		n = 0
	case err != nil:
		e.fail(i, err)
		return
	case n == 0:
		e.fail(i, errClosed)
		return
	}
	now := e.Now()
	b := e.buf[:kept+n]
	for len(b) > 0 {
		if c.head == c.tail-c.fresh {
			e.wrong(i, load.Req{}, b, "bytes that nobody asked for")
			return
		}
		p := &c.ring[c.head&uint32(len(c.ring)-1)]
		used, v := e.Codec.Check(b, p.q)
		switch v {
		case load.More:
			if len(b) > cap(c.rx) {
				e.wrong(i, p.q, b, "reply larger than it may be")
				return
			}
			c.rx = append(c.rx[:0], b...)
			return
		case load.Hit, load.Done:
			e.Rec.Done(p.intended, p.sent, now, v == load.Hit)
		case load.Miss:
			e.Rec.Missed(p.intended)
			e.Rec.Done(p.intended, p.sent, now, false)
		default:
			e.wrong(i, p.q, b, "wrong reply")
			return
		}
		b = b[used:]
		c.head++
		e.inflight--
	}
}

// wrong counts a wrong reply; the stream cannot be resynchronised after it.
func (e *engine) wrong(i int, q load.Req, b []byte, what string) {
	e.Rec.Fault(&e.Rec.Wrong, "%s: op %d of key %d: %.60q (%d bytes)", what, q.Op, q.Key, b, len(b))
	e.drop(i)
}

var errClosed = fmt.Errorf("closed by the server")

func (e *engine) fail(i int, err error) {
	e.Rec.Fault(&e.Rec.Errors, "connection %d: %v", i, err)
	e.drop(i)
}

// drop gives up a connection; its requests have no reply.
func (e *engine) drop(i int) {
	c := &e.conns[i]
	c.dead = true
	e.alive--
	for ; c.head != c.tail; c.head++ {
		e.Rec.Drop(c.ring[c.head&uint32(len(c.ring)-1)].intended)
		e.inflight--
	}
	unix.Close(c.fd)
	c.fd = -1
}

// scan drops connections whose oldest request is overdue: over TCP a reply that
// late means a server that stands still.
func (e *engine) scan(now int64) {
	e.scanAt = now + scanPeriod
	for i := range e.conns {
		c := &e.conns[i]
		if c.dead || c.head == c.tail-c.fresh {
			continue
		}
		if p := &c.ring[c.head&uint32(len(c.ring)-1)]; now-p.sent > int64(e.Spec.Timeout) {
			e.fail(i, errTimeout)
		}
	}
}

var errTimeout = fmt.Errorf("no reply within the timeout")

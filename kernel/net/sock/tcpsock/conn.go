package tcpsock

import (
	"net"
	"sync"
	"sync/atomic"
	"time"

	"osv/kernel/net/clock"
	"osv/kernel/net/tcp"
	"osv/kernel/net/wire"
	"osv/kernel/pkt"
)

// Conn is one connection: a net.Conn. Any goroutine may call its methods.
type Conn struct {
	h             *Host
	ch            tcp.Channel // nil for a flow
	local, remote net.Addr

	rdMu, wrMu sync.Mutex // held by the one call of Read, or Write, that may sleep

	mu       sync.Mutex // guards what follows
	core     *tcp.Conn
	bufs     [32]*pkt.Buf // taken from ch and not processed yet
	tx       []*pkt.Buf   // segments to send
	txFull   bool         // the stack did not take all of tx
	timer    clock.Timer
	timerAt  int64 // ns, when it fires; 0 for not armed
	rdl, wdl deadline
	closed   bool // by the user
	detached bool // the stack has forgotten this connection
	linger   time.Duration
	flow     *Flow // of a connection whose handler runs in the receive loop
	trying   bool  // a call of try.go is at work

	rd, wr   waiter
	notify   atomic.Pointer[func()]
	arrival  atomic.Pointer[func()]
	queued   atomic.Bool          // in Host.idle
	idleNext atomic.Pointer[Conn] // there
}

var _ net.Conn = (*Conn)(nil)

// newConn makes the Conn of core. Its flow is not inserted yet.
func (h *Host) newConn(core *tcp.Conn, inline bool) *Conn {
	t := core.Tuple()
	c := &Conn{h: h, core: core, linger: -1, local: tcpAddr(t.Local), remote: tcpAddr(t.Remote)}
	c.rd.init()
	c.wr.init()
	if !inline {
		c.ch = h.stack.NewChannel(c.wake)
	}
	core.SetOutput(c)
	return c
}

// wake is called by the receive loop after it has put segments into the channel,
// without any lock.
func (c *Conn) wake() {
	if c.rd.wake() || c.wr.wake() {
		return
	}
	if f := c.notify.Load(); f != nil {
		(*f)()
	}
	if f := c.arrival.Load(); f != nil {
		(*f)()
	}
	c.h.later(c)
}

// TxBuf gives core a buffer. Caller must hold mu.
func (c *Conn) TxBuf(*tcp.Conn) *pkt.Buf {
	if c.txFull {
		return nil
	}
	return c.h.stack.TxBuf(c.core.Path())
}

// maxTx is how many segments are gathered before the stack gets them.
const maxTx = 64

// TxSegment gathers what core sends. Caller must hold mu.
func (c *Conn) TxSegment(_ *tcp.Conn, b *pkt.Buf) {
	c.tx = append(c.tx, b)
	if len(c.tx) >= maxTx {
		c.sendOut()
	}
}

// sendOut gives the stack what was gathered. What it does not take is offered
// again, before anything new. Caller must hold mu.
func (c *Conn) sendOut() {
	if len(c.tx) == 0 {
		return
	}
	n := c.h.stack.Output(c.core.Tuple(), c.core.Path(), c.tx)
	rest := 0
	if n < len(c.tx) {
		rest = copy(c.tx, c.tx[n:])
	}
	for i := rest; i < len(c.tx); i++ { // most of the time one
		c.tx[i] = nil
	}
	c.tx = c.tx[:rest]
	if c.txFull = rest > 0; c.txFull {
		c.h.Stats.TxFull.Add(1)
	}
}

// txRetry is when segments that the stack did not take are offered again.
const txRetry = time.Millisecond

// pull processes what is in the channel and reports whether there was anything.
// Caller must hold mu.
func (c *Conn) pull(now int64) bool {
	if c.detached || c.ch == nil {
		return false
	}
	any := false
	for {
		n := c.ch.Pop(c.bufs[:])
		for i, b := range c.bufs[:n] {
			c.bufs[i] = nil
			c.input(now, b)
		}
		any = any || n > 0
		if n < len(c.bufs) || c.detached {
			return any
		}
		c.core.Flush(now) // the peer waits for ACKs
		c.sendOut()
	}
}

// input processes one segment. Caller must hold mu.
func (c *Conn) input(now int64, b *pkt.Buf) {
	var s tcp.Segment
	if !c.h.parse(c.core.Tuple(), b, &s) {
		return
	}
	if c.core.State() == tcp.StateClosed && s.Flags&(wire.TCPSyn|wire.TCPAck|wire.TCPRst) == wire.TCPSyn {
		// A peer short of ports has ended the connection and begins the next one with
		// the same tuple, in one batch: the SYN comes again, and finds the listener.
		s.Drop()
		return
	}
	c.core.Input(now, &s)
}

// settle ends a stretch of work: what is to be sent goes out, who waits is woken,
// the timer is set. Caller must hold mu.
func (c *Conn) settle(now int64) {
	if c.detached {
		return
	}
	if c.txFull {
		c.sendOut()
	}
	c.core.Flush(now)
	c.sendOut()
	ev := c.core.TakeEvents()
	if ev != 0 {
		if ev&(tcp.EvReadable|tcp.EvClosed|tcp.EvUrgent) != 0 {
			c.rd.wake()
		}
		if ev&(tcp.EvWritable|tcp.EvConnected|tcp.EvClosed) != 0 {
			c.wr.wake()
		}
		c.tell()
		switch {
		case ev&tcp.EvClosed != 0:
			c.detach()
			return
		case ev&tcp.EvTimeWait != 0:
			c.waitElsewhere()
			return
		}
	}
	c.arm(now)
}

// arm sets the timer for core's next deadline. One that fires too early is
// cheaper than one that is moved with every segment. Caller must hold mu.
func (c *Conn) arm(now int64) {
	d := c.core.Deadline()
	if len(c.tx) > 0 && (d == 0 || d > now+int64(txRetry)) {
		d = now + int64(txRetry)
	}
	if d == 0 || c.timerAt != 0 && c.timerAt <= d {
		return
	}
	c.timerAt = d
	wait := time.Duration(max(d-now, 0))
	if c.timer == nil {
		c.timer = c.h.clock.AfterFunc(wait, c.onTimer)
	} else {
		c.timer.Reset(wait)
	}
}

func (c *Conn) onTimer() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timerAt = 0
	if c.detached {
		return
	}
	now := c.h.clock.Now()
	c.pull(now)
	c.core.Timer(now)
	c.finish(now)
}

// drain does the work of a connection that nobody has come to read.
func (c *Conn) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.h.clock.Now()
	if c.pull(now) {
		c.finish(now)
	}
}

// finish is settle, with the handler of a flow before it. Caller must hold mu.
func (c *Conn) finish(now int64) {
	if c.flow != nil {
		c.flow.run(now)
	}
	c.settle(now)
}

// Segment takes a segment that came by the slow path: the channel was full, or
// there is none any more. What is in the channel came before it.
func (c *Conn) Segment(_ *tcp.Tuple, b *pkt.Buf) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.detached { // found just before its end
		// Not for us to refuse: it may be a SYN for a listener, or for TIME-WAIT. What
		// is sent again finds the way.
		b.Put()
		return
	}
	now := c.h.clock.Now()
	c.pull(now)
	c.input(now, b)
	c.finish(now)
}

// ICMP takes an error about a segment of ours.
func (c *Conn) ICMP(_ *tcp.Tuple, e tcp.ICMPError) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.detached {
		return
	}
	now := c.h.clock.Now()
	c.core.ICMP(now, e)
	c.finish(now)
}

// detach ends the stack's knowledge of c, which is CLOSED. Caller must hold mu.
func (c *Conn) detach() {
	if c.detached {
		return
	}
	c.h.stack.RemoveFlow(c.core.Tuple())
	c.forget()
	if c.flow != nil {
		c.flow.end()
	}
}

// waitElsewhere hands TIME-WAIT over to the host. Octets that the user has not
// read stay readable. Caller must hold mu.
func (c *Conn) waitElsewhere() {
	c.h.tw.add(c.core.TimeWait())
	c.forget()
	if c.flow != nil {
		c.flow.end()
	}
}

// forget releases what a connection needs only as long as it is known to the
// stack. Caller must hold mu.
func (c *Conn) forget() {
	c.detached = true
	c.h.remove(c)
	if c.ch != nil {
		c.ch.Close()
	}
	if c.timer != nil {
		c.timer.Stop()
	}
	for i, b := range c.tx {
		b.Put()
		c.tx[i] = nil
	}
	c.tx = nil
}

// abort ends c at once, for a host that closes.
func (c *Conn) abort() {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.h.clock.Now()
	c.closed = true
	c.core.Abort(now)
	c.core.Close(now)
	c.settle(now)
	c.rdl.stop()
	c.wdl.stop()
	c.rd.wake()
	c.wr.wake()
}

package tcpsock

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"osv/kernel/net/clock"
	"osv/kernel/net/seq"
	"osv/kernel/net/tcp"
	"osv/kernel/pkt"
)

// ListenConfig says how a Listener does its work. The zero value of each field
// has a meaning.
type ListenConfig struct {
	Backlog  int  // connections that wait for Accept; 0: 4096
	HalfOpen int  // half-open connections before SYN cookies; 0: Config.HalfOpen
	OneKind  bool // an unspecified IPv6 address does not take IPv4 too
	Options  tcp.Options
	Nagle    bool // Options.NoDelay is set unless this is
	RecvBuf  int  // bytes; 0: the host's
	SendBuf  int
	// Share lets several listeners have one address, if all of them say so; each
	// connection goes to one of them, by its tuple. See group.go.
	Share bool
	Path  func(*tcp.Path) // may change what is known of the way to a peer
}

// Listener is a net.Listener.
type Listener struct {
	h     *Host
	local netip.AddrPort
	dual  bool
	cfg   tcp.Config // the host's, with this listener as Output
	open  func(*Flow) Handler
	path  func(*tcp.Path)
	group *group // of an address that is shared

	mu      sync.Mutex // guards what follows
	core    *tcp.Listener
	conns   []*Conn // in core's accept queue, in its order
	fresh   *Conn   // just established, and locked
	one     [1]*pkt.Buf
	timer   clock.Timer
	timerAt int64
	dl      deadline
	closed  bool

	acceptMu sync.Mutex // held by the one Accept that may sleep
	wait     waiter
	notify   atomic.Pointer[func()]
}

var _ net.Listener = (*Listener)(nil)

// Listen waits for connections to local. An unspecified address takes those to
// every address of its family, and the IPv6 one those of IPv4 too. With port 0
// the host chooses one.
func (h *Host) Listen(local netip.AddrPort, cfg ListenConfig) (*Listener, error) {
	return h.listenAny(local, cfg, nil)
}

func (h *Host) listenAny(local netip.AddrPort, cfg ListenConfig, open func(*Flow) Handler) (*Listener, error) {
	try, n := local, 1
	if local.Port() == 0 {
		n = numPorts
	}
	var err error
	for range n {
		if n > 1 {
			h.mu.Lock()
			h.portSeed++
			try = netip.AddrPortFrom(local.Addr(), uint16(firstPort+h.portSeed%numPorts))
			h.mu.Unlock()
		}
		var l *Listener
		if l, err = h.listen(try, cfg, open); err == nil {
			return l, nil
		}
		if errors.Is(err, ErrHostClosed) {
			break
		}
	}
	return nil, opError("listen", nil, tcpAddr(local), err)
}

func (h *Host) listen(local netip.AddrPort, cfg ListenConfig, open func(*Flow) Handler) (*Listener, error) {
	if cfg.Backlog == 0 {
		cfg.Backlog = 4096
	}
	if cfg.HalfOpen == 0 {
		cfg.HalfOpen = h.half
	}
	l := &Listener{h: h, local: local, cfg: h.cfg, open: open, path: cfg.Path}
	l.dual = local.Addr().Is6() && local.Addr().IsUnspecified() && !cfg.OneKind
	l.wait.init()
	l.cfg.Out = l
	l.core = tcp.NewListener(&l.cfg, l, cfg.Backlog, cfg.HalfOpen)
	o := cfg.Options
	o.NoDelay = o.NoDelay || !cfg.Nagle && !h.nagle
	l.core.Configure(o, cfg.RecvBuf, cfg.SendBuf)

	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, ErrHostClosed
	}
	if cfg.Share {
		return l, h.share(l)
	}
	if h.listeners[local] != nil {
		return nil, fmt.Errorf("tcp: listen on %v: %w", local, errInUse)
	}
	if err := h.stack.Listen(local, l.dual, l); err != nil {
		return nil, err
	}
	h.listeners[local] = l
	return l, nil
}

// listenerFor finds who takes a SYN of t; nil where nobody does.
func (h *Host) listenerFor(t *tcp.Tuple) *Listener {
	h.mu.Lock()
	l := h.listenerAt(t.Local)
	h.mu.Unlock()
	if l != nil && l.group != nil {
		l = l.group.byHash(t)
	}
	return l
}

// listenerAt finds who listens to local. Caller must hold mu.
func (h *Host) listenerAt(local netip.AddrPort) *Listener {
	if l := h.listeners[local]; l != nil {
		return l
	}
	// The zero address takes all of both families, as the stack's Bind has it.
	if l := h.listeners[netip.AddrPortFrom(netip.Addr{}, local.Port())]; l != nil {
		return l
	}
	any6 := netip.AddrPortFrom(netip.IPv6Unspecified(), local.Port())
	if local.Addr().Is4() {
		if l := h.listeners[netip.AddrPortFrom(netip.IPv4Unspecified(), local.Port())]; l != nil {
			return l
		}
		if l := h.listeners[any6]; l == nil || !l.dual {
			return nil
		}
	}
	return h.listeners[any6]
}

// Addr is the address it listens to, a *net.TCPAddr.
func (l *Listener) Addr() net.Addr { return tcpAddr(l.local) }

// Accept returns the next connection.
func (l *Listener) Accept() (net.Conn, error) {
	c, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	return c, nil
}

// AcceptTCP is Accept without the interface.
func (l *Listener) AcceptTCP() (*Conn, error) {
	l.acceptMu.Lock()
	defer l.acceptMu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		c, err := l.tryAccept()
		if err != ErrWouldBlock {
			return c, opError("accept", nil, l.Addr(), err)
		}
		l.wait.waiting.Store(true)
		l.mu.Unlock()
		<-l.wait.sema
		l.mu.Lock()
		l.wait.waiting.Store(false)
	}
}

// TryAccept is an Accept that returns ErrWouldBlock instead of waiting.
func (l *Listener) TryAccept() (*Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c, err := l.tryAccept()
	return c, opError("accept", nil, l.Addr(), err)
}

func (l *Listener) tryAccept() (*Conn, error) {
	switch {
	case l.closed:
		return nil, errClosed
	case l.dl.passed(l.h.clock.Now()):
		return nil, errDeadline
	case l.core.Accept() == nil:
		return nil, ErrWouldBlock
	}
	c := l.conns[0]
	copy(l.conns, l.conns[1:])
	l.conns[len(l.conns)-1] = nil
	l.conns = l.conns[:len(l.conns)-1]
	l.h.Stats.Accepted.Add(1)
	return c, nil
}

// SetDeadline ends calls of Accept at t.
func (l *Listener) SetDeadline(t time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return opError("set", nil, l.Addr(), errClosed)
	}
	l.dl.set(l.h.clock, t, l.onDeadline)
	if l.dl.passed(l.h.clock.Now()) {
		l.wait.wake()
	}
	return nil
}

func (l *Listener) onDeadline() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dl.armed = 0
	if now := l.h.clock.Now(); l.dl.passed(now) {
		l.wait.wake()
	} else {
		l.dl.arm(l.h.clock, now, l.onDeadline)
	}
}

// Waiting is the number of connections that Accept would return at once.
func (l *Listener) Waiting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.conns)
}

// SetNotify makes f be called when a connection comes in, nil ends that. f runs
// under the listener's lock: it must not block, and not call the listener.
func (l *Listener) SetNotify(f func()) {
	if f == nil {
		l.notify.Store(nil)
		return
	}
	l.notify.Store(&f)
}

// Stats are the counters of l.
func (l *Listener) Stats() tcp.ListenStats {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.core.Stats
}

// Close ends l. Connections that wait for Accept, and half-open ones, are
// aborted; those accepted, and the flows of Serve, live on.
func (l *Listener) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return opError("close", nil, l.Addr(), errClosed)
	}
	l.closed = true
	if l.group != nil {
		l.h.unshare(l)
	} else {
		l.h.stack.Unlisten(l.local, l)
		l.h.mu.Lock()
		delete(l.h.listeners, l.local)
		l.h.mu.Unlock()
	}
	l.dl.stop()
	if l.timer != nil {
		l.timer.Stop()
	}
	conns := l.conns
	l.conns = nil
	for range conns {
		l.core.Accept()
	}
	l.core.Close(l.h.clock.Now())
	l.wait.wake()
	l.mu.Unlock()
	for _, c := range conns {
		c.abort()
	}
	return nil
}

// Segment takes a segment to local that belongs to no connection.
func (l *Listener) Segment(t *tcp.Tuple, b *pkt.Buf) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.h.lookup(t); c != nil {
		// It has become a connection since the stack looked.
		l.mu.Unlock()
		c.Segment(t, b)
		l.mu.Lock()
		return
	}
	var s tcp.Segment
	if l.h.parse(t, b, &s) {
		l.input(t, &s, 0, false)
	}
}

// reopen takes a SYN that TIME-WAIT has let through.
func (l *Listener) reopen(t *tcp.Tuple, s *tcp.Segment, last seq.Num) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.input(t, s, last, true)
}

// input gives s to core. Caller must hold mu.
func (l *Listener) input(t *tcp.Tuple, s *tcp.Segment, last seq.Num, after bool) {
	if l.closed {
		l.h.refuse(t, s)
		s.Drop()
		return
	}
	now := l.h.clock.Now()
	if after {
		l.core.InputAfter(now, t, s, last)
	} else {
		l.core.Input(now, t, s)
	}
	if c := l.fresh; c != nil {
		l.fresh = nil
		c.finish(now)
		c.mu.Unlock()
	}
	l.arm(now)
}

func (l *Listener) arm(now int64) {
	d := l.core.Deadline()
	if d == 0 || l.timerAt != 0 && l.timerAt <= d {
		return
	}
	l.timerAt = d
	wait := time.Duration(max(d-now, 0))
	if l.timer == nil {
		l.timer = l.h.clock.AfterFunc(wait, l.onTimer)
	} else {
		l.timer.Reset(wait)
	}
}

func (l *Listener) onTimer() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.timerAt = 0
	if l.closed {
		return
	}
	now := l.h.clock.Now()
	l.core.Timer(now)
	l.arm(now)
}

// ICMP about half-open connections is of no interest: they end by themselves.
func (l *Listener) ICMP(*tcp.Tuple, tcp.ICMPError) {}

// Path is the way to the peer of t. Caller must hold mu, as for all that core
// calls.
func (l *Listener) Path(t *tcp.Tuple) (tcp.Path, error) {
	_, p, err := l.h.stack.Route(t.Local.Addr(), t.Remote.Addr())
	if err == nil && l.path != nil {
		l.path(&p)
	}
	return p, err
}

// Established makes a Conn of core. It stays locked until core has sent what it
// has to send.
func (l *Listener) Established(core *tcp.Conn) bool {
	c := l.h.newConn(core, l.open != nil)
	f := tcp.Flow{Chan: c.ch, Slow: c}
	if l.open != nil {
		f = tcp.Flow{Inline: newFlow(c), Slow: c}
	}
	c.mu.Lock()
	err := l.h.add(c)
	if err == nil {
		if err = l.h.stack.InsertFlow(core.Tuple(), f); err != nil {
			l.h.remove(c)
		}
	}
	if err != nil {
		c.detached = true
		if c.ch != nil {
			c.ch.Close()
		}
		core.SetOutput(l)
		c.mu.Unlock()
		return false
	}
	l.fresh = c
	if l.open != nil {
		l.core.Accept()
		l.h.Stats.Accepted.Add(1)
		c.flow.handler = l.open(c.flow)
		return true
	}
	l.conns = append(l.conns, c)
	l.wait.wake()
	if f := l.notify.Load(); f != nil {
		(*f)()
	}
	return true
}

// TxBuf gives a half-open connection a buffer.
func (l *Listener) TxBuf(c *tcp.Conn) *pkt.Buf { return l.h.stack.TxBuf(c.Path()) }

// TxSegment sends b of a half-open connection at once, or not at all: its timer
// sends it again.
func (l *Listener) TxSegment(c *tcp.Conn, b *pkt.Buf) {
	l.one[0] = b
	if l.h.stack.Output(c.Tuple(), c.Path(), l.one[:]) == 0 {
		b.Put()
	}
	l.one[0] = nil
}

package tcpsock

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"osv/kernel/hw/dma"
	"osv/kernel/net/clock"
	"osv/kernel/net/tcp"
	"osv/kernel/pkt"
)

// Config is what a Host is made of. The zero value of each field but Mem has a
// meaning.
type Config struct {
	// TCP are the protocol's parameters; its Out, Chunks and Key are set here.
	TCP tcp.Config

	Mem       dma.Allocator // memory of the send buffers
	Chunks    int           // send buffer memory in chunks, for all connections; 0: 4096
	ChunkSize int           // bytes; 0: 4096
	RecvMem   int           // packet buffers that received octets may hold, bytes; 0: 1 MiB. Well below what the links' receive pools have beyond their rings
	Random    func() uint64 // secrets; nil: math/rand/v2, which the runtime seeds

	MaxTimeWait int // connections in TIME-WAIT, beyond which the oldest is dropped; 0: 16384
	HalfOpen    int // half-open connections of a listener, beyond which SYN cookies are used; 0: 1024

	// Options of each connection at first. Go's package net switches Nagle off;
	// so does NoDelay here unless Nagle is set.
	Nagle bool
}

// Host is the TCP of one stack.
type Host struct {
	stack tcp.Stack
	clock clock.Clock
	cfg   tcp.Config
	mem   dma.Allocator
	pool  *pkt.Pool
	half  int
	nagle bool

	tw timeWaits

	idle      atomic.Pointer[Conn] // connections with segments nobody has come for
	idleArmed atomic.Bool
	idleTimer clock.Timer

	mu        sync.Mutex // guards what follows
	flows     map[tcp.Tuple]*Conn
	listeners map[netip.AddrPort]*Listener
	closed    bool
	portSeed  uint64
	refuseOut refuser

	Stats Stats
}

// Stats counts what happened on a Host. Read with atomic loads.
type Stats struct {
	Dialled, Accepted      atomic.Uint64
	BadChecksum, BadHeader atomic.Uint64
	Refused                atomic.Uint64 // RSTs for segments that belong to no connection
	IdleDrains             atomic.Uint64 // connections whose segments a timer had to take
	TxFull                 atomic.Uint64 // times the stack did not take all segments offered
	TimeWaitDropped        atomic.Uint64 // TIME-WAITs cut short by MaxTimeWait
	TimeWaitReused         atomic.Uint64 // SYNs that TIME-WAIT let through
}

// idleDrain is how long segments wait for the application.
const idleDrain = 5 * time.Millisecond

// ErrHostClosed is what calls of a closed Host return.
var ErrHostClosed = errors.New("tcp: host is closed")

// New makes the TCP of st.
func New(st tcp.Stack, cfg Config) (*Host, error) {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	def(&cfg.Chunks, 4096)
	def(&cfg.ChunkSize, 4096)
	def(&cfg.RecvMem, 1<<20)
	def(&cfg.MaxTimeWait, 16384)
	def(&cfg.HalfOpen, 1024)
	if cfg.Random == nil {
		cfg.Random = rand.Uint64
	}
	// Each frame under way shares some; where no more can be, octets are copied.
	pool, err := pkt.NewSharedPool(cfg.Mem, cfg.Chunks, cfg.ChunkSize, min(cfg.Chunks, 2048))
	if err != nil {
		return nil, fmt.Errorf("tcp: send buffers: %w", err)
	}
	h := &Host{
		stack: st, clock: st.Clock(), cfg: cfg.TCP.WithDefaults(), mem: cfg.Mem, pool: pool,
		half: cfg.HalfOpen, nagle: cfg.Nagle,
		flows: map[tcp.Tuple]*Conn{}, listeners: map[netip.AddrPort]*Listener{},
		portSeed: cfg.Random(),
	}
	h.cfg.Chunks = pool
	h.cfg.ChunksShort = func() bool { return 4*pool.InUse() > 3*pool.Cap() }
	h.cfg.Memory = tcp.NewMemory(cfg.RecvMem)
	h.cfg.Key = tcp.Key{cfg.Random(), cfg.Random()}
	h.refuseOut.h = h
	h.cfg.Out = &h.refuseOut
	h.tw.init(h, cfg.MaxTimeWait)
	h.idleTimer = h.clock.AfterFunc(time.Hour, h.drainIdle)
	h.idleTimer.Stop()
	return h, nil
}

// Close aborts all connections and listeners, and frees the memory. Buffers that
// applications hold must be back.
func (h *Host) Close() error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return nil
	}
	h.closed = true
	var ls []*Listener
	for _, l := range h.listeners {
		if l.group != nil {
			ls = append(ls, *l.group.members.Load()...)
			continue
		}
		ls = append(ls, l)
	}
	var cs []*Conn
	for _, c := range h.flows {
		cs = append(cs, c)
	}
	h.mu.Unlock()
	for _, l := range ls {
		l.Close()
	}
	for _, c := range cs {
		c.abort()
	}
	h.tw.close()
	h.idleTimer.Stop()
	if n := h.cfg.Memory.Used(); n != 0 {
		return fmt.Errorf("tcp: %d bytes of received octets are still held by connections that were not closed", n)
	}
	if err := h.pool.Close(h.mem); err != nil {
		return fmt.Errorf("tcp: send buffers: %w", err)
	}
	return nil
}

// Conns is the number of connections that are not over, those in TIME-WAIT left
// out.
func (h *Host) Conns() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.flows)
}

// TimeWaits is the number of connections in TIME-WAIT.
func (h *Host) TimeWaits() int { return h.tw.len() }

// add registers c. It fails where its tuple is in use.
func (h *Host) add(c *Conn) error {
	t := c.core.Tuple()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return ErrHostClosed
	}
	if h.flows[*t] != nil {
		return fmt.Errorf("tcp: %v to %v: %w", t.Local, t.Remote, errInUse)
	}
	h.flows[*t] = c
	return nil
}

func (h *Host) remove(c *Conn) {
	t := c.core.Tuple()
	h.mu.Lock()
	if h.flows[*t] == c {
		delete(h.flows, *t)
	}
	h.mu.Unlock()
}

func (h *Host) lookup(t *tcp.Tuple) *Conn {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.flows[*t]
}

// later notes that c has segments in its channel and nobody there to take them.
// It runs in the receive loop.
func (h *Host) later(c *Conn) {
	if c.queued.Load() || !c.queued.CompareAndSwap(false, true) {
		return
	}
	for {
		top := h.idle.Load()
		c.idleNext.Store(top)
		if h.idle.CompareAndSwap(top, c) {
			break
		}
	}
	if h.idleArmed.CompareAndSwap(false, true) {
		h.idleTimer.Reset(idleDrain)
	}
}

// drainIdle does the work that nobody has come for.
func (h *Host) drainIdle() {
	h.idleArmed.Store(false)
	for c := h.idle.Swap(nil); c != nil; {
		next := c.idleNext.Swap(nil)
		c.queued.Store(false)
		h.Stats.IdleDrains.Add(1)
		c.drain()
		c = next
	}
}

// Segment takes a segment that belongs to no connection and no listener. The
// stack must be told to send such here.
func (h *Host) Segment(t *tcp.Tuple, b *pkt.Buf) {
	if c := h.lookup(t); c != nil {
		c.Segment(t, b) // it has become one meanwhile
		return
	}
	var s tcp.Segment
	if !h.parse(t, b, &s) {
		return
	}
	h.refuse(t, &s)
	s.Drop()
}

// ICMP of no connection is of no interest.
func (h *Host) ICMP(*tcp.Tuple, tcp.ICMPError) {}

// parse verifies and parses the segment in b, whose headers below are still in
// front. If it reports false, b is gone.
func (h *Host) parse(t *tcp.Tuple, b *pkt.Buf, s *tcp.Segment) bool {
	b.Trim(int(b.L4))
	if !tcp.Verify(t, b) {
		h.Stats.BadChecksum.Add(1)
		b.Put()
		return false
	}
	if !s.Parse(b) {
		h.Stats.BadHeader.Add(1)
		b.Put()
		return false
	}
	return true
}

// refuse answers s with a RST, within limits.
func (h *Host) refuse(t *tcp.Tuple, s *tcp.Segment) {
	_, p, err := h.stack.Route(t.Local.Addr(), t.Remote.Addr())
	if err != nil {
		return
	}
	r := &h.refuseOut
	r.mu.Lock()
	defer r.mu.Unlock()
	now := h.clock.Now()
	if !r.allow(now) {
		return
	}
	h.Stats.Refused.Add(1)
	tcp.Refuse(&h.cfg, &r.scratch, now, t, p, s)
}

// refuser is the Output of segments that belong to no connection.
type refuser struct {
	h       *Host
	mu      sync.Mutex // guards what follows
	scratch tcp.Conn
	one     [1]*pkt.Buf
	second  int64 // ns, when this one began
	sent    int   // in it
}

// refusesPerSecond bounds the RSTs and ACKs for no connection, so that a flood
// of forged segments does not become two.
const refusesPerSecond = 1000

func (r *refuser) allow(now int64) bool {
	if now-r.second >= int64(time.Second) {
		r.second, r.sent = now, 0
	}
	r.sent++
	return r.sent <= refusesPerSecond
}

// TxBuf gives a buffer for c.
func (r *refuser) TxBuf(c *tcp.Conn) *pkt.Buf { return r.h.stack.TxBuf(c.Path()) }

// TxSegment sends b at once, or not at all. The caller holds mu.
func (r *refuser) TxSegment(c *tcp.Conn, b *pkt.Buf) {
	r.one[0] = b
	if r.h.stack.Output(c.Tuple(), c.Path(), r.one[:]) == 0 {
		b.Put()
	}
	r.one[0] = nil
}

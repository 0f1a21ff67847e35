package stack

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"

	"osv/kernel/hw/dma"
	"osv/kernel/net/clock"
	"osv/kernel/net/demux"
	"osv/kernel/net/ip"
	"osv/kernel/net/loopback"
	"osv/kernel/net/route"
	"osv/kernel/net/wire"
)

// Config is what a stack is made of. The zero value of each field has a meaning.
type Config struct {
	Clock  clock.Clock   // nil: clock.System
	Mem    dma.Allocator // memory of the loopback interface; nil: there is none
	Random func() uint64 // secrets, identifiers, port numbers; nil: math/rand/v2, which the runtime seeds
	Log    func(format string, args ...any)

	MaxFlows int // exact tuples in the classifier; 0: 65,536
	Batch    int // frames per turn of a receive loop; 0: 64
	// Spin is how often an idle receive loop looks again before it sleeps, at
	// most; it looks less where that did not help. 0: 32; negative: never.
	Spin int
	// SlowPath is the capacity of the slow path's channel of each receive queue,
	// in frames; 0: 512.
	SlowPath int

	Reassembly    ip.Limits
	ICMPPerSecond int // ICMP errors sent per second; 0: 1000

	// Manual makes no goroutines: Poll runs the receive loops and the slow path.
	// For deterministic tests.
	Manual bool
}

const defaultTTL = 64 // RFC 1700's recommendation, which all systems follow

// Stack is a host's network stack.
type Stack struct {
	cfg   Config
	clock clock.Clock
	log   func(string, ...any)

	table      *demux.Table[Sink]
	routes     route.Table[*Interface]
	ifaces     atomic.Pointer[[]*Interface]
	lo         *Interface
	loLink     *loopback.Link
	transports [256]atomic.Pointer[Transport]
	reasm      *ip.Reassembler
	limiter    *ip.Limiter
	pmtu       pmtuCache
	ipID       atomic.Uint32
	nextQueue  atomic.Uint32 // of the next Route
	groups     groups

	mu       sync.Mutex // guards changes of ifaces, and all below
	closed   bool
	hostname *string // what SetHostname was told; nil: not called
	loops    sync.WaitGroup

	dns atomic.Pointer[[]netip.Addr]
}

// ErrClosed is returned by what is called after Close.
var ErrClosed = errors.New("stack: closed")

// New makes a stack with a loopback interface, where cfg.Mem is set.
func New(cfg Config) (*Stack, error) {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	def(&cfg.MaxFlows, 65536)
	def(&cfg.Batch, 64)
	def(&cfg.Spin, 32)
	def(&cfg.SlowPath, 512)
	def(&cfg.ICMPPerSecond, 1000)
	if cfg.Clock == nil {
		cfg.Clock = clock.System{}
	}
	if cfg.Random == nil {
		cfg.Random = rand.Uint64
	}
	if cfg.Log == nil {
		cfg.Log = func(string, ...any) {}
	}
	s := &Stack{cfg: cfg, clock: cfg.Clock, log: cfg.Log}
	s.table = demux.New[Sink](cfg.MaxFlows, demux.Key{K0: cfg.Random(), K1: cfg.Random()})
	s.reasm = ip.NewReassembler(s.clock, cfg.Reassembly, s.reassemblyExpired)
	s.limiter = ip.NewLimiter(s.clock, cfg.ICMPPerSecond, max(cfg.ICMPPerSecond/20, 6))
	s.ipID.Store(uint32(cfg.Random()))
	s.ifaces.Store(new([]*Interface))
	if cfg.Mem != nil {
		l, err := loopback.New(cfg.Mem, 256, 8192)
		if err != nil {
			return nil, fmt.Errorf("stack: %w", err)
		}
		s.loLink = l
		s.lo, err = s.addLink(l, IfConfig{Addrs: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8"), netip.MustParsePrefix("::1/128")}}, true)
		if err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Close stops every interface and waits for the receive loops to end. Sockets
// and flows are their owners' to close.
func (s *Stack) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	var errs []error
	for _, ifc := range s.Interfaces() {
		errs = append(errs, ifc.close())
	}
	s.loops.Wait()
	for _, ifc := range s.Interfaces() {
		ifc.drain()
	}
	s.reasm.Close()
	if s.loLink != nil {
		errs = append(errs, s.loLink.Release())
	}
	return errors.Join(errs...)
}

// Interfaces are all interfaces, the loopback interface first.
func (s *Stack) Interfaces() []*Interface { return *s.ifaces.Load() }

// Interface finds one by name.
func (s *Stack) Interface(name string) *Interface {
	for _, ifc := range s.Interfaces() {
		if ifc.name == name {
			return ifc
		}
	}
	return nil
}

// Loopback is the loopback interface, nil where there is none.
func (s *Stack) Loopback() *Interface { return s.lo }

// Clock is the time that the stack goes by.
func (s *Stack) Clock() clock.Clock { return s.clock }

// Random is the stack's source of random numbers.
func (s *Stack) Random() uint64 { return s.cfg.Random() }

// Routes are the rows of the routing table, best match first.
func (s *Stack) Routes() []route.Route[*Interface] { return s.routes.All() }

// AddRoute adds a row to the routing table.
func (s *Stack) AddRoute(r route.Route[*Interface]) error { return s.routes.Add(r) }

// RemoveRoutes removes the rows for which f is true and returns how many.
func (s *Stack) RemoveRoutes(f func(route.Route[*Interface]) bool) int { return s.routes.Remove(f) }

// SetDNS sets the name servers to ask, best first.
func (s *Stack) SetDNS(servers []netip.Addr) { s.dns.Store(&servers) }

// DNS is the name servers that were configured or learnt.
func (s *Stack) DNS() []netip.Addr {
	if p := s.dns.Load(); p != nil {
		return *p
	}
	return nil
}

// IsLocal reports whether a is an address of this host, on any interface.
func (s *Stack) IsLocal(a netip.Addr) bool {
	a = a.Unmap()
	for _, ifc := range s.Interfaces() {
		if ifc.hasAddr(a) {
			return true
		}
	}
	return false
}

// Transport is an IP protocol above the stack, other than those it speaks itself.
type Transport interface {
	// Segment takes a packet that no channel or handler took, in a goroutine of
	// the slow path. b starts with its link header, b.L3 and b.L4 are set, it
	// ends where the IP packet ends, its transport checksum is not verified, and
	// it is the transport's now. sink is what the classifier's table has for it,
	// or nil.
	Segment(ifc *Interface, b *pktBuf, m *demux.Meta, sink *Sink)
	// ICMP tells of an ICMP error about a packet that this host sent.
	ICMP(e *ICMPError, sink *Sink)
}

// Register makes t the receiver of an IP protocol; for TCP and UDP, of what the
// table has no channel or handler for.
func (s *Stack) Register(p wire.Proto, t Transport) { s.transports[p].Store(&t) }

func (s *Stack) transport(p wire.Proto) Transport {
	if t := s.transports[p].Load(); t != nil {
		return *t
	}
	return nil
}

package server

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"osv/appliances/memcached/options"
	"osv/appliances/memcached/proto"
	"osv/appliances/memcached/store"
	"osv/kernel/net/sock/tcpsock"
	"osv/kernel/net/stack"
)

// Host is what a server runs on: a plain Linux process (NewHosted), or a booted
// guest. Methods are called from any goroutine.
type Host interface {
	Memory() store.Memory
	NumCPU() int
	// Listen and ListenPacket are net.Listen and net.ListenPacket: "tcp",
	// "udp", "unix".
	Listen(network, addr string) (net.Listener, error)
	ListenPacket(network, addr string) (net.PacketConn, error)
	// Stack and TCP are our own network stack, for the engines batch and channel;
	// nil without.
	Stack() *stack.Stack
	TCP() *tcpsock.Host
	// Console takes what the server has to say to its operator.
	Console() io.Writer
	// Shutdown ends the process or the machine, for the shutdown command.
	Shutdown()
}

// Server is one running cache.
type Server struct {
	opt   options.Options
	host  Host
	store *store.Store
	proto *proto.Server
	log   logger

	started time.Time
	done    chan struct{}
	once    sync.Once
	wg      sync.WaitGroup // all goroutines
	conns   registry
	nextID  atomic.Uint32 // spreads connections and queues over counters
	closers []io.Closer   // listeners and the like; before Serve returns only
	engine  string        // what serves, for stats

	keepStore bool // see channelUDP
	proven    provenSet

	stats struct {
		total, rejected atomic.Uint64
		idleKicks       atomic.Uint64
		udpDropped      atomic.Uint64
		listenDisabled  atomic.Uint64
		disabledNS      atomic.Int64
	}
}

// New makes a server with an empty cache. Nothing listens before Start.
func New(o options.Options, h Host) (*Server, error) {
	mem := h.Memory()
	limit := o.MemoryMB << 20
	if limit == 0 {
		limit = mem.Available() / 10 * 9 &^ (1<<20 - 1)
		if limit < 2<<20 {
			return nil, fmt.Errorf("memcached: -m all: %d bytes are free", mem.Available())
		}
	}
	if o.Threads == 0 {
		o.Threads = h.NumCPU()
	}
	cfg := store.Config{
		Memory: mem, Limit: limit, CPUs: o.Threads, Shards: o.Shards,
		ItemMax: o.ItemMax, ChunkMax: o.ChunkMax, Factor: o.Factor, MinChunk: o.MinChunk,
		NoEvict: o.NoEvict, NoCAS: o.NoCAS, FlatLRU: o.FlatLRU,
		HotPct: o.HotPct, WarmPct: o.WarmPct, HotFactor: o.HotFactor, WarmFactor: o.WarmFactor,
		TempTTL: o.TempTTL, Now: time.Now().Unix(),
	}
	st, err := store.New(cfg)
	if err != nil {
		return nil, fmt.Errorf("memcached: -m %d: %w", o.MemoryMB, err)
	}
	s := &Server{opt: o, host: h, store: st, started: time.Now(), done: make(chan struct{})}
	s.log.init(h.Console(), &s.log.none)
	s.proto = &proto.Server{
		Store: st, Protocol: o.Protocol, NoFlush: o.NoFlush, NoDump: o.NoDump,
		Shutdownok: o.Shutdown, Shutdown: s.shutdown, UDPFactor: o.UDPFactor,
		LineMemory: int64(max(mem.Available()/4, 4<<20)),
		MoreStats:  s.moreStats, StatsReset: s.resetStats,
	}
	s.log.level = &s.proto.Verbosity
	s.proto.Verbosity.Store(int32(o.Verbose))
	s.proto.Automove.Store(int32(o.Automove))
	s.proto.CrawlerSleep.Store(int32(o.CrawlerSleep))
	s.proto.Tocrawl.Store(uint32(o.Tocrawl))
	s.proto.TrackSizes(o.TrackSizes)
	if o.Delimiter != 0 {
		s.proto.Detail.SetDelimiter(o.Delimiter)
	}
	st.SetCrawler(!o.NoCrawler)
	st.SetAutomove(o.Automove != 0)
	s.conns.init(o.MaxConns)
	s.proven.on = o.UDPFactor > 0
	return s, nil
}

// Store is the cache, for who gives memory to it and takes it back.
func (s *Server) Store() *store.Store { return s.store }

// Start opens what the options name and serves it in goroutines of its own.
func (s *Server) Start() error {
	if err := s.listen(); err != nil {
		s.Close()
		return err
	}
	s.wg.Add(1)
	go s.maintain()
	return nil
}

func (s *Server) listen() error {
	o := &s.opt
	s.engine = string(o.Engine)
	if o.Engine != options.Socket && (s.host.Stack() == nil || s.host.TCP() == nil) {
		return fmt.Errorf("memcached: -engine %s needs our own network stack: -tap, or a guest", o.Engine)
	}
	if o.UnixSocket != "" {
		l, err := s.host.Listen("unix", o.UnixSocket)
		if err != nil {
			return fmt.Errorf("memcached: -s %s: %w", o.UnixSocket, err)
		}
		s.serveTCP(l)
		return nil
	}
	addrs := o.Listen
	if len(addrs) == 0 {
		addrs = []string{""}
	}
	for _, a := range addrs {
		if o.Port != 0 {
			host, port, err := options.SplitListen(a, o.Port)
			if err != nil {
				return fmt.Errorf("memcached: -l %s: %w", a, err)
			}
			if err := s.listenTCP(host, port); err != nil {
				return err
			}
		}
		if o.UDPPort != 0 {
			host, port, err := options.SplitListen(a, o.UDPPort)
			if err != nil {
				return fmt.Errorf("memcached: -l %s: %w", a, err)
			}
			if err := s.listenUDP(host, port); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Server) listenTCP(host string, port int) error {
	addr := net.JoinHostPort(host, fmt.Sprint(port))
	var err error
	switch s.opt.Engine {
	case options.Channel:
		err = s.channelTCP(host, port)
	case options.Batch:
		err = s.batchTCP(host, port)
	default:
		var l net.Listener
		if l, err = s.host.Listen("tcp", addr); err == nil {
			s.serveTCP(l)
		}
	}
	if err != nil {
		return fmt.Errorf("memcached: TCP port %s: %w", addr, err)
	}
	return nil
}

func (s *Server) listenUDP(host string, port int) error {
	addr := net.JoinHostPort(host, fmt.Sprint(port))
	var err error
	switch s.opt.Engine {
	case options.Channel:
		err = s.channelUDP(host, port)
	case options.Batch:
		err = s.batchUDP(host, port)
	default:
		var pc net.PacketConn
		if pc, err = s.host.ListenPacket("udp", addr); err == nil {
			s.ServePacket(pc)
		}
	}
	if err != nil {
		return fmt.Errorf("memcached: UDP port %s: %w", addr, err)
	}
	return nil
}

// localAddr is the address to listen on with our own stack: without a host, any
// of either family.
func localAddr(host string, port int) (netip.AddrPort, error) {
	var a netip.Addr
	if host != "" {
		var err error
		if a, err = netip.ParseAddr(host); err != nil {
			return netip.AddrPort{}, err
		}
	}
	return netip.AddrPortFrom(a, uint16(port)), nil
}

// Close ends all connections and listeners, waits for their goroutines and frees
// the cache.
func (s *Server) Close() error {
	var errs []error
	s.once.Do(func() {
		close(s.done)
		for _, c := range s.closers {
			errs = append(errs, c.Close())
		}
		s.conns.closeAll()
		s.wg.Wait()
		if !s.keepStore {
			s.store.Close()
		}
	})
	return errors.Join(errs...)
}

// Done is closed when the server has been told to stop.
func (s *Server) Done() <-chan struct{} { return s.done }

func (s *Server) closing() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

func (s *Server) shutdown(graceful bool) {
	s.log.printf(1, "shutdown by a client, graceful %v", graceful)
	// Not in the caller, which is one of the goroutines that Close waits for.
	go s.host.Shutdown()
}

// maintain moves the clock and does the store's background work.
func (s *Server) maintain() {
	defer s.wg.Done()
	t := time.NewTicker(time.Second)
	defer t.Stop()
	pause := func() {
		if us := s.proto.CrawlerSleep.Load(); us > 0 {
			runtime.Gosched()
		}
	}
	for {
		select {
		case <-s.done:
			return
		case now := <-t.C:
			s.store.Tick(now.Unix())
			s.store.Maintain(pause)
			s.conns.kickIdle(s)
		}
	}
}

// id numbers connections and queues.
func (s *Server) id() int { return int(s.nextID.Add(1)) }

// addrOf is the IP address of a, invalid where it has none.
func addrOf(a net.Addr) netip.Addr {
	switch a := a.(type) {
	case *net.TCPAddr:
		return a.AddrPort().Addr().Unmap()
	case *net.UDPAddr:
		return a.AddrPort().Addr().Unmap()
	}
	if a == nil {
		return netip.Addr{}
	}
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}

// Protocol is the protocol state that all connections share, for who feeds it
// without a connection.
func (s *Server) Protocol() *proto.Server { return s.proto }

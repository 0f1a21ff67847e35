package gvisor

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/link/ethernet"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	gtcp "gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"osv/kernel/hw/dma"
	"osv/kernel/ktest/simnet"
	"osv/kernel/net/sock/tcpsock"
	"osv/kernel/net/stack"
	"osv/kernel/net/tcp"
	"osv/kernel/net/tcpstack"
	"osv/kernel/pkt"
)

var (
	ourAddr   = netip.MustParseAddr("10.0.0.1")
	theirAddr = netip.MustParseAddr("10.0.0.2")
)

// world is our stack on port 0 of the wire and gVisor's on port 1.
type world struct {
	t     *testing.T
	clock *fastClock
	wire  *simnet.Net
	mem   *dma.Host

	stack *stack.Stack
	host  *tcpsock.Host

	their    *gstack.Stack
	queue    *channel.Endpoint // what their stack sends
	stop     context.CancelFunc
	carriers sync.WaitGroup
	trail    trail
}

// settings are what a seed decides.
type settings struct {
	wire simnet.Config
	tcp  tcp.Config

	theirSACK, theirRACK bool
	theirCC              string
	theirBuf             int
}

func settingsOf(r *rand.Rand, seed uint64) settings {
	pick := func(v ...int) int { return v[r.IntN(len(v))] }
	s := settings{
		wire: simnet.Config{
			Seed: seed, SpareARP: true, Bufs: 2048, Ring: 1024,
			Loss:    float64(pick(0, 0, 1, 5, 10, 20)) / 100,
			Dup:     float64(pick(0, 0, 1, 10)) / 100,
			Corrupt: float64(pick(0, 0, 1)) / 100,
			Reorder: float64(pick(0, 0, 1, 10, 30)) / 100,
			MTU:     pick(1280, 1500, 1500, 9000),
			Delay:   time.Duration(pick(0, 0, 5e6, 20e6)),
		},
		tcp: tcp.Config{
			RcvBuf: pick(4096, 65536, 128<<10), RcvBufMax: pick(65536, 1<<20),
			SndBuf: pick(4096, 65536), SndBufMax: pick(65536, 1<<20),
			NoSACK: r.IntN(4) == 0, NoTimestamps: r.IntN(4) == 0, NoWindowScale: r.IntN(4) == 0,
			NewReno: r.IntN(3) == 0, MaxRTO: 3 * time.Second, UserTimeout: time.Hour, MSL: time.Second,
		},
		theirSACK: r.IntN(4) != 0, theirRACK: r.IntN(3) != 0, theirCC: "reno", theirBuf: pick(8192, 65536, 512<<10),
	}
	if r.IntN(2) == 0 {
		s.theirCC = "cubic"
	}
	if s.wire.Delay > 0 {
		s.wire.Jitter = s.wire.Delay / 4
	}
	return s
}

func newWorld(t *testing.T, s settings) *world {
	w := &world{t: t, clock: &fastClock{time.Now()}, mem: new(dma.Host)}
	s.wire.Clock = w.clock
	var err error
	if w.wire, err = simnet.New(s.wire); err != nil {
		t.Fatal(err)
	}
	if w.stack, err = stack.New(stack.Config{Mem: w.mem, Clock: w.clock}); err != nil {
		t.Fatal(err)
	}
	ic := stack.IfConfig{NoIPv6: true, Addrs: []netip.Prefix{netip.PrefixFrom(ourAddr, 24)}}
	if _, err := w.stack.AddLink(w.wire.Links[0], ic); err != nil {
		t.Fatal(err)
	}
	ts := tcpstack.New(w.stack)
	if w.host, err = tcpsock.New(ts, tcpsock.Config{Mem: w.mem, TCP: s.tcp}); err != nil {
		t.Fatal(err)
	}
	ts.SetNoFlow(w.host)
	w.newTheirs(s)
	w.tap(0)
	w.tap(1)
	w.carry()
	t.Cleanup(w.close)
	return w
}

// must fails the test where gVisor reports an error.
func (w *world) must(err tcpip.Error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) newTheirs(s settings) {
	w.their = gstack.New(gstack.Options{
		NetworkProtocols:   []gstack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocol},
		TransportProtocols: []gstack.TransportProtocolFactory{gtcp.NewProtocol},
		Clock:              theirClock{w.clock},
		// A wire that eats many questions must not look like a peer that is gone.
		NUDConfigs: gstack.NUDConfigurations{MaxMulticastProbes: 50, MaxUnicastProbes: 50},
	})
	set := func(o tcpip.SettableTransportProtocolOption) {
		w.t.Helper()
		w.must(w.their.SetTransportProtocolOption(gtcp.ProtocolNumber, o))
	}
	sack, cc := tcpip.TCPSACKEnabled(s.theirSACK), tcpip.CongestionControlOption(s.theirCC)
	maxRTO, timeWait := tcpip.TCPMaxRTOOption(3*time.Second), tcpip.TCPTimeWaitTimeoutOption(2*time.Second)
	recovery := tcpip.TCPRecovery(0)
	if s.theirRACK {
		recovery = tcpip.TCPRACKLossDetection
	}
	set(&sack)
	set(&cc)
	set(&maxRTO)
	set(&timeWait)
	set(&recovery)
	set(&tcpip.TCPSendBufferSizeRangeOption{Min: 4096, Default: s.theirBuf, Max: 1 << 20})
	set(&tcpip.TCPReceiveBufferSizeRangeOption{Min: 4096, Default: s.theirBuf, Max: 1 << 20})

	mac := w.wire.Links[1].MAC()
	w.queue = channel.New(1024, uint32(w.wire.Links[1].Caps().MTU), tcpip.LinkAddress(mac[:]))
	w.must(w.their.CreateNIC(1, ethernet.New(w.queue)))
	a := tcpip.ProtocolAddress{Protocol: ipv4.ProtocolNumber, AddressWithPrefix: tcpip.AddressWithPrefix{
		Address: tcpip.AddrFrom4(theirAddr.As4()), PrefixLen: 24}}
	w.must(w.their.AddProtocolAddress(1, a, gstack.AddressProperties{}))
	w.their.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: 1}})
}

// carry moves frames between port 1 and their stack.
func (w *world) carry() {
	port := w.wire.Links[1]
	ctx, stop := context.WithCancel(context.Background())
	w.stop = stop
	w.carriers.Go(func() {
		bufs := make([]*pkt.Buf, 64)
		for {
			n := port.RxBatch(0, bufs)
			if n == 0 && port.RxWait(0) != nil {
				return
			}
			for _, b := range bufs[:n] {
				p := gstack.NewPacketBuffer(gstack.PacketBufferOptions{Payload: buffer.MakeWithData(b.Bytes())})
				w.queue.InjectInbound(0, p)
				p.DecRef()
				b.Put()
			}
		}
	})
	w.carriers.Go(func() {
		for {
			p := w.queue.ReadContext(ctx)
			if p == nil {
				return
			}
			port.Inject(p.ToView().AsSlice())
			p.DecRef()
		}
	})
}

// close ends both ends and looks for what ours has left behind.
func (w *world) close() {
	if err := w.host.Close(); err != nil {
		w.t.Error(err)
	}
	w.their.Close()
	if err := w.stack.Close(); err != nil {
		w.t.Error(err)
	}
	w.stop()
	w.wire.Links[1].Close()
	w.carriers.Wait()
	w.their.Wait()
	w.queue.Close()
	if n := w.mem.Live(); n != 0 {
		w.t.Errorf("%d regions of memory left", n)
	}
	if err := w.wire.Close(); err != nil {
		w.t.Error(err)
	}
}

// conn is one end of a connection, of either make.
type conn interface {
	net.Conn
	CloseWrite() error
	// Reset ends the connection by a RST.
	Reset()
}

type ourConn struct{ *tcpsock.Conn }

func (c ourConn) Reset() {
	c.SetLinger(0)
	c.Close()
}

type theirConn struct {
	*gonet.TCPConn
	ep tcpip.Endpoint
}

func (c theirConn) Reset() {
	c.ep.SocketOptions().SetLinger(tcpip.LingerOption{Enabled: true})
	c.Close()
}

// connect opens a connection between the two. It tries again where so much was
// lost that an end has given up.
func (w *world) connect(weDial bool) (ours, theirs conn) {
	for range 10 {
		if weDial {
			ours, theirs = w.weDial()
		} else {
			ours, theirs = w.theyDial()
		}
		if ours != nil && theirs != nil {
			return ours, theirs
		}
		if ours != nil {
			ours.Reset()
		}
		if theirs != nil {
			theirs.Reset()
		}
	}
	w.t.Fatal("no connection in 10 tries")
	return nil, nil
}

// patience is how long one opening may take, in real time.
const patience = 70 * time.Second / speed

func (w *world) weDial() (ours, theirs conn) {
	var wq waiter.Queue
	ep, err := w.their.NewEndpoint(gtcp.ProtocolNumber, ipv4.ProtocolNumber, &wq)
	w.must(err)
	defer ep.Close()
	w.must(ep.Bind(tcpip.FullAddress{Port: 80}))
	w.must(ep.Listen(10))
	ready, ch := waiter.NewChannelEntry(waiter.ReadableEvents)
	wq.EventRegister(&ready)
	defer wq.EventUnregister(&ready)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, derr := w.host.Dial(ctx, netip.AddrPort{}, netip.AddrPortFrom(theirAddr, 80))
	if derr != nil {
		return nil, nil
	}
	ours = ourConn{c}
	for {
		n, q, err := ep.Accept(nil)
		if err == nil {
			return ours, theirConn{gonet.NewTCPConn(q, n), n}
		}
		if _, ok := err.(*tcpip.ErrWouldBlock); !ok {
			w.must(err)
		}
		select {
		case <-ch:
		case <-ctx.Done():
			return ours, nil
		}
	}
}

func (w *world) theyDial() (ours, theirs conn) {
	l, err := w.host.Listen(netip.AddrPortFrom(ourAddr, 80), tcpsock.ListenConfig{})
	if err != nil {
		w.t.Fatal(err)
	}
	defer l.Close()
	var wq waiter.Queue
	ep, terr := w.their.NewEndpoint(gtcp.ProtocolNumber, ipv4.ProtocolNumber, &wq)
	w.must(terr)
	ready, ch := waiter.NewChannelEntry(waiter.WritableEvents)
	wq.EventRegister(&ready)
	defer wq.EventUnregister(&ready)
	if err := ep.Connect(tcpip.FullAddress{Addr: tcpip.AddrFrom4(ourAddr.As4()), Port: 80}); err != nil {
		if _, ok := err.(*tcpip.ErrConnectStarted); !ok {
			w.must(err)
		}
	}
	late := time.After(patience)
	select {
	case <-ch:
	case <-late:
	}
	if ep.LastError() != nil || gtcp.EndpointState(ep.State()) != gtcp.StateEstablished {
		ep.Close()
		return nil, nil
	}
	theirs = theirConn{gonet.NewTCPConn(&wq, ep), ep}
	for {
		c, err := l.TryAccept()
		switch {
		case err == nil:
			return ourConn{c}, theirs
		case !errors.Is(err, tcpsock.ErrWouldBlock):
			w.t.Fatal(err)
		}
		select {
		case <-late:
			return nil, theirs
		case <-time.After(time.Millisecond):
		}
	}
}

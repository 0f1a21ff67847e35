// Package sock is the network as applications see it: names and addresses as
// strings, net.Conn, net.Listener and net.PacketConn, over the stack's UDP and
// TCP. What package net does through system calls, a Net does by function calls.
//
// Who may use it: appliances, kernel/rest. May not: know Linux constants or
// segments. The batch, zero-copy and run-to-completion interfaces are one level
// below: udp.Conn, tcpsock.Host, stack.HandleUDP.
//
//	n, err := sock.New(stack, sock.Config{Mem: dmaAllocator})
//	l, err := n.Listen("tcp", ":80")
//	http.Serve(l, handler)
//	client := http.Client{Transport: &http.Transport{DialContext: n.DialContext}}
//
// Start reading at Net.
package sock

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"osv/kernel/hw/dma"
	"osv/kernel/net/dns"
	"osv/kernel/net/sock/tcpsock"
	"osv/kernel/net/stack"
	"osv/kernel/net/tcp"
	"osv/kernel/net/tcpstack"
	"osv/kernel/net/udp"
)

// Config is what a Net is made of. The zero value of each field but Mem has a
// meaning.
type Config struct {
	Mem   dma.Allocator // memory of TCP's send buffers
	TCP   tcpsock.Config
	UDP   udp.Options
	Hosts map[string][]netip.Addr // names that are known without asking
}

// Net is the sockets of one stack.
type Net struct {
	stack *stack.Stack
	tcp   *tcpsock.Host
	dns   *dns.Resolver
	udp   udp.Options
}

// New makes the sockets of s.
func New(s *stack.Stack, cfg Config) (*Net, error) {
	if cfg.TCP.Mem == nil {
		cfg.TCP.Mem = cfg.Mem
	}
	ts := tcpstack.New(s)
	h, err := tcpsock.New(ts, cfg.TCP)
	if err != nil {
		return nil, err
	}
	ts.SetNoFlow(h)
	n := &Net{stack: s, tcp: h, udp: cfg.UDP}
	n.dns = dns.New(dns.Config{Servers: s.DNS, Clock: s.Clock(), Hosts: cfg.Hosts, Dial: n.dialServer})
	return n, nil
}

// dialServer connects the resolver to a name server.
func (n *Net) dialServer(ctx context.Context, network string, server netip.AddrPort) (net.Conn, error) {
	if network == "udp" {
		return n.dialUDP(server)
	}
	return n.dialTCP(ctx, server, false)
}

// Close ends TCP: its connections, listeners and memory. UDP sockets are their
// owners' to close, the stack its maker's.
func (n *Net) Close() error { return n.tcp.Close() }

// Stack is the stack below, TCP its TCP.
func (n *Net) Stack() *stack.Stack { return n.stack }

// TCP is the TCP of the stack.
func (n *Net) TCP() *tcpsock.Host { return n.tcp }

// ListenUDP makes a socket for datagrams to local; see udp.Listen.
func (n *Net) ListenUDP(local netip.AddrPort) (*udp.Conn, error) {
	return udp.Listen(n.stack, local, n.udp)
}

// DialUDP makes a socket for datagrams to and from remote; see udp.Dial.
func (n *Net) DialUDP(local, remote netip.AddrPort) (*udp.Conn, error) {
	return udp.Dial(n.stack, local, remote, n.udp)
}

// Lookup finds the addresses of a name.
func (n *Net) Lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	return n.dns.Lookup(ctx, host, true, true)
}

// Errors of Dial, Listen and ListenPacket, in a *net.OpError.
var (
	errNetwork = errors.New("unknown network")
	errPort    = errors.New("unknown port")
)

// services are the ports that have names here.
var services = map[string]uint16{"domain": 53, "ftp": 21, "http": 80, "https": 443, "memcache": 11211, "ntp": 123, "ssh": 22, "telnet": 23}

// split takes apart "network" and "host:port".
func split(network, address string) (base, host string, port uint16, v4, v6 bool, err error) {
	v4, v6 = true, true
	switch network {
	case "tcp", "udp":
		base = network
	case "tcp4", "udp4":
		base, v6 = network[:3], false
	case "tcp6", "udp6":
		base, v4 = network[:3], false
	default:
		return "", "", 0, false, false, errNetwork
	}
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return "", "", 0, false, false, err
	}
	if p, perr := strconv.ParseUint(service, 10, 16); perr == nil {
		port = uint16(p)
	} else if p, ok := services[strings.ToLower(service)]; ok {
		port = p
	} else if service != "" {
		return "", "", 0, false, false, errPort
	}
	return base, host, port, v4, v6, nil
}

// local is the address to listen on: of a literal, or of any address.
func local(host string, v4, v6 bool) (a netip.Addr, onlyV6 bool, err error) {
	if host == "" {
		switch {
		case !v6:
			return netip.IPv4Unspecified(), false, nil
		default:
			return netip.IPv6Unspecified(), !v4, nil
		}
	}
	a, err = netip.ParseAddr(host)
	if err != nil {
		return a, false, err
	}
	a = a.Unmap()
	if a.Is4() && !v4 || a.Is6() && !v6 {
		return a, false, &net.AddrError{Err: "address of another family", Addr: host}
	}
	return a, !v4, nil
}

func opErr(op, network string, err error) error {
	return &net.OpError{Op: op, Net: network, Err: err}
}

// keepalive is what package net sets for each connection unless told otherwise.
// RFC 9293 §3.8.4 wants it off where the application has not asked (MUST-25); who
// programs to package net's documentation has.
var keepalive = tcp.Options{Keepalive: true, KeepIdle: 15 * time.Second, KeepInterval: 15 * time.Second, KeepCount: 9}

// Listen waits for TCP connections. network is "tcp", "tcp4" or "tcp6", address
// "host:port" with a literal address or none; port 0 lets the stack choose.
func (n *Net) Listen(network, address string) (net.Listener, error) {
	base, host, port, v4, v6, err := split(network, address)
	if err == nil && base != "tcp" {
		err = errNetwork
	}
	if err != nil {
		return nil, opErr("listen", network, err)
	}
	a, only, err := local(host, v4, v6)
	if err != nil {
		return nil, opErr("listen", network, err)
	}
	l, err := n.tcp.Listen(netip.AddrPortFrom(a, port), tcpsock.ListenConfig{OneKind: only, Options: keepalive})
	if err != nil {
		return nil, err // not l: a nil *Listener is not a nil net.Listener
	}
	return l, nil
}

// ListenPacket makes a UDP socket. network is "udp", "udp4" or "udp6", address as
// with Listen.
func (n *Net) ListenPacket(network, address string) (net.PacketConn, error) {
	base, host, port, v4, v6, err := split(network, address)
	if err == nil && base != "udp" {
		err = errNetwork
	}
	if err != nil {
		return nil, opErr("listen", network, err)
	}
	a, only, err := local(host, v4, v6)
	if err != nil {
		return nil, opErr("listen", network, err)
	}
	o := n.udp
	o.V6Only = o.V6Only || only
	c, err := udp.Listen(n.stack, netip.AddrPortFrom(a, port), o)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Dial connects to address, "host:port", where host may be a name.
func (n *Net) Dial(network, address string) (net.Conn, error) {
	return n.DialContext(context.Background(), network, address)
}

// nextAddr is how long one address of several is tried alone.
const nextAddr = 2 * time.Second

// DialContext is Dial bounded by ctx. Of several addresses it tries one after the
// other; all but the last get a few seconds only.
func (n *Net) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	base, host, port, v4, v6, err := split(network, address)
	if err != nil {
		return nil, opErr("dial", network, err)
	}
	if host == "" {
		host = "localhost"
	}
	as, err := n.dns.Lookup(ctx, host, v4, v6)
	if err != nil {
		return nil, opErr("dial", network, err)
	}
	for i, a := range as {
		remote := netip.AddrPortFrom(a, port)
		var c net.Conn
		if base == "udp" {
			c, err = n.dialUDP(remote)
		} else {
			c, err = n.dialTCP(ctx, remote, i < len(as)-1)
		}
		if err == nil {
			return c, nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, err
}

func (n *Net) dialUDP(remote netip.AddrPort) (net.Conn, error) {
	c, err := n.DialUDP(netip.AddrPort{}, remote)
	if err != nil {
		return nil, err // not c: a nil *Conn is not a nil net.Conn
	}
	return c, nil
}

func (n *Net) dialTCP(ctx context.Context, remote netip.AddrPort, more bool) (net.Conn, error) {
	if more {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, nextAddr)
		defer cancel()
	}
	c, err := n.tcp.Dial(ctx, netip.AddrPort{}, remote)
	if err != nil {
		return nil, err
	}
	_ = c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: keepalive.KeepIdle, Interval: keepalive.KeepInterval, Count: keepalive.KeepCount})
	return c, nil
}

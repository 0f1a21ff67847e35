package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"osv/appliances/memcached/options"
	"osv/kernel/hw/dma"
	"osv/kernel/net/sock/tcpsock"
	"osv/kernel/net/stack"
	"osv/kernel/net/tcpstack"
	"osv/kernel/net/udp"
	"osv/kernel/pkt"
)

// OnStack is a Host of this process whose network is our own stack, over any
// link: a TAP device (-tap), or a wire in memory.
type OnStack struct {
	*Hosted
	stack *stack.Stack
	tcp   *tcpsock.Host
	link  pkt.Link
}

// NewOnStack makes a stack with the address addr on link. It owns the link.
func NewOnStack(o options.Options, ncpu int, link pkt.Link, addr netip.Prefix) (*OnStack, error) {
	mem := new(dma.Host)
	st, err := stack.New(stack.Config{Mem: mem})
	if err != nil {
		return nil, err
	}
	h := &OnStack{Hosted: NewHosted(o, ncpu), stack: st, link: link}
	if _, err := st.AddLink(link, stack.IfConfig{Addrs: []netip.Prefix{addr}}); err != nil {
		return nil, errors.Join(err, st.Close())
	}
	ts := tcpstack.New(st)
	// Chunks for a few hundred busy connections; idle ones need none.
	if h.tcp, err = tcpsock.New(ts, tcpsock.Config{Mem: mem}); err != nil {
		return nil, errors.Join(err, st.Close())
	}
	ts.SetNoFlow(h.tcp)
	return h, nil
}

// Close ends the stack, after the server has been closed.
func (h *OnStack) Close() error {
	return errors.Join(h.tcp.Close(), h.stack.Close(), h.link.Close())
}

// Stack is our stack, TCP its TCP.
func (h *OnStack) Stack() *stack.Stack { return h.stack }

// TCP: see Stack.
func (h *OnStack) TCP() *tcpsock.Host { return h.tcp }

// address reads a literal host:port, the host empty for any.
func address(addr string) (netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return netip.AddrPort{}, err
	}
	var p int
	if _, err := fmt.Sscanf(port, "%d", &p); err != nil {
		return netip.AddrPort{}, err
	}
	return localAddr(host, p)
}

// Listen listens on the stack, a UNIX socket on the operating system.
func (h *OnStack) Listen(network, addr string) (net.Listener, error) {
	if network == "unix" {
		return h.Hosted.Listen(network, addr)
	}
	a, err := address(addr)
	if err != nil {
		return nil, err
	}
	return h.tcp.Listen(a, tcpsock.ListenConfig{})
}

// ListenPacket opens a UDP socket on the stack.
func (h *OnStack) ListenPacket(_, addr string) (net.PacketConn, error) {
	a, err := address(addr)
	if err != nil {
		return nil, err
	}
	return udp.Listen(h.stack, a, udp.Options{Queue: 4 * batchSize})
}

// Dial connects to a literal address, for tests.
func (h *OnStack) Dial(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	return h.tcp.Dial(ctx, netip.AddrPort{}, addr)
}

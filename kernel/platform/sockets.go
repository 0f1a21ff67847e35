package platform

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"osv/kernel/net/sock/tcpsock"
	"osv/kernel/net/stack"
	"osv/kernel/net/tcpstack"
	"osv/kernel/net/udp"
)

// network is the stack with its transports, made on first use.
type network struct {
	stack *stack.Stack
	tcp   *tcpsock.Host
}

// Sockets returns the network with TCP on it. It is made once; addresses come
// from the command line, or by DHCP in the background (WaitAddress).
func (s *System) Sockets() (*stack.Stack, *tcpsock.Host, error) {
	if s.net != nil {
		return s.net.stack, s.net.tcp, nil
	}
	st, err := s.Network()
	if err != nil {
		return nil, nil, err
	}
	h, err := tcpsock.New(tcpstack.New(st), tcpsock.Config{Mem: s.Memory})
	if err != nil {
		return nil, nil, errors.Join(err, st.Close())
	}
	s.net = &network{st, h}
	return st, h, nil
}

// WaitAddress waits until some interface other than the loopback has an IPv4
// address, for at most d.
func (s *System) WaitAddress(d time.Duration) error {
	st, _, err := s.Sockets()
	if err != nil {
		return err
	}
	for end := time.Now().Add(d); ; time.Sleep(10 * time.Millisecond) {
		for _, ifc := range st.Interfaces() {
			for _, p := range ifc.Addrs() {
				if !ifc.IsLoopback() && p.Addr().Is4() {
					return nil
				}
			}
		}
		if time.Now().After(end) {
			return fmt.Errorf("no network address after %v", d)
		}
	}
}

// Listen is net.Listen for "tcp" on the guest's own stack.
func (s *System) Listen(network, addr string) (net.Listener, error) {
	_, h, err := s.Sockets()
	if err != nil {
		return nil, err
	}
	a, err := listenAddr(network, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return h.Listen(a, tcpsock.ListenConfig{})
}

// ListenPacket is net.ListenPacket for "udp".
func (s *System) ListenPacket(network, addr string) (net.PacketConn, error) {
	st, _, err := s.Sockets()
	if err != nil {
		return nil, err
	}
	a, err := listenAddr(network, "udp", addr)
	if err != nil {
		return nil, err
	}
	return udp.Listen(st, a, udp.Options{})
}

// DialContext is net.Dialer.DialContext for TCP to a literal address, as
// http.Transport wants it.
func (s *System) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	_, h, err := s.Sockets()
	if err != nil {
		return nil, err
	}
	a, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, &net.AddrError{Err: "not a literal address", Addr: addr}
	}
	return h.Dial(ctx, netip.AddrPort{}, a)
}

// listenAddr reads ":11211", "0.0.0.0:80", "[::]:80". Without a host, connections
// of both families are taken.
func listenAddr(network, want, addr string) (netip.AddrPort, error) {
	if network != want && network != want+"4" && network != want+"6" {
		return netip.AddrPort{}, net.UnknownNetworkError(network)
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return netip.AddrPort{}, err
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return netip.AddrPort{}, &net.AddrError{Err: "invalid port", Addr: addr}
	}
	var ip netip.Addr // any, of either family
	switch {
	case host != "":
		if ip, err = netip.ParseAddr(host); err != nil {
			return netip.AddrPort{}, &net.AddrError{Err: "not a literal address", Addr: addr}
		}
	case network == want+"4":
		ip = netip.IPv4Unspecified()
	}
	return netip.AddrPortFrom(ip, uint16(n)), nil
}

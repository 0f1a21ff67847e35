package platform

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"osv/kernel/hw/gate"
	"osv/kernel/net/sock"
	"osv/kernel/net/sock/tcpsock"
	"osv/kernel/net/stack"
)

// Net returns the guest's network: the stack over all cards, with UDP, TCP and
// names on it. It is made once; addresses come from the command line, or by DHCP
// in the background (WaitAddress).
func (s *System) Net() (*sock.Net, error) {
	if s.net != nil {
		return s.net, nil
	}
	st, err := s.Network()
	if err != nil {
		return nil, err
	}
	total := int(gate.Memory().Total)
	cfg := sock.Config{Mem: s.Memory}
	cfg.TCP.RecvMem = netBuffersFor(total).recvMem()
	cfg.TCP.Chunks, cfg.TCP.ChunkSize = tcpChunks(total), tcpChunk
	n, err := sock.New(st, cfg)
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	s.net = n
	return n, nil
}

// Sockets is Net, for appliances that go below it: to handlers in the receive
// loop.
func (s *System) Sockets() (*stack.Stack, *tcpsock.Host, error) {
	n, err := s.Net()
	if err != nil {
		return nil, nil, err
	}
	return n.Stack(), n.TCP(), nil
}

// WaitAddress waits until a network card has an address that can be used, for at
// most d.
func (s *System) WaitAddress(d time.Duration) error {
	n, err := s.Net()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), d, fmt.Errorf("no network address after %v", d))
	defer cancel()
	for _, ifc := range n.Stack().Interfaces() {
		if !ifc.IsLoopback() {
			_, err := ifc.WaitAddr(ctx)
			return err
		}
	}
	return errors.New("no network card")
}

// Listen is net.Listen for "tcp" on the guest's own stack, ListenPacket the same
// for "udp", DialContext what http.Transport wants.
func (s *System) Listen(network, addr string) (net.Listener, error) {
	n, err := s.Net()
	if err != nil {
		return nil, err
	}
	return n.Listen(network, addr)
}

// ListenPacket is net.ListenPacket for "udp"; see Listen.
func (s *System) ListenPacket(network, addr string) (net.PacketConn, error) {
	n, err := s.Net()
	if err != nil {
		return nil, err
	}
	return n.ListenPacket(network, addr)
}

// DialContext connects to "host:port" by TCP or UDP; see Listen.
func (s *System) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	n, err := s.Net()
	if err != nil {
		return nil, err
	}
	return n.DialContext(ctx, network, addr)
}

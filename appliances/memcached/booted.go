package main

import (
	"io"
	"net"
	"os"
	"sync"

	"osv/appliances/memcached/store"
	"osv/kernel/net/sock/tcpsock"
	"osv/kernel/net/stack"
	"osv/kernel/platform"
)

// booted is the host that the guest makes for the server: our own stack, and
// memory that the kernel hands out.
type booted struct {
	sys   *platform.System
	stack *stack.Stack
	tcp   *tcpsock.Host
	ncpu  int
	stop  chan struct{}
	once  sync.Once
}

func newBooted(sys *platform.System, ncpu int) (*booted, error) {
	st, tcp, err := sys.Sockets()
	if err != nil {
		return nil, err
	}
	return &booted{sys: sys, stack: st, tcp: tcp, ncpu: ncpu, stop: make(chan struct{})}, nil
}

func (b *booted) Memory() store.Memory { return platform.Anonymous{} }
func (b *booted) NumCPU() int          { return b.ncpu }
func (b *booted) Stack() *stack.Stack  { return b.stack }
func (b *booted) TCP() *tcpsock.Host   { return b.tcp }
func (b *booted) Console() io.Writer   { return os.Stderr }

func (b *booted) Listen(network, addr string) (net.Listener, error) {
	return b.sys.Listen(network, addr)
}

func (b *booted) ListenPacket(network, addr string) (net.PacketConn, error) {
	return b.sys.ListenPacket(network, addr)
}

// Shutdown makes Stopped readable: the shutdown command ends the guest.
func (b *booted) Shutdown()                { b.once.Do(func() { close(b.stop) }) }
func (b *booted) Stopped() <-chan struct{} { return b.stop }

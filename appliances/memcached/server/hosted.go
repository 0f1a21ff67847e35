package server

import (
	"context"
	"io"
	"net"
	"os"
	"sync"

	"osv/appliances/memcached/options"
	"osv/appliances/memcached/store"
	"osv/kernel/net/sock/tcpsock"
	"osv/kernel/net/stack"
)

// Hosted is a Host on the sockets of the operating system.
type Hosted struct {
	NCPU int
	Out  io.Writer
	mem  store.HostMemory
	mask uint32
	stop chan struct{}
	once sync.Once
}

// NewHosted makes a Host of this process. Its Stopped channel tells of the
// shutdown command.
func NewHosted(o options.Options, ncpu int) *Hosted {
	return &Hosted{NCPU: ncpu, Out: os.Stderr, mem: store.HostMemory{Huge: o.LargePages}, mask: o.UnixMask, stop: make(chan struct{})}
}

// Memory is anonymous memory of the process.
func (h *Hosted) Memory() store.Memory { return &h.mem }

// NumCPU is the number of CPUs to use.
func (h *Hosted) NumCPU() int { return h.NCPU }

// Listen is net.Listen; a UNIX socket takes the place of a stale one and gets
// the mode of -a.
func (h *Hosted) Listen(network, addr string) (net.Listener, error) {
	if network == "unix" {
		if fi, err := os.Lstat(addr); err == nil && fi.Mode()&os.ModeSocket != 0 {
			os.Remove(addr)
		}
	}
	l, err := net.Listen(network, addr)
	if err == nil && network == "unix" {
		err = os.Chmod(addr, os.FileMode(h.mask))
	}
	return l, err
}

// ListenPacket is net.ListenPacket.
func (h *Hosted) ListenPacket(network, addr string) (net.PacketConn, error) {
	var lc net.ListenConfig
	return lc.ListenPacket(context.Background(), network, addr)
}

// Stack is nil: the operating system's is used.
func (h *Hosted) Stack() *stack.Stack { return nil }

// TCP is nil likewise.
func (h *Hosted) TCP() *tcpsock.Host { return nil }

// Console is standard error.
func (h *Hosted) Console() io.Writer { return h.Out }

// Shutdown makes Stopped readable.
func (h *Hosted) Shutdown() { h.once.Do(func() { close(h.stop) }) }

// Stopped is closed by Shutdown.
func (h *Hosted) Stopped() <-chan struct{} { return h.stop }

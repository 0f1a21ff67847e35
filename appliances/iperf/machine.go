package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"time"

	"osv/appliances/iperf/host"
	"osv/appliances/iperf/options"
	"osv/kernel/hw/dma"
	"osv/kernel/net/sock"
	"osv/kernel/net/sock/tcpsock"
	"osv/kernel/net/stack"
	"osv/kernel/net/taplink"
)

// newHost chooses what to run on: the machine that this program is the kernel of,
// our own stack over a TAP device, or the operating system's sockets.
func newHost(o options.Options) (host.Host, func() error, error) {
	switch {
	case machine != nil:
		return bootedHost(o)
	case o.Tap != "":
		return tapHost(o)
	}
	return host.Hosted{Out: os.Stdout}, func() error { return nil }, nil
}

// addressWait is how long a client in a guest waits for DHCP.
const addressWait = 30 * time.Second

func bootedHost(o options.Options) (host.Host, func() error, error) {
	n, err := machine.Net()
	if err != nil {
		return nil, nil, err
	}
	if o.Client != "" {
		if err := machine.WaitAddress(addressWait); err != nil {
			return nil, nil, err
		}
	}
	h := host.NewStack(n, os.Stdout, system("guest"))
	return h, func() error { return nil }, nil
}

// tapBufs is how many frames of up to 64 KiB a TAP device has buffers for; half of
// them may hold octets that wait for readers.
const tapBufs = 1024

func tapHost(o options.Options) (host.Host, func() error, error) {
	addr, err := netip.ParsePrefix(o.TapAddr)
	if err != nil {
		return nil, nil, fmt.Errorf("option --tap-addr: %q: want address/length", o.TapAddr)
	}
	mem := &dma.Host{}
	l, err := taplink.Open(o.Tap, taplink.Options{Mem: mem, Offload: true, Bufs: tapBufs})
	if err != nil {
		return nil, nil, err
	}
	st, err := stack.New(stack.Config{Mem: mem})
	if err != nil {
		return nil, nil, errors.Join(err, l.Close())
	}
	if _, err := st.AddLink(l, stack.IfConfig{Addrs: []netip.Prefix{addr}}); err != nil {
		return nil, nil, errors.Join(err, st.Close(), l.Close())
	}
	n, err := sock.New(st, sock.Config{Mem: mem, TCP: tcpsock.Config{RecvMem: tapBufs << 16 / 2}})
	if err != nil {
		return nil, nil, errors.Join(err, st.Close(), l.Close())
	}
	h := host.NewStack(n, os.Stdout, system("TAP"))
	return h, func() error { return errors.Join(n.Close(), st.Close()) }, nil
}

func system(where string) string {
	return fmt.Sprintf("OSv in Go (%s, %s, %d CPUs)", where, runtime.Version(), runtime.GOMAXPROCS(0))
}

// lineWriter keeps the lines of two servers apart.
type lineWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lineWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

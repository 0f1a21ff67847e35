// Package wire joins a guest to the load generator: a network namespace of its
// own with a TAP interface in it, or, without the right to make one, QEMU's own
// user-mode network (slow, marked as such).
//
// Everything lives in a namespace without a name, held open by this process: when
// the process ends, however it ends, the kernel removes namespace, interfaces and
// addresses. A name, for tools like "ip netns exec", is optional and is what Reap
// cleans up after.
//
// Spec: namespaces(7), network_namespaces(7), the kernel's Documentation/
// networking/tuntap.rst, rtnetlink(7).
//
// Who may use it: the bench, boot-bench, tests. May not: start QEMU, know a
// protocol above IP. The vhost-user wire, which needs no interface at all, is the
// package vhost below this one.
//
// Start reading at Open, then space.go (the namespace and how to work in it),
// tap.go, user.go, and reexec.go (how an unprivileged user gets a namespace).
package wire

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"osv/harness/vm"
)

// Kind is how a guest is joined.
type Kind string

// The kinds of wire.
const (
	TAP  Kind = "tap"
	User Kind = "user"
)

// The addresses are the same on every wire; each wire is a world of its own.
var (
	Host  = netip.MustParsePrefix("10.77.0.1/24") // the generator's side
	Guest = netip.MustParsePrefix("10.77.0.2/24") // the first guest; others follow
)

// GuestMAC is the card of guest i, from 0.
func GuestMAC(i int) string { return fmt.Sprintf("52:54:00:77:00:%02x", i+2) }

// GuestIP is the address of guest i, from 0.
func GuestIP(i int) netip.Prefix {
	a := Guest.Addr().As4()
	a[3] += byte(i)
	return netip.PrefixFrom(netip.AddrFrom4(a), Guest.Bits())
}

// Options say what wire is wanted. The zero value is a TAP for one guest with one
// queue, all offloads on.
type Options struct {
	Kind      Kind     // "" = TAP, or User where no namespace can be made
	Guests    int      // 0 = 1; above 1 the TAPs hang on a bridge
	Bridge    bool     // a bridge even for one guest
	Queues    int      // queue pairs of each card; 0 = 1
	NoVNetHdr bool     // TAP without virtio-net headers: no offload can work
	Off       []string // virtio-net features to switch off (vm.OffloadsOff)
	VHost     bool     // the host kernel serves the rings (needs /dev/vhost-net)
	Named     bool     // give the namespace a name under /run/netns
	// Ports are what User forwards, "tcp:11211": that network cannot be entered
	// otherwise.
	Ports []string
}

// Wire is a joined network. It lives until Close or the end of the process.
type Wire struct {
	Kind  Kind
	Space *Space // nil where no namespace could be made
	// Note says what a reader of results must know; "" where there is nothing.
	Note string

	nics    []vm.NIC
	forward map[string]string // User: "tcp:10.77.0.2:80" → "127.0.0.1:4711"
}

// Open makes a wire. Without the privilege for a TAP and without an explicit
// Kind it falls back to User and says so in Note.
func Open(o Options) (*Wire, error) {
	o.Guests, o.Queues = max(o.Guests, 1), max(o.Queues, 1)
	if o.Guests > 64 {
		return nil, fmt.Errorf("wire: %d guests: 64 at most", o.Guests)
	}
	switch o.Kind {
	case TAP:
		return openTAP(o)
	case User:
		return openUser(o, "")
	case "":
		w, err := openTAP(o)
		if errors.Is(err, ErrPrivilege) && o.Guests == 1 {
			return openUser(o, err.Error())
		}
		return w, err
	}
	return nil, fmt.Errorf("wire: kind %q: want tap or user", o.Kind)
}

// NIC is the card of guest i, from 0, for its vm.Spec.
func (w *Wire) NIC(i int) vm.NIC { return w.nics[i] }

// Enter is for vm.Options: QEMU then runs in the wire's namespace.
func (w *Wire) Enter() error {
	if w.Space == nil {
		return nil
	}
	return w.Space.Enter()
}

// Addr is how this process reaches port ("tcp:11211") of guest i: the address of
// the guest itself, or where User forwards it. On a TAP it means something only
// inside the namespace (DialContext, ListenPacket, Space).
func (w *Wire) Addr(i int, port string) (network, addr string, err error) {
	network, p, ok := cutPort(port)
	if !ok {
		return "", "", fmt.Errorf("wire: port %q: want tcp:N or udp:N", port)
	}
	guest := net.JoinHostPort(GuestIP(i).Addr().String(), p)
	if w.Kind != User {
		return network, guest, nil
	}
	fwd, ok := w.forward[network+":"+guest]
	if !ok {
		return "", "", fmt.Errorf("wire: port %s of guest %d is not forwarded; list it in Options.Ports", port, i)
	}
	return network, fwd, nil
}

// DialContext connects to addr from inside the wire; it has the shape that
// client libraries ask for. addr must be an IP address with a port.
func (w *Wire) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	if w.Kind == User {
		if fwd, ok := w.forward[trimFamily(network)+":"+addr]; ok {
			addr = fwd
		}
	}
	var d net.Dialer
	if w.Space == nil {
		return d.DialContext(ctx, network, addr)
	}
	return w.Space.dial(ctx, &d, network, addr)
}

// ListenPacket opens a datagram socket inside the wire.
func (w *Wire) ListenPacket(network, addr string) (net.PacketConn, error) {
	if w.Space == nil {
		return net.ListenPacket(network, addr)
	}
	var c net.PacketConn
	err := w.Space.Do(func() (err error) {
		c, err = net.ListenPacket(network, addr)
		return err
	})
	return c, err
}

// Close removes the wire. QEMU and all else in the namespace should have ended:
// the namespace lives on as long as they do.
func (w *Wire) Close() error {
	if w.Space == nil {
		return nil
	}
	return w.Space.Close()
}

func trimFamily(network string) string {
	if n := len(network); n > 0 && (network[n-1] == '4' || network[n-1] == '6') {
		return network[:n-1]
	}
	return network
}

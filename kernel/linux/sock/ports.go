package sock

import (
	"net/netip"
	"slices"
	"sync"
	"syscall"
)

// portTable is the local TCP ports that bind(2) has taken: Linux gives a port at bind,
// the stack only at listen or connect (net/ipv4/inet_connection_sock.c). UDP ports are
// taken in the stack at once and need no such table.
type portTable struct {
	mu    sync.Mutex
	ports map[uint16][]*binding
}

// binding is one socket's claim to a port. Accepted connections have none: they are
// known to the stack.
type binding struct {
	port      uint16
	addr      netip.Addr // unspecified for any
	v6        bool       // of an AF_INET6 socket
	only      bool       // IPV6_V6ONLY
	reuse     bool       // SO_REUSEADDR
	share     bool       // SO_REUSEPORT
	listening bool
	chosen    bool // the port was not asked for: it goes with the connection,
	fresh     bool // unless it was taken after its end
}

func (t *portTable) init() { t.ports = map[uint16][]*binding{} }

// overlaps says whether two claims could mean the same connections.
func (b *binding) overlaps(o *binding) bool {
	any1, any2 := b.addr.IsUnspecified(), o.addr.IsUnspecified()
	four := func(x *binding) bool { return x.addr.Is4() || x.v6 && x.addr.IsUnspecified() && !x.only }
	six := func(x *binding) bool { return x.addr.Is6() }
	if four(b) && four(o) && (any1 || any2 || b.addr == o.addr) {
		return true
	}
	return six(b) && six(o) && (any1 || any2 || b.addr == o.addr)
}

// takes says whether connections to a local address could be b's.
func (b *binding) takes(a netip.Addr) bool {
	o := binding{addr: a, v6: a.Is6(), only: true}
	return b.overlaps(&o)
}

// conflicts is inet_csk_bind_conflict.
func (b *binding) conflicts(o *binding) bool {
	if !b.overlaps(o) {
		return false
	}
	if b.reuse && o.reuse && !o.listening && !b.listening {
		return false
	}
	return !(b.share && o.share)
}

// claim takes b's port, or one of from to to where that is 0. busy reports ports that
// connections use.
func (t *portTable) claim(b *binding, from, to uint16, seed uint32, busy func(port uint16, is func(netip.Addr) bool) bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if b.port != 0 {
		if t.taken(b, b.port) || !b.reuse && busy(b.port, b.takes) {
			return syscall.EADDRINUSE
		}
		t.ports[b.port] = append(t.ports[b.port], b)
		return nil
	}
	n := uint32(to-from) + 1
	for i := range n {
		p := from + uint16((seed+i)%n)
		if len(t.ports[p]) > 0 || busy(p, b.takes) {
			continue
		}
		b.port, b.chosen = p, true
		t.ports[p] = append(t.ports[p], b)
		return nil
	}
	return syscall.EADDRINUSE
}

func (t *portTable) taken(b *binding, port uint16) bool {
	return slices.ContainsFunc(t.ports[port], b.conflicts)
}

// listen makes b a listener's claim: EADDRINUSE where another listens there.
func (t *portTable) listen(b *binding) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, o := range t.ports[b.port] {
		if o != b && o.listening && b.overlaps(o) && !(b.share && o.share) {
			return syscall.EADDRINUSE
		}
	}
	b.listening = true
	return nil
}

// release gives the port back.
func (t *portTable) release(b *binding) {
	t.mu.Lock()
	defer t.mu.Unlock()
	rest := slices.DeleteFunc(t.ports[b.port], func(o *binding) bool { return o == b })
	if len(rest) == 0 {
		delete(t.ports, b.port)
	} else {
		t.ports[b.port] = rest
	}
}

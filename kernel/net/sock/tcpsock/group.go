package tcpsock

import (
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"

	"osv/kernel/net/tcp"
	"osv/kernel/pkt"
)

// group is the listeners that share an address. A connection's segments go to the
// one that its tuple picks, and those of a half-open one to the listener that has
// it, also when others have come or gone since its SYN.
type group struct {
	h       *Host
	local   netip.AddrPort
	members atomic.Pointer[[]*Listener] // replaced as a whole, under Host.mu
}

// share makes l a member of its address's group. Caller must hold mu.
func (h *Host) share(l *Listener) error {
	first := h.listeners[l.local]
	if first != nil && first.group == nil {
		return fmt.Errorf("tcp: listen on %v: %w", l.local, errInUse)
	}
	if first == nil {
		g := &group{h: h, local: l.local}
		g.members.Store(&[]*Listener{l})
		if err := h.stack.Listen(l.local, l.dual, g); err != nil {
			return err
		}
		l.group, h.listeners[l.local] = g, l
		return nil
	}
	g := first.group
	all := append(slices.Clone(*g.members.Load()), l)
	l.group = g
	g.members.Store(&all)
	return nil
}

// unshare takes l out of its group, which ends with its last member.
func (h *Host) unshare(l *Listener) {
	g := l.group
	h.mu.Lock()
	rest := slices.DeleteFunc(slices.Clone(*g.members.Load()), func(m *Listener) bool { return m == l })
	g.members.Store(&rest)
	if len(rest) > 0 {
		h.listeners[g.local] = rest[0]
		h.mu.Unlock()
		return
	}
	delete(h.listeners, g.local)
	h.mu.Unlock()
	h.stack.Unlisten(g.local, g)
}

// pick is the member for a tuple; nil where there is none any more.
func (g *group) pick(t *tcp.Tuple) *Listener {
	if all := *g.members.Load(); len(all) > 1 {
		for _, l := range all {
			if l.holds(t) {
				return l
			}
		}
	}
	return g.byHash(t)
}

// byHash is pick for a tuple that nobody has half open. It takes no lock.
func (g *group) byHash(t *tcp.Tuple) *Listener {
	all := *g.members.Load()
	if len(all) == 0 {
		return nil
	}
	return all[tcp.PortOffset(&g.h.cfg.Key, t)%uint32(len(all))]
}

// holds reports whether t is half open here.
func (l *Listener) holds(t *tcp.Tuple) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.core.Holds(t)
}

// Segment takes a segment to the address that belongs to no connection.
func (g *group) Segment(t *tcp.Tuple, b *pkt.Buf) {
	if l := g.pick(t); l != nil {
		l.Segment(t, b)
		return
	}
	g.h.Segment(t, b)
}

// ICMP about half-open connections is of no interest: they end by themselves.
func (g *group) ICMP(*tcp.Tuple, tcp.ICMPError) {}

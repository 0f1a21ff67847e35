package stack

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"osv/kernel/net/demux"
	"osv/kernel/net/wire"
)

// Group is the sinks that share a local port: datagram sockets that agreed to. The
// receive loop picks one for each packet, by the sender's address and port, or, in a
// group that does not spread, the one that came last.
type Group struct {
	proto  wire.Proto
	local  netip.AddrPort
	spread bool
	own    Sink                    // what the table has
	sinks  atomic.Pointer[[]*Sink] // replaced as a whole; never empty while own is bound
}

// groups are those of a stack.
type groups struct {
	mu   sync.Mutex // guards all changes
	list []*Group
}

// BindShared makes k one of the sinks of a local port, whose others must have been
// bound by BindShared with the same spread. spread divides the senders among them;
// without, the last one gets all.
func (s *Stack) BindShared(p wire.Proto, local netip.AddrPort, k *Sink, spread bool) error {
	gs := &s.groups
	gs.mu.Lock()
	defer gs.mu.Unlock()
	for _, g := range gs.list {
		if g.proto == p && g.local == local && g.spread == spread {
			all := append(slices.Clone(*g.sinks.Load()), k)
			g.sinks.Store(&all)
			return nil
		}
	}
	g := &Group{proto: p, local: local, spread: spread}
	g.own.group = g
	g.sinks.Store(&[]*Sink{k})
	if err := s.table.Bind(p, local, &g.own); err != nil {
		return err
	}
	gs.list = append(gs.list, g)
	return nil
}

// UnbindShared undoes BindShared and reports whether there was anything to undo.
func (s *Stack) UnbindShared(p wire.Proto, port uint16, k *Sink) bool {
	gs := &s.groups
	gs.mu.Lock()
	defer gs.mu.Unlock()
	for i, g := range gs.list {
		all := *g.sinks.Load()
		if g.proto != p || g.local.Port() != port || !slices.Contains(all, k) {
			continue
		}
		if len(all) == 1 {
			s.table.Unbind(p, port, &g.own)
			gs.list = slices.Delete(gs.list, i, i+1)
			return true
		}
		rest := slices.DeleteFunc(slices.Clone(all), func(o *Sink) bool { return o == k })
		g.sinks.Store(&rest)
		return true
	}
	return false
}

// pick is the sink for the packet at f.
func (g *Group) pick(m *demux.Meta, f []byte) *Sink {
	all := *g.sinks.Load()
	n := uint32(len(all))
	if n == 1 || !g.spread {
		return all[n-1]
	}
	src := m.Src4
	if m.V6 {
		a := m.Src(f).Addr().As16()
		src = be.Uint32(a[:]) ^ be.Uint32(a[4:]) ^ be.Uint32(a[8:]) ^ be.Uint32(a[12:])
	}
	h := (src ^ uint32(m.SrcPort)<<16 ^ uint32(m.DstPort)) * 0x9e3779b1
	return all[(h>>16)%n]
}

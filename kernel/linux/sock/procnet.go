package sock

import (
	"net/netip"
	"slices"
	"sync"
	"syscall"

	ntcp "osv/kernel/net/tcp"
	"osv/kernel/vfs/procfs"
)

// registry is the sockets that are open, for /proc/net.
type registry struct {
	mu  sync.Mutex
	all map[Socket]*base
}

func (r *registry) add(s Socket, b *base) {
	r.mu.Lock()
	if r.all == nil {
		r.all = map[Socket]*base{}
	}
	r.all[s] = b
	r.mu.Unlock()
}

func (r *registry) remove(s Socket) {
	r.mu.Lock()
	delete(r.all, s)
	r.mu.Unlock()
}

// of are those with the domain and protocol, in the order of their making.
func (r *registry) of(domain, proto int) []Socket {
	type entry struct {
		s  Socket
		at uint64
	}
	var es []entry
	r.mu.Lock()
	for s, b := range r.all {
		if b.domain == domain && b.proto == proto {
			es = append(es, entry{s, b.cookie})
		}
	}
	r.mu.Unlock()
	slices.SortFunc(es, func(a, b entry) int { return int(int64(a.at - b.at)) })
	out := make([]Socket, len(es))
	for i, e := range es {
		out[i] = e.s
	}
	return out
}

// Proc is what /proc/net tells of n.
func (n *Net) Proc() procfs.Net { return procNet{n} }

type procNet struct{ n *Net }

func (p procNet) Interfaces() []procfs.Interface {
	if p.n.stack == nil {
		return nil
	}
	var out []procfs.Interface
	for i, ifc := range p.n.stack.Interfaces() {
		s := ifc.Link().Stats()
		x := procfs.Interface{
			Name: ifc.Name(), Index: i + 1, Loopback: ifc.IsLoopback(), MAC: ifc.MAC(), MTU: ifc.MTU(),
			RxBytes: s.RxBytes, RxPackets: s.RxFrames, RxErrors: s.RxErrors, RxDropped: s.RxNoBuf,
			TxBytes: s.TxBytes, TxPackets: s.TxFrames, TxErrors: s.TxErrors, TxDropped: s.TxFull,
		}
		for _, a := range ifc.Addrs() {
			if a.Addr().Is6() {
				x.Addr6, x.Bits6 = append(x.Addr6, a.Addr().As16()), append(x.Bits6, a.Bits())
			}
		}
		out = append(out, x)
	}
	return out
}

func (p procNet) Routes() []procfs.Route {
	if p.n.stack == nil {
		return nil
	}
	var out []procfs.Route
	for _, r := range p.n.stack.Routes() {
		if !r.Prefix.Addr().Is4() || r.Iface == nil || r.Iface.IsLoopback() {
			continue
		}
		x := procfs.Route{Interface: r.Iface.Name(), Dst: r.Prefix.Addr().As4(), Metric: r.Metric, MTU: r.MTU}
		be.PutUint32(x.Mask[:], uint32(^(uint64(1)<<(32-r.Prefix.Bits()) - 1)))
		if r.Gateway.IsValid() {
			x.Router = r.Gateway.As4()
		}
		out = append(out, x)
	}
	return out
}

// Sockets are those of a protocol. Their owner is not kept, and told as root.
func (p procNet) Sockets(proto string) []procfs.Socket {
	var out []procfs.Socket
	for _, s := range p.sockets(proto) {
		var x procfs.Socket
		switch s := s.(type) {
		case *tcp:
			x = s.proc()
		case *udp:
			x = s.proc()
		case *unix:
			x = s.proc()
		}
		out = append(out, x)
	}
	return out
}

func (p procNet) sockets(proto string) []Socket {
	r := &p.n.open
	switch proto {
	case "tcp":
		return r.of(syscall.AF_INET, syscall.IPPROTO_TCP)
	case "tcp6":
		return r.of(syscall.AF_INET6, syscall.IPPROTO_TCP)
	case "udp":
		return r.of(syscall.AF_INET, syscall.IPPROTO_UDP)
	case "udp6":
		return r.of(syscall.AF_INET6, syscall.IPPROTO_UDP)
	case "unix":
		return r.of(syscall.AF_UNIX, 0)
	}
	return nil
}

// InUse is how many sockets there are of a protocol.
func (p procNet) InUse(proto string) int { return len(p.sockets(proto)) }

// SNMP is empty: the stack counts by interface, not by the MIB's groups.
func (p procNet) SNMP() []procfs.Counters { return nil }

func ends(x *procfs.Socket, local, remote Addr) {
	put := func(a netip.Addr, v6 bool) []byte {
		switch {
		case !a.IsValid() && v6:
			return make([]byte, 16)
		case !a.IsValid():
			return make([]byte, 4)
		}
		return a.AsSlice()
	}
	v6 := local.Family == syscall.AF_INET6
	x.Local, x.LocalPort = put(local.Inet.Addr(), v6), local.Inet.Port()
	x.Remote, x.RemotePort = put(remote.Inet.Addr(), v6), remote.Inet.Port()
}

func (s *tcp) proc() procfs.Socket {
	x := procfs.Socket{State: int(linuxStates[ntcp.StateClosed]), Ino: s.cookie}
	var remote Addr
	if l := s.lis.Load(); l != nil {
		x.State, x.RxQueue = int(linuxStates[ntcp.StateListen]), l.Waiting()
	} else if c := s.conn.Load(); c != nil {
		i := c.Info()
		x.State, x.RxQueue, x.TxQueue = int(linuxStates[i.State]), i.Readable, i.Unsent+i.Unacked
		remote = inetAddr(s.net, s.domain, c.Ends().Remote)
	}
	ends(&x, s.LocalAddr(), remote)
	return x
}

func (s *udp) proc() procfs.Socket {
	x := procfs.Socket{State: 7, Ino: s.cookie}
	remote, err := s.PeerAddr()
	if err == nil {
		x.State = 1
	}
	ends(&x, s.LocalAddr(), remote)
	return x
}

func (s *unix) proc() procfs.Socket {
	x := procfs.Socket{State: 1, Ino: s.cookie, Type: s.typ, Refs: 2, Path: s.LocalAddr().Path}
	switch s.state.Load() {
	case unixListening:
		x.Flags = 1 << 16 // __SO_ACCEPTCON
	case unixConnected:
		x.State, x.Refs = 3, 3
	}
	return x
}

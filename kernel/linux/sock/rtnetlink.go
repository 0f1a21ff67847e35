package sock

import (
	"net/netip"
	"syscall"

	"osv/kernel/linux/abi"
)

// The messages of rtnetlink(7): a struct nlmsghdr, a header of the kind at hand, and
// attributes.

const (
	nlHeader = 16
	// dumpPart is about how many bytes of a dump one recv gets; a message is whole in
	// one of them.
	dumpPart = 4096
)

// nlBuilder makes the answer to one request.
type nlBuilder struct {
	seq, pid uint32
	parts    [][]byte
	b        []byte // of the part at hand
	at       int    // of the message at hand
}

func (b *nlBuilder) begin(kind, flags uint16, header int) []byte {
	if len(b.b) > dumpPart {
		b.parts = append(b.parts, b.b)
		b.b = nil
	}
	b.at = len(b.b)
	b.b = append(b.b, make([]byte, nlHeader+header)...)
	h := b.b[b.at:]
	ne.PutUint16(h[4:], kind)
	ne.PutUint16(h[6:], flags)
	ne.PutUint32(h[8:], b.seq)
	ne.PutUint32(h[12:], b.pid)
	return h[nlHeader:]
}

// attr adds an attribute to the message at hand.
func (b *nlBuilder) attr(kind uint16, v []byte) {
	b.b = ne.AppendUint16(b.b, uint16(4+len(v)))
	b.b = ne.AppendUint16(b.b, kind)
	b.b = append(b.b, v...)
	for len(b.b)%4 != 0 {
		b.b = append(b.b, 0)
	}
}

func (b *nlBuilder) attr32(kind uint16, v uint32) { b.attr(kind, ne.AppendUint32(nil, v)) }

func (b *nlBuilder) end() { ne.PutUint32(b.b[b.at:], uint32(len(b.b)-b.at)) }

func (b *nlBuilder) finish() [][]byte {
	if len(b.b) > 0 {
		b.parts = append(b.parts, b.b)
	}
	return b.parts
}

// route answers the requests in b: a dump ends with NLMSG_DONE, all else is answered
// by what was asked for, an acknowledgment or an error.
func (n *Net) route(b []byte, pid uint32) [][]byte {
	var out [][]byte
	for len(b) >= nlHeader {
		size := int(ne.Uint32(b))
		if size < nlHeader || size > len(b) {
			break
		}
		out = append(out, n.routeOne(b[:size], pid)...)
		b = b[min((size+3)&^3, len(b)):]
	}
	return out
}

func (n *Net) routeOne(msg []byte, pid uint32) [][]byte {
	kind, flags := ne.Uint16(msg[4:]), ne.Uint16(msg[6:])
	w := &nlBuilder{seq: ne.Uint32(msg[8:]), pid: pid}
	if flags&syscall.NLM_F_REQUEST == 0 || kind < syscall.NLMSG_MIN_TYPE {
		return nil
	}
	dump := flags&syscall.NLM_F_DUMP == syscall.NLM_F_DUMP
	err := syscall.Errno(0)
	switch kind {
	case syscall.RTM_GETLINK:
		err = n.links(w, msg[nlHeader:], dump)
	case syscall.RTM_GETADDR:
		if !dump {
			err = syscall.EOPNOTSUPP
			break
		}
		n.addrs(w, msg[nlHeader:])
	case syscall.RTM_GETROUTE:
		if !dump {
			err = syscall.EOPNOTSUPP
			break
		}
		n.routes(w, msg[nlHeader:])
	default:
		err = syscall.EOPNOTSUPP
		if kind%4 != 2 { // anything but a GET changes something
			err = syscall.EPERM
		}
		dump = false
	}
	switch {
	case err == 0 && dump:
		ne.PutUint32(w.begin(syscall.NLMSG_DONE, syscall.NLM_F_MULTI, 4), 0)
		w.end()
	case err != 0 || flags&syscall.NLM_F_ACK != 0:
		h := w.begin(syscall.NLMSG_ERROR, 0, 4)
		ne.PutUint32(h, uint32(-int32(err)))
		w.b = append(w.b, msg[:nlHeader]...)
		w.end()
	}
	return w.finish()
}

func multi(dump bool) uint16 {
	if dump {
		return syscall.NLM_F_MULTI
	}
	return 0
}

// links answers RTM_GETLINK: all interfaces, or the one with the index in the request.
func (n *Net) links(w *nlBuilder, req []byte, dump bool) syscall.Errno {
	want, found := 0, false
	name := ""
	if !dump && len(req) >= 16 {
		want = int(int32(ne.Uint32(req[4:])))
		for a := req[16:]; len(a) >= 4; {
			k := int(ne.Uint16(a))
			if k < 4 || k > len(a) {
				break
			}
			if ne.Uint16(a[2:]) == syscall.IFLA_IFNAME {
				v := a[4:k]
				for len(v) > 0 && v[len(v)-1] == 0 {
					v = v[:len(v)-1]
				}
				name = string(v)
			}
			a = a[min((k+3)&^3, len(a)):]
		}
	}
	for i, ifc := range n.stack.Interfaces() {
		if !dump && (want != 0 && want != i+1 || want == 0 && ifc.Name() != name) {
			continue
		}
		found = true
		h := w.begin(syscall.RTM_NEWLINK, multi(dump), 16)
		kind := uint16(abi.ARPHRD_ETHER)
		mac := ifc.MAC()
		all := [6]byte{255, 255, 255, 255, 255, 255}
		if ifc.IsLoopback() {
			kind, mac, all = abi.ARPHRD_LOOPBACK, [6]byte{}, [6]byte{}
		}
		ne.PutUint16(h[2:], kind)
		ne.PutUint32(h[4:], uint32(i+1))
		ne.PutUint32(h[8:], ifFlags(ifc))
		w.attr(syscall.IFLA_IFNAME, append([]byte(ifc.Name()), 0))
		w.attr32(syscall.IFLA_TXQLEN, 1000)
		w.attr(16, []byte{6}) // IFLA_OPERSTATE: up
		w.attr32(syscall.IFLA_MTU, uint32(ifc.MTU()))
		w.attr(syscall.IFLA_ADDRESS, mac[:])
		w.attr(syscall.IFLA_BROADCAST, all[:])
		w.attr(syscall.IFLA_QDISC, []byte("noqueue\x00"))
		s := ifc.Link().Stats()
		var v [96]byte // struct rtnl_link_stats
		for j, x := range []uint64{s.RxFrames, s.TxFrames, s.RxBytes, s.TxBytes, s.RxErrors, s.TxErrors, s.RxNoBuf, s.TxFull} {
			ne.PutUint32(v[4*j:], uint32(x))
		}
		w.attr(syscall.IFLA_STATS, v[:92])
		w.end()
	}
	if !dump && !found {
		return syscall.ENODEV
	}
	return 0
}

// Scopes of addresses and routes.
const (
	scopeUniverse = 0
	scopeLink     = 253
	scopeHost     = 254
)

func scopeOf(a netip.Addr) byte {
	switch {
	case a.IsLoopback():
		return scopeHost
	case a.IsLinkLocalUnicast():
		return scopeLink
	}
	return scopeUniverse
}

func familyOf(a netip.Addr) byte {
	if a.Is4() {
		return syscall.AF_INET
	}
	return syscall.AF_INET6
}

// wantFamily is the family that a dump is asked for, 0 for all.
func wantFamily(req []byte) byte {
	if len(req) == 0 {
		return 0
	}
	return req[0]
}

// addrs answers a dump of RTM_GETADDR.
func (n *Net) addrs(w *nlBuilder, req []byte) {
	family := wantFamily(req)
	for i, ifc := range n.stack.Interfaces() {
		for _, p := range ifc.Addrs() {
			a := p.Addr()
			if family != 0 && family != familyOf(a) {
				continue
			}
			h := w.begin(syscall.RTM_NEWADDR, syscall.NLM_F_MULTI, 8)
			h[0], h[1], h[2], h[3] = familyOf(a), byte(p.Bits()), 0x80, scopeOf(a) // IFA_F_PERMANENT
			ne.PutUint32(h[4:], uint32(i+1))
			v := a.AsSlice()
			w.attr(syscall.IFA_ADDRESS, v)
			if a.Is4() {
				w.attr(syscall.IFA_LOCAL, v)
				if !ifc.IsLoopback() && p.Bits() < 31 {
					w.attr(syscall.IFA_BROADCAST, broadcastOf(p).AsSlice())
				}
				w.attr(syscall.IFA_LABEL, append([]byte(ifc.Name()), 0))
			}
			w.attr32(8, 0x80) // IFA_FLAGS
			w.end()
		}
	}
}

// routes answers a dump of RTM_GETROUTE: the main table.
func (n *Net) routes(w *nlBuilder, req []byte) {
	family := wantFamily(req)
	for _, r := range n.stack.Routes() {
		a := r.Prefix.Addr()
		if family != 0 && family != familyOf(a) || r.Iface == nil || r.Iface.IsLoopback() {
			continue
		}
		h := w.begin(syscall.RTM_NEWROUTE, syscall.NLM_F_MULTI, 12)
		h[0], h[1] = familyOf(a), byte(r.Prefix.Bits())
		h[4], h[5], h[6], h[7] = syscall.RT_TABLE_MAIN, syscall.RTPROT_BOOT, scopeUniverse, syscall.RTN_UNICAST
		if !r.Gateway.IsValid() {
			h[6] = scopeLink
		}
		w.attr32(syscall.RTA_TABLE, syscall.RT_TABLE_MAIN)
		if r.Prefix.Bits() > 0 {
			w.attr(syscall.RTA_DST, a.AsSlice())
		}
		if r.Gateway.IsValid() {
			w.attr(syscall.RTA_GATEWAY, r.Gateway.WithZone("").AsSlice())
		}
		if r.Source.IsValid() {
			w.attr(syscall.RTA_PREFSRC, r.Source.AsSlice())
		}
		w.attr32(syscall.RTA_OIF, uint32(n.ifIndex(r.Iface.Name())))
		if r.Metric != 0 {
			w.attr32(syscall.RTA_PRIORITY, uint32(r.Metric))
		}
		w.end()
	}
}

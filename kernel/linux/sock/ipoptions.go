package sock

import (
	"net/netip"
	"syscall"

	"osv/kernel/linux/abi"
)

// ipOptions are those of IPPROTO_IP and IPPROTO_IPV6 that sockets go by or tell again.
type ipOptions struct {
	tos, ttl         int // ttl 0 for the default
	tclass, hops     int // hops + 1, 0 for the default
	mtuDiscover      int
	mtuDiscover6     int
	pktInfo          bool
	recvTTL, recvTOS bool
	pktInfo6         bool
	recvHops         bool
	recvTClass       bool
	recvErr          [2]bool // IPv4, IPv6
	v6only           bool
	freeBind         bool
	transparent      bool
	noPort           bool // IP_BIND_ADDRESS_NO_PORT
	mcastLoopOff     [2]bool
	mcastAllOff      [2]bool
	mcastTTL         int // + 1, 0 for the default of 1
	mcastHops        int // + 1
	mcastIf          int
	mcastAddr        netip.Addr
	minTTL           int
	portRange        uint32
	groups           []mcastGroup
}

// mcastGroup is one membership. The stack takes in what is sent to any group, so that
// it decides nothing but whether it can be left again.
type mcastGroup struct {
	group netip.Addr
	iface int
}

// igmpMax is net.ipv4.igmp_max_memberships.
const igmpMax = 20

// byteArg is a value of IPPROTO_IP, which may be an int or a byte.
func byteArg(v []byte) (int, error) {
	switch {
	case len(v) >= 4:
		return int(int32(ne.Uint32(v))), nil
	case len(v) >= 1:
		return int(v[0]), nil
	}
	return 0, syscall.EINVAL
}

// setIP is setsockopt of IPPROTO_IP. Caller must hold mu.
func (b *base) setIP(name int, v []byte) error {
	o := &b.opt.ip
	switch name {
	case syscall.IP_ADD_MEMBERSHIP, syscall.IP_DROP_MEMBERSHIP, syscall.IP_MULTICAST_IF:
		return b.setGroup(name, v)
	case syscall.IP_OPTIONS:
		if len(v) > 40 {
			return syscall.EINVAL
		}
		if len(v) > 0 {
			return syscall.EOPNOTSUPP
		}
		return nil
	}
	n, err := byteArg(v)
	if err != nil {
		return err
	}
	switch name {
	case syscall.IP_TOS:
		o.tos = n & 0xff
		if b.typ == syscall.SOCK_STREAM {
			o.tos &^= 3
		}
	case syscall.IP_TTL:
		if n != -1 && (n < 1 || n > 255) || len(v) < 1 {
			return syscall.EINVAL
		}
		o.ttl = max(n, 0)
	case syscall.IP_PKTINFO:
		o.pktInfo = n != 0
	case syscall.IP_RECVTTL:
		o.recvTTL = n != 0
	case syscall.IP_RECVTOS:
		o.recvTOS = n != 0
	case syscall.IP_RECVERR:
		o.recvErr[0] = n != 0
	case syscall.IP_MTU_DISCOVER:
		if n < abi.IP_PMTUDISC_DONT || n > abi.IP_PMTUDISC_OMIT {
			return syscall.EINVAL
		}
		o.mtuDiscover = n + 1
	case syscall.IP_MULTICAST_TTL:
		if b.typ == syscall.SOCK_STREAM || n < -1 || n > 255 {
			return syscall.EINVAL
		}
		o.mcastTTL = max(n, -1) + 1
		if n == -1 {
			o.mcastTTL = 0
		}
	case syscall.IP_MULTICAST_LOOP:
		o.mcastLoopOff[0] = n == 0
	case abi.IP_MULTICAST_ALL:
		if n != 0 && n != 1 {
			return syscall.EINVAL
		}
		o.mcastAllOff[0] = n == 0
	case syscall.IP_FREEBIND:
		o.freeBind = n != 0
	case syscall.IP_TRANSPARENT:
		o.transparent = n != 0
	case abi.IP_BIND_ADDRESS_NO_PORT:
		o.noPort = n != 0
	case syscall.IP_MINTTL:
		if n < 0 || n > 255 {
			return syscall.EINVAL
		}
		o.minTTL = n
	case abi.IP_LOCAL_PORT_RANGE:
		lo, hi := uint16(n), uint16(uint32(n)>>16)
		if len(v) != 4 || lo != 0 && hi != 0 && lo > hi {
			return syscall.EINVAL
		}
		o.portRange = uint32(n)
	case syscall.IP_RECVOPTS, syscall.IP_RETOPTS, syscall.IP_ROUTER_ALERT, syscall.IP_HDRINCL, abi.IP_NODEFRAG, abi.IP_CHECKSUM, syscall.IP_PASSSEC, abi.IP_UNICAST_IF, abi.IP_RECVORIGDSTADDR:
		if name == syscall.IP_HDRINCL || name == abi.IP_NODEFRAG {
			return syscall.ENOPROTOOPT
		}
	default:
		return syscall.ENOPROTOOPT
	}
	return nil
}

// setGroup is the options whose value is a struct ip_mreq or ip_mreqn.
func (b *base) setGroup(name int, v []byte) error {
	if b.typ == syscall.SOCK_STREAM {
		return syscall.EPROTO
	}
	var group, local netip.Addr
	iface := 0
	switch {
	case len(v) >= 12:
		iface = int(int32(ne.Uint32(v[8:])))
		fallthrough
	case len(v) >= 8:
		group, local = netip.AddrFrom4([4]byte(v)), netip.AddrFrom4([4]byte(v[4:8]))
	case len(v) >= 4 && name == syscall.IP_MULTICAST_IF:
		local = netip.AddrFrom4([4]byte(v))
	default:
		return syscall.EINVAL
	}
	if iface == 0 && !local.IsUnspecified() {
		if iface = b.net.ifOf(local); iface == 0 {
			if name == syscall.IP_MULTICAST_IF {
				return syscall.EADDRNOTAVAIL
			}
			return syscall.ENODEV
		}
	}
	if iface != 0 && b.net.ifByIndex(iface) == nil {
		return syscall.ENODEV
	}
	if name == syscall.IP_MULTICAST_IF {
		b.opt.ip.mcastIf, b.opt.ip.mcastAddr = iface, local
		return nil
	}
	if !group.IsMulticast() {
		return syscall.EINVAL
	}
	return b.member(name == syscall.IP_ADD_MEMBERSHIP, mcastGroup{group, iface})
}

func (b *base) member(join bool, g mcastGroup) error {
	o := &b.opt.ip
	for i, m := range o.groups {
		if m.group == g.group && (g.iface == 0 || m.iface == g.iface) {
			if join {
				return syscall.EADDRINUSE
			}
			o.groups = append(o.groups[:i:i], o.groups[i+1:]...)
			return nil
		}
	}
	if !join {
		return syscall.EADDRNOTAVAIL
	}
	if len(o.groups) >= igmpMax {
		return syscall.ENOBUFS
	}
	o.groups = append(o.groups, g)
	return nil
}

// ipOption is getsockopt of IPPROTO_IP. Caller must hold mu.
func (b *base) ipOption(name int, v []byte) (int, error) {
	o := &b.opt.ip
	put := func(n int) (int, error) {
		if len(v) < 4 && len(v) > 0 && n >= 0 && n <= 255 { // a byte is enough for who asks for one
			v[0] = byte(n)
			return 1, nil
		}
		return putInt(v, n)
	}
	or := func(n, def int) int {
		if n == 0 {
			return def
		}
		return n
	}
	b2i := func(on bool) int {
		if on {
			return 1
		}
		return 0
	}
	switch name {
	case syscall.IP_TOS:
		return put(o.tos)
	case syscall.IP_TTL:
		return put(or(o.ttl, defaultTTL))
	case syscall.IP_PKTINFO:
		return put(b2i(o.pktInfo))
	case syscall.IP_RECVTTL:
		return put(b2i(o.recvTTL))
	case syscall.IP_RECVTOS:
		return put(b2i(o.recvTOS))
	case syscall.IP_RECVERR:
		return put(b2i(o.recvErr[0]))
	case syscall.IP_MTU_DISCOVER:
		return put(or(o.mtuDiscover, abi.IP_PMTUDISC_WANT+1) - 1)
	case syscall.IP_MULTICAST_TTL:
		return put(or(o.mcastTTL, 2) - 1)
	case syscall.IP_MULTICAST_LOOP:
		return put(b2i(!o.mcastLoopOff[0]))
	case abi.IP_MULTICAST_ALL:
		return put(b2i(!o.mcastAllOff[0]))
	case syscall.IP_MULTICAST_IF:
		var w [4]byte
		if o.mcastAddr.Is4() {
			w = o.mcastAddr.As4()
		}
		return copy(v, w[:]), nil
	case syscall.IP_FREEBIND:
		return put(b2i(o.freeBind))
	case syscall.IP_TRANSPARENT:
		return put(b2i(o.transparent))
	case abi.IP_BIND_ADDRESS_NO_PORT:
		return put(b2i(o.noPort))
	case syscall.IP_MINTTL:
		return put(o.minTTL)
	case abi.IP_LOCAL_PORT_RANGE:
		return putInt(v, int(o.portRange))
	case syscall.IP_OPTIONS:
		return 0, nil
	case syscall.IP_RECVOPTS, syscall.IP_RETOPTS, syscall.IP_PASSSEC, abi.IP_CHECKSUM, abi.IP_UNICAST_IF, abi.IP_RECVORIGDSTADDR:
		return put(0)
	}
	return 0, syscall.ENOPROTOOPT
}

const defaultTTL = 64

// setIPv6 is setsockopt of IPPROTO_IPV6. Caller must hold mu.
func (b *base) setIPv6(name int, v []byte, bound bool) error {
	o := &b.opt.ip
	switch name {
	case syscall.IPV6_JOIN_GROUP, syscall.IPV6_LEAVE_GROUP:
		if b.typ == syscall.SOCK_STREAM {
			return syscall.EPROTO
		}
		if len(v) < 20 {
			return syscall.EINVAL
		}
		g := mcastGroup{netip.AddrFrom16([16]byte(v)), int(int32(ne.Uint32(v[16:])))}
		if !g.group.IsMulticast() {
			return syscall.EINVAL
		}
		if g.iface != 0 && b.net.ifByIndex(g.iface) == nil {
			return syscall.ENODEV
		}
		return b.member(name == syscall.IPV6_JOIN_GROUP, g)
	}
	n, err := intArg(v)
	if err != nil {
		return err
	}
	switch name {
	case syscall.IPV6_V6ONLY:
		if bound {
			return syscall.EINVAL
		}
		o.v6only = n != 0
	case syscall.IPV6_UNICAST_HOPS:
		if n < -1 || n > 255 {
			return syscall.EINVAL
		}
		o.hops = n + 1
	case syscall.IPV6_MULTICAST_HOPS:
		if b.typ == syscall.SOCK_STREAM {
			return syscall.ENOPROTOOPT
		}
		if n < -1 || n > 255 {
			return syscall.EINVAL
		}
		o.mcastHops = n + 1
	case syscall.IPV6_MULTICAST_LOOP:
		if n != 0 && n != 1 {
			return syscall.EINVAL
		}
		o.mcastLoopOff[1] = n == 0
	case syscall.IPV6_MULTICAST_IF:
		if b.typ == syscall.SOCK_STREAM {
			return syscall.ENOPROTOOPT
		}
		if n != 0 && b.net.ifByIndex(n) == nil {
			return syscall.ENODEV
		}
		o.mcastIf = n
	case abi.IPV6_MULTICAST_ALL:
		o.mcastAllOff[1] = n == 0
	case abi.IPV6_RECVPKTINFO:
		o.pktInfo6 = n != 0
	case abi.IPV6_RECVHOPLIMIT:
		o.recvHops = n != 0
	case abi.IPV6_RECVTCLASS:
		o.recvTClass = n != 0
	case abi.IPV6_TCLASS:
		if n < -1 || n > 255 {
			return syscall.EINVAL
		}
		o.tclass = max(n, 0)
		if b.typ == syscall.SOCK_STREAM {
			o.tclass &^= 3 // ECN is TCP's own
		}
	case abi.IPV6_RECVERR:
		o.recvErr[1] = n != 0
	case syscall.IPV6_MTU_DISCOVER:
		if n < abi.IP_PMTUDISC_DONT || n > abi.IP_PMTUDISC_OMIT {
			return syscall.EINVAL
		}
		o.mtuDiscover6 = n + 1
	case abi.IPV6_DONTFRAG, abi.IPV6_AUTOFLOWLABEL, abi.IPV6_ADDR_PREFERENCES, abi.IPV6_UNICAST_IF, abi.IPV6_FREEBIND, abi.IPV6_MINHOPCOUNT, syscall.IPV6_MTU:
	default:
		return syscall.ENOPROTOOPT
	}
	return nil
}

// ipv6Option is getsockopt of IPPROTO_IPV6. Caller must hold mu.
func (b *base) ipv6Option(name int, v []byte) (int, error) {
	o := &b.opt.ip
	or := func(n, def int) int {
		if n == 0 {
			return def
		}
		return n
	}
	switch name {
	case syscall.IPV6_V6ONLY:
		return putBool(v, o.v6only)
	case syscall.IPV6_UNICAST_HOPS:
		return putInt(v, or(o.hops, defaultTTL+1)-1)
	case syscall.IPV6_MULTICAST_HOPS:
		return putInt(v, or(o.mcastHops, 2)-1)
	case syscall.IPV6_MULTICAST_LOOP:
		return putBool(v, !o.mcastLoopOff[1])
	case syscall.IPV6_MULTICAST_IF:
		return putInt(v, o.mcastIf)
	case abi.IPV6_MULTICAST_ALL:
		return putBool(v, !o.mcastAllOff[1])
	case abi.IPV6_RECVPKTINFO:
		return putBool(v, o.pktInfo6)
	case abi.IPV6_RECVHOPLIMIT:
		return putBool(v, o.recvHops)
	case abi.IPV6_RECVTCLASS:
		return putBool(v, o.recvTClass)
	case abi.IPV6_TCLASS:
		return putInt(v, o.tclass)
	case abi.IPV6_RECVERR:
		return putBool(v, o.recvErr[1])
	case syscall.IPV6_MTU_DISCOVER:
		return putInt(v, or(o.mtuDiscover6, abi.IP_PMTUDISC_WANT+1)-1)
	case abi.IPV6_DONTFRAG, abi.IPV6_AUTOFLOWLABEL, abi.IPV6_ADDR_PREFERENCES, abi.IPV6_UNICAST_IF, abi.IPV6_FREEBIND, abi.IPV6_MINHOPCOUNT:
		return putInt(v, 0)
	}
	return 0, syscall.ENOPROTOOPT
}

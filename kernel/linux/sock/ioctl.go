package sock

import (
	"net/netip"
	"syscall"

	"osv/kernel/linux/abi"
	"osv/kernel/net/stack"
	"osv/kernel/vfs"
)

// putArg writes an int to where an ioctl's argument points.
func putArg(mem vfs.Memory, arg uint64, n int) error {
	var b [4]byte
	ne.PutUint32(b[:], uint32(int32(n)))
	return mem.CopyOut(arg, b[:])
}

// Control is ioctl(2): what waits in the buffers, and the interfaces (netdevice(7)).
func (s *tcp) Control(mem vfs.Memory, req uint32, arg uint64) (uint64, error) {
	switch req {
	case abi.SIOCINQ, abi.SIOCOUTQ, abi.SIOCOUTQNSD, abi.SIOCATMARK:
		if s.lis.Load() != nil {
			return 0, syscall.EINVAL
		}
		c := s.conn.Load()
		if c == nil {
			return 0, putArg(mem, arg, 0)
		}
		c.Status()
		i := c.Info()
		n := 0
		switch req {
		case abi.SIOCINQ:
			n = i.Readable
		case abi.SIOCOUTQ:
			n = i.Unsent + i.Unacked
		case abi.SIOCOUTQNSD:
			n = i.Unsent
		}
		return 0, putArg(mem, arg, n)
	}
	return s.net.control(mem, req, arg)
}

// Control is ioctl(2).
func (s *udp) Control(mem vfs.Memory, req uint32, arg uint64) (uint64, error) {
	switch req {
	case abi.SIOCINQ:
		n := 0
		if c := s.conn.Load(); c != nil {
			n, _ = c.NextLen()
		}
		return 0, putArg(mem, arg, n)
	case abi.SIOCOUTQ:
		return 0, putArg(mem, arg, 0)
	}
	return s.net.control(mem, req, arg)
}

// Interface flags, IFF_*.
const (
	iffUp        = 0x1
	iffBroadcast = 0x2
	iffLoopback  = 0x8
	iffRunning   = 0x40
	iffMulticast = 0x1000
	iffLowerUp   = 0x10000
)

func ifFlags(ifc *stack.Interface) uint32 {
	if ifc.IsLoopback() {
		return iffUp | iffLoopback | iffRunning | iffLowerUp
	}
	f := uint32(iffUp | iffBroadcast | iffMulticast)
	if ifc.Link().LinkUp() {
		f |= iffRunning | iffLowerUp
	}
	return f
}

// firstIPv4 is an interface's first IPv4 address, if it has one.
func firstIPv4(ifc *stack.Interface) (netip.Prefix, bool) {
	for _, p := range ifc.Addrs() {
		if p.Addr().Is4() {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

// broadcastOf is a network's last address.
func broadcastOf(p netip.Prefix) netip.Addr {
	a := p.Addr().As4()
	m := ^uint32(0) >> p.Bits()
	be.PutUint32(a[:], be.Uint32(a[:])|m)
	return netip.AddrFrom4(a)
}

// control is the ioctls about interfaces.
func (n *Net) control(mem vfs.Memory, req uint32, arg uint64) (uint64, error) {
	switch req {
	case abi.SIOCGIFCONF:
		return 0, n.ifconf(mem, arg)
	case abi.SIOCGIFNAME, abi.SIOCGIFFLAGS, abi.SIOCGIFADDR, abi.SIOCGIFDSTADDR, abi.SIOCGIFBRDADDR, abi.SIOCGIFNETMASK,
		abi.SIOCGIFMETRIC, abi.SIOCGIFMTU, abi.SIOCGIFHWADDR, abi.SIOCGIFINDEX, abi.SIOCGIFTXQLEN, abi.SIOCGIFMAP:
	case abi.SIOCETHTOOL:
		return 0, syscall.EOPNOTSUPP
	case abi.SIOCGSTAMP, abi.SIOCGSTAMPNS:
		return 0, syscall.ENOENT
	case abi.FIOGETOWN, abi.SIOCGPGRP:
		return 0, putArg(mem, arg, 0)
	case abi.SIOCSIFFLAGS:
		return 0, syscall.EPERM
	default:
		return 0, syscall.ENOTTY
	}
	var r [abi.SizeofIfreq]byte
	if err := mem.CopyIn(r[:], arg); err != nil {
		return 0, err
	}
	if err := n.ifreq(req, &r); err != nil {
		return 0, err
	}
	return 0, mem.CopyOut(arg, r[:])
}

// ifreq answers in a struct ifreq.
func (n *Net) ifreq(req uint32, r *[abi.SizeofIfreq]byte) error {
	v := r[abi.IFNAMSIZ:]
	var ifc *stack.Interface
	index := int(ne.Uint32(v))
	if req == abi.SIOCGIFNAME {
		ifc = n.ifByIndex(index)
	} else {
		name := r[:abi.IFNAMSIZ]
		for i, c := range name {
			if c == 0 || c == ':' {
				name = name[:i]
				break
			}
		}
		index = n.ifIndex(string(name))
		ifc = n.ifByIndex(index)
	}
	if ifc == nil {
		return syscall.ENODEV
	}
	putAddr := func(a netip.Addr) {
		clear(v)
		ne.PutUint16(v, syscall.AF_INET)
		*(*[4]byte)(v[4:]) = a.As4()
	}
	p, has4 := firstIPv4(ifc)
	switch req {
	case abi.SIOCGIFADDR, abi.SIOCGIFDSTADDR, abi.SIOCGIFBRDADDR, abi.SIOCGIFNETMASK:
		if !has4 {
			return syscall.EADDRNOTAVAIL
		}
	}
	switch req {
	case abi.SIOCGIFNAME:
		clear(r[:abi.IFNAMSIZ])
		copy(r[:abi.IFNAMSIZ-1], ifc.Name())
	case abi.SIOCGIFFLAGS:
		ne.PutUint16(v, uint16(ifFlags(ifc)))
	case abi.SIOCGIFADDR, abi.SIOCGIFDSTADDR:
		putAddr(p.Addr())
	case abi.SIOCGIFBRDADDR:
		if ifc.IsLoopback() {
			putAddr(netip.IPv4Unspecified())
		} else {
			putAddr(broadcastOf(p))
		}
	case abi.SIOCGIFNETMASK:
		var m [4]byte
		be.PutUint32(m[:], ^(^uint32(0) >> p.Bits()))
		putAddr(netip.AddrFrom4(m))
	case abi.SIOCGIFMETRIC:
		ne.PutUint32(v, 0)
	case abi.SIOCGIFMTU:
		ne.PutUint32(v, uint32(ifc.MTU()))
	case abi.SIOCGIFTXQLEN:
		ne.PutUint32(v, 1000)
	case abi.SIOCGIFINDEX:
		ne.PutUint32(v, uint32(index))
	case abi.SIOCGIFMAP:
		clear(v)
	case abi.SIOCGIFHWADDR:
		clear(v)
		if ifc.IsLoopback() {
			ne.PutUint16(v, abi.ARPHRD_LOOPBACK)
		} else {
			ne.PutUint16(v, abi.ARPHRD_ETHER)
			mac := ifc.MAC()
			copy(v[2:8], mac[:])
		}
	}
	return nil
}

// ifconf is SIOCGIFCONF: a struct ifconf, {int length, pointer to struct ifreq}.
func (n *Net) ifconf(mem vfs.Memory, arg uint64) error {
	var c [16]byte
	if err := mem.CopyIn(c[:], arg); err != nil {
		return err
	}
	room, to := int(int32(ne.Uint32(c[:]))), ne.Uint64(c[8:])
	if room < 0 {
		return syscall.EINVAL
	}
	total := 0
	for _, ifc := range n.stack.Interfaces() {
		for _, p := range ifc.Addrs() {
			if !p.Addr().Is4() {
				continue
			}
			if to != 0 {
				if total+abi.SizeofIfreq > room {
					break
				}
				var r [abi.SizeofIfreq]byte
				copy(r[:abi.IFNAMSIZ-1], ifc.Name())
				ne.PutUint16(r[abi.IFNAMSIZ:], syscall.AF_INET)
				*(*[4]byte)(r[abi.IFNAMSIZ+4:]) = p.Addr().As4()
				if err := mem.CopyOut(to+uint64(total), r[:]); err != nil {
					return err
				}
			}
			total += abi.SizeofIfreq
		}
	}
	ne.PutUint32(c[:], uint32(total))
	return mem.CopyOut(arg, c[:4])
}

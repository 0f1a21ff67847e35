package sock

import (
	"encoding/binary"
	"net/netip"
	"syscall"

	"osv/kernel/linux/abi"
)

// Addr is a socket address: what a struct sockaddr says. The zero Addr, of family
// AF_UNSPEC, is none.
type Addr struct {
	Family uint16
	// Inet is address and port of AF_INET and AF_INET6. An address of AF_INET6 may be
	// an IPv4-mapped one; it has no zone.
	Inet  netip.AddrPort
	Flow  uint32 // sin6_flowinfo, as it stands in memory
	Scope uint32 // sin6_scope_id: an interface's index

	// Path is sun_path of AF_UNIX: "" for an unnamed socket, a name after a NUL for
	// one in the abstract space, else a path.
	Path string

	PID, Groups uint32 // of AF_NETLINK
}

var (
	ne = binary.NativeEndian
	be = binary.BigEndian
)

// ParseAddr reads a struct sockaddr. Of a family that no socket here has only Family
// is set: whose business that is says so itself. EINVAL where b is too short for its
// family.
func ParseAddr(b []byte) (Addr, error) {
	if len(b) < 2 {
		return Addr{}, syscall.EINVAL
	}
	a := Addr{Family: ne.Uint16(b)}
	switch a.Family {
	case syscall.AF_INET:
		if len(b) < abi.SizeofSockaddrIn {
			return Addr{}, syscall.EINVAL
		}
		a.Inet = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), be.Uint16(b[2:]))
	case syscall.AF_INET6:
		if len(b) < 24 { // SIN6_LEN_RFC2133: without a scope
			return Addr{}, syscall.EINVAL
		}
		a.Flow = ne.Uint32(b[4:])
		a.Inet = netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[8:24])), be.Uint16(b[2:]))
		if len(b) >= abi.SizeofSockaddrIn6 {
			a.Scope = ne.Uint32(b[24:])
		}
	case syscall.AF_UNIX:
		if len(b) > abi.SizeofSockaddrUn {
			return Addr{}, syscall.EINVAL
		}
		p := b[2:]
		if len(p) > 0 && p[0] != 0 { // a path ends at its NUL, or with the structure
			for i, c := range p {
				if c == 0 {
					p = p[:i]
					break
				}
			}
		}
		a.Path = string(p)
	case syscall.AF_NETLINK:
		if len(b) < abi.SizeofSockaddrNl {
			return Addr{}, syscall.EINVAL
		}
		a.PID, a.Groups = ne.Uint32(b[4:]), ne.Uint32(b[8:])
	}
	return a, nil
}

// Len is the length of the structure that Put makes, bytes.
func (a *Addr) Len() int {
	switch a.Family {
	case syscall.AF_INET:
		return abi.SizeofSockaddrIn
	case syscall.AF_INET6:
		return abi.SizeofSockaddrIn6
	case syscall.AF_UNIX:
		if a.Path == "" {
			return 2
		}
		if a.Path[0] != 0 {
			return 2 + len(a.Path) + 1
		}
		return 2 + len(a.Path)
	case syscall.AF_NETLINK:
		return abi.SizeofSockaddrNl
	}
	return 0
}

// Put writes the struct sockaddr into b, which has room for Len bytes (SizeofSockaddrMax
// always does), and returns its length.
func (a *Addr) Put(b []byte) int {
	n := a.Len()
	if n == 0 {
		return 0
	}
	b = b[:n]
	clear(b)
	ne.PutUint16(b, a.Family)
	switch a.Family {
	case syscall.AF_INET:
		be.PutUint16(b[2:], a.Inet.Port())
		if ip := a.Inet.Addr().Unmap(); ip.Is4() {
			*(*[4]byte)(b[4:]) = ip.As4()
		}
	case syscall.AF_INET6:
		be.PutUint16(b[2:], a.Inet.Port())
		ne.PutUint32(b[4:], a.Flow)
		if ip := a.Inet.Addr(); ip.IsValid() {
			*(*[16]byte)(b[8:]) = ip.As16()
		}
		ne.PutUint32(b[24:], a.Scope)
	case syscall.AF_UNIX:
		copy(b[2:], a.Path)
	case syscall.AF_NETLINK:
		ne.PutUint32(b[4:], a.PID)
		ne.PutUint32(b[8:], a.Groups)
	}
	return n
}

// inetAddr is an address of the stack as a socket of the family shows it.
func inetAddr(n *Net, family int, ap netip.AddrPort) Addr {
	a := Addr{Family: uint16(family)}
	ip := ap.Addr()
	if family == syscall.AF_INET {
		if !ip.IsValid() || ip.Is6() && !ip.Is4In6() {
			ip = netip.IPv4Unspecified()
		}
		a.Inet = netip.AddrPortFrom(ip.Unmap(), ap.Port())
		return a
	}
	switch {
	case !ip.IsValid():
		ip = netip.IPv6Unspecified()
	case ip.Is4():
		ip = netip.AddrFrom16(ip.As16())
	case ip.Zone() != "":
		a.Scope = uint32(n.ifIndex(ip.Zone()))
		ip = ip.WithZone("")
	}
	a.Inet = netip.AddrPortFrom(ip, ap.Port())
	return a
}

// stackAddr is an address of a socket call as the stack wants it: IPv4 where it can
// be, link-local addresses with the name of their interface.
func (n *Net) stackAddr(a *Addr) netip.AddrPort {
	ip := a.Inet.Addr().Unmap()
	if a.Scope != 0 && ip.Is6() && ip.IsLinkLocalUnicast() {
		if ifc := n.ifByIndex(int(a.Scope)); ifc != nil {
			ip = ip.WithZone(ifc.Name())
		}
	}
	return netip.AddrPortFrom(ip, a.Inet.Port())
}

package sock

import (
	"net/netip"
	"syscall"
)

// Local ports that are chosen, as net.ipv4.ip_local_port_range has it.
const (
	firstPort = 32768
	lastPort  = 60999
)

// bindAddr checks the address of a bind on an AF_INET or AF_INET6 socket and returns
// it as the stack wants it: 0.0.0.0 for any of IPv4, :: for any.
func (b *base) bindAddr(a *Addr) (netip.AddrPort, error) {
	switch {
	case a.Family == syscall.AF_UNSPEC && b.domain == syscall.AF_INET:
		// For programs older than the family, Linux takes it for any address.
		return netip.AddrPort{}, syscall.EAFNOSUPPORT
	case int(a.Family) != b.domain:
		if b.domain == syscall.AF_INET6 && a.Family == syscall.AF_INET {
			return netip.AddrPort{}, syscall.EINVAL
		}
		return netip.AddrPort{}, syscall.EAFNOSUPPORT
	}
	ip := a.Inet.Addr()
	if b.domain == syscall.AF_INET6 && ip.Is4In6() && b.opt.ip.v6only {
		return netip.AddrPort{}, syscall.EINVAL
	}
	ap := b.net.stackAddr(a)
	ip = ap.Addr()
	switch {
	case ip.IsUnspecified(), b.opt.ip.freeBind, b.opt.ip.transparent:
	case ip.IsMulticast() || ip == broadcast4:
		if b.typ == syscall.SOCK_STREAM {
			return netip.AddrPort{}, syscall.EADDRNOTAVAIL
		}
	case ip.Is6() && ip.IsLinkLocalUnicast() && ip.Zone() == "":
		return netip.AddrPort{}, syscall.EINVAL
	case ip.Is4() && ip.IsLoopback(): // all of 127/8
	case !b.net.stack.IsLocal(ip.WithZone("")):
		return netip.AddrPort{}, syscall.EADDRNOTAVAIL
	}
	return ap, nil
}

var broadcast4 = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// hasBound notes what comes of a bind to ap: a socket that has bound to an address of
// IPv6 takes no IPv4 any more, and IPV6_V6ONLY says so (inet6_bind). Caller must hold
// mu.
func (b *base) hasBound(ap netip.AddrPort) {
	if ip := ap.Addr(); b.domain == syscall.AF_INET6 && ip.Is6() && !ip.IsUnspecified() {
		b.opt.ip.v6only = true
	}
}

// peerAddr checks the address of a connect or send and returns it as the stack wants
// it: an unspecified one means this host.
func (b *base) peerAddr(a *Addr) (netip.AddrPort, error) {
	switch {
	case int(a.Family) == b.domain:
	case b.domain != syscall.AF_INET6 || a.Family != syscall.AF_INET:
		return netip.AddrPort{}, syscall.EAFNOSUPPORT
	case b.typ == syscall.SOCK_STREAM: // too short for a struct sockaddr_in6
		return netip.AddrPort{}, syscall.EINVAL
	}
	ip := a.Inet.Addr()
	if b.domain == syscall.AF_INET6 && (ip.Is4In6() || ip.Is4()) && b.opt.ip.v6only {
		return netip.AddrPort{}, syscall.ENETUNREACH
	}
	ap := b.net.stackAddr(a)
	switch ap.Addr() {
	case netip.IPv4Unspecified():
		ap = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), ap.Port())
	case netip.IPv6Unspecified():
		ap = netip.AddrPortFrom(netip.IPv6Loopback(), ap.Port())
	}
	return ap, nil
}

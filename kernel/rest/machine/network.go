package machine

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// ConfigOf fills in the model of an interface's configuration: addr, mask and broadcast
// are those of the first IPv4 address, or of the first of all.
func ConfigOf(name string, addrs []netip.Prefix, mtu int, mac string, up, loopback bool) InterfaceConfig {
	c := InterfaceConfig{Name: name, MTU: strconv.Itoa(mtu), PhysAddr: mac, Addrs: []string{}}
	var first netip.Prefix
	for _, a := range addrs {
		c.Addrs = append(c.Addrs, a.String())
		if !first.IsValid() || a.Addr().Is4() && !first.Addr().Is4() {
			first = a
		}
	}
	if first.IsValid() {
		c.Addr = first.Addr().String()
		c.Mask = net.IP(net.CIDRMask(first.Bits(), first.Addr().BitLen())).String()
		if first.Addr().Is4() && !loopback {
			b := first.Masked().Addr().As4()
			v := binary.BigEndian.Uint32(b[:]) | ^uint32(0)>>first.Bits()
			binary.BigEndian.PutUint32(b[:], v)
			c.Broadcast = netip.AddrFrom4(b).String()
		}
	}
	var flags []string
	if up {
		flags = append(flags, "UP", "RUNNING")
	}
	if loopback {
		flags = append(flags, "LOOPBACK")
	} else {
		flags = append(flags, "BROADCAST")
	}
	c.Flags = strings.Join(flags, " ")
	return c
}

// RouteOf fills in the model of a route. An unspecified gateway is none.
func RouteOf(dst netip.Prefix, gateway netip.Addr, netif string) Route {
	r := Route{Destination: dst.String(), Flags: "U", Netif: netif, IPv6: dst.Addr().Is6()}
	if gateway.IsValid() && !gateway.IsUnspecified() {
		r.Gateway = gateway.String()
		r.Flags += "G"
	}
	if dst.Bits() == 0 {
		r.Destination = "default"
	} else if dst.IsSingleIP() {
		r.Flags += "H"
	}
	return r
}

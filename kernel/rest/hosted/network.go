package hosted

import (
	"encoding/binary"
	"encoding/hex"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"osv/kernel/rest/machine"
)

type network struct{ started time.Time }

// Interfaces are the host's, with the counters of /proc/net/dev.
func (n network) Interfaces() ([]machine.Interface, error) {
	ifs, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	counters := map[string][]string{}
	for line := range lines("/proc/net/dev") {
		if name, rest, ok := strings.Cut(line, ":"); ok {
			counters[strings.TrimSpace(name)] = strings.Fields(rest)
		}
	}
	var out []machine.Interface
	for _, i := range ifs {
		var addrs []netip.Prefix
		if l, err := i.Addrs(); err == nil {
			for _, a := range l {
				if p, err := netip.ParsePrefix(a.String()); err == nil {
					addrs = append(addrs, p)
				}
			}
		}
		up := i.Flags&net.FlagUp != 0
		m := machine.Interface{
			Config: machine.ConfigOf(i.Name, addrs, i.MTU, i.HardwareAddr.String(), up, i.Flags&net.FlagLoopback != 0),
			Data:   machine.InterfaceData{MTU: int64(i.MTU), LinkState: machine.LinkDown},
			Time:   time.Since(n.started).Microseconds(),
		}
		if i.Flags&net.FlagRunning != 0 {
			m.Data.LinkState = machine.LinkUp
		}
		if c := counters[i.Name]; len(c) >= 12 {
			d := &m.Data
			d.IBytes, d.IPackets, d.IErrors, d.IQDrops = number(c[0]), number(c[1]), number(c[2]), number(c[3])
			d.OBytes, d.OPackets, d.OErrors = number(c[8]), number(c[9]), number(c[10])
		}
		out = append(out, m)
	}
	return out, nil
}

// Flags of /proc/net/route and ipv6_route (linux/route.h).
const (
	rtfUp      = 1
	rtfGateway = 2
	rtfHost    = 4
)

// Routes are the host's.
func (network) Routes() ([]machine.Route, error) {
	var out []machine.Route
	for line := range lines("/proc/net/route") {
		f := strings.Fields(line)
		if len(f) < 8 || f[0] == "Iface" {
			continue
		}
		flags, _ := strconv.ParseUint(f[3], 16, 32)
		dst, gw, mask := hexAddr4(f[1]), hexAddr4(f[2]), hexAddr4(f[7])
		if flags&rtfUp == 0 || !dst.IsValid() || !mask.IsValid() {
			continue
		}
		m := mask.As4()
		ones, _ := net.IPMask(m[:]).Size()
		out = append(out, machine.RouteOf(netip.PrefixFrom(dst, ones), gw, f[0]))
	}
	for line := range lines("/proc/net/ipv6_route") {
		f := strings.Fields(line)
		if len(f) < 10 {
			continue
		}
		flags, _ := strconv.ParseUint(f[8], 16, 32)
		bits, _ := strconv.ParseUint(f[1], 16, 8)
		b, err1 := hex.DecodeString(f[0])
		g, err2 := hex.DecodeString(f[4])
		dst, ok1 := netip.AddrFromSlice(b)
		gw, ok2 := netip.AddrFromSlice(g)
		if flags&rtfUp == 0 || err1 != nil || err2 != nil || !ok1 || !ok2 {
			continue
		}
		out = append(out, machine.RouteOf(netip.PrefixFrom(dst, int(bits)), gw, f[9]))
	}
	if out == nil {
		if _, err := os.Stat("/proc/net/route"); err != nil {
			return nil, machine.Unavailable("this host does not tell of its routes")
		}
	}
	return out, nil
}

// hexAddr4 reads an address of /proc/net/route: eight digits of the word in the host's
// byte order.
func hexAddr4(s string) netip.Addr {
	v, err := strconv.ParseUint(s, 16, 32)
	if err != nil {
		return netip.Addr{}
	}
	var b [4]byte
	binary.NativeEndian.PutUint32(b[:], uint32(v))
	return netip.AddrFrom4(b)
}

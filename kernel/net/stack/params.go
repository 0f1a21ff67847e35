package stack

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Static configuration as OSv's command line writes it:
//
//	--ip=eth0,192.168.122.89,255.255.255.0 --defaultgw=192.168.122.1 --nameserver=192.168.122.1

// StaticIP is one --ip: which interface gets which address.
type StaticIP struct {
	NIC  string
	Addr netip.Prefix
}

// ParseIP reads the value of --ip: "nic,address,mask", where mask is dotted
// ("255.255.255.0") or a length ("24"), or "nic,address/length". Addresses of
// either family are taken.
func ParseIP(v string) (StaticIP, error) {
	fail := func(why string) (StaticIP, error) {
		return StaticIP{}, fmt.Errorf("--ip=%s: %s; want nic,address,mask", v, why)
	}
	f := strings.Split(v, ",")
	for i := range f {
		f[i] = strings.TrimSpace(f[i])
	}
	if len(f) < 2 || len(f) > 3 || f[0] == "" {
		return fail("not two or three parts")
	}
	if len(f) == 2 {
		p, err := netip.ParsePrefix(f[1])
		if err != nil {
			return fail("bad address/length " + f[1])
		}
		return StaticIP{f[0], p}, nil
	}
	a, err := netip.ParseAddr(f[1])
	if err != nil {
		return fail("bad address " + f[1])
	}
	bits, err := parseMask(f[2], a)
	if err != nil {
		return fail(err.Error())
	}
	return StaticIP{f[0], netip.PrefixFrom(a, bits)}, nil
}

func parseMask(m string, a netip.Addr) (int, error) {
	if n, err := strconv.Atoi(m); err == nil {
		if n < 0 || n > a.BitLen() {
			return 0, fmt.Errorf("mask %d is not 0 to %d", n, a.BitLen())
		}
		return n, nil
	}
	ma, err := netip.ParseAddr(m)
	if err != nil || !ma.Is4() || !a.Is4() {
		return 0, fmt.Errorf("bad mask %s", m)
	}
	b := ma.As4()
	v := be.Uint32(b[:])
	n := 0
	for v&(1<<31) != 0 {
		v <<= 1
		n++
	}
	if v != 0 {
		return 0, fmt.Errorf("mask %s has holes", m)
	}
	return n, nil
}

// StaticConfig makes the configuration of interface nic from the values of all
// --ip and of --defaultgw (empty: none). static is false where no --ip names nic:
// such an interface is for DHCP. The gateway goes to the interface whose prefix
// holds it.
func StaticConfig(nic string, ips []string, gateway string) (cfg IfConfig, static bool, err error) {
	for _, v := range ips {
		ip, err := ParseIP(v)
		if err != nil {
			return IfConfig{}, false, err
		}
		if ip.NIC == nic {
			cfg.Addrs = append(cfg.Addrs, ip.Addr)
		}
	}
	if gateway != "" {
		gw, err := netip.ParseAddr(gateway)
		if err != nil {
			return IfConfig{}, false, fmt.Errorf("--defaultgw=%s: not an address", gateway)
		}
		for _, p := range cfg.Addrs {
			if p.Contains(gw) {
				cfg.Gateway = gw
			}
		}
	}
	return cfg, len(cfg.Addrs) > 0, nil
}

// ParseNameservers reads the values of --nameserver, each one or more addresses
// with commas between.
func ParseNameservers(vs []string) ([]netip.Addr, error) {
	var as []netip.Addr
	for _, v := range vs {
		for s := range strings.SplitSeq(v, ",") {
			a, err := netip.ParseAddr(strings.TrimSpace(s))
			if err != nil {
				return nil, fmt.Errorf("--nameserver=%s: not an address", v)
			}
			as = append(as, a)
		}
	}
	return as, nil
}

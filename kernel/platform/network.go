package platform

import (
	"fmt"
	"net/netip"
	"strings"

	"osv/kernel/net/stack"
)

// Network makes the network stack over all links, with the addresses that the
// command line gives, else by DHCP.
func (s *System) Network() (*stack.Stack, error) {
	st, err := stack.New(stack.Config{
		Mem: s.Memory,
		Log: func(format string, args ...any) { netLog.Infof(format, args...) },
	})
	if err != nil {
		return nil, err
	}
	given := map[string]stack.IfConfig{}
	for _, ip := range s.Options.IPs {
		c := given[ip.NIC]
		c.Addrs = append(c.Addrs, ip.Prefix)
		given[ip.NIC] = c
	}
	for _, link := range s.Links {
		c, static := given[link.Name()]
		delete(given, link.Name())
		if static {
			if gw := s.Options.DefaultGW; gw.IsValid() && contains(c.Addrs, gw) {
				c.Gateway = gw
			}
		} else {
			c.DHCP = true
		}
		if _, err := st.AddLink(link, c); err != nil {
			st.Close()
			return nil, fmt.Errorf("%s: %w", link.Name(), err)
		}
	}
	if len(s.Options.Nameservers) > 0 {
		st.SetDNS(s.Options.Nameservers)
	}
	for nic := range given {
		st.Close()
		return nil, fmt.Errorf("option --ip: there is no network card %s (found: %s)", nic, s.linkNames())
	}
	return st, nil
}

func (s *System) linkNames() string {
	if len(s.Links) == 0 {
		return "none"
	}
	var names []string
	for _, l := range s.Links {
		names = append(names, l.Name())
	}
	return strings.Join(names, ", ")
}

func contains(ps []netip.Prefix, a netip.Addr) bool {
	for _, p := range ps {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

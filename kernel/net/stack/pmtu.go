package stack

import (
	"net/netip"
	"sync"
	"time"
)

// Path MTU discovery (RFC 1191, RFC 8201): what routers said, for a while.

const (
	pmtuLife  = 10 * time.Minute // RFC 1191 §6.3
	pmtuMax   = 1024             // destinations remembered
	pmtuMin4  = 552              // less is not believed, as it is more likely an attack
	pmtuMin6  = 1280             // RFC 8201 §4
	minIPv4TU = 68
)

// plateaus are the likely MTUs below a packet that was too big, for routers that
// do not say theirs (RFC 1191 §7.1).
var plateaus = [...]int{32000, 17914, 8166, 4352, 2002, 1492, 1006, 508}

type pmtuCache struct {
	mu sync.RWMutex // guards m
	m  map[netip.Addr]pmtuEntry
}

type pmtuEntry struct {
	mtu   int
	until int64 // ns
}

// get returns the MTU towards a, 0 where nothing is known.
func (c *pmtuCache) get(a netip.Addr, now int64) int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if e, ok := c.m[a]; ok && now < e.until {
		return e.mtu
	}
	return 0
}

// UpdatePMTU notes that packets to a may not be longer than mtu bytes; of is the
// length of the packet that was too long, for an mtu of 0. A transport calls it
// after it has made sure that the ICMP message quotes what it has sent. It
// returns the MTU that holds now.
func (s *Stack) UpdatePMTU(a netip.Addr, mtu, of int) int {
	a = a.Unmap()
	least := pmtuMin4
	if a.Is6() {
		least = pmtuMin6
	} else if mtu < minIPv4TU {
		for _, p := range plateaus {
			if mtu = p; p < of {
				break
			}
		}
	}
	mtu = max(mtu, least)
	c := &s.pmtu
	now := s.clock.Now()
	c.mu.Lock()
	if e, ok := c.m[a]; ok && now < e.until && e.mtu <= mtu {
		c.mu.Unlock()
		return e.mtu // only ever down, until it expires
	}
	if c.m == nil {
		c.m = map[netip.Addr]pmtuEntry{}
	}
	if len(c.m) >= pmtuMax {
		for k, e := range c.m {
			if now >= e.until {
				delete(c.m, k)
			}
		}
		for k := range c.m {
			if len(c.m) < pmtuMax {
				break
			}
			delete(c.m, k)
		}
	}
	c.m[a] = pmtuEntry{mtu, now + int64(pmtuLife)}
	c.mu.Unlock()
	s.routes.Bump() // routes look again, also when this one has expired
	s.clock.AfterFunc(pmtuLife, s.routes.Bump)
	return mtu
}

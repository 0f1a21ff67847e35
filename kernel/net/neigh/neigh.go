// Package neigh is the neighbour cache: from an on-link IP address to an
// Ethernet address, for ARP and for IPv6 neighbour discovery alike.
//
// Spec: the states and their events are those of RFC 4861 §7.3.2 and §7.2.5,
// used for IPv4 as well; the rate of requests is that of RFC 1122 §2.3.2.1. The
// packets themselves are the caller's: Config.Solicit sends them and Learn
// brings in what was heard.
//
// Who may use it: kernel/net/stack. May not: build packets. Bounds: the number
// of entries, and of packets that wait for an answer per entry and in all.
//
// The transmit path reads an entry with one atomic load. Everything else is
// under one lock; a timer of one second does all ageing while there is
// something to age.
//
// Start reading at Entry, then Resolve and Learn.
package neigh

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"osv/kernel/net/clock"
	"osv/kernel/net/wire"
	"osv/kernel/pkt"
)

// State is the state of an entry (RFC 4861 §7.3.2).
type State uint8

const (
	// Incomplete: address wanted, solicitations under way, packets wait.
	Incomplete State = iota
	// Reachable: confirmed within the reachable time.
	Reachable
	// Stale: known, not confirmed lately; used at once, checked when used.
	Stale
	// Delay: used while stale; waits for a hint of reachability from above.
	Delay
	// Probe: solicitations under way, packets go to the known address.
	Probe
	// Permanent: configured.
	Permanent
	// Gone: the entry was removed from the cache; ask the cache again.
	Gone
)

func (s State) String() string {
	return [...]string{"incomplete", "reachable", "stale", "delay", "probe", "permanent", "gone"}[s]
}

// Entry is one neighbour. A route keeps a pointer to it.
type Entry struct {
	addr netip.Addr
	word atomic.Uint64 // MAC in the low 48 bits, State above

	// guarded by Cache.mu
	due     int64 // ns; when the state's time is up
	used    int64 // ns; of the last use that the cache saw
	tries   int   // solicitations sent in this state
	pending []*pkt.Buf
}

// Addr is the neighbour's IP address.
func (e *Entry) Addr() netip.Addr { return e.addr }

// MAC is what to send to, and the state. Incomplete and Gone have no MAC; after
// Stale the caller tells the cache with Cache.Used.
func (e *Entry) MAC() (wire.MAC, State) {
	w, s := e.Word()
	return wire.MACOf(w), s
}

// Word is MAC, with the address as wire.MAC.Word has it.
func (e *Entry) Word() (uint64, State) {
	w := e.word.Load()
	return w & (1<<48 - 1), State(w >> 48)
}

func (e *Entry) set(m wire.MAC, s State) { e.word.Store(uint64(s)<<48 | m.Word()) }

// Config is what a cache needs of its interface.
type Config struct {
	Clock clock.Clock
	// Solicit asks for addr: to everyone, or where unicast is not zero to that
	// station only. Called without a lock held.
	Solicit func(addr netip.Addr, unicast wire.MAC)
	// Send transmits packets that waited: each begins with room for an Ethernet
	// header that the callee fills in. They are the callee's.
	Send func(m wire.MAC, b []*pkt.Buf)
	// Fail gets a packet whose destination did not answer. It is the callee's.
	Fail func(addr netip.Addr, b *pkt.Buf)

	Max        int           // entries; 0 means 1024
	MaxPending int           // packets that wait, per entry; 0 means 64, which holds all pieces of the largest datagram. In all: 4 times that
	Reachable  time.Duration // 0 means 30 s (RFC 4861 §10)
	Retrans    time.Duration // between solicitations; 0 means 1 s
}

// Protocol constants of RFC 4861 §10, and our own for what it leaves open.
const (
	maxSolicit     = 3 // MAX_MULTICAST_SOLICIT, MAX_UNICAST_SOLICIT
	delayFirst     = 5 * time.Second
	staleLife      = 10 * time.Minute // unused entries go after this
	tick           = time.Second
	pendingFactor  = 4
	defaultEntries = 1024
	defaultPending = 64
)

// Cache is the neighbour cache of one interface.
type Cache struct {
	cfg Config

	mu      sync.Mutex // guards all below and the entries' fields
	entries map[netip.Addr]*Entry
	waiting int // packets that wait, in all
	timer   clock.Timer
	running bool
	closed  bool
	stats   Stats
}

// Stats counts what the cache did.
type Stats struct {
	Solicits    uint64 // sent
	Failures    uint64 // addresses that did not answer
	Changes     uint64 // a known address moved to another station
	Evicted     uint64 // entries that made room for others
	FullDrops   uint64 // packets dropped because the cache took no new entry
	QueueDrops  uint64 // packets dropped because too many waited
	Unsolicited uint64 // news about addresses that nobody here asked for; ignored
}

// New makes an empty cache.
func New(cfg Config) *Cache {
	if cfg.Max == 0 {
		cfg.Max = defaultEntries
	}
	if cfg.MaxPending == 0 {
		cfg.MaxPending = defaultPending
	}
	if cfg.Reachable == 0 {
		cfg.Reachable = 30 * time.Second
	}
	if cfg.Retrans == 0 {
		cfg.Retrans = time.Second
	}
	return &Cache{cfg: cfg, entries: map[netip.Addr]*Entry{}}
}

// Get finds or makes the entry of addr. It does not solicit yet. It returns nil
// where the cache is full of entries in use.
func (c *Cache) Get(addr netip.Addr) *Entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.get(addr)
}

// get is Get. Caller must hold mu.
func (c *Cache) get(addr netip.Addr) *Entry {
	if e := c.entries[addr]; e != nil {
		return e
	}
	if c.closed || len(c.entries) >= c.cfg.Max && !c.evict() {
		return nil
	}
	e := &Entry{addr: addr, used: c.cfg.Clock.Now()}
	c.entries[addr] = e
	return e
}

// evict removes the stale or unasked entry that was used longest ago. Caller
// must hold mu.
func (c *Cache) evict() bool {
	var victim *Entry
	for _, e := range c.entries {
		_, s := e.MAC()
		if (s == Stale || s == Incomplete && e.tries == 0) && (victim == nil || e.used < victim.used) {
			victim = e
		}
	}
	if victim == nil {
		return false
	}
	c.stats.Evicted++
	c.drop(victim)
	return true
}

// drop removes e. Caller must hold mu and has dealt with pending.
func (c *Cache) drop(e *Entry) {
	e.set(wire.MAC{}, Gone)
	delete(c.entries, e.addr)
}

// Resolve sends b to e's station now, or keeps it until that is known. b begins
// with room for an Ethernet header; it is the cache's now.
func (c *Cache) Resolve(e *Entry, b *pkt.Buf) {
	c.mu.Lock()
	mac, s := e.MAC()
	if s == Gone {
		// Removed between the caller's look and now.
		if e = c.get(e.addr); e == nil {
			c.stats.FullDrops++
			c.mu.Unlock()
			b.Put()
			return
		}
		mac, s = e.MAC()
	}
	if s != Incomplete {
		c.touch(e, s)
		c.mu.Unlock()
		one := [1]*pkt.Buf{b}
		c.cfg.Send(mac, one[:])
		return
	}
	var drop *pkt.Buf
	switch {
	case len(e.pending) >= c.cfg.MaxPending:
		// RFC 1122 §2.3.2.2: keep the latest
		drop = e.pending[0]
		copy(e.pending, e.pending[1:])
		e.pending[len(e.pending)-1] = b
		c.stats.QueueDrops++
	case c.waiting >= c.cfg.MaxPending*pendingFactor:
		drop = b
		c.stats.QueueDrops++
	default:
		e.pending = append(e.pending, b)
		c.waiting++
	}
	now := c.cfg.Clock.Now()
	e.used = now
	ask := e.tries == 0
	if ask {
		e.tries, e.due = 1, now+int64(c.cfg.Retrans)
		c.stats.Solicits++
	}
	c.start()
	c.mu.Unlock()
	if drop != nil {
		drop.Put()
	}
	if ask {
		c.cfg.Solicit(e.addr, wire.MAC{})
	}
}

// Used tells that a packet went to an entry that was Stale: its reachability
// will be checked (RFC 4861 §7.3.3).
func (c *Cache) Used(e *Entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, s := e.MAC()
	c.touch(e, s)
}

// touch moves a used stale entry to Delay. Caller must hold mu.
func (c *Cache) touch(e *Entry, s State) {
	now := c.cfg.Clock.Now()
	e.used = now
	if s == Stale {
		mac, _ := e.MAC()
		e.set(mac, Delay)
		e.due = now + int64(delayFirst)
		c.start()
	}
}

// Confirm tells that the neighbour was heard to react by a protocol above
// (RFC 4861 §7.3.1).
func (c *Cache) Confirm(e *Entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if mac, s := e.MAC(); s == Stale || s == Delay || s == Probe || s == Reachable {
		c.reachable(e, mac)
	}
}

// reachable moves e to Reachable. Caller must hold mu.
func (c *Cache) reachable(e *Entry, mac wire.MAC) {
	e.set(mac, Reachable)
	e.tries, e.due = 0, c.cfg.Clock.Now()+int64(c.cfg.Reachable)
	c.start()
}

// News is what an ARP packet or neighbour message said.
type News struct {
	Addr netip.Addr
	MAC  wire.MAC
	// Solicited: it answers a question that was asked of that address.
	Solicited bool
	// Override: it may replace another MAC (RFC 4861 §7.2.5). ARP always may.
	Override bool
	// Create: an entry may be made, since the sender is about to be answered.
	Create bool
}

// Learn takes in news, and sends what waited for it.
func (c *Cache) Learn(n News) {
	if n.MAC.IsMulticast() || n.MAC == (wire.MAC{}) {
		return
	}
	c.mu.Lock()
	e := c.entries[n.Addr]
	if e == nil {
		if !n.Create {
			c.stats.Unsolicited++
			c.mu.Unlock()
			return
		}
		if e = c.get(n.Addr); e == nil {
			c.stats.FullDrops++
			c.mu.Unlock()
			return
		}
	}
	mac, s := e.MAC()
	var out []*pkt.Buf
	switch {
	case s == Permanent:
	case s == Incomplete:
		out, e.pending = e.pending, nil
		c.waiting -= len(out)
		// With packets out at once, an unsolicited entry would be in Delay
		// right away; a solicited one is confirmed.
		if n.Solicited {
			c.reachable(e, n.MAC)
		} else {
			e.tries = 0
			e.set(n.MAC, Stale)
			if len(out) > 0 {
				c.touch(e, Stale)
			}
			c.start()
		}
	case n.MAC != mac && !n.Override:
		if s == Reachable {
			e.set(mac, Stale)
		}
	case n.MAC != mac:
		c.stats.Changes++
		if n.Solicited {
			c.reachable(e, n.MAC)
		} else {
			e.tries = 0
			e.set(n.MAC, Stale)
		}
	case n.Solicited:
		c.reachable(e, mac)
	}
	c.mu.Unlock()
	if len(out) > 0 {
		c.cfg.Send(n.MAC, out)
	}
}

// AddPermanent configures a neighbour that is never asked for.
func (c *Cache) AddPermanent(addr netip.Addr, mac wire.MAC) {
	c.mu.Lock()
	e := c.get(addr)
	var out []*pkt.Buf
	if e != nil {
		out, e.pending = e.pending, nil
		c.waiting -= len(out)
		e.set(mac, Permanent)
	}
	c.mu.Unlock()
	if len(out) > 0 {
		c.cfg.Send(mac, out)
	}
}

// Solicited reports whether an answer from addr is being waited for.
func (c *Cache) Solicited(addr netip.Addr) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[addr]
	return e != nil && e.tries > 0
}

// start sets the timer going. Caller must hold mu.
func (c *Cache) start() {
	if c.running || c.closed {
		return
	}
	c.running = true
	if c.timer == nil {
		c.timer = c.cfg.Clock.AfterFunc(tick, c.age)
	} else {
		c.timer.Reset(tick)
	}
}

// age does what is due in each entry, and keeps the timer going while any entry
// is in a state that ends by itself.
func (c *Cache) age() {
	type ask struct {
		addr netip.Addr
		mac  wire.MAC
	}
	type fail struct {
		addr netip.Addr
		bufs []*pkt.Buf
	}
	var asks []ask
	var fails []fail
	c.mu.Lock()
	now := c.cfg.Clock.Now()
	c.running = false
	again := false
	for _, e := range c.entries {
		mac, s := e.MAC()
		switch s {
		case Permanent:
			continue
		case Stale:
			if now-e.used >= int64(staleLife) {
				c.drop(e)
				continue
			}
		case Incomplete:
			if e.tries == 0 { // made, never used
				if now-e.used >= int64(staleLife) {
					c.drop(e)
					continue
				}
				break
			}
			if now < e.due {
				break
			}
			if e.tries >= maxSolicit {
				fails = append(fails, fail{e.addr, e.pending})
				c.waiting -= len(e.pending)
				e.pending = nil
				c.stats.Failures++
				c.drop(e)
				continue
			}
			e.tries++
			e.due = now + int64(c.cfg.Retrans)
			c.stats.Solicits++
			asks = append(asks, ask{e.addr, wire.MAC{}})
		case Reachable:
			if now >= e.due {
				e.set(mac, Stale)
			}
		case Delay:
			if now >= e.due {
				e.set(mac, Probe)
				e.tries, e.due = 1, now+int64(c.cfg.Retrans)
				c.stats.Solicits++
				asks = append(asks, ask{e.addr, mac})
			}
		case Probe:
			if now < e.due {
				break
			}
			if e.tries >= maxSolicit {
				c.stats.Failures++
				c.drop(e)
				continue
			}
			e.tries++
			e.due = now + int64(c.cfg.Retrans)
			c.stats.Solicits++
			asks = append(asks, ask{e.addr, mac})
		}
		again = true
	}
	if again {
		c.start()
	}
	c.mu.Unlock()
	for _, a := range asks {
		c.cfg.Solicit(a.addr, a.mac)
	}
	for _, f := range fails {
		for _, b := range f.bufs {
			c.cfg.Fail(f.addr, b)
		}
	}
}

// Info is one entry as Snapshot shows it.
type Info struct {
	Addr  netip.Addr
	MAC   wire.MAC
	State State
}

// Snapshot copies the entries, in no order.
func (c *Cache) Snapshot() []Info {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]Info, 0, len(c.entries))
	for _, e := range c.entries {
		m, s := e.MAC()
		all = append(all, Info{e.addr, m, s})
	}
	return all
}

// Stats copies the counters.
func (c *Cache) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stats
}

// Close ends the cache: entries are gone, packets that wait are put back, the
// timer stops.
func (c *Cache) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.timer != nil {
		c.timer.Stop()
	}
	for _, e := range c.entries {
		for _, b := range e.pending {
			b.Put()
		}
		e.pending = nil
		c.drop(e)
	}
	c.waiting = 0
}

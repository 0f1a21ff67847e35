package vfs

import (
	"hash/maphash"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"weak"
)

// The dentry cache: a hash table of names by directory and name, for the whole tree.
//
// Lookups take no lock: chains are read through atomic pointers, and an entry that
// was taken off still leads on to the rest of its chain; the garbage collector keeps
// it as long as somebody stands on it. The cache holds at most limit dentries, found
// ones and negative ones; a clock hand chooses which to let go. One that is let go
// is still found through a weak pointer for as long as anyone else has it (an open
// file, a working directory, a child), so that there is never a second dentry for
// one name.
type dcache struct {
	seed    maphash.Seed
	buckets []atomic.Pointer[entry]

	mu   sync.Mutex // chains and ring
	ring []*entry   // those held; the clock's face
	hand int
	held int

	hits, misses atomic.Int64
}

// entry is a place in the table. A rename takes one off and adds another.
type entry struct {
	hash   uint64
	parent *Dentry
	name   string
	next   atomic.Pointer[entry]

	strong atomic.Pointer[Dentry] // nil: let go, or taken off
	weak   atomic.Pointer[weak.Pointer[Dentry]]
	used   atomic.Bool // since the hand came by
	slot   int         // in ring, -1: not held
	gone   bool        // taken off
	watch  bool        // a cleanup takes it off once the dentry is collected
}

// DefaultDentries is how many dentries a tree caches unless told otherwise: some
// 300 bytes each.
const DefaultDentries = 16384

func (c *dcache) init(limit int) {
	c.seed = maphash.MakeSeed()
	n := 64
	for n < limit {
		n *= 2
	}
	c.buckets = make([]atomic.Pointer[entry], n)
	c.ring = make([]*entry, max(limit, 16))
}

func (c *dcache) hash(parent *Dentry, name string) uint64 {
	return maphash.String(c.seed, name) ^ parent.id*0x9e3779b97f4a7c15
}

func (c *dcache) bucket(h uint64) *atomic.Pointer[entry] {
	return &c.buckets[(h^h>>32)&uint64(len(c.buckets)-1)]
}

func (c *dcache) find(h uint64, parent *Dentry, name string) *entry {
	for e := c.bucket(h).Load(); e != nil; e = e.next.Load() {
		if e.hash == h && e.parent == parent && e.name == name {
			return e
		}
	}
	return nil
}

// get is the dentry of name in parent, nil where the cache knows nothing.
func (c *dcache) get(parent *Dentry, name string) *Dentry {
	h := c.hash(parent, name)
	for e := c.bucket(h).Load(); e != nil; e = e.next.Load() {
		if e.hash != h || e.parent != parent || e.name != name {
			continue
		}
		if d := e.strong.Load(); d != nil {
			if !e.used.Load() {
				e.used.Store(true)
			}
			return d
		}
		if w := e.weak.Load(); w != nil {
			if d := w.Value(); d != nil {
				c.revive(e, d)
				return d
			}
		}
	}
	return nil
}

// revive holds a dentry again that was let go.
func (c *dcache) revive(e *entry, d *Dentry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.gone || e.slot >= 0 {
		return
	}
	c.hold(e, d)
}

// add puts d, the dentry of name in parent, in place of whatever is there. The
// caller holds parent.mu. It clones the name.
func (c *dcache) add(parent *Dentry, name string, d *Dentry) {
	e := &entry{hash: c.hash(parent, name), parent: parent, name: strings.Clone(name), slot: -1}
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.find(e.hash, parent, name); old != nil {
		c.takeOff(old)
	}
	c.hold(e, d)
	b := c.bucket(e.hash)
	e.next.Store(b.Load())
	b.Store(e)
}

// drop takes name in parent off.
func (c *dcache) drop(parent *Dentry, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.find(c.hash(parent, name), parent, name); e != nil {
		c.takeOff(e)
	}
}

// hold gives e a place on the ring. Caller holds c.mu.
func (c *dcache) hold(e *entry, d *Dentry) {
	for {
		s := c.ring[c.hand]
		if s != nil && s.used.Swap(false) {
			c.hand = (c.hand + 1) % len(c.ring)
			continue
		}
		if s != nil {
			c.letGo(s)
		}
		break
	}
	e.slot = c.hand
	c.ring[c.hand] = e
	c.hand = (c.hand + 1) % len(c.ring)
	c.held++
	e.strong.Store(d)
}

// letGo leaves e's dentry to those who have it. Caller holds c.mu.
func (c *dcache) letGo(e *entry) {
	d := e.strong.Load()
	if d.node == nil {
		c.takeOff(e) // nobody keeps a negative one
		return
	}
	w := weak.Make(d)
	e.weak.Store(&w)
	e.strong.Store(nil)
	c.ring[e.slot], e.slot = nil, -1
	c.held--
	if !e.watch {
		e.watch = true
		runtime.AddCleanup(d, func(e *entry) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.takeOff(e)
		}, e)
	}
}

// takeOff removes e from its chain and from the ring. Caller holds c.mu.
func (c *dcache) takeOff(e *entry) {
	if e.gone {
		return
	}
	e.gone = true
	for p := c.bucket(e.hash); ; {
		x := p.Load()
		if x == e {
			p.Store(e.next.Load())
			break
		}
		p = &x.next
	}
	if e.slot >= 0 {
		c.ring[e.slot], e.slot = nil, -1
		c.held--
	}
	e.strong.Store(nil)
	e.weak.Store(nil)
}

// dropUnder lets go of all that is below root, for an unmounted file system.
func (c *dcache) dropUnder(root *Dentry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.buckets {
		for e := c.buckets[i].Load(); e != nil; e = e.next.Load() {
			if e.parent.under(root) {
				c.takeOff(e)
			}
		}
	}
}

// CacheStats are counts of the dentry cache.
type CacheStats struct {
	Held, Limit  int
	Hits, Misses int64 // Misses asked the file system
}

// CacheStats tells them. Hits are counted only by walks that miss nothing cheaper.
func (t *Tree) CacheStats() CacheStats {
	t.cache.mu.Lock()
	defer t.cache.mu.Unlock()
	return CacheStats{Held: t.cache.held, Limit: len(t.cache.ring), Misses: t.cache.misses.Load()}
}

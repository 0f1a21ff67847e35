package store

import (
	"sync"
	"sync/atomic"
)

// pageInfo describes one page of the arena. It is guarded by the owning shard's
// mutex, in the pool by pool.mu.
type pageInfo struct {
	freeHead   ref    // chunks given back
	next, prev uint32 // neighbours among the class's pages with room, or in the pool; page numbers
	free       int32  // chunks on the list at freeHead
	cut        int32  // chunks cut from the page so far; the rest was never used
	cls        uint8
	listed     bool // on the class's list of pages with room
	draining   bool // no allocation; goes to the pool when the last chunk is back
	drop       bool // draining: its frames go back to the Memory; in the pool: they have
}

func (p *pageInfo) used() int32 { return p.cut - p.free }

// pool holds the pages that no shard owns.
type pool struct {
	mu      sync.Mutex
	head    uint32 // returned pages; page numbers, 0 = none
	n       int    // pages on that list
	dropped int    // of them, those without frames
	fresh   uint32 // next page that was never used
	// out is the number of pages that shards own. budget is how many they may
	// own; it falls when the index grows or the limit is lowered, and may then
	// be below out until pages have been drained.
	out    atomic.Int64
	budget atomic.Int64
}

// takePage gives shard sh a page for class c, 0 where the budget is used up.
func (s *Store) takePage(sh *shard, c int) uint32 {
	p := &s.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.out.Load() >= p.budget.Load() {
		return 0
	}
	n := p.head
	switch {
	case n != 0:
		p.head = s.pages[n].next
		p.n--
		if s.pages[n].drop {
			p.dropped--
		}
	case int(p.fresh) < len(s.pages):
		n = p.fresh
		p.fresh++
	default:
		return 0
	}
	p.out.Add(1)
	s.pages[n] = pageInfo{cls: uint8(c)}
	s.owner[n].Store(int32(sh.id) + 1)
	return n
}

// giveBack returns an unused page. Caller must hold the owner's mutex.
func (s *Store) giveBack(n uint32, drop bool) {
	p := &s.pool
	p.mu.Lock()
	s.owner[n].Store(0)
	s.pages[n] = pageInfo{next: p.head}
	p.head = n
	p.n++
	p.out.Add(-1)
	if drop {
		s.dropPage(n)
	}
	p.mu.Unlock()
}

func (s *Store) pageBytes(n uint32) []byte {
	return s.arena.mem[int(n)*pageBytes : (int(n)+1)*pageBytes]
}

func pageOf(r ref) uint32 { return uint32(r / pageBytes) }

// list puts page n at the head of its class's pages with room.
func (sh *shard) list(n uint32) {
	p := &sh.s.pages[n]
	cl := &sh.classes[p.cls]
	p.listed, p.prev, p.next = true, 0, cl.room
	if cl.room != 0 {
		sh.s.pages[cl.room].prev = n
	}
	cl.room = n
}

func (sh *shard) unlist(n uint32) {
	p := &sh.s.pages[n]
	if p.prev != 0 {
		sh.s.pages[p.prev].next = p.next
	} else {
		sh.classes[p.cls].room = p.next
	}
	if p.next != 0 {
		sh.s.pages[p.next].prev = p.prev
	}
	p.listed, p.prev, p.next = false, 0, 0
}

// cut takes a chunk of class c from a page with room or a new page, 0 where
// there is none. Caller must hold sh.mu.
func (sh *shard) cut(c int) ref {
	s, cl := sh.s, &sh.classes[c]
	n := cl.room
	if n == 0 {
		if n = s.takePage(sh, c); n == 0 {
			return 0
		}
		cl.pages++
		sh.list(n)
	}
	p := &s.pages[n]
	r := p.freeHead
	if r != 0 {
		p.freeHead = s.arena.item(r).lnext
		p.free--
	} else {
		r = ref(int(n)*pageBytes + int(p.cut)*s.classes.size[c])
		p.cut++
	}
	if p.free == 0 && int(p.cut) == s.classes.perPage(c) {
		sh.unlist(n)
	}
	cl.used++
	return r
}

// putBack frees a chunk. Caller must hold sh.mu; no reader can hold it.
func (sh *shard) putBack(r ref) {
	s := sh.s
	it := s.arena.item(r)
	n := pageOf(r)
	p := &s.pages[n]
	cl := &sh.classes[p.cls]
	it.kind = chunkFree
	it.lnext = p.freeHead
	p.freeHead = r
	p.free++
	cl.used--
	if p.used() > 0 {
		if !p.draining && !p.listed {
			sh.list(n)
		}
		return
	}
	// The page is empty. Keep one for the class, so that a few items that come
	// and go do not move a page each time.
	if !p.draining && cl.room == 0 {
		sh.list(n)
		return
	}
	if !p.draining && (cl.room == n && p.next == 0) {
		return
	}
	if p.listed {
		sh.unlist(n)
	}
	cl.pages--
	if p.draining {
		sh.draining--
	}
	s.giveBack(n, p.drop)
}

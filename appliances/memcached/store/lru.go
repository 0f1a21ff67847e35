package store

// The segmented LRU (upstream's doc/new_lru.txt), one per shard and slab class.
// A new item enters HOT. An item read twice is active. From the tail of HOT it
// flows to WARM if active and to COLD if not; from the tail of WARM back to its
// head, or to COLD; from the tail of COLD to WARM, or out. Readers only set bits
// in the item; all moves happen under the shard's mutex, when something is
// stored and in the maintainer. TEMP holds what lives so short that it is not
// worth evicting.

type lruID uint8

const (
	lruHot lruID = iota
	lruWarm
	lruCold
	lruTemp
	lruLists
)

// lruList is one list. Bytes are the accounted sizes of its items.
type lruList struct {
	head, tail ref
	n, bytes   int
}

// class is one slab class of one shard, guarded by the shard's mutex.
type class struct {
	room  uint32 // first page with a free chunk
	pages int
	used  int // chunks out
	calm  int // items stored since the lists were balanced
	lru   [lruLists]lruList
	st    ClassStats

	evictedBefore uint64 // st.Evicted at the last automove
}

func (cl *class) bytes() int {
	return cl.lru[lruHot].bytes + cl.lru[lruWarm].bytes + cl.lru[lruCold].bytes
}

// linkLRU puts it, of n accounted bytes, at the head of list l. Caller must hold
// sh.mu.
func (sh *shard) linkLRU(it *item, l lruID, n int) {
	a := &sh.s.arena
	li := &sh.classes[it.cls].lru[l]
	r := a.ref(it)
	it.setLRU(l)
	it.lprev, it.lnext = 0, li.head
	if li.head != 0 {
		a.item(li.head).lprev = r
	} else {
		li.tail = r
	}
	li.head = r
	li.n++
	li.bytes += n
}

// unlinkLRU takes it, of n accounted bytes, off its list. Caller must hold sh.mu.
func (sh *shard) unlinkLRU(it *item, n int) {
	a := &sh.s.arena
	li := &sh.classes[it.cls].lru[it.lru()]
	if it.lprev != 0 {
		a.item(it.lprev).lnext = it.lnext
	} else {
		li.head = it.lnext
	}
	if it.lnext != 0 {
		a.item(it.lnext).lprev = it.lprev
	} else {
		li.tail = it.lprev
	}
	li.n--
	li.bytes -= n
}

func (sh *shard) moveLRU(it *item, l lruID) {
	n := sh.s.accounted(it)
	sh.unlinkLRU(it, n)
	sh.linkLRU(it, l, n)
}

// pull moves the tail of HOT or WARM on if it is active, if the list is longer
// than limit bytes or if the tail is older than the tail of COLD is, times factor.
// It reports whether it moved one. Caller must hold sh.mu.
func (sh *shard) pull(c int, l lruID, limit int, factor float64) bool {
	cl := &sh.classes[c]
	li := &cl.lru[l]
	if li.tail == 0 {
		return false
	}
	it := sh.s.arena.item(li.tail)
	now := sh.s.rel.Load()
	if why := sh.s.gone(it, now); why != alive {
		sh.reclaim(it, why)
		return true
	}
	if it.loadState()&stActive != 0 {
		it.clearState(stActive)
		if l == lruWarm {
			cl.st.MovesWithinLRU++
		} else {
			cl.st.MovesToWarm++
		}
		sh.moveLRU(it, lruWarm)
		return true
	}
	if li.bytes > limit || now-it.lastAccess() > sh.maxAge(cl, now, factor) {
		cl.st.MovesToCold++
		sh.moveLRU(it, lruCold)
		return true
	}
	return false
}

// maxAge is the age in seconds of the tail of COLD, times factor; 0 without one.
func (sh *shard) maxAge(cl *class, now uint32, factor float64) uint32 {
	t := cl.lru[lruCold].tail
	if t == 0 {
		return 0
	}
	return uint32(float64(now-sh.s.arena.item(t).lastAccess()) * factor)
}

// balanceEvery is the number of items that are stored in a class between two looks
// at its lists; then up to two for each are moved.
const balanceEvery = 8

// balance keeps HOT and WARM of class c within their shares and ages, with at
// most n moves each. Caller must hold sh.mu.
func (sh *shard) balance(c, n int) {
	s, cl := sh.s, &sh.classes[c]
	total := cl.bytes()
	f := s.factors.Load()
	if cl.lru[lruHot].tail != 0 {
		limit := total * int(s.hotPct.Load()) / 100
		for i := 0; i < n && sh.pull(c, lruHot, limit, f.hot); i++ {
		}
	}
	if cl.lru[lruWarm].tail != 0 {
		limit := total * int(s.warmPct.Load()) / 100
		for i := 0; i < n && sh.pull(c, lruWarm, limit, f.warm); i++ {
		}
	}
}

// coldChances is how many active items evict moves from the tail of COLD to WARM
// before it takes one that is active.
const coldChances = 5

// evict takes one item of class c out of the cache and reports whether it did.
// Caller must hold sh.mu.
func (sh *shard) evict(c int) bool {
	s, cl := sh.s, &sh.classes[c]
	for range coldChances {
		r := cl.lru[lruCold].tail
		if r == 0 {
			break
		}
		it := s.arena.item(r)
		if s.gone(it, s.rel.Load()) != alive || it.loadState()&stActive == 0 {
			break
		}
		it.clearState(stActive)
		cl.st.MovesToWarm++
		sh.moveLRU(it, lruWarm)
	}
	for _, l := range [...]lruID{lruHot, lruWarm} {
		for i := 0; cl.lru[lruCold].tail == 0 && i < 2*coldChances; i++ {
			if !sh.pull(c, l, -1, 0) {
				break
			}
		}
	}
	r := cl.lru[lruCold].tail
	if r == 0 {
		return false
	}
	it := s.arena.item(r)
	if why := s.gone(it, s.rel.Load()); why != alive {
		sh.reclaim(it, why)
		cl.st.DirectReclaims++
		return true
	}
	if s.noEvict.Load() {
		return false
	}
	sh.countEviction(it)
	cl.st.DirectReclaims++
	sh.unlink(it)
	return true
}

func (sh *shard) countEviction(it *item) {
	s, cl := sh.s, &sh.classes[it.cls]
	st := it.loadState()
	cl.st.Evicted++
	cl.st.EvictedTime = uint64(s.rel.Load() - it.lastAccess())
	if it.expires() != 0 {
		cl.st.EvictedNonzero++
	}
	if st&stFetched == 0 {
		cl.st.EvictedUnfetched++
	}
	if st&stActive != 0 {
		cl.st.EvictedActive++
	}
	if s.OnEvict != nil {
		s.OnEvict(Item{it, s})
	}
}

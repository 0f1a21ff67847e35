package store

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// shard is one part of the key space with all that belongs to it.
type shard struct {
	tab atomic.Pointer[table] // readers load it; stores under mu
	_   [56]byte

	mu      sync.Mutex // guards all below and the pages that the shard owns
	s       *Store
	id      int
	classes [maxClasses]class
	items   int // in the table
	bytes   int // accounted bytes of them
	ttl     int // of them, those that expire
	total   uint64

	retHead, retTail ref // retired items, oldest first, linked by lnext
	retired          int
	pinned           ref // past their epoch, but pinned; linked by lnext
	unpinned         atomic.Bool
	oldTables        []oldTable
	draining         int // pages that are being drained
	crawl            crawlPos
	st               ShardStats
	_                [64]byte
}

// oldTable is the memory of a table that readers may still be in.
type oldTable struct {
	mem   []byte
	stamp uint64
}

// link puts a finished item into the table and on its list; old, if any, is the
// item with the same key that it replaces, at the place at. Caller must hold sh.mu.
func (sh *shard) link(h uint64, it, old *item, at slot) {
	s := sh.s
	it.kind = chunkLinked
	now := s.rel.Load()
	it.cas, it.time = s.cas.Add(1), now // nobody has found it yet: see initItem
	l := lruHot
	if exp := it.expires(); exp != 0 {
		sh.ttl++
		if t := s.tempTTL.Load(); t >= 0 && int64(exp)-int64(now) <= t {
			l = lruTemp
		}
	}
	if s.flat.Load() && l == lruHot {
		l = lruCold
	}
	n := s.accounted(it)
	sh.items++
	sh.bytes += n
	sh.total++
	sh.linkLRU(it, l, n)
	if old != nil {
		s.arena.replace(at, old, it)
		sh.dropped(old)
	} else {
		sh.tab.Load().place(h).insert(&s.arena, h, it)
	}
	cl := &sh.classes[it.cls]
	if cl.calm++; cl.calm == balanceEvery {
		cl.calm = 0
		sh.balance(int(it.cls), 2*balanceEvery)
	}
	sh.grow()
}

// unlink takes it out of the cache. Caller must hold sh.mu.
func (sh *shard) unlink(it *item) {
	h := sh.s.key.sum(it.key())
	sh.tab.Load().place(h).remove(&sh.s.arena, it)
	sh.dropped(it)
}

// dropped does the bookkeeping for an item that readers cannot find any more.
func (sh *shard) dropped(it *item) {
	n := sh.s.accounted(it)
	sh.unlinkLRU(it, n)
	sh.items--
	sh.bytes -= n
	if it.expires() != 0 {
		sh.ttl--
	}
	sh.retire(it)
}

// retire queues an unlinked item until its readers have left. Caller must hold
// sh.mu.
func (sh *shard) retire(it *item) {
	it.kind = chunkRetired
	it.setState(stRetired)
	it.lnext, it.lprev = 0, ref(sh.s.epochs.now.Load())
	r := sh.s.arena.ref(it)
	if sh.retTail != 0 {
		sh.s.arena.item(sh.retTail).lnext = r
	} else {
		sh.retHead = r
	}
	sh.retTail = r
	sh.retired++
	if sh.retired >= reapAt {
		sh.s.epochs.advance()
		sh.reap()
	}
}

// reapAt is the number of retired items at which they are looked at even if no
// one needs memory.
const reapAt = 32

// reap frees what no reader can hold any more. Caller must hold sh.mu.
func (sh *shard) reap() {
	s := sh.s
	if sh.unpinned.Swap(false) {
		link := &sh.pinned
		for *link != 0 {
			it := s.arena.item(*link)
			if it.pins() == 0 {
				*link = it.lnext
				sh.free(it)
			} else {
				link = &it.lnext
			}
		}
	}
	for sh.retHead != 0 {
		it := s.arena.item(sh.retHead)
		if !s.epochs.passed(uint64(it.lprev)) {
			break
		}
		sh.retHead = it.lnext
		if sh.retHead == 0 {
			sh.retTail = 0
		}
		sh.retired--
		// No new pin can come: who pins has found the item in its section.
		if it.pins() != 0 {
			it.lnext = sh.pinned
			sh.pinned = s.arena.ref(it)
			// The pin may have gone between the two lines above.
			if it.pins() == 0 {
				sh.unpinned.Store(true)
			}
			continue
		}
		sh.free(it)
	}
	for len(sh.oldTables) > 0 && s.epochs.passed(sh.oldTables[0].stamp) {
		s.mem.Unmap(sh.oldTables[0].mem)
		s.indexBytes.Add(-int64(len(sh.oldTables[0].mem)))
		s.setBudget()
		sh.oldTables = sh.oldTables[1:]
	}
}

// free gives an item's chunks back. Caller must hold sh.mu; nobody can hold it.
func (sh *shard) free(it *item) {
	a := &sh.s.arena
	if it.chunked() {
		for r := *it.firstPiece(); r != 0; {
			next := a.item(r).lnext
			sh.putBack(r)
			r = next
		}
	}
	sh.putBack(a.ref(it))
}

// evictAhead is how many items are evicted at once when that means to wait for
// readers, so that not each allocation has to.
const evictAhead = 8

// get takes a chunk of class c, evicting for it. It returns 0 where there is
// none to be had. Caller must hold sh.mu, must not be in a reader section, and
// must expect the mutex to have been let go in between.
func (sh *shard) get(c int) ref {
	s := sh.s
	if r := sh.cut(c); r != 0 {
		return r
	}
	// Memory that was only waiting for readers comes first.
	if r := sh.reapFor(c); r != 0 {
		return r
	}
	for range 32 {
		if !sh.evict(c) && !sh.steal(c) {
			// Nothing to give; but maybe something is on its way.
			if sh.retired == 0 {
				break
			}
			sh.wait(s.epochs.now.Load())
			if r := sh.reapFor(c); r != 0 {
				return r
			}
			if !sh.evict(c) && !sh.steal(c) {
				break
			}
		}
		if r := sh.reapFor(c); r != 0 {
			return r
		}
		// Readers are in the way.
		for n := 1; n < evictAhead && sh.evict(c); n++ {
		}
		sh.wait(s.epochs.now.Load())
		if r := sh.reapFor(c); r != 0 {
			return r
		}
	}
	sh.classes[c].st.OutOfMemory++
	return 0
}

// reapFor frees what readers have left and takes a chunk of class c of it.
func (sh *shard) reapFor(c int) ref {
	sh.s.epochs.advance()
	sh.s.epochs.advance()
	sh.reap()
	return sh.cut(c)
}

// wait lets the mutex go until the readers of the epoch stamp have left. They do
// not block in a section, so that is soon, unless they wait for a CPU.
func (sh *shard) wait(stamp uint64) {
	sh.mu.Unlock()
	defer sh.mu.Lock()
	for n := 0; !sh.s.epochs.passed(stamp); n++ {
		if sh.s.epochs.advance() {
			continue
		}
		if n < 16 {
			runtime.Gosched()
		} else {
			time.Sleep(20 * time.Microsecond)
		}
	}
}

// grow starts or continues the growth of the table. Caller must hold sh.mu.
func (sh *shard) grow() {
	s, t := sh.s, sh.tab.Load()
	if t.old.Load() == nil {
		if sh.items <= growAt*int(t.mask+1) {
			return
		}
		if len(sh.oldTables) > 0 {
			s.epochs.advance()
			s.epochs.advance()
			sh.reap()
		}
		n := 2 * len(t.mem)
		mem, err := s.mem.Map(n)
		if err != nil {
			// Chains get longer; tried again with the next item.
			sh.st.GrowFailed++
			return
		}
		s.indexBytes.Add(int64(n))
		s.setBudget()
		nt := tableOver(mem)
		nt.old.Store(t)
		sh.tab.Store(nt)
		t = nt
	}
	// Each insertion moves a few buckets, so the move is over long before the
	// new table is full.
	if t.move(&s.arena, &s.key, 8) {
		old := t.old.Load()
		t.old.Store(nil)
		sh.oldTables = append(sh.oldTables, oldTable{old.mem, s.epochs.now.Load()})
	}
}

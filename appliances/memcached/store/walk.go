package store

// Walking over all items, for statistics and dumps.

// Walk calls f for each item of slab class c that is there, under the mutex of
// its shard, until f returns false. f must not call the Store, other than the
// Item's methods and those that read the clock.
func (s *Store) Walk(c int, f func(Item) bool) {
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		on := true
		for n := uint32(1); on && int(n) < len(s.pages); n++ {
			if sh.owns(n) && int(s.pages[n].cls) == c {
				on = sh.walkPage(n, f)
			}
		}
		sh.mu.Unlock()
		if !on {
			return
		}
	}
}

// walkPage calls f for the items of page n and returns false where f did. Caller
// must hold sh.mu.
func (sh *shard) walkPage(n uint32, f func(Item) bool) bool {
	if !sh.owns(n) {
		return true
	}
	s, p, now := sh.s, &sh.s.pages[n], sh.s.rel.Load()
	size := s.classes.size[p.cls]
	for chunk := int32(0); chunk < p.cut; chunk++ {
		it := s.arena.item(ref(int(n)*pageBytes + int(chunk)*size))
		if it.kind == chunkLinked && s.gone(it, now) == alive && !f(Item{it, s}) {
			return false
		}
	}
	return true
}

// WalkSteps is Walk page by page: after each page it calls pause without any
// lock held, and stops where that returns false.
func (s *Store) WalkSteps(f func(Item), pause func() bool) {
	for i := range s.shards {
		sh := &s.shards[i]
		for n := uint32(1); int(n) < len(s.pages); n++ {
			if !sh.owns(n) {
				continue
			}
			sh.mu.Lock()
			sh.walkPage(n, func(it Item) bool { f(it); return true })
			sh.mu.Unlock()
			if !pause() {
				return
			}
		}
	}
}

// SizeStep is the width of a bucket of Sizes in bytes.
const SizeStep = 32

// Sizes counts the items by accounted size: element i has those of more than
// (i-1)*SizeStep and at most i*SizeStep bytes.
func (s *Store) Sizes() []uint64 {
	h := make([]uint64, s.itemMax/SizeStep+2)
	s.WalkSteps(func(it Item) { h[(it.Size()+SizeStep-1)/SizeStep]++ }, func() bool { return true })
	return h
}

// Reassign moves a page from slab class src (-1: any other) to where dst can take
// it. The outcome is OK, Exists (same class), NotFound (no such class) or
// NotStored (nothing to spare).
func (s *Store) Reassign(src, dst int) Status {
	if src == dst {
		return Exists
	}
	if src < -1 || src == 0 || src > s.classes.largest || dst < 1 || dst > s.classes.largest {
		return NotFound
	}
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		var n uint32
		if src == -1 {
			n = sh.victim(dst)
		} else if sh.classes[src].pages > 1 {
			n = sh.victimOf(src)
		}
		ok := n != 0 && sh.drain(n, false)
		sh.mu.Unlock()
		if ok {
			return OK
		}
	}
	return NotStored
}

// SetAutomove switches the moving of pages between classes on or off.
func (s *Store) SetAutomove(on bool) { s.noAutomove.Store(!on) }

// TuneLRU sets the shares of HOT and WARM in percent and their age factors.
func (s *Store) TuneLRU(hot, warm int, hotFactor, warmFactor float64) {
	s.hotPct.Store(int32(hot))
	s.warmPct.Store(int32(warm))
	s.factors.Store(&lruFactors{hotFactor, warmFactor})
}

// LRU returns what TuneLRU, SetFlat and SetTempTTL set.
func (s *Store) LRU() (hot, warm int, hotFactor, warmFactor float64, flat bool, tempTTL int64) {
	f := s.factors.Load()
	return int(s.hotPct.Load()), int(s.warmPct.Load()), f.hot, f.warm, s.flat.Load(), s.tempTTL.Load()
}

// SetFlat makes the LRU one list per class, or segmented again.
func (s *Store) SetFlat(on bool) { s.flat.Store(on) }

// SetTempTTL sets up to which TTL in seconds items go to TEMP; negative: none.
func (s *Store) SetTempTTL(ttl int64) { s.tempTTL.Store(max(ttl, -1)) }

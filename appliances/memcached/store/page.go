package store

import "runtime"

// Moving pages: between classes, between shards, and back to the Memory. A page
// is emptied by taking its items out of the cache; when their readers have left
// and the last chunk is back, putBack hands the page to the pool.

// drainStep is the number of items taken out under one hold of the mutex.
const drainStep = 64

// pageBusy reports whether something stands in the way of draining page n. Caller must hold the
// owner's mutex.
func (sh *shard) pageBusy(n uint32) bool {
	s, p := sh.s, &sh.s.pages[n]
	size := s.classes.size[p.cls]
	for i := int32(0); i < p.cut; i++ {
		it := s.arena.item(ref(int(n)*pageBytes + int(i)*size))
		if it.kind == chunkPiece {
			it = s.arena.item(it.lprev)
		}
		switch it.kind {
		case chunkPending:
			return true // a worker fills it without the mutex
		case chunkLinked:
			if it.pins() != 0 {
				return true // a slow client reads it
			}
		}
	}
	return false
}

// drain takes all items of page n out of the cache and lets it go to the pool
// when they are free, its frames to the Memory if drop is set. It reports false,
// with nothing done, where a chunk is in use otherwise. Caller must hold sh.mu and
// must expect it to have been let go in between: a page of small items takes 2 ms.
func (sh *shard) drain(n uint32, drop bool) bool {
	s, p := sh.s, &sh.s.pages[n]
	if p.draining || sh.pageBusy(n) {
		return false
	}
	p.draining, p.drop = true, drop
	sh.draining++
	if p.listed {
		sh.unlist(n)
	}
	if p.used() == 0 {
		sh.classes[p.cls].pages--
		sh.draining--
		s.giveBack(n, drop)
		return true
	}
	size := s.classes.size[p.cls]
	now := s.rel.Load()
	taken := 0
	for i := int32(0); i < p.cut; i++ {
		it := s.arena.item(ref(int(n)*pageBytes + int(i)*size))
		if it.kind == chunkPiece {
			it = s.arena.item(it.lprev)
		}
		if it.kind != chunkLinked {
			continue
		}
		if why := s.gone(it, now); why != alive {
			sh.reclaim(it, why)
		} else {
			sh.countEviction(it)
			sh.st.PageEvictions++
			sh.unlink(it)
		}
		if taken++; taken%drainStep == 0 {
			// A receive loop may be waiting to store something.
			sh.mu.Unlock()
			runtime.Gosched()
			sh.mu.Lock()
		}
		// The page may have become free and even been reused only when all its
		// chunks are back; reap runs inside unlink.
		if !sh.owns(n) || !s.pages[n].draining {
			break
		}
	}
	sh.st.PagesMoved++
	return true
}

// tailAge is the age in seconds of the oldest item of class c, -1 without items.
func (sh *shard) tailAge(c int) int64 {
	cl, now := &sh.classes[c], sh.s.rel.Load()
	for _, l := range [...]lruID{lruCold, lruWarm, lruHot, lruTemp} {
		if t := cl.lru[l].tail; t != 0 {
			return int64(now - sh.s.arena.item(t).lastAccess())
		}
	}
	return -1
}

// victim is a page of the shard that is worth least, 0 if there is none: one of
// a class without items, else of the class whose oldest item is the oldest.
// Class not is left alone. Caller must hold sh.mu.
func (sh *shard) victim(not int) uint32 {
	s := sh.s
	var tried [maxClasses]bool
	for {
		best, bestAge := 0, int64(-1)
		for c := 1; c <= s.classes.largest; c++ {
			cl := &sh.classes[c]
			if c == not || tried[c] || cl.pages == 0 {
				continue
			}
			age := sh.tailAge(c)
			if cl.used == 0 {
				age = 1 << 40
			} else if s.noEvict.Load() {
				continue
			}
			// Among equals, the class with most pages.
			if best == 0 || age > bestAge || age == bestAge && cl.pages > sh.classes[best].pages {
				best, bestAge = c, age
			}
		}
		if best == 0 {
			return 0
		}
		if n := sh.victimOf(best); n != 0 {
			return n
		}
		tried[best] = true
	}
}

// victimOf is a page of class c that can be drained, the one with the oldest
// item if possible.
func (sh *shard) victimOf(c int) uint32 {
	s, cl := sh.s, &sh.classes[c]
	if t := cl.lru[lruCold].tail; t != 0 {
		if it := s.arena.item(t); !it.chunked() {
			if n := pageOf(t); !s.pages[n].draining && !sh.pageBusy(n) {
				return n
			}
		}
	}
	for n := uint32(1); int(n) < len(s.pages); n++ {
		p := &s.pages[n]
		if sh.owns(n) && int(p.cls) == c && !p.draining && !sh.pageBusy(n) {
			return n
		}
	}
	return 0
}

// owns reports whether page n is the shard's. Caller must hold sh.mu, without
// which no page comes to the shard or leaves it.
func (sh *shard) owns(n uint32) bool { return int(sh.s.owner[n].Load()) == sh.id+1 }

// steal empties a page of another class, here or in another shard, so that class
// c can have one. It reports whether memory is on its way. Caller must hold
// sh.mu and must expect it to have been let go in between.
func (sh *shard) steal(c int) bool {
	if n := sh.victim(c); n != 0 {
		return sh.drain(n, false)
	}
	sh.mu.Unlock()
	defer sh.mu.Lock()
	s := sh.s
	for i := 1; i < len(s.shards); i++ {
		o := &s.shards[(sh.id+i)&(len(s.shards)-1)]
		if o.release() {
			return true
		}
	}
	return false
}

// release empties one page of the shard and waits until it is in the pool. It
// reports whether there was one. Caller must hold no mutex and be in no reader
// section.
func (sh *shard) release() bool {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	n := sh.victim(0)
	return n != 0 && sh.empty(n, false)
}

// empty drains page n and waits until its readers have left. A pin that came
// between the look and the drain may still hold it. Caller must hold sh.mu and
// must expect it to have been let go in between.
func (sh *shard) empty(n uint32, drop bool) bool {
	if !sh.drain(n, drop) {
		return false
	}
	sh.wait(sh.s.epochs.now.Load())
	sh.reap()
	return true
}

package store

// The border to the rest of the machine: how much memory the Store may take, and
// giving frames back. A page in the pool that was dropped has no frames; it gets
// new ones when it is used again.

// setBudget computes how many pages the limit leaves after the index.
func (s *Store) setBudget() {
	b := (s.limit.Load() - s.indexBytes.Load()) / pageBytes
	s.pool.budget.Store(max(b, 1))
}

// Claim is the number of bytes that the Store may take from the Memory beyond
// those that it holds.
func (s *Store) Claim() int {
	p := &s.pool
	p.mu.Lock()
	held := p.out.Load() + int64(p.n-p.dropped)
	p.mu.Unlock()
	return int(max(0, s.limit.Load()-s.indexBytes.Load()-held*pageBytes))
}

// Shrink lowers the limit by n bytes, as far as it can, and gives back what is
// held beyond it, least valuable pages first. It returns by how much it lowered
// the limit. The platform calls it when memory runs short.
func (s *Store) Shrink(n int) int {
	least := s.indexBytes.Load() + int64(len(s.shards)+1)*pageBytes
	given := min(int64(n), s.limit.Load()-least)
	if given <= 0 {
		return 0
	}
	s.limit.Add(-given)
	s.setBudget()
	for some := true; some && s.excess() > 0; {
		// From all shards in turn, so that all shrink alike.
		some = false
		for i := range s.shards {
			if s.excess() > 0 && s.releasePair(&s.shards[i]) {
				some = true
			}
		}
	}
	s.dropPooled()
	if x := s.excess() * pageBytes; x > 0 {
		// Pinned, or not to be evicted.
		x = min(x, given)
		s.limit.Add(x)
		s.setBudget()
		given -= x
	}
	s.shrunk.Add(given)
	return int(given)
}

// excess is the number of pages that shards hold beyond the budget.
func (s *Store) excess() int64 { return s.pool.out.Load() - s.pool.budget.Load() }

// releasePair empties a page of the shard, and its neighbour with which it may
// share a large page of the machine: half of one frees nothing. It reports whether
// there was one. Caller must hold no mutex.
func (s *Store) releasePair(sh *shard) bool {
	sh.mu.Lock()
	n := sh.victim(0)
	ok := n != 0 && sh.empty(n, true)
	sh.mu.Unlock()
	if !ok {
		return false
	}
	n ^= 1
	if int(n) >= len(s.pages) {
		return true
	}
	if o := s.owner[n].Load(); o != 0 {
		sh = &s.shards[o-1]
		sh.mu.Lock()
		if sh.owns(n) && (!s.noEvict.Load() || s.pages[n].used() == 0) {
			sh.empty(n, true)
		}
		sh.mu.Unlock()
	}
	return true
}

// Grow raises the limit by up to n bytes again after Shrink and returns by how
// much. The platform calls it when memory is plenty.
func (s *Store) Grow(n int) int {
	for {
		was := s.shrunk.Load()
		g := min(int64(n), was)
		if s.shrunk.CompareAndSwap(was, was-g) {
			s.limit.Add(g)
			s.setBudget()
			return int(g)
		}
	}
}

// Shrunk is the number of bytes that Shrink took off the limit.
func (s *Store) Shrunk() int { return int(s.shrunk.Load()) }

// SetLimit changes the memory limit to n bytes. Lowering it takes effect page by
// page in Maintain. It reports false where n is beyond the reserved range.
func (s *Store) SetLimit(n int) bool {
	if n > s.reserve {
		return false
	}
	s.limit.Store(int64(n))
	s.shrunk.Store(0)
	s.setBudget()
	return true
}

// dropPooled gives the frames of pooled pages beyond the budget back.
func (s *Store) dropPooled() {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	p := &s.pool
	spare := int64(p.n-p.dropped) - max(0, p.budget.Load()-p.out.Load())
	for n := p.head; n != 0 && spare > 0; n = s.pages[n].next {
		if !s.pages[n].drop {
			s.dropPage(n)
			spare--
		}
	}
}

// dropPage gives the frames of page n in the pool back, together with those of its
// neighbour where that is in the pool too: see releasePair. Caller must hold
// pool.mu.
func (s *Store) dropPage(n uint32) {
	s.pages[n].drop = true
	s.pool.dropped++
	b := n ^ 1
	if int(b) >= len(s.pages) || s.owner[b].Load() != 0 {
		s.mem.Drop(s.pageBytes(n))
		return
	}
	if b != 0 && b < s.pool.fresh && !s.pages[b].drop {
		s.pages[b].drop = true
		s.pool.dropped++
	}
	lo := int(min(n, b)) * pageBytes
	s.mem.Drop(s.arena.mem[lo : lo+2*pageBytes])
}

package store

// Statistics, in upstream's words (protocol.txt, "Statistics").

// ClassStats is what a slab class counts.
type ClassStats struct {
	SetCmds, DeleteHits, IncrHits, DecrHits, CASHits, CASBadval, TouchHits uint64

	Evicted, EvictedNonzero, EvictedTime, EvictedUnfetched, EvictedActive uint64
	OutOfMemory, Reclaimed, ExpiredUnfetched, DirectReclaims              uint64
	CrawlerReclaimed, CrawlerItemsChecked                                 uint64
	MovesToCold, MovesToWarm, MovesWithinLRU                              uint64
}

func (a *ClassStats) add(b *ClassStats) {
	a.SetCmds += b.SetCmds
	a.DeleteHits += b.DeleteHits
	a.IncrHits += b.IncrHits
	a.DecrHits += b.DecrHits
	a.CASHits += b.CASHits
	a.CASBadval += b.CASBadval
	a.TouchHits += b.TouchHits
	a.Evicted += b.Evicted
	a.EvictedNonzero += b.EvictedNonzero
	a.EvictedTime = max(a.EvictedTime, b.EvictedTime)
	a.EvictedUnfetched += b.EvictedUnfetched
	a.EvictedActive += b.EvictedActive
	a.OutOfMemory += b.OutOfMemory
	a.Reclaimed += b.Reclaimed
	a.ExpiredUnfetched += b.ExpiredUnfetched
	a.DirectReclaims += b.DirectReclaims
	a.CrawlerReclaimed += b.CrawlerReclaimed
	a.CrawlerItemsChecked += b.CrawlerItemsChecked
	a.MovesToCold += b.MovesToCold
	a.MovesToWarm += b.MovesToWarm
	a.MovesWithinLRU += b.MovesWithinLRU
}

// ShardStats is what a shard counts beside its classes.
type ShardStats struct {
	DeleteMisses, IncrMisses, DecrMisses, CASMisses, TouchMisses uint64
	TouchCmds                                                    uint64
	TooLarge, NoMemory                                           uint64
	PagesMoved, PageEvictions                                    uint64
	GrowFailed                                                   uint64
}

func (a *ShardStats) add(b *ShardStats) {
	a.DeleteMisses += b.DeleteMisses
	a.IncrMisses += b.IncrMisses
	a.DecrMisses += b.DecrMisses
	a.CASMisses += b.CASMisses
	a.TouchMisses += b.TouchMisses
	a.TouchCmds += b.TouchCmds
	a.TooLarge += b.TooLarge
	a.NoMemory += b.NoMemory
	a.PagesMoved += b.PagesMoved
	a.PageEvictions += b.PageEvictions
	a.GrowFailed += b.GrowFailed
}

// ClassInfo is the state of one slab class over all shards.
type ClassInfo struct {
	ClassStats
	Class, ChunkSize, PerPage int
	Pages, Used, Free         int // pages; chunks out; chunks cut or not, but not out
	Requested                 int // accounted bytes of its items
	Items                     [4]int
	Age                       [4]uint32 // seconds since the oldest item's access, by list
	Hits                      [4]uint64 // by list: HOT, WARM, COLD, TEMP
}

// GetHits is the number of reads that found an item of the class.
func (c *ClassInfo) GetHits() uint64 { return c.Hits[0] + c.Hits[1] + c.Hits[2] + c.Hits[3] }

// NumItems is the number of items of the class.
func (c *ClassInfo) NumItems() int { return c.Items[0] + c.Items[1] + c.Items[2] + c.Items[3] }

// Info is the state of the whole Store.
type Info struct {
	ShardStats
	Total                             ClassStats
	GetHits, GetMisses                uint64
	GetExpired, GetFlushed            uint64 // of GetMisses
	User                              [userCounters]uint64
	Items                             int
	Bytes                             int // accounted
	TotalItems                        uint64
	Pages, FreePages                  int // pages of the classes; pages returned to the pool
	IndexBytes, HashPower             int
	Growing                           bool
	CrawlerRunning                    bool
	CrawlerStarts, MaintainerJuggles  uint64
	Limit, MemoryBytes, RetiredChunks int
	Classes                           []ClassInfo // those with pages
}

// Info gathers the state. It locks one shard after the other, so the sum is of
// slightly different moments.
func (s *Store) Info() Info {
	var in Info
	var cls [maxClasses]ClassInfo
	now := s.rel.Load()
	slots := 0
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		in.ShardStats.add(&sh.st)
		in.Items += sh.items
		in.Bytes += sh.bytes
		in.TotalItems += sh.total
		in.RetiredChunks += sh.retired
		t := sh.tab.Load()
		slots += len(t.mem) / 8
		in.Growing = in.Growing || t.old.Load() != nil
		for c := 1; c <= s.classes.largest; c++ {
			cl, ci := &sh.classes[c], &cls[c]
			ci.ClassStats.add(&cl.st)
			ci.Pages += cl.pages
			ci.Used += cl.used
			for l := range cl.lru {
				ci.Items[l] += cl.lru[l].n
				ci.Requested += cl.lru[l].bytes
				if t := cl.lru[l].tail; t != 0 {
					ci.Age[l] = max(ci.Age[l], now-s.arena.item(t).lastAccess())
				}
			}
		}
		sh.mu.Unlock()
	}
	for i := range s.slots {
		w := &s.slots[i]
		in.GetMisses += w.misses.Load()
		in.GetExpired += w.expired.Load()
		in.GetFlushed += w.flushed.Load()
		for u := range w.user {
			in.User[u] += w.user[u].Load()
		}
		for c := range cls {
			for l := range cls[c].Hits {
				cls[c].Hits[l] += w.hits[c][l].Load()
			}
		}
	}
	for c := range cls {
		ci := &cls[c]
		in.GetHits += ci.GetHits()
		in.Total.add(&ci.ClassStats)
		if c == 0 || ci.Pages == 0 {
			continue
		}
		ci.Class, ci.ChunkSize, ci.PerPage = c, s.classes.size[c], s.classes.perPage(c)
		ci.Free = ci.Pages*ci.PerPage - ci.Used
		in.Pages += ci.Pages
		in.Classes = append(in.Classes, *ci)
	}
	s.pool.mu.Lock()
	in.FreePages = s.pool.n
	s.pool.mu.Unlock()
	in.IndexBytes = int(s.indexBytes.Load())
	for 1<<in.HashPower < slots {
		in.HashPower++
	}
	in.Limit = s.Limit()
	in.MemoryBytes = in.Pages*pageBytes + in.IndexBytes
	in.CrawlerRunning = s.crawler.running.Load()
	in.CrawlerStarts = s.crawler.starts.Load()
	in.MaintainerJuggles = s.crawler.juggles.Load()
	return in
}

// ResetStats sets the counters to zero, not the gauges.
func (s *Store) ResetStats() {
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		sh.st = ShardStats{}
		sh.total = 0
		for c := range sh.classes {
			sh.classes[c].st = ClassStats{}
		}
		sh.mu.Unlock()
	}
	for i := range s.slots {
		w := &s.slots[i]
		w.misses.Store(0)
		w.expired.Store(0)
		w.flushed.Store(0)
		for u := range w.user {
			w.user[u].Store(0)
		}
		for c := range w.hits {
			for l := range w.hits[c] {
				w.hits[c][l].Store(0)
			}
		}
	}
}

// Count adds n to counter u, which has a meaning only to the caller.
func (w *Worker) Count(u int, n uint64) { w.count.user[u].Add(n) }

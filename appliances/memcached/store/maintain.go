package store

import "sync/atomic"

// The background work, in steps that the owner of the Store runs: Maintain about
// once a second, after Tick. Each step holds one shard's mutex for a bounded
// number of items.

// crawlPos is where the crawler is in a shard: the chunk to look at next.
type crawlPos struct {
	page  uint32
	chunk int32
}

type crawlControl struct {
	enabled atomic.Bool
	wanted  atomic.Bool // walk everything now
	running atomic.Bool
	starts  atomic.Uint64
	juggles atomic.Uint64
	checked atomic.Uint64
}

func (c *crawlControl) init() { c.enabled.Store(true) }

const (
	// crawlStep is the number of chunks looked at under one hold of the mutex.
	crawlStep = 256
	// balanceStep is the number of items moved between a class's lists under one
	// hold of the mutex; stores move two each, so this is for the idle.
	balanceStep = 100
	// crawlSeconds is the number of Maintain calls in which the crawler gets
	// round a shard, as long as something in it can expire.
	crawlSeconds = 60
)

// SetCrawler switches the crawler on or off; Crawl lets the next Maintain walk
// everything.
func (s *Store) SetCrawler(on bool) { s.crawler.enabled.Store(on) }

// CrawlerOn reports whether the crawler is on.
func (s *Store) CrawlerOn() bool { return s.crawler.enabled.Load() }

// Crawl: see SetCrawler.
func (s *Store) Crawl() { s.crawler.wanted.Store(true) }

// Maintain does a round of background work: it drains pages beyond the limit,
// keeps the LRU lists within their shares and ages, frees what readers have
// left, and lets the crawler look for items that are gone. pause is called
// between steps, without any lock held; it may be nil.
func (s *Store) Maintain(pause func()) {
	s.crawler.juggles.Add(1)
	all := s.crawler.wanted.Swap(false) && s.crawler.enabled.Load()
	if all {
		s.crawler.starts.Add(1)
	}
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		s.epochs.advance()
		s.epochs.advance()
		sh.reap()
		for c := 1; c <= s.classes.largest; c++ {
			if sh.classes[c].pages != 0 {
				sh.balance(c, balanceStep)
				// A receive loop may be waiting to store something.
				sh.mu.Unlock()
				sh.mu.Lock()
			}
		}
		if sh.tab.Load().old.Load() != nil {
			sh.grow()
		}
		for n := 0; n < 16 && s.pool.out.Load()-int64(sh.draining) > s.pool.budget.Load(); n++ {
			v := sh.victim(0)
			if v == 0 || !sh.drain(v, true) {
				break
			}
		}
		sh.automove()
		ttl := sh.ttl
		sh.mu.Unlock()
		if pause != nil {
			pause()
		}
		if s.crawler.enabled.Load() && (all || ttl > 0) {
			sh.crawlSome(all, pause)
		}
	}
	s.dropPooled()
}

// automoveRatio: a class whose oldest item is younger than this part of the
// oldest class's gets a page from it, if it had to evict.
const automoveRatio = 0.8

// automove moves a page from the class that keeps its items longest to the one
// that evicts them soonest. Caller must hold sh.mu.
func (sh *shard) automove() {
	if sh.draining > 0 || sh.s.noEvict.Load() || sh.s.noAutomove.Load() {
		return
	}
	var oldAge, newAge int64 = -1, 1 << 40
	from, to := 0, 0
	for c := 1; c <= sh.s.classes.largest; c++ {
		cl := &sh.classes[c]
		if cl.pages == 0 {
			continue
		}
		age := sh.tailAge(c)
		if cl.st.Evicted != cl.evictedBefore && age < newAge {
			to, newAge = c, age
		}
		cl.evictedBefore = cl.st.Evicted
		if cl.pages > 2 && age > oldAge {
			from, oldAge = c, age
		}
	}
	if from == 0 || to == 0 || from == to || float64(newAge) >= automoveRatio*float64(oldAge) {
		return
	}
	if n := sh.victimOf(from); n != 0 {
		sh.drain(n, false)
	}
}

// crawlSome walks a share of the shard's pages, or all of them.
func (sh *shard) crawlSome(all bool, pause func()) {
	s := sh.s
	s.crawler.running.Store(true)
	defer s.crawler.running.Store(false)
	sh.mu.Lock()
	chunks := 0
	for c := range sh.classes {
		chunks += sh.classes[c].pages * s.classes.perPageOrZero(c)
	}
	if all {
		sh.crawl = crawlPos{}
	} else {
		chunks = chunks/crawlSeconds + crawlStep
	}
	for done := false; chunks > 0 && !done; {
		var n int
		n, done = sh.crawlStep(crawlStep)
		chunks -= n
		sh.mu.Unlock()
		if pause != nil {
			pause()
		}
		sh.mu.Lock()
	}
	sh.mu.Unlock()
}

// crawlStep looks at up to n chunks from where it stopped last, page by page,
// and takes out what is gone. It returns how many it passed and whether it came
// to the end of the arena. Caller must hold sh.mu.
func (sh *shard) crawlStep(n int) (int, bool) {
	s := sh.s
	now := s.rel.Load()
	pos := &sh.crawl
	seen := 0
	for seen < n {
		if int(pos.page) >= len(s.pages) {
			*pos = crawlPos{}
			return seen, true
		}
		if !sh.owns(pos.page) || pos.chunk >= s.pages[pos.page].cut {
			*pos = crawlPos{page: pos.page + 1}
			continue
		}
		size := s.classes.size[s.pages[pos.page].cls]
		it := s.arena.item(ref(int(pos.page)*pageBytes + int(pos.chunk)*size))
		pos.chunk++
		seen++
		if it.kind != chunkLinked {
			continue
		}
		cl := &sh.classes[it.cls]
		cl.st.CrawlerItemsChecked++
		if why := s.gone(it, now); why != alive {
			cl.st.CrawlerReclaimed++
			if why == expired && it.loadState()&stFetched == 0 {
				cl.st.ExpiredUnfetched++
			}
			sh.unlink(it)
		}
	}
	return seen, false
}

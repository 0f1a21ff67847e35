package store

import "sync/atomic"

// The way of a GET, in order:
//
//  1. enter: the worker counts itself in (epoch.go), unless it is in already.
//  2. hash, shard, bucket, one comparison of the key (table_unsafe.go).
//  3. gone: expired or flushed items are misses.
//  4. bump: two bits of the item on its first two reads, nothing afterwards.
//  5. the caller copies out of the Item and leaves.
//
// No step takes a lock or waits, except that a miss in a bucket that is being
// moved at that moment waits for the move (table_unsafe.go). An expired item is
// taken out if the shard's mutex happens to be free.

// Worker is one goroutine's access to a Store. It may be handed on, but not used
// by two at once. The zero Worker is not usable.
type Worker struct {
	s     *Store
	slot  *readerSlot
	count *counters
	in    bool
	which uint64
}

// Worker returns access to the Store. id spreads workers over the counters: a
// CPU number, or a running number.
func (s *Store) Worker(id int) Worker {
	i := uint(id) % uint(len(s.slots))
	return Worker{s: s, slot: &s.epochs.slots[i], count: &s.slots[i]}
}

// Cache returns the Store that w works on.
func (w *Worker) Cache() *Store { return w.s }

// enter begins a reader section, in which Items stay valid.
func (w *Worker) enter() {
	if !w.in {
		w.which = w.s.epochs.enter(w.slot)
		w.in = true
	}
}

// Leave ends the reader section that Get and its like began. All Items are
// invalid afterwards. Whoever got an Item must Leave before blocking; calling
// Leave outside a section does nothing. Stores wait for readers, so they leave
// the worker's own section first.
func (w *Worker) Leave() {
	if w.in {
		w.s.epochs.leave(w.slot, w.which)
		w.in = false
	}
}

// lookup finds key's item. The caller is in a reader section.
func (s *Store) lookup(h uint64, key []byte) *item {
	sh := s.shard(h)
	t := sh.tab.Load()
	for {
		if it := t.lookup(&s.arena, h, key); it != nil {
			return it
		}
		// A table that began to grow meanwhile may have hidden it.
		now := sh.tab.Load()
		if now == t {
			return nil
		}
		t = now
	}
}

// Get finds the item of key, counts the hit or miss and marks the item as read.
// The Item is valid until Leave, or until w stores something.
func (w *Worker) Get(key []byte) (Item, bool) {
	it := w.find(key)
	if it == nil {
		return Item{}, false
	}
	w.hit(it)
	w.s.bump(it)
	return Item{it, w.s}, true
}

// GetQuiet is Get that leaves no mark in the item, only in the counters.
func (w *Worker) GetQuiet(key []byte) (Item, bool) {
	it := w.find(key)
	if it == nil {
		return Item{}, false
	}
	w.hit(it)
	return Item{it, w.s}, true
}

// Bump marks i as read, as Get does.
func (w *Worker) Bump(i Item) { w.s.bump(i.it) }

// Peek finds the item of key and counts nothing.
func (w *Worker) Peek(key []byte) (Item, bool) {
	w.enter()
	it := w.s.lookup(w.s.key.sum(key), key)
	if it == nil || w.s.gone(it, w.s.rel.Load()) != alive {
		return Item{}, false
	}
	return Item{it, w.s}, true
}

// find is the lookup of a read: it enters, and counts a miss.
func (w *Worker) find(key []byte) *item {
	w.enter()
	s := w.s
	h := s.key.sum(key)
	// lookup, for a table that does not grow.
	sh := s.shard(h)
	t := sh.tab.Load()
	var it *item
	if t.old.Load() == nil {
		it = t.bucket(h&t.mask).find(&s.arena, h, key)
		if it == nil && sh.tab.Load() != t {
			it = s.lookup(h, key)
		}
	} else {
		it = s.lookup(h, key)
	}
	if it == nil {
		w.count.misses.Add(1)
		return nil
	}
	if why := s.gone(it, s.rel.Load()); why != alive {
		w.miss(h, key, why)
		return nil
	}
	return it
}

// miss counts the miss of an item that is gone and takes it out if it can.
func (w *Worker) miss(h uint64, key []byte, why fate) {
	w.count.misses.Add(1)
	if why == expired {
		w.count.expired.Add(1)
	} else {
		w.count.flushed.Add(1)
	}
	sh := w.s.shard(h)
	if !sh.mu.TryLock() {
		return
	}
	if it, _ := sh.locate(h, key); it != nil {
		if why := w.s.gone(it, w.s.rel.Load()); why != alive {
			sh.unlink(it)
		}
	}
	sh.mu.Unlock()
}

func (w *Worker) hit(it *item) { w.count.hits[it.cls][it.lru()].Add(1) }

// bump marks it as read. The second read makes it active; what is in COLD keeps
// its time until it is moved.
func (s *Store) bump(it *item) {
	st := it.loadState()
	if st&stActive != 0 {
		return
	}
	if st&stFetched == 0 {
		it.setState(stFetched)
		return
	}
	it.setState(stActive)
	if lruID(st&stLRUMask>>stLRUShift) != lruCold {
		atomic.StoreUint32(&it.time, s.rel.Load())
	}
}

// locate finds the item of key in the shard, gone or not, and where the table has
// it. Caller must hold sh.mu.
func (sh *shard) locate(h uint64, key []byte) (*item, slot) {
	return sh.tab.Load().place(h).seek(&sh.s.arena, h, key)
}

// Item is a reader's view of one item, valid within the section it was found in
// or while pinned.
type Item struct {
	it *item
	s  *Store
}

// Key is the key; it must not be changed.
func (i Item) Key() []byte { return i.it.key() }

// Value is the value with "\r\n" after it, nil for a chunked item (see Piece).
func (i Item) Value() []byte {
	if i.it.loadState()&stChunked != 0 {
		return nil
	}
	return i.it.value()
}

// Len is the length of the value in bytes, without the "\r\n".
func (i Item) Len() int { return int(i.it.nbytes) - 2 }

// Flags are the client's flags.
func (i Item) Flags() uint32 { return i.it.cflags }

// CAS is the item's CAS unique, 0 in a Store without.
func (i Item) CAS() uint64 {
	if i.s.casBytes == 0 {
		return 0
	}
	return atomic.LoadUint64(&i.it.cas)
}

// TTL is the number of seconds until the item expires, -1 for never.
func (i Item) TTL() int64 {
	e := i.it.expires()
	if e == 0 {
		return -1
	}
	return int64(e) - int64(i.s.rel.Load())
}

// Idle is the number of seconds since the last access.
func (i Item) Idle() uint32 { return i.s.rel.Load() - i.it.lastAccess() }

// Fetched reports whether the item has been read before.
func (i Item) Fetched() bool { return i.it.loadState()&stFetched != 0 }

// Stale reports whether the item is marked as stale, Won whether its recache
// token is out, BinKey whether its key came as base64.
func (i Item) Stale() bool { return i.it.loadState()&stStale != 0 }

// Won: see Stale.
func (i Item) Won() bool { return i.it.loadState()&stWon != 0 }

// BinKey: see Stale.
func (i Item) BinKey() bool { return i.it.loadState()&stBinKey != 0 }

// Class is the number of the item's slab class, Size its accounted bytes.
func (i Item) Class() int { return int(i.it.cls) }

// Size: see Class.
func (i Item) Size() int { return i.s.accounted(i.it) }

// Cursor is a place in the pieces of a chunked item; 0 is the start.
type Cursor ref

// Piece returns a piece of a chunked item's value (the last with "\r\n") and the
// place of the next, 0 after the last.
func (i Item) Piece(c Cursor) ([]byte, Cursor) {
	r := ref(c)
	if r == 0 {
		r = *i.it.firstPiece()
	}
	p := i.s.arena.item(r)
	return p.data(0, int(p.nbytes)), Cursor(p.lnext)
}

// maxPins keeps the pin count from running over into nothing.
const maxPins = 1<<22 - 1<<16

// Pin keeps the item's memory beyond the section, however long, until Unpin. It
// reports false where too many pins are out.
func (i Item) Pin() bool {
	if i.it.pins() > maxPins {
		return false
	}
	atomic.AddUint32(&i.it.state, stPin)
	return true
}

// Unpin ends a Pin. It may be called in or out of a section.
func (i Item) Unpin() {
	// The item may be freed by another goroutine as soon as the count is down,
	// so the shard is found before.
	sh := i.s.shard(i.s.key.sum(i.it.key()))
	if st := atomic.AddUint32(&i.it.state, ^(stPin - 1)); st&stRetired != 0 && st/stPin == 0 {
		sh.unpinned.Store(true)
	}
}

package store

import "sync/atomic"

// Changing an item where it is: expiry, marks, numbers.

// setDeadline changes when it expires. Caller must hold sh.mu.
func (sh *shard) setDeadline(it *item, deadline uint32) {
	if it.expires() != 0 {
		sh.ttl--
	}
	if deadline != 0 {
		sh.ttl++
	}
	atomic.StoreUint32(&it.exptime, deadline)
}

// Touch gives key's item a new deadline. With get it is also a read. The Item is
// valid as that of Get.
func (w *Worker) Touch(key []byte, deadline uint32, get bool) (Item, bool) {
	w.enter()
	s := w.s
	h := s.key.sum(key)
	sh := s.shard(h)
	sh.mu.Lock()
	it, _ := sh.current(h, key)
	sh.st.TouchCmds++
	if it == nil {
		sh.st.TouchMisses++
		sh.mu.Unlock()
		if get {
			w.count.misses.Add(1)
		}
		return Item{}, false
	}
	sh.classes[it.cls].st.TouchHits++
	sh.setDeadline(it, deadline)
	sh.mu.Unlock()
	if get {
		w.hit(it)
	}
	s.bump(it)
	return Item{it, s}, true
}

// MetaGet is what mg can do to an item beside reading it.
type MetaGet struct {
	NoBump        bool
	Touch         bool // set Deadline
	Deadline      uint32
	TouchFirst    bool // before RecacheBefore is looked at
	Vivify        bool // on a miss, make an empty item that expires at VivifyAt
	VivifyAt      uint32
	Recache       bool
	RecacheBefore uint32 // win if the deadline is earlier
}

// MetaResult is what GetMeta found beside the item.
type MetaResult struct {
	Won     bool // W: this client is to make the value anew
	Stale   bool // X
	Sent    bool // Z: another client won before
	Fetched bool // before this read
	Idle    uint32
	// OldDeadline is the deadline before Touch and Vivify.
	OldDeadline uint32
	Created     bool // by Vivify
}

// GetMeta reads key's item with the changes that g asks for. Exactly one of
// several clients gets Won. A status other than OK and NotFound is that of a
// failed Vivify.
func (w *Worker) GetMeta(key []byte, g *MetaGet, r *MetaResult) (Item, Status) {
	*r = MetaResult{}
	s := w.s
	h := s.key.sum(key)
	sh := s.shard(h)
	if !g.Touch && !g.Vivify && !g.Recache {
		it := w.find(key)
		if it == nil {
			return Item{}, NotFound
		}
		// Without marks nothing has to change, so no mutex.
		if st := it.loadState(); st&(stStale|stWon) == 0 {
			w.finish(it, g, r)
			return Item{it, s}, OK
		}
		w.hit(it)
		sh.mu.Lock()
		w.marks(it, g, r)
		sh.mu.Unlock()
		return Item{it, s}, OK
	}
	w.Leave()
	sh.mu.Lock()
	defer sh.mu.Unlock()
	it, _ := sh.current(h, key)
	if it == nil {
		w.count.misses.Add(1)
		if g.Touch {
			sh.st.TouchMisses++
		}
		if !g.Vivify {
			return Item{}, NotFound
		}
		nit, st := sh.begin(key, 0, g.VivifyAt, 0, false)
		if nit == nil {
			return Item{}, st
		}
		// begin may have let the mutex go.
		if it, _ = sh.current(h, key); it == nil {
			copy(nit.value(), crlf)
			nit.setState(stWon)
			sh.link(h, nit, nil, nil)
			w.enter()
			r.Won, r.Created = true, true
			if !g.NoBump {
				s.bump(nit)
			}
			return Item{nit, s}, OK
		}
		sh.free(nit)
	}
	// Holding the mutex, the item cannot be retired before the section begins.
	w.enter()
	r.OldDeadline = it.expires()
	if g.Touch {
		sh.classes[it.cls].st.TouchHits++
		sh.st.TouchCmds++
		if g.TouchFirst {
			sh.setDeadline(it, g.Deadline)
		}
	}
	w.hit(it)
	w.marks(it, g, r)
	if g.Touch && !g.TouchFirst {
		sh.setDeadline(it, g.Deadline)
	}
	return Item{it, s}, OK
}

// marks does the recache token. Caller must hold the shard's mutex.
func (w *Worker) marks(it *item, g *MetaGet, r *MetaResult) {
	st := it.loadState()
	switch {
	case st&stWon != 0:
		r.Sent = true
	case st&stStale != 0,
		g.Recache && it.expires() != 0 && it.expires() < g.RecacheBefore:
		r.Won = true
		it.setState(stWon)
	}
	r.Stale = st&stStale != 0
	w.observe(it, g, r)
}

func (w *Worker) finish(it *item, g *MetaGet, r *MetaResult) {
	w.hit(it)
	w.observe(it, g, r)
}

func (w *Worker) observe(it *item, g *MetaGet, r *MetaResult) {
	if !g.Touch {
		r.OldDeadline = it.expires()
	}
	r.Fetched = it.loadState()&stFetched != 0
	r.Idle = w.s.rel.Load() - it.lastAccess()
	if !g.NoBump {
		w.s.bump(it)
	}
}

// MarkStale is md I: the item stays, with a new CAS and the stale mark, and a
// new deadline where touch is set.
func (w *Worker) MarkStale(key []byte, cas uint64, touch bool, deadline uint32) Status {
	s := w.s
	h := s.key.sum(key)
	sh := s.shard(h)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	it, _ := sh.current(h, key)
	if it == nil {
		sh.st.DeleteMisses++
		return NotFound
	}
	if cas != 0 && cas != atomic.LoadUint64(&it.cas) {
		return Exists
	}
	if touch {
		sh.setDeadline(it, deadline)
	}
	it.setState(stStale)
	it.clearState(stWon)
	atomic.StoreUint64(&it.cas, s.cas.Add(1))
	return OK
}

// Arith is an incr or decr.
type Arith struct {
	Delta    uint64
	Decr     bool
	CAS      uint64 // 0 = any
	Touch    bool
	Deadline uint32

	OldDeadline uint32 // set by Arith: before Touch
}

// maxDigits is the length of 2^64-1.
const maxDigits = 20

// Arith changes the number that key holds. It returns the new value and the
// item's new CAS and deadline state through the Item, which is valid as that of
// Get. An increment wraps at 2^64, a decrement stops at 0. A result shorter than
// the value is padded with spaces, as upstream.
func (w *Worker) Arith(key []byte, a *Arith) (Item, uint64, Status) {
	w.Leave()
	s := w.s
	h := s.key.sum(key)
	sh := s.shard(h)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for {
		old, _ := sh.current(h, key)
		if old == nil {
			if a.Decr {
				sh.st.DecrMisses++
			} else {
				sh.st.IncrMisses++
			}
			return Item{}, 0, NotFound
		}
		if old.chunked() || old.nbytes <= 2 {
			return Item{}, 0, NonNumeric
		}
		if a.CAS != 0 && a.CAS != atomic.LoadUint64(&old.cas) {
			return Item{}, 0, Exists
		}
		v, ok := ParseNumber(old.value())
		if !ok {
			return Item{}, 0, NonNumeric
		}
		switch {
		case !a.Decr:
			v += a.Delta
		case a.Delta > v:
			v = 0
		default:
			v -= a.Delta
		}
		var num [maxDigits]byte
		d := appendUint(num[:0], v)
		n := max(len(d), int(old.nbytes)-2)
		// Upstream writes a number of no more digits in place, so that the
		// item's marks stay; a longer one goes into a new item.
		var keep uint32
		if len(d) <= int(old.nbytes)-2 {
			keep = stBinKey | stStale | stWon | stFetched | stActive
		}
		it := sh.alloc(key, n+2, s.sizeOf(len(key), n+2, old.cflags), old.cflags, old.expires(), old.loadState()&keep)
		if it == nil {
			sh.st.NoMemory++
			return Item{}, 0, NoMemory
		}
		again, at := sh.current(h, key)
		if again != old {
			sh.free(it)
			continue
		}
		val := it.value()
		copy(val, d)
		for i := len(d); i < n; i++ {
			val[i] = ' '
		}
		copy(val[n:], crlf)
		if a.Decr {
			sh.classes[old.cls].st.DecrHits++
		} else {
			sh.classes[old.cls].st.IncrHits++
		}
		exp := old.expires()
		a.OldDeadline = exp
		if a.Touch {
			exp = a.Deadline
		}
		atomic.StoreUint32(&it.exptime, exp)
		sh.link(h, it, old, at)
		sh.total-- // not a new item to the client
		w.enter()
		return Item{it, s}, v, OK
	}
}

// ParseNumber is the number at the start of b as upstream reads one: white space,
// a sign and digits, ended by the end of b, a NUL or white space, whatever follows
// that. A negative number is none, unless it wraps to less than 2^63.
func ParseNumber(b []byte) (uint64, bool) {
	i := 0
	for i < len(b) && isSpace(b[i]) {
		i++
	}
	neg := false
	if i < len(b) && (b[i] == '-' || b[i] == '+') {
		neg = b[i] == '-'
		i++
	}
	var v uint64
	from := i
	for ; i < len(b) && '0' <= b[i] && b[i] <= '9'; i++ {
		d := uint64(b[i] - '0')
		if v > (1<<64-1-d)/10 {
			return 0, false
		}
		v = v*10 + d
	}
	if i == from || i < len(b) && b[i] != 0 && !isSpace(b[i]) {
		return 0, false
	}
	if neg {
		if v = -v; int64(v) < 0 {
			return 0, false
		}
	}
	return v, true
}

func isSpace(c byte) bool { return c == ' ' || '\t' <= c && c <= '\r' }

// appendUint appends v in decimal.
func appendUint(b []byte, v uint64) []byte {
	var t [maxDigits]byte
	i := len(t)
	for {
		i--
		t[i] = byte('0' + v%10)
		if v /= 10; v == 0 {
			return append(b, t[i:]...)
		}
	}
}

package store

import "sync/atomic"

// Storing. The value of a new item is written before anyone can find it, so the
// mutex of the shard is held twice, shortly: to take the memory and to put the
// finished item into the table. A value that comes in pieces over a slow
// connection is filled in between without it.

// Mode is the condition and the way of a store.
type Mode uint8

// The modes, named as the text commands.
const (
	Set Mode = iota
	Add
	Replace
	Append
	Prepend
	CAS        // store only over the item whose CAS is given
	CASOrStale // as CAS, but an older CAS stores and marks the item as stale
)

// Status is the outcome of an operation.
type Status uint8

// The outcomes, named as the replies.
const (
	OK Status = iota
	NotStored
	Exists
	NotFound
	TooLarge
	NoMemory
	NonNumeric
	ValueTooLong // of a number
)

// Pending is an item that is being filled. It holds memory until Commit or
// Abort.
type Pending struct {
	it *item
	sh *shard
	h  uint64
	w  writer
}

// Active reports whether p holds an item.
func (p *Pending) Active() bool { return p.it != nil }

// Room is the number of value bytes still to be written.
func (p *Pending) Room() int { return p.w.total - 2 }

// Write adds to the value; b must not be longer than Room.
func (p *Pending) Write(b []byte) { p.w.write(b) }

// Begin takes memory for an item with a value of n bytes, key and flags, that
// expires at deadline (see Deadline). The outcome is OK, TooLarge or NoMemory.
func (w *Worker) Begin(p *Pending, key []byte, cflags, deadline uint32, n int, binKey bool) Status {
	w.Leave()
	s := w.s
	h := s.key.sum(key)
	sh := s.shard(h)
	sh.mu.Lock()
	it, st := sh.begin(key, cflags, deadline, n, binKey)
	sh.mu.Unlock()
	if it == nil {
		return st
	}
	p.it, p.sh, p.h = it, sh, h
	p.w.init(&s.arena, it)
	return OK
}

// begin: see Begin. Caller must hold sh.mu and expect it to be let go.
func (sh *shard) begin(key []byte, cflags, deadline uint32, n int, binKey bool) (*item, Status) {
	size := sh.s.sizeOf(len(key), n+2, cflags)
	if size > sh.s.itemMax {
		sh.st.TooLarge++
		return nil, TooLarge
	}
	var state uint32
	if binKey {
		state = stBinKey
	}
	it := sh.alloc(key, n+2, size, cflags, deadline, state)
	if it == nil {
		sh.st.NoMemory++
		return nil, NoMemory
	}
	return it, OK
}

// Abort gives up a pending item.
func (w *Worker) Abort(p *Pending) {
	p.sh.mu.Lock()
	p.sh.free(p.it)
	p.sh.mu.Unlock()
	p.it = nil
}

// Commit finishes a pending item whose value is written and stores it as mode
// says. cas is compared where it is not 0, in mode CAS always. It returns the
// outcome and the item's CAS, 0 where it was not stored.
func (w *Worker) Commit(p *Pending, mode Mode, cas uint64) (Status, uint64) {
	w.Leave()
	p.w.write(crlf)
	p.sh.mu.Lock()
	st, c := p.sh.commit(p.h, p.it, mode, cas)
	p.sh.mu.Unlock()
	p.it = nil
	return st, c
}

var crlf = []byte("\r\n")

// oneLock is the size up to which Store copies a value while it holds the mutex;
// taking the mutex again would cost more.
const oneLock = 4096

// Store is Begin, Write and Commit for a value that is at hand.
func (w *Worker) Store(mode Mode, key []byte, cflags, deadline uint32, value []byte, cas uint64) (Status, uint64) {
	if len(value) > oneLock {
		var p Pending
		if st := w.Begin(&p, key, cflags, deadline, len(value), false); st != OK {
			return st, 0
		}
		p.Write(value)
		return w.Commit(&p, mode, cas)
	}
	w.Leave()
	s := w.s
	h := s.key.sum(key)
	sh := s.shard(h)
	sh.mu.Lock()
	it, st := sh.begin(key, cflags, deadline, len(value), false)
	var c uint64
	if it != nil {
		if it.state&stChunked == 0 {
			v := it.value()
			v[copy(v, value)], v[len(v)-1] = '\r', '\n'
		} else {
			var wr writer
			wr.init(&s.arena, it)
			wr.write(value)
			wr.write(crlf)
		}
		st, c = sh.commit(h, it, mode, cas)
	}
	sh.mu.Unlock()
	return st, c
}

// current is the item of key and where the table has it, nil where there is none
// or it is gone; then it is taken out. Caller must hold sh.mu.
func (sh *shard) current(h uint64, key []byte) (*item, slot) {
	it, at := sh.locate(h, key)
	if it == nil {
		return nil, nil
	}
	if sh.s.gone(it, sh.s.rel.Load()) != alive {
		sh.unlink(it)
		return nil, nil
	}
	return it, at
}

// commit stores a finished pending item or frees it. Caller must hold sh.mu and
// expect it to be let go.
func (sh *shard) commit(h uint64, it *item, mode Mode, cas uint64) (Status, uint64) {
	s := sh.s
	sh.classes[it.cls].st.SetCmds++
	if mode == Append || mode == Prepend {
		return sh.join(h, it, mode, cas)
	}
	old, at := sh.current(h, it.key())
	st := OK
	switch {
	case old == nil && mode == Replace:
		st = NotStored
	case old == nil && (mode == CAS || mode == CASOrStale):
		sh.st.CASMisses++
		st = NotFound
	case old != nil && mode == Add:
		// add counts as an access to what is there.
		atomic.StoreUint32(&old.time, s.rel.Load())
		st = NotStored
	case old != nil && (mode == CAS || mode == CASOrStale || cas != 0):
		oc := &sh.classes[old.cls].st
		have := atomic.LoadUint64(&old.cas)
		switch {
		case cas == have:
			oc.CASHits++
		case mode == CASOrStale && cas != 0 && cas < have:
			// The value is replaced, but stays marked, and lives as long.
			it.setState(stStale | old.loadState()&stWon)
			atomic.StoreUint32(&it.exptime, old.expires())
		default:
			oc.CASBadval++
			st = Exists
		}
	}
	if st != OK {
		sh.free(it)
		return st, 0
	}
	sh.link(h, it, old, at)
	return OK, s.casOf(it)
}

func (s *Store) casOf(it *item) uint64 { return Item{it, s}.CAS() }

// join stores the value of the pending item add behind or before that of the
// item with its key. Caller must hold sh.mu and expect it to be let go.
func (sh *shard) join(h uint64, add *item, mode Mode, cas uint64) (Status, uint64) {
	s := sh.s
	defer sh.free(add)
	for {
		old, _ := sh.current(h, add.key())
		if old == nil {
			return NotStored, 0
		}
		have := atomic.LoadUint64(&old.cas)
		if cas != 0 && cas != have {
			return Exists, 0
		}
		n := int(old.nbytes) + int(add.nbytes) - 2
		size := s.sizeOf(int(old.nkey), n, old.cflags)
		if size > s.itemMax {
			sh.st.TooLarge++
			return NotStored, 0
		}
		it := sh.alloc(add.key(), n, size, old.cflags, old.expires(), 0)
		if it == nil {
			sh.st.NoMemory++
			return NotStored, 0
		}
		// alloc may have let the mutex go, and may have evicted old.
		again, at := sh.current(h, add.key())
		if again != old || atomic.LoadUint64(&old.cas) != have {
			sh.free(it)
			continue
		}
		var w writer
		w.init(&s.arena, it)
		if mode == Append {
			w.writeItem(old)
			w.writeItem(add)
		} else {
			w.writeItem(add)
			w.writeItem(old)
		}
		w.write(crlf)
		atomic.StoreUint32(&it.exptime, old.expires())
		sh.link(h, it, old, at)
		return OK, s.casOf(it)
	}
}

// Delete takes key out, if cas is 0 or its CAS.
func (w *Worker) Delete(key []byte, cas uint64) Status {
	h := w.s.key.sum(key)
	sh := w.s.shard(h)
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
	sh.classes[it.cls].st.DeleteHits++
	sh.unlink(it)
	return OK
}

// Forget takes key out without counting: its value is outdated, as a new one
// could not be stored.
func (w *Worker) Forget(key []byte) {
	h := w.s.key.sum(key)
	sh := w.s.shard(h)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if it, _ := sh.locate(h, key); it != nil {
		sh.unlink(it)
	}
}

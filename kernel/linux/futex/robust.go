package futex

import (
	"encoding/binary"

	"osv/kernel/linux/abi"
	"osv/kernel/linux/mm"
)

// HeadSize is the size of struct robust_list_head in bytes.
const HeadSize = 24

// Reader is the memory that a robust list is in.
type Reader interface {
	Memory
	CopyIn(p []byte, addr uint64) error
}

// ExitRobust walks the robust list of a thread that ends: the mutexes that it holds
// get FUTEX_OWNER_DIED, and one waiter of each is woken. The list is the program's, and
// may be anything: what cannot be read ends the walk.
func (t *Table) ExitRobust(m Reader, head uint64, tid uint32) {
	var h [HeadSize]byte
	if head == 0 || m.CopyIn(h[:], head) != nil {
		return
	}
	entry, offset, pending := word(h[:]), word(h[8:]), word(h[16:])
	for n := 0; entry&^1 != head && n < abi.ROBUST_LIST_LIMIT; n++ {
		var b [8]byte
		// The next one first: once the mutex is free, another thread may unlink it.
		err := m.CopyIn(b[:], entry&^1)
		if entry != pending {
			if !t.died(m, entry&^1+offset, tid, entry&1 != 0, false) {
				return
			}
		}
		if err != nil {
			return
		}
		entry = word(b[:])
	}
	if pending != 0 {
		t.died(m, pending&^1+offset, tid, pending&1 != 0, true)
	}
}

func word(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }

// died marks a mutex whose owner tid has ended; false where it cannot be reached.
// pending is the one that was being locked or unlocked.
func (t *Table) died(m Memory, addr uint64, tid uint32, pi, pending bool) bool {
	if addr%4 != 0 {
		return false
	}
	for {
		old, err := m.Load32(addr)
		if err != nil {
			return false
		}
		if pending && !pi && old&abi.FUTEX_TID_MASK == 0 {
			// Unlocked, but not yet said to the one that waits.
			_, _ = t.Wake(m, addr, true, 1, abi.FUTEX_BITSET_MATCH_ANY)
			return true
		}
		if old&abi.FUTEX_TID_MASK != tid {
			return true
		}
		if pi && t.inherit(m, addr, tid) {
			return true
		}
		ok, err := m.CompareAndSwap32(addr, old, old&abi.FUTEX_WAITERS|abi.FUTEX_OWNER_DIED)
		if err != nil {
			return false
		}
		if !ok {
			continue
		}
		if !pi && old&abi.FUTEX_WAITERS != 0 {
			_, _ = t.Wake(m, addr, true, 1, abi.FUTEX_BITSET_MATCH_ANY)
		}
		return true
	}
}

// inherit hands a PI futex of a dead owner to who waits longest, with the mark.
func (t *Table) inherit(m Memory, addr uint64, tid uint32) bool {
	key, err := m.FutexKey(addr, true)
	if err != nil {
		return false
	}
	return t.handOver(m, &key, addr, tid)
}

func (t *Table) handOver(m Memory, key *mm.Key, addr uint64, tid uint32) bool {
	b := t.bucket(key)
	b.mu.Lock()
	defer b.mu.Unlock()
	w, more := b.first(key)
	if w == nil {
		return false
	}
	v := w.tid | abi.FUTEX_OWNER_DIED
	if more {
		v |= abi.FUTEX_WAITERS
	}
	for {
		old, err := m.Load32(addr)
		if err != nil || old&abi.FUTEX_TID_MASK != tid {
			return false
		}
		ok, err := m.CompareAndSwap32(addr, old, v)
		if err != nil {
			return false
		}
		if ok {
			b.wake(w)
			return true
		}
	}
}

package futex

import (
	"syscall"
	"time"

	"osv/kernel/linux/abi"
	"osv/kernel/linux/mm"
)

// A PI futex holds its owner's tid; the kernel hands it to the waiter that came first.
// Priorities are not inherited: the scheduler knows none.

// first is the waiter for k that came first, and whether there are more.
func (b *bucket) first(k *mm.Key) (w *Waiter, more bool) {
	for x := b.head; x != nil; x = x.next {
		if x.key != *k || x.tid == 0 {
			continue
		}
		if w != nil {
			return w, true
		}
		w = x
	}
	return w, false
}

// LockPI locks the word for tid: FUTEX_LOCK_PI; FUTEX_TRYLOCK_PI where try is set
// (EAGAIN). alive says whether a tid is a thread. EDEADLK where the caller owns it,
// ESRCH where its owner is no thread.
func (t *Table) LockPI(s Sleeper, w *Waiter, m Memory, addr uint64, shared bool, tid uint32, try bool, alive func(tid uint32) bool, deadline time.Time) error {
	key, err := m.FutexKey(addr, shared)
	if err != nil {
		return err
	}
	b := t.bucket(&key)
	b.mu.Lock()
	queue, err := b.acquire(m, &key, addr, tid, try, alive)
	if !queue {
		b.mu.Unlock()
		return err
	}
	w.key, w.bitset, w.tid = key, abi.FUTEX_BITSET_MATCH_ANY, tid
	b.push(w)
	b.mu.Unlock()
	return t.sleep(s, w, deadline)
}

// acquire takes the word, or sees to it that its owner unlocks it by a system call:
// queue is true then. The bucket is locked.
func (b *bucket) acquire(m Memory, k *mm.Key, addr uint64, tid uint32, try bool, alive func(uint32) bool) (queue bool, err error) {
	for {
		old, err := m.Load32(addr)
		if err != nil {
			return false, err
		}
		owner := old & abi.FUTEX_TID_MASK
		v := old | abi.FUTEX_WAITERS
		switch {
		case owner == tid:
			return false, syscall.EDEADLK
		case owner == 0:
			v = tid | old&abi.FUTEX_OWNER_DIED
			if w, _ := b.first(k); w != nil {
				v |= abi.FUTEX_WAITERS
			}
		case !alive(owner):
			return false, syscall.ESRCH
		case try:
			return false, syscall.EAGAIN
		}
		ok, err := m.CompareAndSwap32(addr, old, v)
		if err != nil {
			return false, err
		}
		if ok {
			return owner != 0, nil
		}
	}
}

// UnlockPI unlocks the word that tid owns and hands it to who waits longest:
// FUTEX_UNLOCK_PI. EPERM where tid does not own it.
func (t *Table) UnlockPI(m Memory, addr uint64, shared bool, tid uint32) error {
	key, err := m.FutexKey(addr, shared)
	if err != nil {
		return err
	}
	b := t.bucket(&key)
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		old, err := m.Load32(addr)
		if err != nil {
			return err
		}
		if old&abi.FUTEX_TID_MASK != tid {
			return syscall.EPERM
		}
		w, more := b.first(&key)
		v := uint32(0)
		if w != nil {
			v = w.tid
		}
		if more {
			v |= abi.FUTEX_WAITERS
		}
		ok, err := m.CompareAndSwap32(addr, old, v)
		if err != nil {
			return err
		}
		if ok {
			if w != nil {
				b.wake(w)
			}
			return nil
		}
	}
}

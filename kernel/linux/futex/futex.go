// Package futex is futex(2): threads that wait for a word of user memory to change.
//
// Spec: futex(2), get_robust_list(2) of man-pages 6.03; Linux 6.1, kernel/futex/. Who
// may use it: kernel/linux/task and kernel/linux/sys/proc. It knows neither: who waits
// is a Sleeper, and memory is what Memory says.
//
// A wait queues the thread's own Waiter in the bucket of the word's key; the word is
// compared with the bucket locked, and whoever wakes takes the lock after changing the
// word, so that no wake-up is lost. Wakes go first come first served. Neither waiting
// nor waking allocates. Buckets are locked in the order of their index. Start reading
// at Table.Wait.
package futex

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"osv/kernel/linux/mm"
)

// Sleeper is a thread that may wait: task.Sleeper, word for word.
type Sleeper interface {
	Sleep(c <-chan struct{}, deadline time.Time) error
}

// Memory is an address space: mm.Space.
type Memory interface {
	Load32(addr uint64) (uint32, error)
	CompareAndSwap32(addr uint64, old, new uint32) (bool, error)
	// FutexKey names a word, the same for all who reach it.
	FutexKey(addr uint64, shared bool) (mm.Key, error)
}

// Table is where all waiters of a kernel are.
type Table struct {
	mask    uint64
	buckets []bucket
}

type bucket struct {
	mu         sync.Mutex
	n          atomic.Int32 // waiters; read without the lock by wakes, which find most words unwaited for
	head, tail *Waiter
	index      int
	_          [16]byte
}

// NewTable makes one for so many processors.
func NewTable(cpus int) *Table {
	n := 1 << bits.Len(uint(256*max(cpus, 1)-1))
	t := &Table{mask: uint64(n - 1), buckets: make([]bucket, n)}
	for i := range t.buckets {
		t.buckets[i].index = i
	}
	return t
}

// Waiter is one thread's place in the table. It waits for one word at a time. Init
// makes it ready.
type Waiter struct {
	c      chan struct{}
	key    mm.Key
	bitset uint32
	tid    uint32 // of a waiter for a PI futex, 0 for others
	// bucket is where it is queued, nil where it is not. It changes with the locks of
	// the old and the new one held.
	bucket     atomic.Pointer[bucket]
	prev, next *Waiter
}

// Init makes w ready.
func (w *Waiter) Init() { w.c = make(chan struct{}, 1) }

func (t *Table) bucket(k *mm.Key) *bucket { return &t.buckets[k.Hash()&t.mask] }

func (b *bucket) push(w *Waiter) {
	w.prev, w.next = b.tail, nil
	if b.tail != nil {
		b.tail.next = w
	} else {
		b.head = w
	}
	b.tail = w
	w.bucket.Store(b)
	b.n.Add(1)
}

func (b *bucket) remove(w *Waiter) {
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		b.head = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	} else {
		b.tail = w.prev
	}
	w.prev, w.next = nil, nil
	w.bucket.Store(nil)
	b.n.Add(-1)
}

// wake takes w off and lets its thread go on. The bucket is locked.
func (b *bucket) wake(w *Waiter) {
	b.remove(w)
	w.c <- struct{}{} // has room: a waiter that is queued was not yet told
}

// Wait waits while the word at addr is val: EAGAIN where it is not, ETIMEDOUT at the
// deadline, or what Sleep says of a signal. Of wakes, those with a common bit in
// bitset count.
func (t *Table) Wait(s Sleeper, w *Waiter, m Memory, addr uint64, shared bool, val, bitset uint32, deadline time.Time) error {
	if bitset == 0 {
		return syscall.EINVAL
	}
	key, err := m.FutexKey(addr, shared)
	if err != nil {
		return err
	}
	b := t.bucket(&key)
	w.key, w.bitset, w.tid = key, bitset, 0
	b.mu.Lock()
	// Queued before the look, so that a wake that sees nobody waiting has changed the
	// word after it.
	b.push(w)
	now, err := m.Load32(addr)
	if err == nil && now != val {
		err = syscall.EAGAIN
	}
	if err != nil {
		b.remove(w)
		b.mu.Unlock()
		return err
	}
	b.mu.Unlock()
	return t.sleep(s, w, deadline)
}

// sleep waits to be woken, and takes w off where something else came first.
func (t *Table) sleep(s Sleeper, w *Waiter, deadline time.Time) error {
	err := s.Sleep(w.c, deadline)
	if err == nil {
		return nil
	}
	if w.leave() {
		return err
	}
	<-w.c // it was woken after all, which counts
	return nil
}

// leave takes w off its bucket; false where it was woken before.
func (w *Waiter) leave() bool {
	for {
		b := w.bucket.Load()
		if b == nil {
			return false
		}
		b.mu.Lock()
		if w.bucket.Load() == b {
			b.remove(w)
			b.mu.Unlock()
			return true
		}
		b.mu.Unlock() // it was moved meanwhile
	}
}

// Wake lets up to n threads go on that wait for the word at addr with one of bitset's
// bits, those that came first, and returns how many there were.
func (t *Table) Wake(m Memory, addr uint64, shared bool, n int, bitset uint32) (int, error) {
	if bitset == 0 {
		return 0, syscall.EINVAL
	}
	key, err := m.FutexKey(addr, shared)
	if err != nil {
		return 0, err
	}
	b := t.bucket(&key)
	if b.n.Load() == 0 {
		return 0, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	woken := 0
	for w := b.head; w != nil && woken < n; {
		next := w.next
		if w.key == key {
			if w.tid != 0 {
				return 0, syscall.EINVAL // a PI futex is woken by its owner's unlock
			}
			if w.bitset&bitset != 0 {
				b.wake(w)
				woken++
			}
		}
		w = next
	}
	return woken, nil
}

// lock locks two buckets in order.
func (t *Table) lock(a, b *bucket) {
	if a == b {
		a.mu.Lock()
		return
	}
	if a.index > b.index {
		a, b = b, a
	}
	a.mu.Lock()
	b.mu.Lock()
}

func unlock(a, b *bucket) {
	a.mu.Unlock()
	if a != b {
		b.mu.Unlock()
	}
}

// Requeue wakes up to wake threads that wait at addr and has up to move others wait at
// addr2 instead. With cmp set, only while the word at addr is val (EAGAIN). It returns
// how many were woken and moved.
func (t *Table) Requeue(m Memory, addr, addr2 uint64, shared bool, wake, move int, cmp bool, val uint32) (woken, moved int, err error) {
	k1, err := m.FutexKey(addr, shared)
	if err != nil {
		return 0, 0, err
	}
	k2, err := m.FutexKey(addr2, shared)
	if err != nil {
		return 0, 0, err
	}
	b1, b2 := t.bucket(&k1), t.bucket(&k2)
	t.lock(b1, b2)
	defer unlock(b1, b2)
	if cmp {
		now, err := m.Load32(addr)
		if err != nil {
			return 0, 0, err
		}
		if now != val {
			return 0, 0, syscall.EAGAIN
		}
	}
	for w := b1.head; w != nil && (woken < wake || moved < move); {
		next := w.next
		if w.key == k1 {
			switch {
			case w.tid != 0:
				return woken, moved, syscall.EINVAL
			case woken < wake:
				b1.wake(w)
				woken++
			default:
				if k1 != k2 {
					b1.remove(w)
					w.key = k2
					b2.push(w)
				}
				moved++
			}
		}
		w = next
	}
	return woken, moved, nil
}

// WakeOp changes the word at addr2 as op says (FUTEX_OP of futex(2)), wakes up to n
// threads at addr and, where the old value compares as op says, up to n2 at addr2.
func (t *Table) WakeOp(m Memory, addr, addr2 uint64, shared bool, n, n2 int, op uint32) (int, error) {
	k1, err := m.FutexKey(addr, shared)
	if err != nil {
		return 0, err
	}
	k2, err := m.FutexKey(addr2, shared)
	if err != nil {
		return 0, err
	}
	b1, b2 := t.bucket(&k1), t.bucket(&k2)
	t.lock(b1, b2)
	defer unlock(b1, b2)
	old, err := modify(m, addr2, op)
	if err != nil {
		return 0, err
	}
	hit, err := compare(old, op)
	if err != nil {
		return 0, err
	}
	woken, err := b1.wakeKey(&k1, n)
	if err == nil && hit {
		var more int
		more, err = b2.wakeKey(&k2, n2)
		woken += more
	}
	return woken, err
}

// wakeKey wakes up to n waiters of a key. The bucket is locked.
func (b *bucket) wakeKey(k *mm.Key, n int) (woken int, err error) {
	for w := b.head; w != nil && woken < n; {
		next := w.next
		if w.key == *k {
			if w.tid != 0 {
				return woken, syscall.EINVAL
			}
			b.wake(w)
			woken++
		}
		w = next
	}
	return woken, nil
}

// signed12 is an argument of FUTEX_OP.
func signed12(v uint32) int32 { return int32(v<<20) >> 20 }

// modify does op's change to the word and returns what was there.
func modify(m Memory, addr uint64, op uint32) (old uint32, err error) {
	arg := uint32(signed12(op >> 12))
	kind := op >> 28
	if kind&8 != 0 { // FUTEX_OP_OPARG_SHIFT
		arg = 1 << (arg & 31)
	}
	for {
		old, err = m.Load32(addr)
		if err != nil {
			return 0, err
		}
		v := old
		switch kind & 7 {
		case 0:
			v = arg
		case 1:
			v += arg
		case 2:
			v |= arg
		case 3:
			v &^= arg
		case 4:
			v ^= arg
		default:
			return 0, syscall.ENOSYS
		}
		ok, err := m.CompareAndSwap32(addr, old, v)
		if err != nil {
			return 0, err
		}
		if ok {
			return old, nil
		}
	}
}

// compare is op's comparison with the value that was there.
func compare(old, op uint32) (bool, error) {
	a, b := int32(old), signed12(op)
	switch op >> 24 & 15 {
	case 0:
		return a == b, nil
	case 1:
		return a != b, nil
	case 2:
		return a < b, nil
	case 3:
		return a <= b, nil
	case 4:
		return a > b, nil
	case 5:
		return a >= b, nil
	}
	return false, syscall.ENOSYS
}

package store

import (
	"runtime"
	"sync/atomic"
	"unsafe"
)

// The table of one shard maps a hash to an item. A bucket is one cache line:
// seven entries, each a 16-bit tag of the hash above the item's ref, and the
// head of a chain (item.hnext) for what does not fit. Entries never move within
// a table, so a reader that walks a bucket finds every item that stays there.
//
// Growing doubles the buckets and moves them one by one, in order, under the
// shard's mutex. While that lasts, bucket i of the old table holds the truth as
// long as i >= moved; afterwards the new one does and the old bucket is a stale
// but intact picture, except for its chain, whose links now serve the new table.
// A reader that misses in an old bucket therefore looks at the cursor again.

const (
	bucketEntries = 7
	bucketBytes   = 64
	tagShift      = 48
	refMask       = 1<<tagShift - 1

	// growAt is the mean number of items per bucket at which a table doubles:
	// then 87 % of the buckets have no chain.
	growAt = 5
)

type bucket [bucketEntries + 1]uint64 // the last one is the chain's head

type table struct {
	mem  []byte
	base unsafe.Pointer
	mask uint64 // buckets - 1

	// While growing: the smaller table, how many of its buckets have been
	// moved, and how many have at least begun to move.
	old    atomic.Pointer[table]
	moved  atomic.Uint64
	moving atomic.Uint64
}

func (t *table) bucket(i uint64) *bucket {
	return (*bucket)(unsafe.Add(t.base, i*bucketBytes))
}

func tableOver(mem []byte) *table {
	return &table{mem: mem, base: unsafe.Pointer(unsafe.SliceData(mem)), mask: uint64(len(mem)/bucketBytes) - 1}
}

// slot is where a table keeps the ref of an item: an entry of a bucket, or a link
// of a chain. It is good until the mutex is let go.
type slot = *uint64

// find looks for key in one bucket.
func (b *bucket) find(a *arena, h uint64, key []byte) *item {
	it, _ := b.seek(a, h, key)
	return it
}

// seek is find that tells where it found the item.
func (b *bucket) seek(a *arena, h uint64, key []byte) (*item, slot) {
	tag := h >> tagShift
	for i := range bucketEntries {
		// A free entry has the tag 0 and the ref 0.
		if e := atomic.LoadUint64(&b[i]); e>>tagShift == tag && e != 0 {
			if it := a.item(ref(e & refMask)); it.isKey(key) {
				return it, &b[i]
			}
		}
	}
	link := &b[bucketEntries]
	for r := atomic.LoadUint64(link); r != 0; r = atomic.LoadUint64(link) {
		it := a.item(ref(r))
		if it.isKey(key) {
			return it, link
		}
		link = &it.hnext
	}
	return nil, nil
}

// lookup finds key without a lock. The caller is inside a reader section.
func (t *table) lookup(a *arena, h uint64, key []byte) *item {
	old := t.old.Load()
	if old == nil {
		return t.bucket(h&t.mask).find(a, h, key)
	}
	i := h & old.mask
	if i >= t.moved.Load() {
		if it := old.bucket(i).find(a, h, key); it != nil {
			return it
		}
		if i >= t.moving.Load() {
			return nil
		}
		// This very bucket began to move under our eyes. Its move is a few
		// hundred instructions under the shard's mutex.
		for i >= t.moved.Load() {
			runtime.Gosched()
		}
	}
	return t.bucket(h&t.mask).find(a, h, key)
}

// place is the bucket that holds h now. Caller must hold shard.mu.
func (t *table) place(h uint64) *bucket {
	if old := t.old.Load(); old != nil {
		if i := h & old.mask; i >= t.moved.Load() {
			return old.bucket(i)
		}
	}
	return t.bucket(h & t.mask)
}

// insert adds it, whose key is not there. Caller must hold shard.mu.
func (b *bucket) insert(a *arena, h uint64, it *item) {
	e := uint64(a.ref(it)) | h>>tagShift<<tagShift
	for i := 0; i < bucketEntries; i++ {
		if atomic.LoadUint64(&b[i]) == 0 {
			atomic.StoreUint64(&b[i], e)
			return
		}
	}
	atomic.StoreUint64(&it.hnext, atomic.LoadUint64(&b[bucketEntries]))
	atomic.StoreUint64(&b[bucketEntries], uint64(a.ref(it)))
}

// replace puts it in the place at of old, in one store. Caller must hold shard.mu.
func (a *arena) replace(at slot, old, it *item) {
	// In a chain it goes on as old does, in an entry the tag stays; what the other
	// of the two then is means nothing.
	atomic.StoreUint64(&it.hnext, atomic.LoadUint64(&old.hnext))
	atomic.StoreUint64(at, atomic.LoadUint64(at)&^refMask|uint64(a.ref(it)))
}

// remove takes old out. Caller must hold shard.mu; old must be there.
func (b *bucket) remove(a *arena, old *item) {
	or := uint64(a.ref(old))
	for i := 0; i < bucketEntries; i++ {
		if atomic.LoadUint64(&b[i])&refMask == or {
			atomic.StoreUint64(&b[i], 0)
			return
		}
	}
	link := &b[bucketEntries]
	for {
		r := atomic.LoadUint64(link)
		if r == or {
			atomic.StoreUint64(link, atomic.LoadUint64(&old.hnext))
			return
		}
		if r == 0 {
			panic("store: item is not in its bucket")
		}
		link = &a.item(ref(r)).hnext
	}
}

// move moves up to n buckets of the old table and reports whether all are moved.
// Caller must hold shard.mu.
func (t *table) move(a *arena, k *hashKey, n int) bool {
	old := t.old.Load()
	i := t.moved.Load()
	for ; n > 0 && i <= old.mask; n-- {
		t.moving.Store(i + 1)
		b := old.bucket(i)
		for j := 0; j < bucketEntries; j++ {
			if e := atomic.LoadUint64(&b[j]); e != 0 {
				it := a.item(ref(e & refMask))
				h := k.sum(it.key())
				t.bucket(h&t.mask).insert(a, h, it)
			}
		}
		for r := atomic.LoadUint64(&b[bucketEntries]); r != 0; {
			it := a.item(ref(r))
			r = atomic.LoadUint64(&it.hnext)
			h := k.sum(it.key())
			t.bucket(h&t.mask).insert(a, h, it)
		}
		i++
		t.moved.Store(i)
	}
	return i > old.mask
}

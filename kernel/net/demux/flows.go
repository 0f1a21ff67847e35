package demux

import (
	"sync"
	"sync/atomic"
)

// flowMap finds the sink of an exact tuple. Readers take no lock: a bucket is a
// linked list whose links are only ever changed to skip or add a whole node, so
// a reader that stands on a node that is just removed still finds its way on.
// The collector keeps such nodes as long as a reader does: no epochs are needed.
type flowMap[K comparable, S any] struct {
	shards [numShards]shard[K, S]
}

// Shards keep a growing table from stopping other writers: each grows alone.
const (
	numShards  = 64
	minBuckets = 16
)

type shard[K comparable, S any] struct {
	buckets atomic.Pointer[[]bucket[K, S]] // length is a power of two

	mu    sync.Mutex // guards all changes
	count int
}

type bucket[K comparable, S any] = atomic.Pointer[node[K, S]]

type node[K comparable, S any] struct {
	key  K
	hash uint64
	next atomic.Pointer[node[K, S]]
	sink atomic.Pointer[S]
}

func (f *flowMap[K, S]) shard(hash uint64) *shard[K, S] {
	return &f.shards[hash>>(64-6)&(numShards-1)]
}

func (f *flowMap[K, S]) find(key K, hash uint64) *S {
	bs := f.shard(hash).buckets.Load()
	if bs == nil {
		return nil
	}
	b := *bs
	for n := b[hash&uint64(len(b)-1)].Load(); n != nil; n = n.next.Load() {
		if n.key == key {
			return n.sink.Load()
		}
	}
	return nil
}

// insert adds a tuple and reports false where it is there already.
func (f *flowMap[K, S]) insert(key K, hash uint64, s *S) bool {
	sh := f.shard(hash)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if f.find(key, hash) != nil {
		return false
	}
	bs := sh.buckets.Load()
	if bs == nil || sh.count >= len(*bs) {
		bs = sh.grow(bs)
	}
	n := &node[K, S]{key: key, hash: hash}
	n.sink.Store(s)
	head := &(*bs)[hash&uint64(len(*bs)-1)]
	n.next.Store(head.Load())
	head.Store(n) // from here on readers see it, whole
	sh.count++
	return true
}

// grow doubles the buckets. Nodes are made anew, since readers of the old
// buckets follow the old links. Caller must hold mu.
func (sh *shard[K, S]) grow(old *[]bucket[K, S]) *[]bucket[K, S] {
	size := minBuckets
	if old != nil {
		size = 2 * len(*old)
	}
	fresh := make([]bucket[K, S], size)
	if old != nil {
		for i := range *old {
			for n := (*old)[i].Load(); n != nil; n = n.next.Load() {
				c := &node[K, S]{key: n.key, hash: n.hash}
				c.sink.Store(n.sink.Load())
				head := &fresh[n.hash&uint64(size-1)]
				c.next.Store(head.Load())
				head.Store(c)
			}
		}
	}
	sh.buckets.Store(&fresh)
	return &fresh
}

// remove takes the tuple out if its sink is s, and reports whether it did.
func (f *flowMap[K, S]) remove(key K, hash uint64, s *S) bool {
	sh := f.shard(hash)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	bs := sh.buckets.Load()
	if bs == nil {
		return false
	}
	link := &(*bs)[hash&uint64(len(*bs)-1)]
	for n := link.Load(); n != nil; n = link.Load() {
		if n.key == key {
			if n.sink.Load() != s {
				return false
			}
			link.Store(n.next.Load())
			sh.count--
			return true
		}
		link = &n.next
	}
	return false
}

// replace changes the sink of a tuple from old to s, and reports whether it did.
func (f *flowMap[K, S]) replace(key K, hash uint64, old, s *S) bool {
	sh := f.shard(hash)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	bs := sh.buckets.Load()
	if bs == nil {
		return false
	}
	for n := (*bs)[hash&uint64(len(*bs)-1)].Load(); n != nil; n = n.next.Load() {
		if n.key == key {
			return n.sink.CompareAndSwap(old, s)
		}
	}
	return false
}

package store

import "sync/atomic"

// Counters that the lock-free paths keep, one set per reader slot. What writers
// count is in the shard, under its mutex.
type counters struct {
	hits    [maxClasses][4]atomic.Uint64 // by slab class and LRU list; cmd_get and get_hits are sums of these
	misses  atomic.Uint64
	expired atomic.Uint64 // of misses
	flushed atomic.Uint64 // of misses
	user    [userCounters]atomic.Uint64
	_       [64]byte
}

// userCounters is the number of counters that Worker.Count offers.
const userCounters = 16

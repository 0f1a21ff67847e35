// Package store is the cache behind the memcached appliance: items in slabs
// outside the Go heap, found without a lock, kept in a segmented LRU.
//
// Spec: doc/protocol.txt and doc/new_lru.txt of memcached 1.6.18 for what an
// item is, when it is gone and how the statistics are called; the slab classes,
// the accounted size of an item and the item size limit are upstream's, so that
// `stats`, `me` and the refusals agree with it. The data structures are our own.
//
// # Readers
//
// A reader takes no lock. It announces itself (epoch.go), finds the item through
// the shard's table (table.go), copies out of it, and leaves. The bytes of an
// item that a reader can find (key, value, client flags) never change; a change
// makes a new item and one atomic store in the table puts it in the place of the
// old. What does change in place (state, last access, expiry, CAS) is one atomic
// word each. A chunk is used again only after every reader that could have seen
// its old contents has left.
//
// # Writers
//
// Keys are spread over shards, one per CPU where the memory limit allows. Each
// shard has a mutex that guards its table, its slab pages and its LRU lists.
// Lock order: shard.mu, then Store.pool.mu. Two shards are never locked at once.
//
// # Memory
//
// All items live in one reserved address range, the arena, cut into pages of
// 1 MiB (slab.go). A page belongs to one shard and one slab class. Pages and
// index together stay within Config.Limit. The collector sees none of it.
//
// Who may use it: proto and server of this appliance. May not: know a protocol,
// a socket or the clock on the wall (the time comes from Tick).
//
// Start reading at item_unsafe.go, then epoch.go, get.go and write.go. The model
// that the tests compare with is in model_test.go.
package store

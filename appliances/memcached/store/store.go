package store

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"math/bits"
	"sync/atomic"
)

// Config says how large and how divided a Store is. Zero values are upstream's
// defaults.
type Config struct {
	Memory  Memory
	Limit   int // bytes of pages and index; 0 = 64 MiB
	Reserve int // bytes of address space, the most that SetLimit can set; 0 = twice the limit
	CPUs    int // one shard per CPU, as far as each has 64 MiB; 0 = 1
	Shards  int // a power of two; 0 = from CPUs

	ItemMax  int     // bytes of the largest item, header included; 0 = 1 MiB
	ChunkMax int     // bytes of the largest chunk; 0 = half a page
	Factor   float64 // growth factor of the slab classes; 0 = 1.25
	MinChunk int     // key, value and flags of the smallest class; 0 = 48
	NoEvict  bool    // refuse to store when memory is full
	NoCAS    bool    // items are accounted without a CAS

	FlatLRU    bool
	HotPct     int     // share of HOT in percent; 0 = 20
	WarmPct    int     // share of WARM in percent; 0 = 40
	HotFactor  float64 // age limit of HOT as a part of COLD's; 0 = 0.2
	WarmFactor float64 // 0 = 2
	TempTTL    int64   // items that live this many seconds or less go to TEMP; 0 = none

	Now  int64 // Unix seconds
	Seed uint64
}

// Store is the cache. See the package comment for what may be called when.
type Store struct {
	key    hashKey
	arena  arena
	shards []shard
	shift  uint // the shard of a hash is hash>>shift & mask
	rel    atomic.Uint32
	epochs epochs

	// flushCAS: items with a CAS below it are gone. Loaded on every lookup.
	flushCAS atomic.Uint64
	_        [64]byte

	cas     atomic.Uint64 // the last one given
	flushAt atomic.Uint32 // relative second of a flush to come, 0 = none
	_       [64]byte

	mem      Memory
	classes  *classTable
	pages    []pageInfo
	owner    []atomic.Int32 // by page: shard + 1, 0 in the pool
	pool     pool
	reserve  int
	itemMax  int
	casBytes int
	epoch0   int64 // Unix time of relative second 0

	limit      atomic.Int64
	shrunk     atomic.Int64
	indexBytes atomic.Int64
	noEvict    atomic.Bool
	flat       atomic.Bool
	noAutomove atomic.Bool
	hotPct     atomic.Int32
	warmPct    atomic.Int32
	tempTTL    atomic.Int64 // -1 = no TEMP list
	factors    atomic.Pointer[lruFactors]
	crawler    crawlControl
	slots      []counters

	// OnEvict, if set before the first use, is called under a shard's mutex with
	// each item that is evicted while it was valid. It must not call the Store.
	OnEvict func(Item)
}

type lruFactors struct{ hot, warm float64 }

// relStart is the relative second at which a Store starts: 0 means never and 1
// is in the past. The minute before is upstream's, so that an absolute expiry
// shortly before the start is in the past too.
const relStart = 62

// startBuckets is the size of a new shard's table.
const startBuckets = 1 << 10

func or[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// New makes an empty Store.
func New(c Config) (*Store, error) {
	c.Limit = or(c.Limit, 64<<20)
	c.CPUs = or(c.CPUs, 1)
	c.ItemMax = or(c.ItemMax, 1<<20)
	c.ChunkMax = or(c.ChunkMax, pageBytes/2)
	c.Factor = or(c.Factor, 1.25)
	c.MinChunk = or(c.MinChunk, 48)
	c.Reserve = or(c.Reserve, 2*c.Limit)
	if c.Memory == nil {
		return nil, fmt.Errorf("store: no Memory")
	}
	if c.Limit < 2*pageBytes || c.Reserve < c.Limit {
		return nil, fmt.Errorf("store: limit of %d bytes in a range of %d: need at least %d and a range that holds it", c.Limit, c.Reserve, 2*pageBytes)
	}
	if c.ItemMax < 1024 || c.ItemMax > 1<<30 {
		return nil, fmt.Errorf("store: item size limit of %d bytes: need 1024 to %d", c.ItemMax, 1<<30)
	}
	if c.Shards == 0 {
		c.Shards = 1
		for c.Shards < c.CPUs && c.Limit/(2*c.Shards) >= 64*pageBytes && c.Shards < 256 {
			c.Shards *= 2
		}
	}
	if c.Shards < 1 || c.Shards > 1<<14 || bits.OnesCount(uint(c.Shards)) != 1 {
		return nil, fmt.Errorf("store: %d shards: need a power of two up to %d", c.Shards, 1<<14)
	}
	ct, err := newClassTable(c.Factor, c.MinChunk, c.ChunkMax)
	if err != nil {
		return nil, err
	}
	s := &Store{
		mem: c.Memory, classes: ct, reserve: c.Reserve, itemMax: c.ItemMax,
		shards: make([]shard, c.Shards), casBytes: upstreamCASBytes,
		epoch0: c.Now - relStart,
		slots:  make([]counters, max(4, 2*c.CPUs)),
	}
	if c.NoCAS {
		s.casBytes = 0
	}
	s.key.fill(c.Seed)
	// Tags are bits 48 up, buckets count from bit 0: shards take bits below the
	// tags.
	s.shift = tagShift - uint(bits.TrailingZeros(uint(c.Shards)))
	s.rel.Store(relStart)
	s.epochs.init(len(s.slots))

	n := (c.Reserve+pageBytes-1)/pageBytes + 1
	mem, err := c.Memory.Map(n * pageBytes)
	if err != nil {
		return nil, ErrNoRoom{n * pageBytes, err}
	}
	s.arena = arenaOver(mem)
	s.pages = make([]pageInfo, n)
	s.owner = make([]atomic.Int32, n)
	s.pool.fresh = 1 // ref 0 is nothing
	for i := range s.shards {
		sh := &s.shards[i]
		sh.s, sh.id = s, i
		mem, err := c.Memory.Map(startBuckets * bucketBytes)
		if err != nil {
			return nil, ErrNoRoom{startBuckets * bucketBytes, err}
		}
		s.indexBytes.Add(int64(len(mem)))
		sh.tab.Store(tableOver(mem))
	}
	s.limit.Store(int64(c.Limit))
	s.setBudget()
	s.noEvict.Store(c.NoEvict)
	s.flat.Store(c.FlatLRU)
	s.hotPct.Store(int32(or(c.HotPct, 20)))
	s.warmPct.Store(int32(or(c.WarmPct, 40)))
	s.factors.Store(&lruFactors{or(c.HotFactor, 0.2), or(c.WarmFactor, 2)})
	s.tempTTL.Store(or(c.TempTTL, -1))
	s.crawler.init()
	return s, nil
}

func (k *hashKey) fill(seed uint64) {
	if seed != 0 {
		// A fixed seed is for tests that want the same layout each time.
		x := seed
		for _, p := range []*uint64{&k.a, &k.b, &k.c, &k.d} {
			x += 0x9E3779B97F4A7C15
			*p = fold(x^0xD6E8FEB86659FD93, x|1) | 1
		}
		return
	}
	var b [32]byte
	if _, err := rand.Read(b[:]); err != nil {
		panic(err) // crypto/rand does not fail
	}
	k.a, k.b = binary.LittleEndian.Uint64(b[0:]), binary.LittleEndian.Uint64(b[8:])
	k.c, k.d = binary.LittleEndian.Uint64(b[16:]), binary.LittleEndian.Uint64(b[24:])
}

// Close gives all memory back. No worker may be in use.
func (s *Store) Close() {
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		t := sh.tab.Load()
		if old := t.old.Load(); old != nil {
			s.mem.Unmap(old.mem)
		}
		s.mem.Unmap(t.mem)
		for _, o := range sh.oldTables {
			s.mem.Unmap(o.mem)
		}
		sh.mu.Unlock()
	}
	s.mem.Unmap(s.arena.mem)
}

// shard is the one that h belongs to.
func (s *Store) shard(h uint64) *shard {
	return &s.shards[h>>(s.shift&63)&uint64(len(s.shards)-1)]
}

// sizeOf is the accounted size of an item: what upstream would use for it.
func (s *Store) sizeOf(nkey, nbytes int, cflags uint32) int {
	n := upstreamItemBytes + s.casBytes + nkey + 1 + nbytes
	if cflags != 0 {
		n += 4
	}
	return n
}

func (s *Store) accounted(it *item) int {
	return s.sizeOf(int(it.nkey), int(it.nbytes), it.cflags)
}

// ItemMax is the item size limit in bytes.
func (s *Store) ItemMax() int { return s.itemMax }

// Limit is the memory limit in bytes.
func (s *Store) Limit() int { return int(s.limit.Load()) }

// NumShards is the number of shards.
func (s *Store) NumShards() int { return len(s.shards) }

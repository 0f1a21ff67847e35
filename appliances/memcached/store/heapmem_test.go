package store

import (
	"sync"
	"testing"
	"unsafe"
)

// plain is for tests with one goroutine and much to store: the race detector has
// nothing to see there, and does not look at it.
var plain = &HostMemory{}

// heapMemory is a Memory on the Go heap: slow to map, but the race detector sees
// every access to it, and a leak is a failed test.
type heapMemory struct {
	mu   sync.Mutex
	live map[*byte]int
	drop int // bytes dropped
}

func (m *heapMemory) Map(n int) ([]byte, error) {
	w := make([]uint64, (n+7)/8)
	b := unsafe.Slice((*byte)(unsafe.Pointer(&w[0])), n)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.live == nil {
		m.live = map[*byte]int{}
	}
	m.live[&b[0]] = n
	return b, nil
}

func (m *heapMemory) Unmap(b []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.live[&b[0]] != len(b) {
		panic("unmap of what was not mapped")
	}
	delete(m.live, &b[0])
	clear(b) // who still reads it gets nonsense
}

func (m *heapMemory) Drop(b []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.drop += len(b)
	clear(b)
}

func (m *heapMemory) Available() int { return 1 << 30 }

// tester is what a test and a property have in common.
type tester interface {
	Helper()
	Errorf(string, ...any)
	Fatalf(string, ...any)
	Fatal(...any)
}

// newTest makes a Store, on the heap unless c says otherwise. At the end of a
// test it must be free of mappings; a property ends it itself.
func newTest(t tester, c Config) *Store {
	t.Helper()
	m := &heapMemory{}
	if c.Memory == nil {
		c.Memory = m
	}
	if c.Limit == 0 {
		c.Limit = 8 << 20
	}
	if c.Reserve == 0 {
		c.Reserve = c.Limit
	}
	if c.Seed == 0 {
		c.Seed = 1
	}
	if c.Now == 0 {
		c.Now = 1_700_000_000
	}
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	if tb, ok := t.(testing.TB); ok {
		tb.Cleanup(func() {
			s.check(t)
			s.Close()
			if len(m.live) != 0 {
				t.Errorf("%d mappings left", len(m.live))
			}
		})
	}
	return s
}

// check verifies the invariants that no operation may break: every chunk is
// free, retired, pending, linked or a piece; lists, pages and table agree.
func (s *Store) check(t tester) {
	t.Helper()
	pages := 0
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		for range 3 {
			s.epochs.advance()
		}
		sh.reap()
		if sh.retired != 0 {
			t.Errorf("shard %d: %d items still retired", i, sh.retired)
		}
		inTable := map[ref]bool{}
		tab := sh.tab.Load()
		walk := func(b *bucket) {
			for _, e := range b[:bucketEntries] {
				if e != 0 {
					inTable[ref(e&refMask)] = true
				}
			}
			for r := b[bucketEntries]; r != 0; r = s.arena.item(ref(r)).hnext {
				inTable[ref(r)] = true
			}
		}
		if old := tab.old.Load(); old != nil {
			for j := tab.moved.Load(); j <= old.mask; j++ {
				walk(old.bucket(j))
			}
		}
		for j := uint64(0); j <= tab.mask; j++ {
			walk(tab.bucket(j))
		}
		if len(inTable) != sh.items {
			t.Errorf("shard %d: %d items in the table, %d counted", i, len(inTable), sh.items)
		}
		onLists, bytes, ttl := 0, 0, 0
		for c := range sh.classes {
			cl := &sh.classes[c]
			for l := range cl.lru {
				n, by := 0, 0
				var prev ref
				for r := cl.lru[l].head; r != 0; r = s.arena.item(r).lnext {
					it := s.arena.item(r)
					if it.kind != chunkLinked || !inTable[r] || it.lprev != prev || it.lru() != lruID(l) || int(it.cls) != c {
						t.Fatalf("shard %d class %d list %d: item %#x is wrong: %+v", i, c, l, r, it)
					}
					prev = r
					n++
					by += s.accounted(it)
					if it.expires() != 0 {
						ttl++
					}
				}
				if cl.lru[l].tail != prev || cl.lru[l].n != n || cl.lru[l].bytes != by {
					t.Errorf("shard %d class %d list %d: tail %#x, %d items, %d bytes; found %#x, %d, %d", i, c, l, cl.lru[l].tail, cl.lru[l].n, cl.lru[l].bytes, prev, n, by)
				}
				onLists += n
				bytes += by
			}
		}
		if onLists != sh.items || bytes != sh.bytes || ttl != sh.ttl {
			t.Errorf("shard %d: %d items, %d bytes, %d with expiry on lists; counted %d, %d, %d", i, onLists, bytes, ttl, sh.items, sh.bytes, sh.ttl)
		}
		used := map[int]int{}
		for n := range s.pages {
			if !sh.owns(uint32(n)) {
				continue
			}
			pages++
			p := &s.pages[n]
			free := map[ref]bool{}
			for r := p.freeHead; r != 0; r = s.arena.item(r).lnext {
				if free[r] || pageOf(r) != uint32(n) {
					t.Fatalf("page %d: free list is broken at %#x", n, r)
				}
				free[r] = true
			}
			if len(free) != int(p.free) {
				t.Errorf("page %d: %d chunks on the free list, %d counted", n, len(free), p.free)
			}
			for k := 0; k < int(p.cut); k++ {
				r := ref(n*pageBytes + k*s.classes.size[p.cls])
				it := s.arena.item(r)
				if (it.kind == chunkFree) != free[r] {
					t.Errorf("page %d chunk %d: kind %d, on free list %v", n, k, it.kind, free[r])
				}
				switch it.kind {
				case chunkRetired:
					t.Errorf("page %d chunk %d is retired", n, k)
				case chunkLinked:
					if !inTable[r] {
						t.Errorf("page %d chunk %d is linked but not in the table", n, k)
					}
				}
			}
			used[int(p.cls)] += int(p.used())
		}
		for c := range sh.classes {
			if sh.classes[c].used != used[c] {
				t.Errorf("shard %d class %d: %d chunks used, counted %d", i, c, used[c], sh.classes[c].used)
			}
		}
		sh.mu.Unlock()
	}
	if got := int(s.pool.out.Load()); got != pages {
		t.Errorf("%d pages with the shards, counted %d", pages, got)
	}
}

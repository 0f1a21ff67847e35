package store

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// selfDescribing is a value that says which key it is for and is torn if any
// part of it is from elsewhere.
func selfDescribing(b []byte, key int, version uint32, n int) []byte {
	b = b[:0]
	b = fmt.Appendf(b, "<%d:%d:0>", key, version)
	for i := uint32(1); len(b) < n; i++ {
		b = append(b, byte(key), byte(version), byte(version>>8), byte(i), byte(i>>8))
	}
	return b
}

// describes checks a value against its own beginning.
func describes(v []byte, key int) error {
	var k int
	var version uint32
	if _, err := fmt.Sscanf(string(v[:min(len(v), 40)]), "<%d:%d:0>", &k, &version); err != nil {
		return fmt.Errorf("value %.40q: %v", v, err)
	}
	if k != key {
		return fmt.Errorf("value of key %d under key %d", k, key)
	}
	if want := selfDescribing(nil, k, version, len(v)-4); !bytes.Equal(v, want) {
		return fmt.Errorf("value of key %d, version %d is torn: %.60q", k, version, v)
	}
	return nil
}

// TestReadersAndWriters: readers without a lock beside writers that replace,
// delete, evict, move pages and grow the table, on memory that the race detector
// watches. No reader sees a torn value or one of another key, and none of what
// was used is left in use.
func TestReadersAndWriters(t *testing.T) {
	for _, shards := range []int{1, 2} {
		t.Run(fmt.Sprint(shards, " shards"), func(t *testing.T) { readersAndWriters(t, shards) })
	}
}

func readersAndWriters(t *testing.T, shards int) {
	s := newTest(t, Config{Limit: 6 << 20, Shards: shards, CPUs: 4})
	const keys = 400
	rounds := 3000
	if testing.Short() {
		rounds = 250
	}
	var stop atomic.Bool
	var readers, writers sync.WaitGroup
	var hits atomic.Uint64
	for id := range 3 {
		readers.Add(1)
		go func() {
			defer readers.Done()
			w := s.Worker(id)
			rng := rand.New(rand.NewPCG(1, uint64(id)))
			for n := 0; !stop.Load(); n++ {
				k := rng.IntN(keys)
				it, ok := w.Get(fmt.Appendf(nil, "key%d", k))
				if !ok {
					w.Leave()
					continue
				}
				hits.Add(1)
				pin := n%16 == 0 && it.Pin()
				if pin {
					// A slow client: the section ends, the item stays.
					w.Leave()
				}
				v := content(it)
				if pin {
					it.Unpin()
				}
				w.Leave()
				if err := describes(v, k); err != nil {
					t.Error(err)
					stop.Store(true)
				}
			}
		}()
	}
	for id := range 2 {
		writers.Add(1)
		go func() {
			defer writers.Done()
			w := s.Worker(3 + id)
			rng := rand.New(rand.NewPCG(2, uint64(id)))
			var b []byte
			for v := range uint32(rounds) {
				if stop.Load() {
					return
				}
				k := rng.IntN(keys)
				key := fmt.Appendf(nil, "key%d", k)
				switch rng.IntN(12) {
				case 0:
					w.Delete(key, 0)
				case 1:
					// Touch leaves the value, so readers must be undisturbed.
					w.Touch(key, s.Deadline(1000), false)
					w.Leave()
				case 2:
					// In parts, as from a slow connection.
					b = selfDescribing(b, k, v, 50+rng.IntN(20000))
					var p Pending
					if w.Begin(&p, key, 0, 0, len(b), false) == OK {
						h := rng.IntN(len(b))
						p.Write(b[:h])
						p.Write(b[h:])
						if rng.IntN(4) == 0 {
							w.Abort(&p)
						} else {
							w.Commit(&p, Set, 0)
						}
					}
				case 3:
					if v%97 == 0 {
						s.Flush(0)
					}
				case 4:
					b = selfDescribing(b, k, v, 600000)
					w.Store(Set, key, 0, 0, b, 0)
				default:
					b = selfDescribing(b, k, v, 50+rng.IntN(3000))
					w.Store(Set, key, 0, 0, b, 0)
				}
			}
		}()
	}
	writers.Add(1)
	go func() {
		defer writers.Done()
		for i := range int64(20) {
			s.Tick(1_700_000_000 + i)
			s.Maintain(nil)
			if i%5 == 0 {
				s.Grow(s.Shrink(1 << 20))
			}
			time.Sleep(time.Millisecond) // only to spread the work over the test
		}
	}()
	writers.Wait()
	stop.Store(true)
	readers.Wait()
	if hits.Load() == 0 {
		t.Error("no reader found anything")
	}
	for id := range 3 {
		w := s.Worker(id)
		w.Leave()
	}
}

// TestGrowthUnderReaders: keys that are always there are found at every moment
// while the table grows around them.
func TestGrowthUnderReaders(t *testing.T) {
	s := newTest(t, Config{Limit: 40 << 20, CPUs: 4})
	w := s.Worker(3)
	const fixed = 3000
	for k := range fixed {
		w.Store(Set, fmt.Appendf(nil, "fixed%d", k), 0, 0, fmt.Appendf(nil, "<%d>", k), 0)
	}
	var stop atomic.Bool
	var wg sync.WaitGroup
	for id := range 3 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			w := s.Worker(id)
			rng := rand.New(rand.NewPCG(3, uint64(id)))
			for !stop.Load() {
				k := rng.IntN(fixed)
				it, ok := w.Get(fmt.Appendf(nil, "fixed%d", k))
				if !ok || string(content(it)) != fmt.Sprintf("<%d>", k) {
					t.Errorf("fixed%d: found %v", k, ok)
					stop.Store(true)
				}
				w.Leave()
			}
		}()
	}
	n := 120000
	if testing.Short() {
		n = 20000
	}
	for i := 0; i < n && !stop.Load(); i++ {
		w.Store(Set, fmt.Appendf(nil, "more%d", i), 0, 0, []byte("x"), 0)
	}
	stop.Store(true)
	wg.Wait()
	if in := s.Info(); in.IndexBytes < 4*startBuckets*bucketBytes || in.Total.Evicted > 0 {
		t.Errorf("the table did not grow: %d bytes, %d evicted", in.IndexBytes, in.Total.Evicted)
	}
}

// TestEpochHoldsBack: what a reader may hold is not reused while it is in its
// section, and is as soon as it has left.
func TestEpochHoldsBack(t *testing.T) {
	s := newTest(t, Config{})
	r, w := s.Worker(0), s.Worker(1)
	w.Store(Set, []byte("k"), 0, 0, []byte("old value"), 0)
	it, ok := r.Get([]byte("k"))
	if !ok {
		t.Fatal("not found")
	}
	w.Store(Set, []byte("k"), 0, 0, []byte("new"), 0)
	for range 200 {
		w.Store(Set, []byte("other"), 0, 0, []byte("junk junk"), 0)
		s.Maintain(nil)
	}
	if string(content(it)) != "old value" {
		t.Errorf("the reader's item became %q", content(it))
	}
	if in := s.Info(); in.RetiredChunks < 200 {
		t.Errorf("%d chunks retired with a reader in its section", in.RetiredChunks)
	}
	if !it.Pin() {
		t.Fatal("no pin")
	}
	r.Leave()
	s.Maintain(nil)
	s.Maintain(nil)
	if in := s.Info(); in.RetiredChunks != 0 {
		t.Errorf("%d chunks retired without a reader", in.RetiredChunks)
	}
	if string(content(it)) != "old value" {
		t.Errorf("the pinned item became %q", content(it))
	}
	used := s.Info().Classes[0].Used
	it.Unpin()
	s.Maintain(nil)
	if got := s.Info().Classes[0].Used; got != used-1 {
		t.Errorf("%d chunks used after the unpin, %d before", got, used)
	}
}

// TestEpochStaleEntry: a reader that was delayed between reading the epoch and
// counting itself in does not count under the wrong epoch.
func TestEpochStaleEntry(t *testing.T) {
	var e epochs
	e.init(1)
	sl := &e.slots[0]
	which := e.enter(sl)
	if !e.advance() {
		t.Fatal("readers of the current epoch hold up the next")
	}
	if e.advance() {
		t.Fatal("the epoch moved past a reader")
	}
	e.leave(sl, which)
	if !e.advance() {
		t.Fatal("no reader, and the epoch stands")
	}
	stamp := e.now.Load()
	if e.passed(stamp) {
		t.Fatal("a fresh stamp has passed")
	}
	e.advance()
	e.advance()
	if !e.passed(stamp) {
		t.Fatal("two epochs later it has not")
	}
}

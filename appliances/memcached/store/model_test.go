package store

import (
	"bytes"
	"fmt"
	"strconv"
	"testing"

	"pgregory.net/rapid"
)

// model is the cache as the protocol describes it: a map.
type model struct {
	now   int64 // Unix
	items map[string]*modelItem
	// flushAt is the second of a flush to come, 0 for none.
	flushAt int64
}

type modelItem struct {
	value      []byte
	flags      uint32
	expires    int64 // Unix, 0 = never
	stale, won bool
}

func (m *model) get(k string) *modelItem {
	it := m.items[k]
	if it != nil && it.expires != 0 && it.expires <= m.now {
		delete(m.items, k)
		return nil
	}
	return it
}

// deadline is what protocol.txt says of an expiration time.
func (m *model) deadline(e int64) int64 {
	switch {
	case e == 0:
		return 0
	case e < 0:
		return m.now
	case e <= maxDelta:
		return m.now + e
	}
	return e
}

func (m *model) advance(d int64) {
	m.now += d
	if m.flushAt != 0 && m.flushAt <= m.now {
		clear(m.items)
		m.flushAt = 0
	}
}

// cacheUnderTest drives a Store and a model with the same operations. lossy is
// set where the Store may evict: then a miss is right, a wrong value is not.
type cacheUnderTest struct {
	s     *Store
	w     Worker
	m     model
	keys  []string
	lossy bool
}

func newCacheUnderTest(t *rapid.T, limit, shards int) *cacheUnderTest {
	const now = 1_700_000_000
	// On plain memory, as clearing the heap's takes most of the time; the race
	// tests have the heap.
	s, err := New(Config{Memory: plain, Limit: limit, Shards: shards, Now: now, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	c := &cacheUnderTest{s: s, w: s.Worker(0), m: model{now: now, items: map[string]*modelItem{}}}
	for i := range 12 {
		c.keys = append(c.keys, fmt.Sprint("key", i))
	}
	return c
}

func (c *cacheUnderTest) key(t *rapid.T) string { return rapid.SampledFrom(c.keys).Draw(t, "key") }

func (c *cacheUnderTest) exptime(t *rapid.T) int64 {
	return rapid.OneOf(
		rapid.Just[int64](0),
		rapid.Int64Range(-3, 5),
		rapid.Int64Range(1, 200000),
		rapid.Just[int64](maxDelta),
		rapid.Int64Range(c.m.now-10, c.m.now+100000), // absolute
		rapid.Just[int64](maxDelta+1),                // 1970
	).Draw(t, "exptime")
}

func (c *cacheUnderTest) value(t *rapid.T) []byte {
	n := rapid.OneOf(rapid.IntRange(0, 100), rapid.IntRange(0, 3000), rapid.Just(600000)).Draw(t, "size")
	return bytes.Repeat([]byte{rapid.Byte().Draw(t, "byte")}, n)
}

func (c *cacheUnderTest) store(t *rapid.T) {
	k, v, e := c.key(t), c.value(t), c.exptime(t)
	flags := rapid.Uint32().Draw(t, "flags")
	mode := rapid.SampledFrom([]Mode{Set, Set, Add, Replace, Append, Prepend}).Draw(t, "mode")
	old := c.m.get(k)
	want := OK
	switch {
	case mode == Add && old != nil, mode >= Replace && old == nil:
		want = NotStored
	case (mode == Append || mode == Prepend) && !c.s.Fits(len(k), len(old.value)+len(v), old.flags):
		want = NotStored
	}
	st, _ := c.w.Store(mode, []byte(k), flags, c.s.Deadline(e), v, 0)
	if st != want {
		if !c.lossy {
			t.Fatalf("store mode %d of %q: %d, want %d", mode, k, st, want)
		}
		// It was evicted: what the cache says holds.
		if st == OK && mode == Add {
			delete(c.m.items, k)
		} else if st == NotStored && mode >= Replace {
			delete(c.m.items, k)
			return
		} else {
			t.Fatalf("store mode %d of %q: %d, want %d", mode, k, st, want)
		}
	}
	if st != OK {
		return
	}
	switch mode {
	case Append, Prepend:
		// A new item without the marks of the old one, as upstream.
		old.stale, old.won = false, false
	}
	switch mode {
	case Append:
		old.value = append(bytes.Clone(old.value), v...)
		return
	case Prepend:
		old.value = append(bytes.Clone(v), old.value...)
		return
	}
	c.m.items[k] = &modelItem{value: v, flags: flags, expires: c.m.deadline(e)}
}

// read compares one key.
func (c *cacheUnderTest) read(t *rapid.T, k string) {
	want := c.m.get(k)
	it, ok := c.w.Get([]byte(k))
	defer c.w.Leave()
	switch {
	case !ok && want == nil:
		return
	case !ok && c.lossy:
		delete(c.m.items, k)
		return
	case !ok:
		t.Fatalf("get %q: a miss, want %d bytes that expire at %d; now %d", k, len(want.value), want.expires, c.m.now)
	case want == nil:
		t.Fatalf("get %q: %d bytes, want a miss; now %d, ttl %d", k, it.Len(), c.m.now, it.TTL())
	}
	if it.Flags() != want.flags || !bytes.Equal(content(it), want.value) {
		t.Fatalf("get %q: flags %d and %d bytes, want flags %d and %d bytes", k, it.Flags(), it.Len(), want.flags, len(want.value))
	}
	ttl := int64(-1)
	if want.expires != 0 {
		ttl = want.expires - c.m.now
	}
	if it.TTL() != ttl {
		t.Fatalf("get %q: ttl %d, want %d", k, it.TTL(), ttl)
	}
	if it.Stale() != want.stale || it.Won() != want.won {
		t.Fatalf("get %q: stale %v won %v, want %v %v", k, it.Stale(), it.Won(), want.stale, want.won)
	}
}

func (c *cacheUnderTest) actions() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"store":  c.store,
		"store2": c.store,
		"read":   func(t *rapid.T) { c.read(t, c.key(t)) },
		"delete": func(t *rapid.T) {
			k := c.key(t)
			want := OK
			if c.m.get(k) == nil {
				want = NotFound
			}
			if st := c.w.Delete([]byte(k), 0); st != want && !(c.lossy && st == NotFound) {
				t.Fatalf("delete %q: %d, want %d", k, st, want)
			}
			delete(c.m.items, k)
		},
		"touch": func(t *rapid.T) {
			k, e := c.key(t), c.exptime(t)
			old := c.m.get(k)
			_, ok := c.w.Touch([]byte(k), c.s.Deadline(e), rapid.Bool().Draw(t, "get"))
			c.w.Leave()
			if ok != (old != nil) && !(c.lossy && !ok) {
				t.Fatalf("touch %q: %v", k, ok)
			}
			if !ok {
				delete(c.m.items, k)
			} else {
				old.expires = c.m.deadline(e)
			}
		},
		"incr": func(t *rapid.T) {
			k := c.key(t)
			d := rapid.Uint64().Draw(t, "delta")
			_, v, st := c.w.Arith([]byte(k), &Arith{Delta: d})
			c.w.Leave()
			old := c.m.get(k)
			switch {
			case old == nil:
				if st != NotFound {
					t.Fatalf("incr %q: %d, want a miss", k, st)
				}
			case st == NotFound && c.lossy:
				delete(c.m.items, k)
			default:
				n, err := strconv.ParseUint(string(bytes.TrimRight(old.value, " ")), 10, 64)
				if err != nil {
					// Which junk counts as a number is for TestParseNumber.
					if it, ok := c.w.Peek([]byte(k)); st == OK && ok {
						old.stale, old.won, old.value = it.Stale(), it.Won(), content(it)
					}
					c.w.Leave()
					return
				}
				if st != OK || v != n+d {
					t.Fatalf("incr %q %d by %d: %d, status %d", k, n, d, v, st)
				}
				s := strconv.FormatUint(v, 10)
				for len(s) < len(old.value) {
					s += " "
				}
				if len(s) > len(old.value) {
					old.stale, old.won = false, false
				}
				old.value = []byte(s)
			}
		},
		"number": func(t *rapid.T) {
			k := c.key(t)
			v := strconv.FormatUint(rapid.Uint64().Draw(t, "number"), 10)
			c.w.Store(Set, []byte(k), 0, 0, []byte(v), 0)
			c.m.items[k] = &modelItem{value: []byte(v)}
		},
		"stale": func(t *rapid.T) {
			k := c.key(t)
			old := c.m.get(k)
			st := c.w.MarkStale([]byte(k), 0, false, 0)
			if (st == OK) != (old != nil) && !(c.lossy && st == NotFound) {
				t.Fatalf("mark %q: %d", k, st)
			}
			if st == OK {
				old.stale, old.won = true, false
			} else {
				delete(c.m.items, k)
			}
		},
		"advance": func(t *rapid.T) {
			d := rapid.OneOf(rapid.Int64Range(1, 3), rapid.Int64Range(1, 1000), rapid.Int64Range(1, 40*86400)).Draw(t, "seconds")
			c.m.advance(d)
			c.s.Tick(c.m.now)
			if rapid.Bool().Draw(t, "maintain") {
				c.s.Maintain(nil)
			}
		},
		"flush": func(t *rapid.T) {
			if rapid.IntRange(0, 3).Draw(t, "often") != 0 {
				return
			}
			d := rapid.SampledFrom([]int64{0, 0, -1, 5, 1000}).Draw(t, "delay")
			c.s.Flush(d)
			if d <= 0 {
				clear(c.m.items)
				c.m.flushAt = 0
			} else {
				// One second early, as upstream.
				c.m.flushAt = c.m.now + d - 1
			}
		},
		"maintain": func(t *rapid.T) { c.s.Maintain(nil) },
	}
}

// TestModel: with memory enough, the cache is the map.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := newCacheUnderTest(rt, 64<<20, 1<<rapid.IntRange(0, 2).Draw(rt, "shards"))
		defer c.done(rt)
		rt.Repeat(c.actions())
	})
}

// TestModelEviction: with little memory, the cache may lose items, but what it
// has is right, and it stays within its limit.
func TestModelEviction(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		limit := rapid.IntRange(6, 10).Draw(rt, "MiB") << 20
		c := newCacheUnderTest(rt, limit, 1)
		c.lossy = true
		defer c.done(rt)
		a := c.actions()
		a["fill"] = func(t *rapid.T) {
			n := rapid.IntRange(100, 300000).Draw(t, "size")
			for i := range 2_000_000 / n {
				k := fmt.Sprintf("fill%d-%d", n, i)
				if st, _ := c.w.Store(Set, []byte(k), 0, 0, make([]byte, n), 0); st != OK {
					t.Fatalf("fill with %d bytes: %d", n, st)
				}
			}
		}
		a["shrink"] = func(t *rapid.T) {
			if c.s.Limit() > 6<<20 {
				c.s.Shrink(1 << 20)
			} else {
				c.s.Grow(limit)
			}
		}
		a[""] = func(t *rapid.T) {
			if in := c.s.Info(); in.MemoryBytes > limit+limit/20 {
				t.Fatalf("%d bytes with a limit of %d", in.MemoryBytes, limit)
			}
		}
		rt.Repeat(a)
	})
}

func (c *cacheUnderTest) done(t *rapid.T) {
	for _, k := range c.keys {
		c.read(t, k)
	}
	c.s.check(t)
	c.s.Close()
}

// TestDayOfTime: a day, second by second, with items of all lifetimes; none is
// found after its time or lost before, and the crawler frees what is over
// without anyone asking for it.
func TestDayOfTime(t *testing.T) {
	const start = 1_700_000_000
	s := newTest(t, Config{Memory: plain, Limit: 16 << 20, Now: start})
	w := s.Worker(0)
	ends := map[string]int64{} // Unix
	for sec := int64(0); sec < 24*3600; sec++ {
		now := start + sec
		s.Tick(now)
		if sec%10 == 0 {
			s.Maintain(nil)
		}
		ttl := 1 + (sec*7919)%7200
		k := fmt.Sprint("item", sec)
		exp := ttl
		if sec%3 == 0 {
			exp = now + ttl // the same as Unix time
		}
		if st, _ := w.Store(Set, []byte(k), 0, s.Deadline(exp), []byte(k), 0); st != OK {
			t.Fatalf("second %d: store: %d", sec, st)
		}
		ends[k] = now + ttl
		for _, back := range []int64{0, 1, 10, 100, 1000, 5000, 7000} {
			k := fmt.Sprint("item", sec-back)
			end, ok := ends[k]
			if !ok {
				continue
			}
			if got, want := val(&w, k) != "-", now < end; got != want {
				t.Fatalf("second %d: %s, which ends at second %d: found %v", sec, k, end-start, got)
			}
		}
	}
	in := s.Info()
	if in.Total.Evicted != 0 || in.Total.CrawlerReclaimed == 0 {
		t.Errorf("%d evicted, %d reclaimed by the crawler", in.Total.Evicted, in.Total.CrawlerReclaimed)
	}
	live := 0
	for _, e := range ends {
		if e > start+24*3600-1 {
			live++
		}
	}
	// A minute and a half is what the crawler may be behind.
	if in.Items < live || in.Items > live+1000 {
		t.Errorf("%d items in the cache, %d of them alive", in.Items, live)
	}
}

package store

import (
	"fmt"
	"math"
	"math/bits"
	"strings"
	"testing"
)

func set(t testing.TB, w *Worker, key, value string, deadline uint32) {
	t.Helper()
	if st, _ := w.Store(Set, []byte(key), 0, deadline, []byte(value), 0); st != OK {
		t.Fatalf("set %s: %d", key, st)
	}
}

func TestNoAllocs(t *testing.T) {
	s := newTest(t, Config{Limit: 16 << 20})
	w := s.Worker(0)
	key, other, num := []byte("a key of thirty-two bytes length"), []byte("none"), []byte("num")
	v := make([]byte, 100)
	big := make([]byte, 20000)
	w.Store(Set, key, 0, 0, v, 0)
	w.Store(Set, num, 0, 0, []byte("100"), 0)
	var r MetaResult
	for name, f := range map[string]func(){
		"get":    func() { w.Get(key); w.Leave() },
		"miss":   func() { w.Get(other); w.Leave() },
		"set":    func() { w.Store(Set, key, 1, 0, v, 0) },
		"append": func() { w.Store(Set, other, 1, 0, v, 0); w.Store(Append, other, 0, 0, v, 0); w.Delete(other, 0) },
		"big":    func() { w.Store(Set, other, 1, 0, big, 0); w.Delete(other, 0) },
		"touch":  func() { w.Touch(key, 0, true); w.Leave() },
		"incr":   func() { w.Arith(num, &Arith{Delta: 1}); w.Leave() },
		"delete": func() { w.Delete(other, 0) },
		"meta":   func() { w.GetMeta(key, &MetaGet{Touch: true}, &r); w.Leave() },
		"parts": func() {
			var p Pending
			w.Begin(&p, key, 0, 0, len(v), false)
			p.Write(v)
			w.Commit(&p, Set, 0)
		},
	} {
		if n := testing.AllocsPerRun(200, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// TestNoAllocsFull: neither when each store evicts.
func TestNoAllocsFull(t *testing.T) {
	s := newTest(t, Config{Limit: 3 << 20})
	w := s.Worker(0)
	v := make([]byte, 500)
	var key [16]byte
	i := uint64(0)
	next := func() {
		i++
		for j := range key {
			key[j] = 'a' + byte(i>>(4*(j%8))&15)
		}
		w.Store(Set, key[:], 0, 0, v, 0)
	}
	for range 20000 {
		next()
	}
	if s.Info().Total.Evicted == 0 {
		t.Fatal("nothing was evicted")
	}
	if n := testing.AllocsPerRun(1000, next); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestParseNumber(t *testing.T) {
	for _, c := range []struct {
		in string
		v  uint64
		ok bool
	}{
		{"0", 0, true}, {"12", 12, true}, {"18446744073709551615", math.MaxUint64, true},
		{"18446744073709551616", 0, false}, {"", 0, false}, {" ", 0, false}, {"x", 0, false},
		{" 7", 7, true}, {"\t7", 7, true}, {"7 ", 7, true}, {"7 x", 7, true}, {"7x", 0, false},
		{"7\x00x", 7, true}, {"7\r\n", 7, true}, {"+7", 7, true}, {"-7", 0, false}, {"-0", 0, true},
		{"--7", 0, false}, {"- 7", 0, false}, {"007", 7, true}, {"7.5", 0, false}, {"0x10", 0, false},
		{"-18446744073709551615", 1, true}, // upstream's check for a sign does not see this one
		{"-9223372036854775808", 0, false},
	} {
		if v, ok := ParseNumber([]byte(c.in)); v != c.v || ok != c.ok {
			t.Errorf("%q: %d %v, want %d %v", c.in, v, ok, c.v, c.ok)
		}
	}
}

// TestHashSpreads: every input bit moves about half of the output bits, and
// counters, the keys that programs like, fill buckets evenly.
func TestHashSpreads(t *testing.T) {
	var k hashKey
	k.fill(42)
	for n := 1; n <= 70; n += 3 {
		key := make([]byte, n)
		for i := range key {
			key[i] = byte(i * 37)
		}
		h := k.sum(key)
		flips := 0
		for bit := range 8 * n {
			key[bit/8] ^= 1 << (bit % 8)
			d := bits.OnesCount64(h ^ k.sum(key))
			key[bit/8] ^= 1 << (bit % 8)
			if d < 8 || d > 56 {
				t.Fatalf("key of %d bytes, bit %d: %d bits of the hash change", n, bit, d)
			}
			flips += d
		}
		if mean := float64(flips) / float64(8*n); mean < 30 || mean > 34 {
			t.Errorf("key of %d bytes: %.1f bits change in the mean", n, mean)
		}
	}
	const keys, buckets = 100000, 1 << 14
	for name, part := range map[string]func(h uint64) uint64{
		"bucket": func(h uint64) uint64 { return h & (buckets - 1) },
		"tag":    func(h uint64) uint64 { return h >> 50 },
		"shard":  func(h uint64) uint64 { return h >> 34 & (buckets - 1) },
	} {
		var count [buckets]int
		for i := range keys {
			count[part(k.sum(fmt.Appendf(nil, "user:%08d", i)))]++
		}
		chi := 0.0
		for _, c := range count {
			d := float64(c) - float64(keys)/buckets
			chi += d * d / (float64(keys) / buckets)
		}
		// Chi-square with 16383 degrees of freedom: mean 16383, deviation 181.
		if chi < 16383-6*181 || chi > 16383+6*181 {
			t.Errorf("%s: chi-square %.0f", name, chi)
		}
	}
	var other hashKey
	other.fill(43)
	if k.sum([]byte("same")) == other.sum([]byte("same")) {
		t.Error("the seed does not matter")
	}
	var r1, r2 hashKey
	r1.fill(0)
	r2.fill(0)
	if r1 == r2 {
		t.Error("two random seeds are equal")
	}
}

// TestClassesAreUpstreams: the table that `memcached -vv` prints.
func TestClassesAreUpstreams(t *testing.T) {
	ct, err := newClassTable(1.25, 48, 512<<10)
	if err != nil {
		t.Fatal(err)
	}
	want := []int{96, 120, 152, 192, 240, 304, 384, 480, 600, 752, 944, 1184, 1480, 1856, 2320, 2904, 3632, 4544, 5680, 7104, 8880, 11104, 13880, 17352, 21696, 27120, 33904, 42384, 52984, 66232, 82792, 103496, 129376, 161720, 202152, 252696, 315872, 394840, 524288}
	if ct.largest != len(want) {
		t.Fatalf("%d classes, want %d", ct.largest, len(want))
	}
	for i, n := range want {
		if ct.size[i+1] != n {
			t.Errorf("class %d: %d bytes, want %d", i+1, ct.size[i+1], n)
		}
	}
	if n := ct.perPage(1); n != 10922 {
		t.Errorf("%d chunks of class 1 per page", n)
	}
	for n := 1; n <= 524288; n++ {
		c := ct.of(n)
		if ct.size[c] < n || c > 1 && ct.size[c-1] >= n {
			t.Fatalf("%d bytes: class %d of %d", n, c, ct.size[c])
		}
	}
	if ct.of(524289) != 0 {
		t.Error("too large a chunk has a class")
	}
	small, err := newClassTable(2, 1, 1024)
	if err != nil || small.of(1024) != small.largest || small.of(1025) != 0 {
		t.Errorf("small table: %+v, %v", small, err)
	}
	for _, c := range []struct {
		f          float64
		n, largest int
	}{{1, 48, 1024}, {1.25, 0, 1024}, {1.25, 48, 2 << 20}, {1.25, 48, 10}} {
		if _, err := newClassTable(c.f, c.n, c.largest); err == nil {
			t.Errorf("%+v: no error", c)
		}
	}
}

func TestConfigErrors(t *testing.T) {
	for _, c := range []Config{
		{},
		{Memory: &heapMemory{}, Limit: 1 << 20},
		{Memory: &heapMemory{}, Limit: 8 << 20, Reserve: 4 << 20},
		{Memory: &heapMemory{}, ItemMax: 100},
		{Memory: &heapMemory{}, ItemMax: 2 << 30},
		{Memory: &heapMemory{}, Shards: 3},
		{Memory: &heapMemory{}, Factor: 0.5},
		{Memory: full{}},
	} {
		if s, err := New(c); err == nil {
			t.Errorf("%+v: no error", c)
			s.Close()
		} else if !strings.HasPrefix(err.Error(), "store: ") {
			t.Errorf("error %q", err)
		}
	}
	for cpus, want := range map[int]int{1: 1, 2: 2, 3: 4, 16: 16} {
		s, err := New(Config{Memory: &HostMemory{}, Limit: 2 << 30, CPUs: cpus})
		if err != nil || s.NumShards() != want {
			t.Errorf("%d CPUs: %v shards, want %d", cpus, s.NumShards(), want)
		}
		s.Close()
	}
	if (&HostMemory{}).Available() < 1<<20 {
		t.Error("this host has no memory")
	}
}

// full is a Memory that has none.
type full struct{}

func (full) Map(n int) ([]byte, error) { return nil, fmt.Errorf("nothing there") }
func (full) Unmap([]byte)              {}
func (full) Drop([]byte)               {}
func (full) Available() int            { return 0 }

func TestDeadline(t *testing.T) {
	const now = 1_700_000_000
	s := newTest(t, Config{Now: now})
	for _, c := range []struct {
		exptime, ttl int64 // ttl: -1 never, 0 or less over
	}{
		{0, -1}, {1, 1}, {maxDelta, maxDelta}, {now + 100, 100}, {now, 0}, {now - 1, -1 << 60}, {maxDelta + 1, -1 << 60}, {-1, -1 << 60}, {1 << 40, 1<<32 - 2 - relStart},
	} {
		w := s.Worker(0)
		set(t, &w, "k", "v", s.Deadline(c.exptime))
		it, ok := w.Peek([]byte("k"))
		if want := c.ttl == -1 || c.ttl > 0; ok != want {
			t.Errorf("exptime %d: found %v", c.exptime, ok)
		} else if ok && it.TTL() != c.ttl {
			t.Errorf("exptime %d: ttl %d, want %d", c.exptime, it.TTL(), c.ttl)
		}
		w.Leave()
	}
	if s.Unix() != now || s.Uptime() != 0 || s.Now() != relStart {
		t.Errorf("time %d, uptime %d, now %d", s.Unix(), s.Uptime(), s.Now())
	}
	s.Tick(now + 5)
	s.Tick(now - 100) // a clock that goes back stands still
	s.Tick(1 << 60)
	if s.Unix() != now+5 || s.Uptime() != 5 {
		t.Errorf("time %d, uptime %d", s.Unix(), s.Uptime())
	}
}

func TestFlush(t *testing.T) {
	const now = 1_700_000_000
	s := newTest(t, Config{Now: now})
	w := s.Worker(0)
	set(t, &w, "a", "1", 0)
	s.Flush(0)
	set(t, &w, "b", "2", 0)
	if val(&w, "a") != "-" || val(&w, "b") != "2" {
		t.Error("flush in the same second: wrong items")
	}
	s.Flush(10)
	s.Tick(now + 8)
	set(t, &w, "c", "3", 0)
	if val(&w, "b") != "2" || val(&w, "c") != "3" {
		t.Error("delayed flush came early")
	}
	s.Tick(now + 9)
	if val(&w, "b") != "-" || val(&w, "c") != "-" {
		t.Error("delayed flush did not come")
	}
	set(t, &w, "d", "4", 0)
	s.Flush(now + 20)
	s.Flush(now + 30) // replaces the other
	s.Tick(now + 25)
	if val(&w, "d") != "4" {
		t.Error("a flush that was replaced came")
	}
	s.Maintain(nil)
	if in := s.Info(); in.GetFlushed != 3 || in.Items != 1 {
		t.Errorf("%d flushed misses, %d items", in.GetFlushed, in.Items)
	}
}

func TestCrawlerFreesFlushed(t *testing.T) {
	s := newTest(t, Config{})
	w := s.Worker(0)
	for i := range 5000 {
		set(t, &w, fmt.Sprint("k", i), "v", 0)
	}
	s.Flush(0)
	pauses := 0
	s.Maintain(func() { pauses++ })
	in := s.Info()
	if in.Items != 0 || in.Total.CrawlerReclaimed < 4000 || in.Total.CrawlerReclaimed+in.Total.Reclaimed != 5000 || in.CrawlerStarts != 1 || pauses < 10 {
		t.Errorf("%d items, %d reclaimed, %d starts, %d pauses", in.Items, in.Total.CrawlerReclaimed, in.CrawlerStarts, pauses)
	}
	s.SetCrawler(false)
	checked := in.Total.CrawlerItemsChecked
	set(t, &w, "k", "v", s.Deadline(10))
	s.Crawl()
	s.Maintain(nil)
	if s.CrawlerOn() || s.Info().Total.CrawlerItemsChecked != checked {
		t.Error("the crawler runs while it is off")
	}
}

func TestTempItemsAreNotEvicted(t *testing.T) {
	s := newTest(t, Config{Memory: plain, Limit: 3 << 20})
	s.SetTempTTL(60)
	w := s.Worker(0)
	set(t, &w, "temp", "x", s.Deadline(50))
	for i := range 60000 {
		set(t, &w, fmt.Sprint("k", i), "x", 0)
	}
	if val(&w, "temp") == "-" {
		t.Error("evicted")
	}
	if in := s.Info(); in.Classes[0].Items[lruTemp] != 1 {
		t.Errorf("lists: %v", in.Classes[0].Items)
	}
}

func TestFlatLRU(t *testing.T) {
	s := newTest(t, Config{FlatLRU: true})
	w := s.Worker(0)
	set(t, &w, "k", "x", 0)
	if in := s.Info(); in.Classes[0].Items[lruCold] != 1 {
		t.Errorf("lists: %v", in.Classes[0].Items)
	}
	s.SetFlat(false)
	s.TuneLRU(10, 30, 0.5, 3)
	if h, wm, hf, wf, flat, ttl := s.LRU(); h != 10 || wm != 30 || hf != 0.5 || wf != 3 || flat || ttl != -1 {
		t.Error("settings did not take")
	}
}

func TestRecacheToken(t *testing.T) {
	s := newTest(t, Config{})
	w := s.Worker(0)
	k := []byte("k")
	get := func(g MetaGet) (r MetaResult, st Status) {
		_, st = w.GetMeta(k, &g, &r)
		w.Leave()
		return
	}
	if _, st := get(MetaGet{}); st != NotFound {
		t.Fatalf("miss: %d", st)
	}
	v := MetaGet{Vivify: true, VivifyAt: s.Deadline(30)}
	if r, st := get(v); st != OK || !r.Won || !r.Created {
		t.Fatalf("vivify: %d %+v", st, r)
	}
	if r, st := get(v); st != OK || r.Won || !r.Sent || r.Created {
		t.Fatalf("second: %d %+v", st, r)
	}
	set(t, &w, "k", "v", s.Deadline(100))
	low := MetaGet{Recache: true, RecacheBefore: s.Deadline(200)}
	if r, _ := get(MetaGet{Recache: true, RecacheBefore: s.Deadline(50)}); r.Won {
		t.Error("won with time left")
	}
	if r, _ := get(low); !r.Won {
		t.Error("not won with little time left")
	}
	if r, _ := get(low); r.Won || !r.Sent {
		t.Error("won twice")
	}
	set(t, &w, "k", "v", 0)
	if st := w.MarkStale(k, 99999, false, 0); st != Exists {
		t.Errorf("mark with a wrong CAS: %d", st)
	}
	if st := w.MarkStale([]byte("none"), 0, false, 0); st != NotFound {
		t.Errorf("mark of nothing: %d", st)
	}
	if st := w.MarkStale(k, 0, true, s.Deadline(77)); st != OK {
		t.Errorf("mark: %d", st)
	}
	if r, _ := get(MetaGet{}); !r.Won || !r.Stale || r.Sent {
		t.Errorf("first after the mark: %+v", r)
	}
	if r, _ := get(MetaGet{}); r.Won || !r.Stale || !r.Sent {
		t.Errorf("second after the mark: %+v", r)
	}
	it, _ := w.Peek(k)
	if it.TTL() != 77 || !it.Stale() || !it.Won() || it.BinKey() {
		t.Errorf("ttl %d", it.TTL())
	}
	w.Leave()
}

func TestSizesAndWalk(t *testing.T) {
	s := newTest(t, Config{Shards: 2, Limit: 32 << 20})
	w := s.Worker(0)
	for i := range 100 {
		set(t, &w, fmt.Sprint("key", i), strings.Repeat("x", i), 0)
	}
	n := uint64(0)
	for i, c := range s.Sizes() {
		if c > 0 && (i < 2 || i > 6) {
			t.Errorf("%d items of size %d", c, i*SizeStep)
		}
		n += c
	}
	seen := map[string]bool{}
	s.Walk(1, func(it Item) bool {
		seen[string(it.Key())] = true
		return len(seen) < 20
	})
	s.Walk(2, func(it Item) bool {
		seen[string(it.Key())] = true
		return true
	})
	// Class 1 ends at 96 bytes: values up to 33; class 2 at 120.
	if n != 100 || len(seen) != 20+24 {
		t.Errorf("%d items by size, %d walked", n, len(seen))
	}
	s.ResetStats()
	if in := s.Info(); in.Total.SetCmds != 0 || in.TotalItems != 0 || in.Items != 100 {
		t.Errorf("after reset: %+v", in.Total)
	}
}

func TestEvictionHook(t *testing.T) {
	s := newTest(t, Config{Memory: plain, Limit: 3 << 20})
	n := uint64(0)
	s.OnEvict = func(it Item) {
		if !strings.HasPrefix(string(it.Key()), "k") {
			t.Errorf("evicted %q", it.Key())
		}
		n++
	}
	w := s.Worker(0)
	for i := range 60000 {
		set(t, &w, fmt.Sprint("k", i), "x", 0)
	}
	if in := s.Info(); n == 0 || n != in.Total.Evicted {
		t.Errorf("%d calls for %d evictions", n, in.Total.Evicted)
	}
}

// TestCASCounts: what `stats` says of compare-and-store.
func TestCASCounts(t *testing.T) {
	s := newTest(t, Config{NoCAS: true})
	w := s.Worker(0)
	set(t, &w, "k", "v", 0)
	it, _ := w.Get([]byte("k"))
	if it.CAS() != 0 || it.Size() != 48+2+3 || it.Class() != 1 || it.Idle() != 0 || it.Len() != 1 {
		t.Errorf("cas %d, size %d", it.CAS(), it.Size())
	}
	w.Leave()
	w.Store(CAS, []byte("k"), 0, 0, []byte("x"), 1)
	w.Store(CAS, []byte("k"), 0, 0, []byte("x"), 1)
	w.Store(CAS, []byte("none"), 0, 0, []byte("x"), 1)
	w.Arith([]byte("none"), &Arith{Decr: true})
	w.Count(3, 5)
	in := s.Info()
	if in.Total.CASHits != 1 || in.Total.CASBadval != 1 || in.CASMisses != 1 || in.DecrMisses != 1 || in.User[3] != 5 {
		t.Errorf("%+v %+v", in.Total, in.ShardStats)
	}
	w.Forget([]byte("k"))
	if val(&w, "k") != "-" {
		t.Error("not forgotten")
	}
	if w.Cache() != s {
		t.Error("wrong cache")
	}
}

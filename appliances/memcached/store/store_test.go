package store

import (
	"bytes"
	"fmt"
	"testing"
)

func val(w *Worker, key string) string {
	defer w.Leave()
	it, ok := w.Get([]byte(key))
	if !ok {
		return "-"
	}
	return string(content(it))
}

// content copies the value of it, in pieces or not, without its end.
func content(it Item) []byte {
	var b []byte
	if v := it.Value(); v != nil {
		b = append(b, v...)
	} else {
		for c := Cursor(0); ; {
			p, next := it.Piece(c)
			b = append(b, p...)
			if c = next; c == 0 {
				break
			}
		}
	}
	if !bytes.HasSuffix(b, crlf) || len(b) != it.Len()+2 {
		panic(fmt.Sprintf("value of %d bytes without its end", len(b)))
	}
	return b[:len(b)-2]
}

func TestModes(t *testing.T) {
	s := newTest(t, Config{})
	w := s.Worker(0)
	for i, c := range []struct {
		mode Mode
		v    string
		cas  uint64
		st   Status
		want string
	}{
		{Replace, "a", 0, NotStored, "-"},
		{Append, "a", 0, NotStored, "-"},
		{CAS, "a", 5, NotFound, "-"},
		{Add, "a", 0, OK, "a"}, // CAS 1
		{Add, "b", 0, NotStored, "a"},
		{Set, "c", 0, OK, "c"},            // 2
		{Replace, "d", 0, OK, "d"},        // 3
		{Append, "e", 0, OK, "de"},        // 4
		{Prepend, "f", 0, OK, "fde"},      // 5
		{Prepend, "f", 4, Exists, "fde"},  //
		{CAS, "g", 4, Exists, "fde"},      //
		{CAS, "g", 0, Exists, "fde"},      //
		{CAS, "g", 5, OK, "g"},            // 6
		{CASOrStale, "h", 7, Exists, "g"}, //
		{CASOrStale, "h", 2, OK, "h"},     // 7, stale
		{CASOrStale, "hh", 7, OK, "hh"},   // 8
		{Set, "", 0, OK, ""},              // 9
		{Append, "", 0, OK, ""},           // 10
		{Append, "long", 10, OK, "long"},  // 11
		{Set, string(make([]byte, 5000)), 0, OK, string(make([]byte, 5000))},
	} {
		if st, _ := w.Store(c.mode, []byte("k"), 0, 0, []byte(c.v), c.cas); st != c.st {
			t.Errorf("step %d: status %d, want %d", i, st, c.st)
		}
		if got := val(&w, "k"); got != c.want {
			t.Errorf("step %d: value %.20q, want %.20q", i, got, c.want)
		}
	}
	if st := w.Delete([]byte("k"), 1); st != Exists {
		t.Errorf("delete with wrong CAS: %d", st)
	}
	if st := w.Delete([]byte("k"), 0); st != OK {
		t.Errorf("delete: %d", st)
	}
	if st := w.Delete([]byte("k"), 0); st != NotFound {
		t.Errorf("second delete: %d", st)
	}
}

func TestManyItemsSurviveGrowth(t *testing.T) {
	s := newTest(t, Config{Memory: plain, Limit: 32 << 20, Shards: 2})
	w := s.Worker(0)
	const n = 60000
	for i := range n {
		k := fmt.Appendf(nil, "key%d", i)
		if st, _ := w.Store(Set, k, uint32(i), 0, k, 0); st != OK {
			t.Fatalf("set %d: %d", i, st)
		}
		for _, j := range []int{0, i / 2, i} {
			k := fmt.Appendf(nil, "key%d", j)
			it, ok := w.Get(k)
			if !ok || it.Flags() != uint32(j) || !bytes.Equal(content(it), k) {
				t.Fatalf("after set %d: key%d is wrong", i, j)
			}
			w.Leave()
		}
	}
	if in := s.Info(); in.Items != n || in.Total.Evicted != 0 || in.IndexBytes < n*8 {
		t.Errorf("info: %+v", in)
	}
}

func TestEvictionKeepsLimitAndHotItems(t *testing.T) {
	s := newTest(t, Config{Memory: plain, Limit: 4 << 20})
	w := s.Worker(0)
	v := make([]byte, 400)
	w.Store(Set, []byte("hot"), 0, 0, v, 0)
	for i := range 50000 {
		if st, _ := w.Store(Set, fmt.Appendf(nil, "key%d", i), 0, 0, v, 0); st != OK {
			t.Fatalf("set %d: %d", i, st)
		}
		if i%500 == 0 {
			if val(&w, "hot") == "-" {
				t.Fatalf("hot item gone after %d", i)
			}
		}
		if i%1000 == 0 {
			s.Tick(s.Unix() + 1)
			s.Maintain(nil)
		}
		if i%100 == 0 {
			if in := s.Info(); in.MemoryBytes > 4<<20 {
				t.Fatalf("%d bytes used", in.MemoryBytes)
			}
		}
	}
	in := s.Info()
	if in.Total.Evicted == 0 || in.Items < 5000 {
		t.Errorf("%d items, %d evicted", in.Items, in.Total.Evicted)
	}
}

func TestLargeValuesInPieces(t *testing.T) {
	s := newTest(t, Config{Limit: 16 << 20, ItemMax: 4 << 20})
	w := s.Worker(0)
	for i, n := range []int{524287 - 100, 524288, 600000, 1 << 20, 3 << 20, 4<<20 - 100} {
		v := bytes.Repeat(fmt.Appendf(nil, "%07d.", i), n/8+1)[:n]
		k := fmt.Appendf(nil, "big%d", i)
		if st, _ := w.Store(Set, k, 7, 0, v, 0); st != OK {
			t.Fatalf("set of %d bytes: %d", n, st)
		}
		it, ok := w.Get(k)
		if !ok || !bytes.Equal(content(it), v) {
			t.Fatalf("value of %d bytes is wrong", n)
		}
		w.Leave()
	}
	if st, _ := w.Store(Set, []byte("k"), 0, 0, make([]byte, 4<<20), 0); st != TooLarge {
		t.Errorf("value over the limit: %d", st)
	}
	if st, _ := w.Store(Append, []byte("big2"), 0, 0, []byte("tail"), 0); st != OK {
		t.Errorf("append to a chunked item: %d", st)
	}
	if it, ok := w.Get([]byte("big2")); !ok || !bytes.HasSuffix(content(it), []byte("tail")) || it.Len() != 600004 {
		t.Error("append to a chunked item lost something")
	}
	w.Leave()
	for i := range 100 {
		if st, _ := w.Store(Set, fmt.Appendf(nil, "fill%d", i), 0, 0, make([]byte, 900000), 0); st != OK {
			t.Fatalf("fill %d: %d", i, st)
		}
	}
}

func TestSmallItemsGiveWayToLarge(t *testing.T) {
	for _, shards := range []int{1, 4} {
		s := newTest(t, Config{Memory: plain, Limit: 16 << 20, Shards: shards})
		w := s.Worker(0)
		for i := range 40000 {
			if st, _ := w.Store(Set, fmt.Appendf(nil, "small%d", i), 0, 0, make([]byte, 500), 0); st != OK {
				t.Fatalf("%d shards: small %d: %d", shards, i, st)
			}
		}
		for i := range 20 {
			for _, n := range []int{900000, 30000, 1000} {
				if st, _ := w.Store(Set, fmt.Appendf(nil, "large%d.%d", i, n), 0, 0, make([]byte, n), 0); st != OK {
					t.Fatalf("%d shards: %d bytes, round %d: %d", shards, n, i, st)
				}
			}
		}
	}
}

func TestNoEvictRefuses(t *testing.T) {
	s := newTest(t, Config{Limit: 3 << 20, NoEvict: true})
	w := s.Worker(0)
	n := 0
	for ; n < 100000; n++ {
		if st, _ := w.Store(Set, fmt.Appendf(nil, "key%d", n), 0, 0, make([]byte, 100), 0); st == NoMemory {
			break
		}
	}
	if n == 100000 || n < 1000 {
		t.Fatalf("stored %d", n)
	}
	for i := range n {
		if val(&w, fmt.Sprintf("key%d", i)) == "-" {
			t.Fatalf("key%d was evicted", i)
		}
	}
	w.Delete([]byte("key0"), 0)
	if st, _ := w.Store(Set, []byte("again"), 0, 0, make([]byte, 100), 0); st != OK {
		t.Errorf("set after delete: %d", st)
	}
}

func TestArith(t *testing.T) {
	s := newTest(t, Config{})
	w := s.Worker(0)
	for i, c := range []struct {
		old   string
		decr  bool
		delta uint64
		v     uint64
		want  string
		st    Status
	}{
		{"1", false, 1, 2, "2", OK},
		{"9", false, 1, 10, "10", OK},
		{"10", true, 1, 9, "9 ", OK},
		{"10", true, 11, 0, "0 ", OK},
		{"6", false, 1<<64 - 1, 5, "5", OK},
		{" 7", false, 1, 8, "8 ", OK},
		{"7 x", false, 1, 8, "8  ", OK},
		{"00000000000000000000000007", false, 1, 8, "8                         ", OK},
		{"", false, 1, 0, "", NonNumeric},
		{"x", false, 1, 0, "x", NonNumeric},
		{"7x", false, 1, 0, "7x", NonNumeric},
		{"-1", false, 1, 0, "-1", NonNumeric},
		{"18446744073709551616", false, 1, 0, "18446744073709551616", NonNumeric},
	} {
		w.Store(Set, []byte("n"), 3, 0, []byte(c.old), 0)
		it, v, st := w.Arith([]byte("n"), &Arith{Delta: c.delta, Decr: c.decr})
		if st != c.st || v != c.v || st == OK && it.Flags() != 3 {
			t.Errorf("%d: %d, status %d; want %d, %d", i, v, st, c.v, c.st)
		}
		w.Leave()
		if got := val(&w, "n"); got != c.want {
			t.Errorf("%d: value %q, want %q", i, got, c.want)
		}
	}
	if _, _, st := w.Arith([]byte("none"), &Arith{Delta: 1}); st != NotFound {
		t.Errorf("missing: %d", st)
	}
}

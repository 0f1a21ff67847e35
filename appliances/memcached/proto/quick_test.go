package proto

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"osv/appliances/memcached/store"
)

// A get by datagram answers as the text of the protocol says, whatever the sizes,
// in place or not, and writes nothing beyond its buffer.
func TestQuickGetSaysWhatGetSays(t *testing.T) {
	s := newServer(t, store.Config{})
	d := NewDatagram(s, 0)
	w := s.Store.Worker(0)
	rapid.Check(t, func(rt *rapid.T) {
		key := rapid.StringMatching(`[!-~]{1,250}`).Draw(rt, "key")
		flags := rapid.OneOf(rapid.SampledFrom([]uint32{0, 9, 10, 99, 100, 999, 1000, 9999, 10000, 1<<32 - 1}), rapid.Uint32()).Draw(rt, "flags")
		value := bytes.Repeat([]byte{'v'}, rapid.OneOf(rapid.IntRange(0, 1500), rapid.SampledFrom([]int{9, 10, 99, 100, 999, 1000})).Draw(rt, "value"))
		if st, _ := w.Store(store.Set, []byte(key), flags, 0, value, 0); st != store.OK {
			rt.Fatal(st)
		}
		end := rapid.SampledFrom([]string{"\r\n", "\n"}).Draw(rt, "end")
		want := fmt.Sprintf("VALUE %s %d %d\r\n%s\r\nEND\r\n", key, flags, len(value), value)
		if rapid.Bool().Draw(rt, "miss") {
			key, want = "none", "END\r\n"
		}
		req := frame(0x1234, 0, 1, "get "+key+end)
		size := rapid.IntRange(FrameHeader+64, 1472).Draw(rt, "out")
		mem := bytes.Repeat([]byte{0xa5}, 1600)
		in, out := req, mem[:size]
		if rapid.Bool().Draw(rt, "in place") && len(req) <= size {
			in = mem[:copy(mem, req)]
		}
		var got []byte
		for n := d.Handle(in, out, false); n > 0; n = d.More(out) {
			if n > size || n > MaxDatagram || binary.BigEndian.Uint16(out) != 0x1234 {
				rt.Fatalf("datagram of %d bytes: % x", n, out[:8])
			}
			got = append(got, out[FrameHeader:n]...)
		}
		if string(got) != want {
			rt.Fatalf("get %s: %q\nwant %q", key, got, want)
		}
		if bytes.Count(mem[size:], []byte{0xa5}) != len(mem)-size {
			rt.Fatalf("written beyond %d bytes of room", size)
		}
	})
}

// quickKey takes one key and nothing else, for any byte in any place.
func TestQuickKey(t *testing.T) {
	ask := func(line string, want string) {
		t.Helper()
		for _, end := range []string{"\n", "\r\n"} {
			if got := quickKey(frame(1, 0, 1, line+end)); string(got) != want || (got == nil) != (want == "") {
				t.Fatalf("%q: key %q, want %q", line+end, got, want)
			}
		}
		if got := quickKey(frame(1, 0, 1, line)); got != nil && !strings.HasSuffix(line, "\n") {
			t.Fatalf("%q: key %q without an end of line", line, got)
		}
	}
	for n := 1; n <= maxKey; n++ {
		ask("get "+strings.Repeat("k", n), strings.Repeat("k", n))
	}
	ask("get "+strings.Repeat("k", maxKey+1), "")
	ask("get ", "")
	ask("gets k", "")
	ask("Get k", "")
	for _, n := range []int{1, 2, 7, 8, 9, 15, 16, 17, 24, 31} {
		for at := range n {
			for c := range 256 {
				b := bytes.Repeat([]byte{'k'}, n)
				b[at] = byte(c)
				want := string(b)
				if c <= ' ' {
					want = ""
				}
				if c != '\r' || at < n-1 {
					ask("get "+string(b), want)
				}
			}
		}
	}
	for n := range 14 {
		if got := quickKey(frame(1, 0, 1, "get key\r\n")[:n]); got != nil {
			t.Fatalf("%d bytes: key %q", n, got)
		}
	}
}

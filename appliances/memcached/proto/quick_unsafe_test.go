package proto

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"unsafe"

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
	key := func(in []byte) []byte { return quickKey(unsafe.Pointer(&in[0]), len(in)) }
	ask := func(line string, want string) {
		t.Helper()
		for _, end := range []string{"\n", "\r\n"} {
			if got := key(frame(1, 0, 1, line+end)); string(got) != want || (got == nil) != (want == "") {
				t.Fatalf("%q: key %q, want %q", line+end, got, want)
			}
		}
		if got := key(frame(1, 0, 1, line)); len(line) > len("get k") && got != nil && !strings.HasSuffix(line, "\n") {
			t.Fatalf("%q: key %q without an end of line", line, got)
		}
	}
	for n := 1; n <= maxKey; n++ {
		ask("get "+strings.Repeat("k", n), strings.Repeat("k", n))
	}
	ask("get "+strings.Repeat("k", maxKey+1), "")
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
}

// Whatever a datagram says, it says the same with a command behind it, which keeps
// it from the quick ways, as without.
func TestQuickSetIsSet(t *testing.T) {
	s := newServer(t, store.Config{})
	d := NewDatagram(s, 0)
	all := func(req []byte) string {
		buf := make([]byte, 1472)
		var got []byte
		for n := d.Handle(append([]byte(nil), req...), buf, false); n > 0; n = d.More(buf) {
			got = append(got, buf[FrameHeader:n]...)
		}
		return string(got)
	}
	ask := func(name, text string) {
		t.Helper()
		all(frame(1, 0, 1, "delete k\r\n"))
		a := all(frame(1, 0, 1, text)) + all(frame(1, 0, 1, "get k\r\n"))
		all(frame(1, 0, 1, "delete k\r\n"))
		b := all(frame(1, 0, 1, text+"mn\r\n")) + all(frame(1, 0, 1, "get k\r\n"))
		if a != strings.Replace(b, "MN\r\n", "", 1) {
			t.Fatalf("%s: %q: %q\nwith mn: %q", name, text, a, b)
		}
	}
	if got := all(frame(1, 0, 1, "set k 12345 0 5\r\nhello\r\nget k\r\n")); got != "STORED\r\nVALUE k 12345 5\r\nhello\r\nEND\r\n" {
		t.Fatalf("%q", got)
	}
	for name, text := range map[string]string{
		"plain":          "set k 123 0 5\r\nhello\r\n",
		"empty":          "set k 0 0 0\r\n\r\n",
		"nine digits":    "set k 999999999 999999999 5\r\nhello\r\n",
		"ten digits":     "set k 4294967295 0 5\r\nhello\r\n",
		"zeros":          "set k 0000000000 0000 0005\r\nhello\r\n",
		"sign":           "set k 1 -1 5\r\nhello\r\n",
		"plus":           "set k 1 +0 5\r\nhello\r\n",
		"spaces":         "set  k 1 0 5\r\nhello\r\n",
		"more spaces":    "set k 1  0 5\r\nhello\r\n",
		"space at end":   "set k 1 0 5 \r\nhello\r\n",
		"no CR":          "set k 1 0 5\nhello\r\n",
		"no number":      "set k 1 0\r\nhello\r\n",
		"not a number":   "set k x 0 5\r\nhello\r\n",
		"not a length":   "set k 0 0 x\r\nhello\r\n",
		"nul in key":     "set k\x00 0 0 5\r\nhello\r\n",
		"long key":       "set " + strings.Repeat("k", 250) + " 0 0 5\r\nhello\r\n",
		"longer key":     "set " + strings.Repeat("k", 251) + " 0 0 5\r\nhello\r\n",
		"noreply":        "set k 1 0 5 noreply\r\nhello\r\n",
		"expires":        "set k 1 100 5\r\nhello\r\n",
		"in the past":    "set k 1 2592001 5\r\nhello\r\n",
		"CR in value":    "set k 1 0 5\r\nhe\r\no\r\n",
		"eight-byte key": "set kkkkkkkk 1 0 5\r\nhello\r\n",
	} {
		ask(name, text)
	}
	// Cut or lengthened by a byte, it is not a set with its value and nothing else.
	whole := "set k 7 0 5\r\nhello\r\n"
	for n := range whole {
		if quickSet([]byte(whole[:n]), new(setLine)) != 0 {
			t.Errorf("%q is taken", whole[:n])
		}
	}
	var l setLine
	if quickSet([]byte(whole+"x"), &l) != len(whole) || quickSet([]byte(whole), &l) != len(whole) || string(l.key) != "k" || string(l.value) != "hello" || l.flags != 7 || l.exp != 0 {
		t.Errorf("%+v", l)
	}
}

// Whatever a stream says, it says the same byte by byte, which keeps it from the
// quick ways.
func TestQuickLineIsLine(t *testing.T) {
	long := strings.Repeat("k", maxKey)
	for _, text := range []string{
		"get k\r\n", "get none\r\n", "get longerkey\r\n", "get longerkey\n", "get longerkey\rx\n", "get longerkey \r\n", "get  longerkey\r\n",
		"get longerkey k\r\n", "get longerkey", "get longer\x00key\r\n", "get longerke\xff\r\n", "get big\r\nget big\r\nget longerkey\r\n",
		"get " + long + "\r\n", "get " + long + "k\r\n", "get\r\n\r\n\r\n", "get \r\n\r\n\r\n", "gets longerkey\r\n", "Get longerkey\r\n",
		"set " + long + " 0 0 1\r\nx\r\nget " + long + "\r\n", "set " + long + "k 0 0 1\r\nx\r\n",
		"set a 1 0 3\r\nabc\r\nget a\r\nget a\r\nset a 4294967295 0 4\r\nabcd\r\nget a\r\n", "set a 12345 0 3\r\nabcd\r\nget a\r\n",
		"set a 0 0 3 noreply\r\nabc\r\nget a\r\n", "set a 0 0 0\r\n\r\nget a\r\nquit\r\nget a\r\n", "set a 0 0 2000000\r\nx\r\n",
		"set a 0 0 2\r\n\r\n\r\nget a\r\n", "set a 0 -1 3\r\nabc\r\nget a\r\n", "set a 0 0 3\nabc\r\nget a\r\n", "set a 0 0 3\r\nab",
		"get longerkey\r\nset longerkey 5 0 2\r\nhi\r\nget longerkey\r\nversion\r\nget k\r\n",
	} {
		var got [2]string
		for i := range got {
			s := newServer(t, store.Config{})
			c := NewConn(s, 0)
			o := &Out{B: make([]byte, 0, 700), Sink: &smallSink{n: 700}}
			for _, kv := range [][2]string{{"k", "v"}, {"longerkey", "value"}, {"big", strings.Repeat("b", 900)}} {
				c.Feed(fmt.Appendf(nil, "set %s 7 0 %d noreply\r\n%s\r\n", kv[0], len(kv[1]), kv[1]), o)
			}
			step := 1
			if i == 1 {
				step = len(text)
			}
			for in := []byte(text); len(in) > 0 && c.Feed(bytes.Clone(in[:step]), o) == Open; in = in[step:] {
			}
			got[i] = string(o.Sink.(*smallSink).got) + string(o.B)
			c.End()
		}
		if got[0] != got[1] {
			t.Errorf("%q: %q\nbyte by byte: %q", text, got[1], got[0])
		}
	}
}

func TestBlankFrom(t *testing.T) {
	for n := 8; n < 40; n++ {
		for from := 4; from < n; from++ {
			for at := 0; at <= n; at++ {
				b := bytes.Repeat([]byte{'x'}, n)
				want := n
				if at < n {
					b[at] = ' '
					if at >= from {
						want = at
					}
				}
				if got := blankFrom(unsafe.Pointer(&b[0]), from, n); got != want {
					t.Fatalf("%q from %d: %d, want %d", b, from, got, want)
				}
			}
		}
	}
}

// FuzzQuickSet: what quickSet takes, the words of the line say.
func FuzzQuickSet(f *testing.F) {
	f.Add([]byte("set k 7 0 5\r\nhello\r\n"))
	f.Add([]byte("set k 999999999 123456789 0\r\n\r\n"))
	f.Fuzz(func(t *testing.T, p []byte) {
		var s setLine
		n := quickSet(p[:len(p):len(p)], &s)
		if n == 0 {
			return
		}
		p = p[:n]
		if want := fmt.Sprintf("set %s %%s %%s %%s\r\n%s\r\n", s.key, s.value); len(s.key) > maxKey || bytes.ContainsAny(s.key, " \r\n\x00") || len(want) > len(p)+6 {
			t.Fatalf("%q: %+v", p, s)
		}
		w := strings.Split(string(p[:len(p)-len(s.value)-4]), " ")
		if len(w) != 5 || w[1] != string(s.key) || fmt.Sprint(s.flags) != trimZeros(w[2]) || fmt.Sprint(s.exp) != trimZeros(w[3]) || fmt.Sprint(len(s.value)) != trimZeros(w[4]) {
			t.Fatalf("%q: %+v", p, s)
		}
	})
}

func trimZeros(s string) string {
	if t := strings.TrimLeft(s, "0"); t != "" {
		return t
	}
	return "0"
}

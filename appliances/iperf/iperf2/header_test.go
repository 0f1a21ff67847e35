package iperf2

import (
	"encoding/binary"
	"encoding/hex"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

func words(v ...uint32) (b []byte) {
	for _, w := range v {
		b = binary.BigEndian.AppendUint32(b, w)
	}
	return b
}

// Headers as 2.0.5 and 2.1.8 put them on the wire.
func TestParseHeader(t *testing.T) {
	ext := func(upper uint16, rate uint64) []byte {
		return words(0, 0, uint32(upper)<<16, 0x20001, 0x80000, 0, uint32(rate), uint32(rate>>32)<<8, 0)
	}
	for _, c := range []struct {
		name string
		b    []byte
		want header
		dual bool
		ack  bool
	}{
		{"2.0.5 -d -t 10", words(0x80000001, 1, 5001, 0, 0, ^uint32(1000)+1), header{flags: 0x80000001, port: 5001, time: 10 * time.Second}, true, false},
		{"2.0.5 -r -n 1M -l 8K", words(0x80000000, 1, 5002, 8192, 0, 1<<20), header{flags: 0x80000000, port: 5002, block: 8192, amount: 1 << 20}, true, false},
		{"2.1.8", append(words(0x40010078, 1, 5001, 0, 0, ^uint32(200)+1), ext(0, 0)...), header{flags: 0x40010078, port: 5001, time: 2 * time.Second}, false, true},
		{"2.1.8 -R -b 5G", append(words(0x44010078, 1, 5001, 0, 0, ^uint32(200)+1), ext(extReverse, 5e9)...), header{flags: 0x44010078, ext: extReverse, port: 5001, time: 2 * time.Second, rate: 5e9}, false, false},
		{"2.1.8 --full-duplex -X", append(words(0x46010078, 1, 5001, 0, 0, ^uint32(200)+1), ext(extFullDuplex, 0)...), header{flags: 0x46010078, ext: extFullDuplex, port: 5001, time: 2 * time.Second}, false, true},
		{"a reverse flag without its extension", words(0x44010078, 1, 5001, 0, 0, 5), header{flags: 0x40010078, port: 5001, amount: 5}, false, true},
		{"text", []byte(strings.Repeat("0123456789", 10)), header{}, false, false},
		{"zeros", make([]byte, 100), header{}, false, false},
		{"cut short", words(0x80000001, 1, 5001), header{}, false, false},
		{"nothing", nil, header{}, false, false},
		{"absurd", words(0x80000001, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x80000000), header{flags: 0x80000001, port: 65535, time: maxTime}, true, false},
	} {
		h := parseHeader(c.b)
		if h != c.want || h.dual() != c.dual || h.needsAck() != c.ack {
			t.Errorf("%s: %+v dual %v ack %v, want %+v %v %v", c.name, h, h.dual(), h.needsAck(), c.want, c.dual, c.ack)
		}
	}
	for flags, want := range map[uint32]int{0: 0, 0x30313233: 0, 0x80000000: 24, 0x40010078: 24, 0x44000000: 60, 0x04000000: 24} {
		if got := headerLen(flags); got != want {
			t.Errorf("%#x: %d, want %d", flags, got, want)
		}
	}
}

func TestSequence(t *testing.T) {
	now := time.Unix(1700000000, 123456000)
	for _, id := range []int64{0, 1, -1, 1 << 31, -1 << 40, math.MaxInt64, -math.MaxInt64} {
		b := make([]byte, 20)
		putSequence(b, id, now)
		s, ok := parseSequence(b, true)
		if !ok || s.id != id || s.sec != 1700000000 || s.usec != 123456 {
			t.Errorf("%d: %+v %v", id, s, ok)
		}
		if s, ok = parseSequence(b[:12], false); !ok || s.id != int64(int32(id)) {
			t.Errorf("%d, old: %+v %v", id, s, ok)
		}
	}
	if _, ok := parseSequence(make([]byte, 11), false); ok {
		t.Error("11 octets")
	}
	if _, ok := parseSequence(make([]byte, 15), true); ok {
		t.Error("15 octets")
	}
	if _, ok := parseSequence(words(0, 0, 0, 0x80000000), true); ok {
		t.Error("a number without a positive")
	}
}

func TestIsWide(t *testing.T) {
	for name, c := range map[string]struct {
		b    []byte
		want bool
	}{
		"2.1.8":           {words(1, 0, 0, 0, 0x480100a0), true},
		"2.0.5":           {append(words(0, 0, 0), strings.Repeat("2345678901", 5)...), false},
		"2.0.5 -d -P 2":   {words(0, 0, 0, 0x80000001, 2, 5001, 0, 0, 5), false},
		"19 octets":       {make([]byte, 19), false},
		"nothing":         {nil, false},
		"text throughout": {[]byte(strings.Repeat("0123456789", 5)), false},
	} {
		if got := isWide(c.b); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if h := udpHeader(words(0, 0, 0, 0x80000001, 2, 5001, 0, 0, 5), false); !h.dual() || h.port != 5001 || h.amount != 5 {
		t.Errorf("%+v", h)
	}
	if h := udpHeader([]byte("short"), true); h != (header{}) {
		t.Errorf("%+v", h)
	}
}

func TestReport(t *testing.T) {
	r := report{bytes: 5<<32 + 7, span: 2*time.Second + 5*time.Microsecond, lost: 3, outOfOrder: 2, packets: 100, jitter: 1234 * time.Microsecond}
	for _, wide := range []bool{false, true} {
		last := []byte("0123456789abcdefXXXX")
		b := appendReport(nil, last, &r, wide)
		at := oldSeqLen
		if wide {
			at = seqLen
		}
		if len(b) != at+reportLen || string(b[:at]) != string(last[:at]) {
			t.Errorf("%d octets: %q", len(b), b[:at])
		}
		if got, ok := parseReport(b, wide); !ok || got != r {
			t.Errorf("%+v %v, want %+v", got, ok, r)
		}
		if _, ok := parseReport(b[:at+39], wide); ok {
			t.Error("a report that is cut short")
		}
		clear(b[at:])
		if _, ok := parseReport(b, wide); ok {
			t.Error("a report without its flag")
		}
	}
}

func TestAck(t *testing.T) {
	b := appendAck(nil, false, time.Unix(5, 0))
	if hex.EncodeToString(b[:8]) != "000000020000001c" || len(b) != 28 {
		t.Errorf("%x", b)
	}
	b = appendAck(nil, true, time.Unix(5, 6000))
	if len(b) != 52 || binary.BigEndian.Uint32(b[4:]) != 52 || binary.BigEndian.Uint32(b[28:]) != 5 || binary.BigEndian.Uint32(b[48:]) != 6 {
		t.Errorf("%x", b)
	}
}

func TestAccount(t *testing.T) {
	for _, c := range []struct {
		name                string
		first               int64
		ids                 []int64
		lost, late, packets int64
	}{
		{"2.1.8", 1, []int64{1, 2, 3}, 0, 0, 3},
		{"2.0.5", 0, []int64{0, 1, 2}, 0, 0, 3},
		{"gap", 1, []int64{1, 4}, 2, 0, 4},
		{"gap at the beginning", 1, []int64{3}, 2, 0, 3},
		{"exchanged", 1, []int64{1, 3, 2}, 0, 1, 3},
	} {
		a := account{first: c.first}
		for i, id := range c.ids {
			a.take(sequence{id: id}, 100, int64(i))
		}
		if a.lost != c.lost || a.late != c.late || a.packets() != c.packets || a.bytes != uint64(100*len(c.ids)) {
			t.Errorf("%s: lost %d late %d packets %d bytes %d", c.name, a.lost, a.late, a.packets(), a.bytes)
		}
	}
	rng := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		n := 1 + rng.IntN(40)
		a := account{first: 1}
		for _, i := range rng.Perm(n) {
			a.take(sequence{id: int64(i + 1)}, 1, 0)
		}
		if a.lost != 0 || a.packets() != int64(n) {
			t.Fatalf("%d datagrams in any order: %+v", n, a)
		}
	}
	var a account
	if a.packets() != 0 {
		t.Error("packets before the first")
	}
	a.first = 1
	id := int64(0)
	if got := testing.AllocsPerRun(100, func() { id++; a.take(sequence{id: id}, 100, id) }); got != 0 {
		t.Errorf("%v allocations", got)
	}
}

func FuzzHeader(f *testing.F) {
	f.Add(words(0x80000001, 1, 5001, 0, 0, ^uint32(1000)+1))
	f.Add(append(words(0x44010078, 1, 5001, 0, 0, 5), make([]byte, 36)...))
	f.Add([]byte("0123456789"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h := parseHeader(b)
		if h.block < 0 || h.block > maxBlock || h.amount < 0 || h.time < 0 || h.time > maxTime || h.amount > 0 && h.time > 0 {
			t.Fatalf("%+v", h)
		}
		for _, wide := range []bool{false, true} {
			udpHeader(b, wide)
			s, ok := parseSequence(b, wide)
			if ok && len(b) < oldSeqLen {
				t.Fatal("read beyond the end")
			}
			if ok {
				a := account{first: 1}
				if s.id < 0 {
					s.id = -s.id
				}
				a.take(s, len(b), 0)
				a.take(s, len(b), 1)
				if a.lost < 0 || a.packets() < 0 {
					t.Fatalf("%+v", a)
				}
			}
			if r, ok := parseReport(b, wide); ok && (r.span < 0 || r.jitter < 0) {
				t.Fatalf("%+v", r)
			}
		}
		isWide(b)
	})
}

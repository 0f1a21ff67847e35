package scsi

import (
	"bytes"
	"testing"
)

func TestLUNs(t *testing.T) {
	for n := range 1 << 14 {
		if k, ok := FlatLUN(n).Flat(); !ok || k != n {
			t.Fatalf("LUN %d is %x, which is %d, %v", n, FlatLUN(n), k, ok)
		}
	}
	for _, l := range []LUN{{1, 5}, {0x80, 1}, {0xc1, 2}, {0, 1, 0, 1}, {0x40, 1, 0, 0, 0, 0, 0, 1}} {
		if n, ok := l.Flat(); ok {
			t.Errorf("%x is unit %d of one level", l, n)
		}
	}
	if s := (Address{Target: 3, LUN: LUN{0xc1}}).String(); s != "3:c100000000000000" {
		t.Error(s)
	}
	luns, others := parseLUNs([]byte{0, 0, 0, 40, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0x40, 3, 0, 0, 0, 0, 0, 0, 1, 3, 0, 0, 0, 0, 0, 0, 0x41, 0, 0, 0, 0, 0, 0, 0})
	if len(luns) != 2 || luns[0] != FlatLUN(3) || luns[1] != FlatLUN(256) || others != 1 {
		t.Errorf("%x, %d", luns, others)
	}
}

func TestDesignators(t *testing.T) {
	d := func(kind, association byte, data string) []byte {
		return append([]byte{1, association<<4 | kind, 0, byte(len(data))}, data...)
	}
	for _, c := range []struct {
		b    []byte
		want string
	}{
		{nil, ""},
		{d(0, 0, " disk 7 "), "disk 7"},
		{bytes.Join([][]byte{d(1, 0, "QEMU a"), d(2, 0, "12345678"), d(3, 1, "port....")}, nil), "eui.3132333435363738"},
		{bytes.Join([][]byte{d(3, 0, "12345678"), d(2, 0, "87654321")}, nil), "naa.3132333435363738"},
		{append(d(1, 0, "x"), 1, 3, 0, 200, 1), "x"},
		{d(8, 0, "iqn"), ""},
	} {
		if got := parseDesignators(c.b); got != c.want {
			t.Errorf("%x: %q, want %q", c.b, got, c.want)
		}
	}
}

func TestModeSense(t *testing.T) {
	for _, c := range []struct {
		b         []byte
		ro, cache bool
	}{
		{nil, false, true},
		{[]byte{0, 0, 0x80, 0}, false, true}, // says that it has 1 byte
		{[]byte{3, 0, 0x80, 0}, true, true},
		{[]byte{6, 0, 0, 0, 8, 1, 0}, false, false},
		{[]byte{6, 0, 0, 0, 8, 1, 4}, false, true},
		{[]byte{14, 0, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8, 8, 1, 0}, false, false},
		{[]byte{13, 0, 0, 0, 0x41, 1, 0, 3, 9, 9, 9, 8, 1, 0}, false, false},
		{[]byte{255, 0, 0, 200, 8, 1, 0}, false, true},
		{[]byte{9, 0, 0, 0, 1, 200, 0, 8, 1, 0}, false, true},
	} {
		if ro, cache := parseModeSense(c.b); ro != c.ro || cache != c.cache {
			t.Errorf("%x: %v, %v", c.b, ro, cache)
		}
	}
}

// Whatever a unit answers: no panic, and nothing beyond what it says.
func FuzzParsers(f *testing.F) {
	f.Add([]byte{0, 0, 6, 2, 31, 0, 0, 2, 'Q', 'E', 'M', 'U', ' ', ' ', ' ', ' ', 'Q', 'E', 'M', 'U', ' ', 'H', 'A', 'R', 'D', 'D', 'I', 'S', 'K', ' ', ' ', ' ', '2', '.', '5', '+'})
	f.Add([]byte{0x72, 3, 0x11, 0, 0, 0, 0, 12, 0, 10, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 7})
	f.Add([]byte{0xf0, 0, 3, 0, 0, 0, 9, 10, 0, 0, 0, 0, 0x11, 4, 0, 0, 0, 0})
	f.Add([]byte{0, 0x83, 0, 12, 1, 3, 0, 8, 0x50, 1, 2, 3, 4, 5, 6, 7})
	f.Add(bytes.Repeat([]byte{0xff}, 260))
	f.Fuzz(func(t *testing.T, b []byte) {
		own := bytes.Clone(b)
		if u, err := parseInquiry(b); err == nil && (len(u.vendor) > 8 || len(u.product) > 16 || len(u.revision) > 4) {
			t.Errorf("%+v", u)
		}
		for _, page := range []byte{0, 0x80, 0x83, 0xb0, 0xb1, 0xb2} {
			p, err := parseVPD(b, page)
			if err == nil && len(p) > max(0, len(b)-4) {
				t.Errorf("page of %d bytes out of %d", len(p), len(b))
			}
			if s := parseDesignators(p); len(s) > 4+2*255 {
				t.Errorf("name of %d bytes", len(s))
			}
			parseBlockLimits(p)
			parseProvisioning(p)
			parseCharacteristics(p)
		}
		if c, err := parseCapacity10(b); err == nil && (c.blocks == 0 || c.blocks > 1<<32) {
			t.Errorf("%+v", c)
		}
		if c, err := parseCapacity16(b); err == nil && c.blocks == 0 {
			t.Errorf("%+v", c)
		}
		parseModeSense(b)
		if luns, others := parseLUNs(b); 8*(len(luns)+others) > len(b) {
			t.Errorf("%d units in %d bytes", len(luns)+others, len(b))
		}
		if s, ok := parseSense(b); ok && (s.key > 15 || s.String() == "") {
			t.Errorf("%+v", s)
		}
		r := Result{Status: CheckCondition, SenseLen: len(b)}
		copy(r.Sense[:], b)
		if j := r.judge(); j.verdict != ok && j.why == nil {
			t.Errorf("no reason: %+v", j)
		}
		if !bytes.Equal(own, b) {
			t.Error("the data was written to")
		}
	})
}

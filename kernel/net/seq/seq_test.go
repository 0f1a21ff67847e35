package seq

import (
	"testing"

	"pgregory.net/rapid"
)

func TestCompareAcrossWrap(t *testing.T) {
	for _, c := range []struct {
		a, b Num
		less bool
	}{
		{0, 0, false}, {0, 1, true}, {1, 0, false},
		{0xffffffff, 0, true}, {0, 0xffffffff, false},
		{0xfffffff0, 0x10, true}, {0x7fffffff, 0x80000000, true},
		{0, 0x7fffffff, true}, {0x7fffffff, 0, false},
	} {
		if got := c.a.Less(c.b); got != c.less {
			t.Errorf("%#x < %#x: got %v", c.a, c.b, got)
		}
		if got := c.a.LessEq(c.b); got != (c.less || c.a == c.b) {
			t.Errorf("%#x <= %#x: got %v", c.a, c.b, got)
		}
	}
}

func TestWindow(t *testing.T) {
	for _, c := range []struct {
		a, first Num
		size     int
		in       bool
	}{
		{5, 5, 1, true}, {6, 5, 1, false}, {4, 5, 1, false}, {5, 5, 0, false},
		{2, 0xfffffffe, 5, true}, {3, 0xfffffffe, 5, false}, {0xfffffffd, 0xfffffffe, 5, false},
		{1 << 30, 0, 1 << 30, false}, {1<<30 - 1, 0, 1 << 30, true},
	} {
		if got := c.a.In(c.first, c.size); got != c.in {
			t.Errorf("%#x in [%#x,+%d): got %v", c.a, c.first, c.size, got)
		}
	}
}

// Against int64 arithmetic for numbers less than 2^31 apart.
func TestAgainstWideArithmetic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := rapid.Uint32().Draw(t, "base")
		d := int64(rapid.Int32Range(-1<<31+1, 1<<31-1).Draw(t, "d"))
		a, b := Num(base), Num(uint32(int64(base)+d))
		if b != a.Add(int(d)) || int64(b.Sub(a)) != d {
			t.Fatalf("%#x + %d: Add %#x, Sub %d", a, d, a.Add(int(d)), b.Sub(a))
		}
		if a.Less(b) != (d > 0) || a.LessEq(b) != (d >= 0) {
			t.Fatalf("%#x and %#x: Less %v LessEq %v, distance %d", a, b, a.Less(b), a.LessEq(b), d)
		}
		lo, hi := a, b
		if d < 0 {
			lo, hi = b, a
		}
		if Min(a, b) != lo || Max(a, b) != hi || Min(b, a) != lo || Max(b, a) != hi {
			t.Fatalf("Min, Max of %#x and %#x", a, b)
		}
	})
}

package wire

import (
	"bytes"
	"testing"
)

// slowSum is RFC 1071 §1 as it is written.
func slowSum(b []byte) uint16 {
	var s uint64
	for i := 0; i < len(b); i += 2 {
		w := uint64(b[i]) << 8
		if i+1 < len(b) {
			w |= uint64(b[i+1])
		}
		s += w
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

// same compares one's complement numbers, of which zero has two forms.
func same(a, b uint16) bool { return a == b || a%0xffff == 0 && b%0xffff == 0 }

func TestSumMatchesRFC1071(t *testing.T) {
	// RFC 1071 §3: the worked example
	if got := Fold(Sum(0, []byte{0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7})); got != 0xddf2 {
		t.Errorf("RFC 1071 example sums to %#x, want 0xddf2", got)
	}
	for _, fill := range []byte{0x00, 0xff, 0xa5, 1} {
		for n := range 300 {
			b := bytes.Repeat([]byte{fill}, n)
			if got, want := Fold(Sum(0, b)), slowSum(b); !same(got, want) {
				t.Fatalf("%d bytes of %#x: sum %#x, want %#x", n, fill, got, want)
			}
		}
	}
}

func FuzzSum(f *testing.F) {
	f.Add([]byte("the quick brown fox jumps over the lazy dog, and over the other one too, twice"), uint16(7))
	f.Fuzz(func(t *testing.T, b []byte, cut uint16) {
		want := slowSum(b)
		if got := Fold(Sum(0, b)); !same(got, want) {
			t.Fatalf("sum %#x, want %#x", got, want)
		}
		k := int(cut) % (len(b) + 1)
		acc := Sum(0, b[:k])
		if k%2 == 0 {
			acc = Sum(acc, b[k:])
		} else {
			acc = SumOdd(acc, b[k:])
		}
		if !same(Fold(acc), want) {
			t.Fatalf("sum in pieces of %d and %d: %#x, want %#x", k, len(b)-k, Fold(acc), want)
		}
	})
}

// RFC 1624 §3: HC' = ~(~HC + ~m + m').
func FuzzUpdateChecksum(f *testing.F) {
	f.Add([]byte{0x45, 0, 0, 32, 1, 2, 3, 4}, uint8(2), uint16(0xffff))
	f.Fuzz(func(t *testing.T, b []byte, at uint8, v uint16) {
		i := int(at) &^ 1
		if i+2 > len(b) {
			t.Skip()
		}
		before := Checksum(b)
		old := be.Uint16(b[i:])
		be.PutUint16(b[i:], v)
		if got, want := UpdateChecksum(before, old, v), Checksum(b); !same(got, want) {
			t.Fatalf("update gives %#x, anew %#x", got, want)
		}
	})
}

func TestUDPChecksumNeverZero(t *testing.T) {
	if got := UDPChecksum(0xffff); got != 0xffff {
		t.Errorf("%#x: a computed zero must be sent as all ones", got)
	}
	if got := UDPChecksum(0x1234); got != ^uint16(0x1234) {
		t.Errorf("%#x", got)
	}
}

func TestPseudoSums(t *testing.T) {
	b := []byte{10, 0, 0, 1, 10, 0, 0, 2, 0, 17, 0, 99}
	if got, want := Fold(PseudoSum4(0x0a000001, 0x0a000002, 17, 99)), slowSum(b); got != want {
		t.Errorf("IPv4: %#x, want %#x", got, want)
	}
	p := make([]byte, 40)
	for i := range 32 {
		p[i] = byte(i * 37)
	}
	be.PutUint32(p[32:], 70000)
	p[39] = 58
	if got, want := Fold(PseudoSum6(p[:16], p[16:32], 58, 70000)), slowSum(p); got != want {
		t.Errorf("IPv6: %#x, want %#x", got, want)
	}
}

func BenchmarkSum(b *testing.B) {
	for _, n := range []int{20, 60, 1460, 65536} {
		buf := make([]byte, n)
		b.Run(sizeName(n), func(b *testing.B) {
			b.SetBytes(int64(n))
			for b.Loop() {
				Sum(0, buf)
			}
		})
	}
}

func sizeName(n int) string {
	return map[int]string{20: "20", 60: "60", 1460: "1460", 65536: "64Ki"}[n]
}

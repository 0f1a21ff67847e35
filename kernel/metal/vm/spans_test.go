package vm

import (
	"math/rand/v2"
	"testing"
)

// bitmap is the slow, obviously right model of the committed spans.
type bitmap [300]bool

func (m *bitmap) set(a, b uintptr, v bool) {
	for i := a; i < b; i++ {
		m[i] = v
	}
}

func (m *bitmap) all(a, b uintptr) bool {
	for i := a; i < b; i++ {
		if !m[i] {
			return false
		}
	}
	return true
}

// compare checks that spans are sorted, apart, not empty, and say what m says.
func (m *bitmap) compare(t *testing.T) {
	t.Helper()
	end := uintptr(0)
	var got bitmap
	for i := range nspans {
		s := spans[i]
		if s.start >= s.end || i > 0 && s.start <= end {
			t.Fatalf("span %d of %v is empty, out of order, or touches the one before", i, spans[:nspans])
		}
		end = s.end
		got.set(s.start, s.end, true)
	}
	if got != *m {
		t.Fatalf("spans %v do not say what was committed", spans[:nspans])
	}
}

func TestSpansAgainstModel(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 3))
		var m bitmap
		nspans = 0
		for range 500 {
			a := uintptr(rng.IntN(len(m) - 1))
			b := a + 1 + uintptr(rng.IntN(min(40, len(m)-1-int(a))))
			on := rng.IntN(2) == 0
			ok := false
			if on {
				ok = commit(a, b)
			} else {
				ok = decommit(a, b)
			}
			if !ok {
				t.Fatalf("seed %d: [%d, %d) %v is refused with %d spans", seed, a, b, on, nspans)
			}
			m.set(a, b, on)
			m.compare(t)
			for range 10 {
				a := uintptr(rng.IntN(len(m) - 1))
				b := a + 1 + uintptr(rng.IntN(min(10, len(m)-1-int(a))))
				if committed(a, b) != m.all(a, b) {
					t.Fatalf("seed %d: committed(%d, %d) = %v with spans %v", seed, a, b, !m.all(a, b), spans[:nspans])
				}
			}
		}
	}
	nspans = 0
}

// With every span in use, what needs one more is refused and changes nothing;
// what needs none goes through.
func TestSpansWhenFull(t *testing.T) {
	nspans = 0
	for i := range uintptr(maxSpans) {
		if !commit(i*10, i*10+5) {
			t.Fatalf("span %d of %d is refused", i, maxSpans)
		}
	}
	before := spans
	if commit(5*maxSpans*10, 5*maxSpans*10+1) || decommit(1, 2) {
		t.Error("one span more than there is room for")
	}
	if spans != before || nspans != maxSpans {
		t.Error("a refusal changed the spans")
	}
	if !commit(5, 7) || !committed(0, 7) {
		t.Error("a span cannot grow")
	}
	if !decommit(3, 7) || committed(3, 4) || !committed(0, 3) {
		t.Error("a span cannot shrink")
	}
	if !commit(3, 10) || nspans != maxSpans-1 || !committed(0, 15) {
		t.Error("two spans cannot join")
	}
	if !decommit(0, 10*maxSpans) || nspans != 0 {
		t.Error("spans cannot go")
	}
}

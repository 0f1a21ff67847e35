package store

import "fmt"

// Slab classes, as upstream makes them: chunk sizes grow by a factor from the
// smallest to half a page, each a multiple of 8; the last class is the largest
// chunk. An item that does not fit there is made of several chunks.

// maxClasses is one more than the highest class number; class 0 is not used.
const maxClasses = 64

// upstreamItemBytes is the size of upstream's item header, upstreamCASBytes what
// a CAS adds. Sizes that a client can see are computed with them.
const (
	upstreamItemBytes = 48
	upstreamCASBytes  = 8
)

type classTable struct {
	size    [maxClasses]int // chunk bytes by class
	largest int             // number of the last class
	byUnit  [513]uint8      // class by size/8 rounded up, for sizes up to 4096
}

func newClassTable(factor float64, minChunk, chunkMax int) (*classTable, error) {
	if factor <= 1 {
		return nil, fmt.Errorf("store: growth factor %g: need more than 1", factor)
	}
	if minChunk <= 0 || chunkMax <= headerBytes || chunkMax > pageBytes {
		return nil, fmt.Errorf("store: chunks of %d to %d bytes: need at least 1 and at most %d", minChunk, chunkMax, pageBytes)
	}
	t := &classTable{}
	size := upstreamItemBytes + minChunk
	i := 1
	for ; i < maxClasses-1 && float64(size) < float64(chunkMax)/factor; i++ {
		size = (size + 7) &^ 7
		t.size[i] = size
		size = int(float64(size) * factor)
	}
	t.size[i] = chunkMax
	t.largest = i
	c := 1
	for u := range t.byUnit {
		for c < t.largest && t.size[c] < u*8 {
			c++
		}
		t.byUnit[u] = uint8(c)
	}
	return t, nil
}

// of is the smallest class whose chunks hold n bytes, 0 where none does.
func (t *classTable) of(n int) int {
	if n <= 4096 {
		if c := int(t.byUnit[(n+7)>>3]); t.size[c] >= n {
			return c
		}
		return 0
	}
	if n > t.size[t.largest] {
		return 0
	}
	lo, hi := 1, t.largest
	for lo < hi {
		m := (lo + hi) / 2
		if t.size[m] < n {
			lo = m + 1
		} else {
			hi = m
		}
	}
	return lo
}

func (t *classTable) perPage(c int) int { return pageBytes / t.size[c] }

func (t *classTable) perPageOrZero(c int) int {
	if t.size[c] == 0 {
		return 0
	}
	return t.perPage(c)
}

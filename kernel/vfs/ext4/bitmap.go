package ext4

import "math/bits"

// bitmap is a bitmap as the medium has it: bit k is in byte k/8.
type bitmap []byte

func (b bitmap) get(k int) bool { return b[k>>3]&(1<<(k&7)) != 0 }
func (b bitmap) set(k int)      { b[k>>3] |= 1 << (k & 7) }
func (b bitmap) clear(k int)    { b[k>>3] &^= 1 << (k & 7) }

// fill sets n bits from k on.
func (b bitmap) fill(k, n int) {
	for ; n > 0 && k&7 != 0; n-- {
		b.set(k)
		k++
	}
	for ; n >= 8; n -= 8 {
		b[k>>3] = 0xff
		k += 8
	}
	for ; n > 0; n-- {
		b.set(k)
		k++
	}
}

// wipe clears n bits from k on.
func (b bitmap) wipe(k, n int) {
	for ; n > 0 && k&7 != 0; n-- {
		b.clear(k)
		k++
	}
	for ; n >= 8; n -= 8 {
		b[k>>3] = 0
		k += 8
	}
	for ; n > 0; n-- {
		b.clear(k)
		k++
	}
}

// free is the first clear bit in [k, end), or end.
func (b bitmap) free(k, end int) int {
	for k < end {
		if k&63 == 0 && k+64 <= len(b)*8 {
			w := ^le.Uint64(b[k>>3:])
			if w == 0 {
				k += 64
				continue
			}
			return min(k+bits.TrailingZeros64(w), end)
		}
		if !b.get(k) {
			return k
		}
		k++
	}
	return end
}

// used is the first set bit in [k, end), or end.
func (b bitmap) used(k, end int) int {
	for k < end {
		if k&63 == 0 && k+64 <= len(b)*8 {
			w := le.Uint64(b[k>>3:])
			if w == 0 {
				k += 64
				continue
			}
			return min(k+bits.TrailingZeros64(w), end)
		}
		if b.get(k) {
			return k
		}
		k++
	}
	return end
}

// count is the number of clear bits of the first n.
func (b bitmap) count(n int) int {
	c := 0
	for k := 0; k < n; {
		k = b.free(k, n)
		e := b.used(k, n)
		c += e - k
		k = e
	}
	return c
}

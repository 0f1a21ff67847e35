package store

import (
	"math/bits"
	"unsafe"
)

// The hash of a key is keyed, so that nobody outside can choose keys that share
// a bucket. It folds the 128-bit product of two words, each mixed with a secret:
// one multiplication per 16 bytes, and every bit of the input reaches every bit
// of the result (hash_test.go measures that).

type hashKey struct{ a, b, c, d uint64 }

func fold(x, y uint64) uint64 {
	hi, lo := bits.Mul64(x, y)
	return hi ^ lo
}

func load64(p unsafe.Pointer, i int) uint64 { return *(*uint64)(unsafe.Add(p, i)) }
func load32(p unsafe.Pointer, i int) uint64 { return uint64(*(*uint32)(unsafe.Add(p, i))) }

// sum is the hash of key. It reads exactly key's bytes.
func (k *hashKey) sum(key []byte) uint64 {
	n := len(key)
	if n == 0 {
		return fold(k.a, k.b)
	}
	p := unsafe.Pointer(unsafe.SliceData(key))
	h := k.a ^ uint64(n)*0x9E3779B97F4A7C15 // the odd number next to 2^64 / golden ratio
	var x, y uint64
	switch {
	case n > 16:
		i := 0
		for ; n-i > 16; i += 16 {
			h = fold(load64(p, i)^k.b, load64(p, i+8)^h)
		}
		// The last 16 bytes, overlapping what came before.
		x, y = load64(p, n-16), load64(p, n-8)
	case n >= 8:
		x, y = load64(p, 0), load64(p, n-8)
	case n >= 4:
		x, y = load32(p, 0), load32(p, n-4)
	default:
		x, y = uint64(key[0])<<16|uint64(key[n>>1])<<8|uint64(key[n-1]), 0
	}
	h = fold(x^k.c, y^h)
	return fold(h^k.d, k.b|1)
}

package demux

import "math/bits"

// Key is the secret of the flow hash: without it a sender cannot choose tuples
// that fall into one bucket.
type Key struct{ K0, K1 uint64 }

// sip is the state of SipHash-2-4 (Aumasson and Bernstein, 2012, §2).
type sip struct{ v0, v1, v2, v3 uint64 }

func (k Key) start() sip {
	return sip{k.K0 ^ 0x736f6d6570736575, k.K1 ^ 0x646f72616e646f6d, k.K0 ^ 0x6c7967656e657261, k.K1 ^ 0x7465646279746573}
}

func round(s sip) sip {
	s.v0 += s.v1
	s.v2 += s.v3
	s.v1 = bits.RotateLeft64(s.v1, 13) ^ s.v0
	s.v3 = bits.RotateLeft64(s.v3, 16) ^ s.v2
	s.v0 = bits.RotateLeft64(s.v0, 32)
	s.v2 += s.v1
	s.v0 += s.v3
	s.v1 = bits.RotateLeft64(s.v1, 17) ^ s.v2
	s.v3 = bits.RotateLeft64(s.v3, 21) ^ s.v0
	s.v2 = bits.RotateLeft64(s.v2, 32)
	return s
}

func compress(s sip, m uint64) sip {
	s.v3 ^= m
	s = round(round(s))
	s.v0 ^= m
	return s
}

func finish(s sip) uint64 {
	s.v2 ^= 0xff
	s = round(round(round(round(s))))
	return s.v0 ^ s.v1 ^ s.v2 ^ s.v3
}

// hash2 is SipHash-2-4 of a message of 8 to 15 bytes; m1 holds the bytes from
// the eighth on and, at the top, the length.
func (k Key) hash2(m0, m1 uint64) uint64 { return finish(compress(compress(k.start(), m0), m1)) }

// hash5 is the same for a message of 32 to 39 bytes.
func (k Key) hash5(m *[5]uint64) uint64 {
	s := k.start()
	for _, w := range m {
		s = compress(s, w)
	}
	return finish(s)
}

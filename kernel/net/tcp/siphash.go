package tcp

import "math/bits"

// Key is the secret of a host that keys initial sequence numbers, timestamp
// offsets, SYN cookies and port choice: 128 random bits.
type Key [2]uint64

// sip4 is SipHash-2-4 of four 64-bit words (Aumasson, Bernstein 2012).
func sip4(k *Key, a, b, c, d uint64) uint64 {
	v0, v1 := k[0]^0x736f6d6570736575, k[1]^0x646f72616e646f6d
	v2, v3 := k[0]^0x6c7967656e657261, k[1]^0x7465646279746573
	m := [5]uint64{a, b, c, d, 32 << 56}
	for _, w := range m {
		v3 ^= w
		v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
		v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
		v0 ^= w
	}
	v2 ^= 0xff
	for range 4 {
		v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
	}
	return v0 ^ v1 ^ v2 ^ v3
}

func sipRound(v0, v1, v2, v3 uint64) (uint64, uint64, uint64, uint64) {
	v0 += v1
	v1 = bits.RotateLeft64(v1, 13) ^ v0
	v0 = bits.RotateLeft64(v0, 32)
	v2 += v3
	v3 = bits.RotateLeft64(v3, 16) ^ v2
	v0 += v3
	v3 = bits.RotateLeft64(v3, 21) ^ v0
	v2 += v1
	v1 = bits.RotateLeft64(v1, 17) ^ v2
	v2 = bits.RotateLeft64(v2, 32)
	return v0, v1, v2, v3
}

// hashTuple is a keyed hash of t, apart from all others by its purpose; extra is
// hashed with it.
func hashTuple(k *Key, purpose uint64, t *Tuple, extra uint64) uint64 {
	l, r := t.Local.Addr().As16(), t.Remote.Addr().As16()
	ports := uint64(t.Local.Port())<<16 | uint64(t.Remote.Port())
	// The addresses fill four words, so they are hashed first and their hash goes
	// in with the rest.
	h := sip4(k, le64(l[:8]), le64(l[8:]), le64(r[:8]), le64(r[8:]))
	return sip4(k, h, ports|purpose<<32, extra, ^h)
}

func le64(b []byte) uint64 {
	_ = b[7]
	return uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24 |
		uint64(b[4])<<32 | uint64(b[5])<<40 | uint64(b[6])<<48 | uint64(b[7])<<56
}

// The purposes of hashTuple.
const (
	hashISN = 1 + iota
	hashTimestamp
	hashCookie
	hashCookieMark
	hashPort
)

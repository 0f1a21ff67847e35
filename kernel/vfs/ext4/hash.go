package ext4

import "math/bits"

// Hashes of names, "Hash Tree Directories", dx_root.dx_root_info.hash_version. Each
// comes in two sorts, as characters were signed or not where the file system was made.
const (
	hashLegacy = iota
	hashHalfMD4
	hashTEA
	hashUnsigned // added to one of these
)

// dirHash is a name's hash: what the tree is sorted by, and a second word for names
// that are equal in the first.
type dirHash struct{ major, minor uint32 }

// pos is the place of a name in a directory that is read by hash; 0 is before all.
func (h dirHash) pos() int64 { return int64(h.major>>1)<<32 | int64(h.minor) }

// hashName returns a name's hash, and false for a version that is not known.
func hashName(version uint8, seed *[4]uint32, name []byte) (dirHash, bool) {
	signed := version < hashUnsigned
	buf := [4]uint32{0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476}
	if *seed != [4]uint32{} {
		buf = *seed
	}
	var h dirHash
	switch version % hashUnsigned {
	case hashLegacy:
		h.major = legacyHash(name, signed)
	case hashHalfMD4:
		for p := name; ; p = p[32:] {
			var in [8]uint32
			hashInput(p, in[:], signed)
			halfMD4(&buf, &in)
			if len(p) <= 32 {
				break
			}
		}
		h = dirHash{buf[1], buf[2]}
	case hashTEA:
		for p := name; ; p = p[16:] {
			var in [4]uint32
			hashInput(p, in[:], signed)
			tea(&buf, &in)
			if len(p) <= 16 {
				break
			}
		}
		h = dirHash{buf[0], buf[1]}
	}
	if h.major &^= 1; h.major == 0xfffffffe {
		h.major = 0xfffffffc // the last one means the end
	}
	return h, version < 2*hashUnsigned
}

func char(c byte, signed bool) uint32 {
	if signed {
		return uint32(int32(int8(c)))
	}
	return uint32(c)
}

func legacyHash(name []byte, signed bool) uint32 {
	h0, h1 := uint32(0x12a3fe2d), uint32(0x37abe8f9)
	for _, c := range name {
		h := h1 + (h0 ^ char(c, signed)*7152373)
		if h&0x80000000 != 0 {
			h -= 0x7fffffff
		}
		h1, h0 = h0, h
	}
	return h0 << 1
}

// hashInput packs a piece of a name into words, padded with its length.
func hashInput(p []byte, out []uint32, signed bool) {
	pad := uint32(len(p)) | uint32(len(p))<<8
	pad |= pad << 16
	val := pad
	k := 0
	for i, c := range p[:min(len(p), 4*len(out))] {
		val = char(c, signed) + val<<8
		if i%4 == 3 {
			out[k] = val
			k++
			val = pad
		}
	}
	if k < len(out) {
		out[k] = val
		k++
	}
	for ; k < len(out); k++ {
		out[k] = pad
	}
}

func tea(buf *[4]uint32, in *[4]uint32) {
	var sum uint32
	b0, b1 := buf[0], buf[1]
	for range 16 {
		sum += 0x9e3779b9
		b0 += (b1<<4 + in[0]) ^ (b1 + sum) ^ (b1>>5 + in[1])
		b1 += (b0<<4 + in[2]) ^ (b0 + sum) ^ (b0>>5 + in[3])
	}
	buf[0] += b0
	buf[1] += b1
}

// halfMD4 is MD4 with half of its steps.
func halfMD4(buf *[4]uint32, in *[8]uint32) {
	a, b, c, d := buf[0], buf[1], buf[2], buf[3]
	f := func(x, y, z uint32) uint32 { return z ^ x&(y^z) }
	g := func(x, y, z uint32) uint32 { return x&y + (x^y)&z }
	h := func(x, y, z uint32) uint32 { return x ^ y ^ z }
	rounds := [3]struct {
		fn    func(x, y, z uint32) uint32
		k     uint32
		order [8]uint8
		shift [4]int
	}{
		{f, 0, [8]uint8{0, 1, 2, 3, 4, 5, 6, 7}, [4]int{3, 7, 11, 19}},
		{g, 0x5a827999, [8]uint8{1, 3, 5, 7, 0, 2, 4, 6}, [4]int{3, 5, 9, 13}},
		{h, 0x6ed9eba1, [8]uint8{3, 7, 2, 6, 1, 5, 0, 4}, [4]int{3, 9, 11, 15}},
	}
	for i := range rounds {
		r := &rounds[i]
		for s, w := range r.order {
			a = bits.RotateLeft32(a+r.fn(b, c, d)+in[w]+r.k, r.shift[s%4])
			a, b, c, d = d, a, b, c
		}
	}
	buf[0] += a
	buf[1] += b
	buf[2] += c
	buf[3] += d
}

package wire

import (
	"encoding/binary"
	"math/bits"
)

// Sum adds the 16-bit big-endian words of b to the one's complement sum acc, a
// last odd byte counting as the high half of a word (RFC 1071 §1, §4.1). Pieces
// other than the last must have even length; see SumOdd. acc may hold up to
// 2^32-2^16: fold long chains now and then.
func Sum(acc uint32, b []byte) uint32 {
	// The sum does not depend on byte order but for a swap at the end (RFC 1071
	// §2 (B)), so whole little-endian registers are added with their carries.
	var s, c uint64
	for len(b) >= 64 {
		w := b[:64:64]
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(w[0:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(w[8:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(w[16:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(w[24:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(w[32:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(w[40:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(w[48:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(w[56:]), c)
		b = b[64:]
	}
	s, c = bits.Add64(s, 0, c)
	s += c
	for len(b) >= 8 {
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(b), 0)
		s += c
		b = b[8:]
	}
	var last uint64
	if len(b) >= 4 {
		last = uint64(binary.LittleEndian.Uint32(b))
		b = b[4:]
	}
	if len(b) >= 2 {
		last += uint64(binary.LittleEndian.Uint16(b))
		b = b[2:]
	}
	if len(b) == 1 {
		last += uint64(b[0])
	}
	s, c = bits.Add64(s, last, 0)
	s += c
	s = s>>32 + s&0xffffffff
	s = s>>32 + s&0xffffffff
	f := uint32(s>>16) + uint32(s&0xffff)
	f = f>>16 + f&0xffff
	return acc + uint32(bits.ReverseBytes16(uint16(f)))
}

// SumOdd is Sum for a piece that starts at an odd offset of the packet.
func SumOdd(acc uint32, b []byte) uint32 {
	return acc + uint32(bits.ReverseBytes16(Fold(Sum(0, b))))
}

// Fold brings a sum down to 16 bits. It is not complemented.
func Fold(acc uint32) uint16 {
	acc = acc>>16 + acc&0xffff
	return uint16(acc>>16 + acc)
}

// Checksum is the internet checksum of b: the complement of its sum. Over bytes
// that include a right checksum it is 0.
func Checksum(b []byte) uint16 { return ^Fold(Sum(0, b)) }

// UpdateChecksum is the checksum after a 16-bit word under it changes from old
// to new (RFC 1624 §3, equation 3).
func UpdateChecksum(sum, old, new uint16) uint16 {
	return ^Fold(uint32(^sum) + uint32(^old) + uint32(new))
}

// PseudoSum4 is the sum of the IPv4 pseudo header (RFC 9293 §3.1, RFC 768).
// Addresses are big-endian numbers, length is that of header and payload.
func PseudoSum4(src, dst uint32, proto uint8, length int) uint32 {
	return src>>16 + src&0xffff + dst>>16 + dst&0xffff + uint32(proto) + uint32(length)
}

// PseudoSum6 is the sum of the IPv6 pseudo header (RFC 8200 §8.1). src and dst
// are 16 bytes each.
func PseudoSum6(src, dst []byte, proto uint8, length int) uint32 {
	acc := Sum(Sum(0, src[:16]), dst[:16])
	return acc + uint32(length>>16) + uint32(length&0xffff) + uint32(proto)
}

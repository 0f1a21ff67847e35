package ip

import (
	"osv/kernel/net/wire"
	"osv/kernel/pkt"
)

// Split cuts the bytes of a chain into pieces of at most size bytes, each
// copied into a buffer that alloc gives, and hands each piece with its offset
// to emit, which owns it. size is a multiple of 8. It reports false where alloc
// ran out; what was emitted by then is on its way. The chain stays the caller's.
//
// Fragments are copies because a device may still be reading one while the
// next is built, and because fragmenting is rare: TCP never does it, UDP only
// above the MTU.
func Split(b *pkt.Buf, size int, alloc func() *pkt.Buf, emit func(piece *pkt.Buf, off int, more bool)) bool {
	left, off := b.TotalLen(), 0
	src := b.Bytes()
	for left > 0 {
		p := alloc()
		if p == nil {
			return false
		}
		n := min(size, left)
		dst := p.Append(n)
		for len(dst) > 0 {
			for len(src) == 0 {
				b = b.Next
				src = b.Bytes()
			}
			k := copy(dst, src)
			dst, src = dst[k:], src[k:]
		}
		left -= n
		emit(p, off, left > 0)
		off += n
	}
	return true
}

// SumChain adds the bytes of a chain from offset from (within the first piece)
// on to acc, at most n of them.
func SumChain(acc uint32, b *pkt.Buf, from, n int) uint32 {
	odd := false
	for ; b != nil && n > 0; b = b.Next {
		p := b.Bytes()
		p = p[min(from, len(p)):]
		from = 0
		p = p[:min(n, len(p))]
		if odd {
			acc = wire.SumOdd(acc, p)
		} else {
			acc = wire.Sum(acc, p)
		}
		acc = acc>>16 + acc&0xffff
		odd = odd != (len(p)%2 == 1)
		n -= len(p)
	}
	return acc
}

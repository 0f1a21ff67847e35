package tcp

import (
	"osv/kernel/net/seq"
	"osv/kernel/net/wire"
	"osv/kernel/pkt"
)

// Segment is one received segment. Its payload, n octets, is what Buf holds.
type Segment struct {
	SrcPort, DstPort uint16
	Seq, Ack         seq.Num
	Flags            wire.TCPFlags
	Window           uint16 // as it stands in the header, not scaled
	Urgent           uint16
	Opt              wire.TCPOptions

	Buf *pkt.Buf // the payload; owned
	n   int
}

// Parse reads the TCP header at b.Head, which must lie in the first piece of b,
// and trims it off. A bad header leaves b as it was; it is then still the
// caller's. The checksum is not looked at: see Verify.
func (s *Segment) Parse(b *pkt.Buf) bool {
	h, ok := wire.ParseTCP(b.Bytes())
	if !ok {
		return false
	}
	s.SrcPort, s.DstPort = h.SrcPort(), h.DstPort()
	s.Seq, s.Ack = seq.Num(h.Seq()), seq.Num(h.Ack())
	s.Flags, s.Window, s.Urgent = h.Flags(), h.Window(), h.Urgent()
	n := h.HeaderLen()
	if n != wire.TCPMinHeader+wire.TCPTimestampLen || !s.Opt.ParseTimestamp((*[wire.TCPTimestampLen]byte)(h[wire.TCPMinHeader:])) {
		s.Opt.Parse(h.Options())
	}
	b.Head += n
	s.Buf, s.n = b, b.TotalLen()
	return true
}

// Len is the number of payload octets.
func (s *Segment) Len() int { return s.n }

// count is how many segments of the peer this is: the device may have merged some.
func (s *Segment) count() uint64 {
	if s.Buf == nil || s.Buf.GSO == pkt.GSONone || s.Buf.GSOSize == 0 || s.n == 0 {
		return 1
	}
	size := int(s.Buf.GSOSize)
	return uint64((s.n + size - 1) / size)
}

// seqLen is SEG.LEN: payload, SYN and FIN.
func (s *Segment) seqLen() int {
	n := s.n
	if s.Flags&wire.TCPSyn != 0 {
		n++
	}
	if s.Flags&wire.TCPFin != 0 {
		n++
	}
	return n
}

func (s *Segment) has(f wire.TCPFlags) bool { return s.Flags&f != 0 }

// Drop puts the buffer back, if the segment still owns it.
func (s *Segment) Drop() {
	if s.Buf != nil {
		s.Buf.Put()
		s.Buf, s.n = nil, 0
	}
}

// trimTo cuts the segment to [from, to), which begins at Seq or later and is
// not empty; a SYN or FIN outside is cut too.
func (s *Segment) trimTo(from, to seq.Num) {
	if d := from.Sub(s.Seq); d > 0 {
		if s.has(wire.TCPSyn) {
			s.Flags &^= wire.TCPSyn
			d--
		}
		s.Seq = from
		if k := min(d, s.n); k > 0 {
			s.Buf = trimFront(s.Buf, k)
			s.n -= k
			d -= k
		}
		if d > 0 {
			s.Flags &^= wire.TCPFin
		}
	}
	if over := s.Seq.Add(s.seqLen()).Sub(to); over > 0 {
		if s.has(wire.TCPFin) {
			s.Flags &^= wire.TCPFin
			over--
		}
		if over > 0 {
			s.n -= over
			trimBack(s.Buf, s.n)
		}
	}
}

// Verify checks the TCP checksum of the segment at b.Head, pseudo header
// included. It trusts a device that has done so.
func Verify(t *Tuple, b *pkt.Buf) bool {
	if b.Flags&(pkt.CsumValid|pkt.CsumPartial) != 0 {
		return true
	}
	return wire.Fold(sumSegment(pseudoSum(t, b.TotalLen()), b)) == 0xffff
}

// Sum is the value of the checksum field for the segment at b.Head, whose field
// must be 0.
func Sum(t *Tuple, b *pkt.Buf) uint16 {
	return ^wire.Fold(sumSegment(pseudoSum(t, b.TotalLen()), b))
}

// PseudoSum is what stands in the checksum field of a segment of n bytes, header
// included, that a device finishes: the sum of the pseudo header.
func PseudoSum(t *Tuple, n int) uint16 { return wire.Fold(pseudoSum(t, n)) }

// The sum is the same in both directions, so the tuple's ends may stand as they
// are.
func pseudoSum(t *Tuple, n int) uint32 {
	l, r := t.Local.Addr(), t.Remote.Addr()
	if l.Is4() {
		return wire.PseudoSum4(wire.U32(l), wire.U32(r), protoTCP, n)
	}
	la, ra := l.As16(), r.As16()
	return wire.PseudoSum6(la[:], ra[:], protoTCP, n)
}

const protoTCP = 6

func sumSegment(acc uint32, b *pkt.Buf) uint32 {
	odd := false
	for ; b != nil; b = b.Next {
		p := b.Bytes()
		if odd {
			acc = wire.SumOdd(acc, p)
		} else {
			acc = wire.Sum(acc, p)
		}
		odd = odd != (len(p)&1 == 1)
	}
	return acc
}

package tcp

import (
	"slices"

	"osv/kernel/net/seq"
	"osv/kernel/pkt"
)

// maxHoles bounds the ranges of an oooQueue, and with it the work that a peer
// can cause with one segment.
const maxHoles = 1024

// oooRange is octets received beyond a hole: the buffers of [start, end).
type oooRange struct {
	start, end seq.Num
	head, tail *pkt.Buf
}

// oooQueue holds octets received out of order: ranges that neither touch nor
// overlap, in sequence order.
type oooQueue struct {
	r   []oooRange
	len int // octets
	mem int // bytes of the buffers that hold them
}

// find is the index of the first range that ends at s or later.
func (q *oooQueue) find(s seq.Num) int {
	if n := len(q.r); n > 0 && q.r[n-1].end.Less(s) {
		return n // the usual case: beyond all that is there
	}
	i, _ := slices.BinarySearchFunc(q.r, s, func(r oooRange, s seq.Num) int {
		if r.end.Less(s) {
			return -1
		}
		return 1
	})
	return i
}

// insert takes over the chain b, the n octets at s. Octets that are there
// already are kept, and the new copy of them dropped, but for those in ranges
// that b covers to its end. It reports the part of [s, s+n) that was there
// before at its front, for a duplicate SACK (empty where dup.start == dup.end).
// A false ok says that the bound on ranges was hit and b dropped.
func (q *oooQueue) insert(s seq.Num, n int, b *pkt.Buf) (dup oooRange, ok bool) {
	e := s.Add(n)
	i := q.find(s)
	if i < len(q.r) && q.r[i].start.LessEq(s) {
		r := &q.r[i]
		dup.start, dup.end = s, seq.Min(e, r.end)
		if e.LessEq(r.end) {
			b.Put()
			return dup, true
		}
		b = trimFront(b, r.end.Sub(s))
		r.tail.Next = b
		q.account(r.end, e, b)
		r.tail, r.end = last(b), e
	} else {
		if len(q.r) >= maxHoles {
			b.Put()
			return dup, false
		}
		q.r = slices.Insert(q.r, i, oooRange{s, e, b, last(b)})
		q.account(s, e, b)
	}
	q.mergeAfter(i)
	return dup, true
}

// account adds the octets [s, e) in the chain b.
func (q *oooQueue) account(s, e seq.Num, b *pkt.Buf) {
	q.len += e.Sub(s)
	for ; b != nil; b = b.Next {
		q.mem += len(b.Mem.Bytes)
	}
}

// mergeAfter joins range i with those after it that it touches or overlaps.
func (q *oooQueue) mergeAfter(i int) {
	r := &q.r[i]
	j := i + 1
	for ; j < len(q.r) && q.r[j].start.LessEq(r.end); j++ {
		x := &q.r[j]
		q.len -= x.end.Sub(x.start)
		q.mem -= chainMem(x.head)
		if x.end.LessEq(r.end) {
			x.head.Put()
			continue
		}
		b := trimFront(x.head, r.end.Sub(x.start))
		q.account(r.end, x.end, b)
		r.tail.Next = b
		r.tail, r.end = last(b), x.end
	}
	q.r = slices.Delete(q.r, i+1, j)
}

// take moves the range that begins at nxt or before, if there is one, to in,
// and returns the sequence number after it.
func (q *oooQueue) take(nxt seq.Num, in *rcvQueue) seq.Num {
	for len(q.r) > 0 && q.r[0].start.LessEq(nxt) {
		r := q.r[0]
		q.r = slices.Delete(q.r, 0, 1)
		q.len -= r.end.Sub(r.start)
		q.mem -= chainMem(r.head)
		if r.end.LessEq(nxt) {
			r.head.Put()
			continue
		}
		in.append(trimFront(r.head, nxt.Sub(r.start)), r.end.Sub(nxt))
		nxt = r.end
	}
	return nxt
}

// holding is the range that has s in it; an empty one where none has.
func (q *oooQueue) holding(s seq.Num) oooRange {
	if i := q.find(s.Add(1)); i < len(q.r) && q.r[i].start.LessEq(s) {
		return q.r[i]
	}
	return oooRange{}
}

// release gives all memory back.
func (q *oooQueue) release() {
	for i := range q.r {
		q.r[i].head.Put()
		q.r[i] = oooRange{}
	}
	q.r, q.len, q.mem = q.r[:0], 0, 0
}

func last(b *pkt.Buf) *pkt.Buf {
	for b.Next != nil {
		b = b.Next
	}
	return b
}

func chainMem(b *pkt.Buf) int {
	n := 0
	for ; b != nil; b = b.Next {
		n += len(b.Mem.Bytes)
	}
	return n
}

package tcp

import "osv/kernel/pkt"

// smallCopy is the payload up to which a segment is copied behind the one
// before it, where there is room: a peer that sends single octets must not be
// able to hold one whole packet buffer for each.
const smallCopy = 512

// rcvQueue holds received octets in order, in the buffers they came in.
type rcvQueue struct {
	head, tail *pkt.Buf
	len        int // octets
	mem        int // bytes of the buffers that hold them

	// How well the peer's segments fill their buffers: octets that came in of late,
	// and the bytes of buffers that came with them.
	lateLen, lateMem int
}

// late is how many bytes of buffers lateLen and lateMem look back over, about.
const late = 1 << 20

// append takes over the chain b of n octets.
func (q *rcvQueue) append(b *pkt.Buf, n int) {
	q.len += n
	q.lateLen += n
	if t := q.tail; t != nil && n <= smallCopy && b.Next == nil && t.Tailroom() >= n {
		copy(t.Append(n), b.Bytes())
		b.Put()
		return
	}
	if q.tail == nil {
		q.head = b
	} else {
		q.tail.Next = b
	}
	mem := 0
	for {
		mem += len(b.Mem.Bytes)
		if b.Next == nil {
			break
		}
		b = b.Next
	}
	q.mem += mem
	if q.lateMem += mem; q.lateMem > late {
		q.lateLen, q.lateMem = q.lateLen/2, q.lateMem/2
	}
	q.tail = b
	if q.head.Len() == 0 {
		q.skipEmpty()
	}
}

// peek is the octets of the first buffer; nil where the queue is empty.
func (q *rcvQueue) peek() []byte {
	if q.head == nil {
		return nil
	}
	return q.head.Bytes()
}

// pull brings more octets behind those of the first buffer, as far as its
// memory goes, and reports whether the first run has grown.
func (q *rcvQueue) pull() bool {
	h := q.head
	if h == nil || h.Next == nil {
		return false
	}
	if h.Tailroom() < h.Next.Len() && h.Head > 0 {
		n := copy(h.Mem.Bytes, h.Bytes())
		h.Head, h.Tail = 0, n
	}
	n := min(h.Tailroom(), h.Next.Len())
	if n == 0 {
		return false
	}
	copy(h.Append(n), h.Next.Bytes())
	h.Next.Trim(n)
	if h.Next.Len() == 0 {
		gone := h.Next
		h.Next = gone.Next
		if h.Next == nil {
			q.tail = h
		}
		q.put(gone)
	}
	return true
}

// consume ends the first n octets.
func (q *rcvQueue) consume(n int) {
	q.len -= n
	for q.head != nil {
		k := min(n, q.head.Len())
		q.head.Trim(k)
		n -= k
		if q.head.Len() > 0 {
			return
		}
		q.skipEmpty()
	}
}

// skipEmpty puts back the buffers at the front that hold nothing.
func (q *rcvQueue) skipEmpty() {
	for q.head != nil && q.head.Len() == 0 {
		b := q.head
		q.head = b.Next
		q.put(b)
	}
	if q.head == nil {
		q.tail = nil
	}
}

func (q *rcvQueue) put(b *pkt.Buf) {
	q.mem -= len(b.Mem.Bytes)
	b.Next = nil
	b.Put()
}

// read moves up to len(dst) octets out.
func (q *rcvQueue) read(dst []byte) int {
	n := 0
	for q.head != nil && n < len(dst) {
		k := copy(dst[n:], q.head.Bytes())
		q.head.Trim(k)
		n += k
		if q.head.Len() == 0 {
			q.skipEmpty()
		}
	}
	q.len -= n
	return n
}

// take hands over the first buffer, nil where the queue is empty.
func (q *rcvQueue) take() *pkt.Buf {
	b := q.head
	if b == nil {
		return nil
	}
	if q.head = b.Next; q.head == nil {
		q.tail = nil
	}
	b.Next = nil
	q.len -= b.Len()
	q.mem -= len(b.Mem.Bytes)
	q.skipEmpty()
	return b
}

// release gives all memory back.
func (q *rcvQueue) release() {
	if q.head != nil {
		q.head.Put()
	}
	q.head, q.tail, q.len, q.mem = nil, nil, 0, 0
}

// trimFront drops the first n octets of the chain b and returns what is left of
// it, nil where nothing is.
func trimFront(b *pkt.Buf, n int) *pkt.Buf {
	for b != nil {
		k := min(n, b.Len())
		b.Trim(k)
		n -= k
		if b.Len() > 0 {
			break
		}
		next := b.Next
		b.Next = nil
		b.Put()
		b = next
	}
	return b
}

// trimBack shortens the chain b to its first n octets, n > 0.
func trimBack(b *pkt.Buf, n int) {
	for n > b.Len() {
		n -= b.Len()
		b = b.Next
	}
	b.Tail = b.Head + n
	if b.Next != nil {
		b.Next.Put()
		b.Next = nil
	}
}

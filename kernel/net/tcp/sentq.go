package tcp

import "osv/kernel/net/seq"

// sentFlag says what has become of a transmitted range.
type sentFlag uint8

const (
	sentSacked sentFlag = 1 << iota // the peer has reported it received
	sentLost                        // taken for lost, and not sent again yet
	sentRetx                        // sent more than once
)

// maxSent bounds the ranges in flight, and with them the work one ACK can cause.
const maxSent = 16384

// mergeSent is how long a range may grow by octets sent in the same moment.
const mergeSent = 1 << 16

// sentSeg is one range of sequence numbers in flight, transmitted as a whole:
// octets, and a SYN or a FIN where those numbers are theirs.
type sentSeg struct {
	start, end seq.Num
	order      uint32 // Conn.txOrder when it was sent last
	flags      sentFlag
	at         int64 // when that was, ns
}

func (e *sentSeg) len() int { return e.end.Sub(e.start) }

// sentQueue holds [SND.UNA, SND.NXT) as ranges in sequence order, in a ring.
type sentQueue struct {
	ring  []sentSeg // len is a power of two
	first int
	n     int
}

func (q *sentQueue) at(i int) *sentSeg { return &q.ring[(q.first+i)&(len(q.ring)-1)] }

// push adds a range at the end.
func (q *sentQueue) push(e sentSeg) {
	q.room()
	q.n++
	*q.at(q.n - 1) = e
}

// room makes place for one more range.
func (q *sentQueue) room() {
	if q.n < len(q.ring) {
		return
	}
	ring := make([]sentSeg, max(8, 2*len(q.ring)))
	for i := range q.n {
		ring[i] = *q.at(i)
	}
	q.ring, q.first = ring, 0
}

// popFront ends the first range.
func (q *sentQueue) popFront() {
	q.first++
	q.n--
}

// clear ends all ranges and frees the ring.
func (q *sentQueue) clear() { *q = sentQueue{} }

// find is the index of the first range that ends after s.
func (q *sentQueue) find(s seq.Num) int {
	lo, hi := 0, q.n
	for lo < hi {
		m := int(uint(lo+hi) >> 1)
		if s.Less(q.at(m).end) {
			hi = m
		} else {
			lo = m + 1
		}
	}
	return lo
}

// split cuts range i at s, which lies inside it; the second part becomes i+1.
func (q *sentQueue) split(i int, s seq.Num) {
	q.room()
	if i < q.n/2 {
		q.first--
		for j := 0; j <= i; j++ {
			*q.at(j) = *q.at(j + 1)
		}
	} else {
		for j := q.n; j > i; j-- {
			*q.at(j) = *q.at(j - 1)
		}
	}
	q.n++
	q.at(i).end, q.at(i+1).start = s, s
}

// join makes ranges i and i+1 one.
func (q *sentQueue) join(i int) {
	q.at(i + 1).start = q.at(i).start
	q.at(i + 1).flags |= q.at(i).flags
	if i < q.n/2 {
		for j := i; j > 0; j-- {
			*q.at(j) = *q.at(j - 1)
		}
		q.first++
	} else {
		for j := i; j < q.n-1; j++ {
			*q.at(j) = *q.at(j + 1)
		}
	}
	q.n--
}

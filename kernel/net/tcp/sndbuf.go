package tcp

import "osv/kernel/pkt"

// Source gives the memory of send buffers; *pkt.Pool is one. All its buffers
// have the same size.
type Source interface {
	// Get returns a buffer, nil when none is free.
	Get() *pkt.Buf
}

// sendBuf holds the octets from SND.UNA on: those sent and not acknowledged,
// then those not sent yet. They lie in chunks of equal size, of which the first
// may be acknowledged in part. An empty sendBuf holds no chunk.
type sendBuf struct {
	src   Source
	ring  []*pkt.Buf // chunk i is ring[(first+i)&(len-1)]; len is a power of two
	first int
	n     int // chunks held
	size  int // octets per chunk
	skip  int // octets at the front of the first chunk that are acknowledged
	len   int // octets held
}

func (q *sendBuf) chunk(i int) *pkt.Buf { return q.ring[(q.first+i)&(len(q.ring)-1)] }

// append copies p to the end and returns how many octets went in: fewer than
// len(p) where the source has no chunk.
func (q *sendBuf) append(p []byte) int {
	done := 0
	for len(p) > 0 {
		pos := q.skip + q.len
		if q.n == 0 || pos == q.n*q.size {
			if !q.grow() {
				break
			}
			pos = q.skip + q.len
		}
		i := pos / q.size
		k := copy(q.chunk(i).Mem.Bytes[pos-i*q.size:q.size], p)
		p = p[k:]
		q.len += k
		done += k
	}
	return done
}

// grow adds a chunk at the end.
func (q *sendBuf) grow() bool {
	b := q.src.Get()
	if b == nil {
		return false
	}
	if q.n == len(q.ring) {
		ring := make([]*pkt.Buf, max(4, 2*len(q.ring)))
		for i := range q.n {
			ring[i] = q.chunk(i)
		}
		q.ring, q.first = ring, 0
	}
	q.size = len(b.Mem.Bytes)
	q.ring[(q.first+q.n)&(len(q.ring)-1)] = b
	q.n++
	return true
}

// read copies len(dst) octets from offset off on. They must be there.
func (q *sendBuf) read(dst []byte, off int) {
	pos := q.skip + off
	i := pos / q.size
	pos -= i * q.size
	for len(dst) > 0 {
		k := copy(dst, q.chunk(i).Mem.Bytes[pos:q.size])
		dst = dst[k:]
		i, pos = i+1, 0
	}
}

// drop ends the first k octets, which are acknowledged.
func (q *sendBuf) drop(k int) {
	q.skip += k
	q.len -= k
	if q.len == 0 {
		q.release()
		return
	}
	for q.skip >= q.size {
		q.pop()
		q.skip -= q.size
	}
}

func (q *sendBuf) pop() {
	i := q.first & (len(q.ring) - 1)
	q.ring[i].Put()
	q.ring[i] = nil
	q.first++
	q.n--
}

// release gives all memory back.
func (q *sendBuf) release() {
	for q.n > 0 {
		q.pop()
	}
	q.first, q.skip, q.len = 0, 0, 0
}

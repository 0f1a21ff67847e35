package virtio

import "osv/kernel/hw/dma"

// Piece is a chain of one descriptor. PostReads and PostWrites fill in Head.
type Piece struct {
	Addr dma.Addr
	Len  uint32
	Head uint16
}

// Used is a chain that the device has given back: its head, and how many bytes
// the device says it wrote, which is at most what it was given to write.
type Used struct {
	Head uint16
	Len  uint32
}

// PostReads is PostRead of each of ps. It returns how many it took: fewer than
// there are where the ring is full, none where it is broken.
func (q *Queue) PostReads(ps []Piece) int {
	ps = q.claim(ps)
	desc, avail, slots, mask := q.desc, q.avail, q.slots, uint32(q.mask)
	free, idx := uint32(q.freeHead), uint32(q.availIdx)
	for i := range ps {
		p := &ps[i]
		h := free & mask
		s := entry(slots, h)
		free = s.link // of a free slot the upper half is 0
		s.link, s.room = single, 0
		*entry(desc, h) = descriptor{uint64(p.Addr), uint64(p.Len)}
		*entry(avail, idx&mask) = uint16(h)
		p.Head = uint16(h)
		idx++
	}
	q.freeHead, q.availIdx = uint16(free), uint16(idx)
	return len(ps)
}

// PostWrites is PostWrite of each of ps, as PostReads is PostRead.
func (q *Queue) PostWrites(ps []Piece) int {
	ps = q.claim(ps)
	desc, avail, slots, mask := q.desc, q.avail, q.slots, uint32(q.mask)
	free, idx := uint32(q.freeHead), uint32(q.availIdx)
	for i := range ps {
		p := &ps[i]
		h := free & mask
		s := entry(slots, h)
		free = s.link
		s.link, s.room = single, p.Len
		*entry(desc, h) = descriptor{uint64(p.Addr), uint64(p.Len) | descWrite<<32}
		*entry(avail, idx&mask) = uint16(h)
		p.Head = uint16(h)
		idx++
	}
	q.freeHead, q.availIdx = uint16(free), uint16(idx)
	return len(ps)
}

// claim counts as many of ps as there are descriptors for.
func (q *Queue) claim(ps []Piece) []Piece {
	n := min(len(ps), int(q.nfree))
	q.nfree -= uint16(n)
	q.inFlight += uint16(n)
	return ps[:n]
}

// ReapBatch is Reap of up to len(dst) chains. It returns how many there were: it
// looks at the device's index once, unless an earlier look saw enough.
func (q *Queue) ReapBatch(dst []Used) int {
	if int(q.seen-q.lastUsed) < len(dst) {
		q.look()
	}
	k := 0
	for {
		k += q.reapSingles(dst[k:])
		if k == len(dst) || q.lastUsed == q.seen {
			return k
		}
		// A chain of several descriptors, or a lie.
		head, n, ok := q.Reap()
		if !ok {
			return k
		}
		dst[k] = Used{head, n}
		k++
	}
}

// reapSingles takes chains that have been seen, up to the first that is not one
// honest descriptor.
func (q *Queue) reapSingles(dst []Used) int {
	dst = dst[:min(len(dst), int(q.seen-q.lastUsed))]
	used, slots, mask := q.used, q.slots, uint32(q.mask)
	free, at := uint32(q.freeHead), uint32(q.lastUsed)
	n := 0
	for i := range dst {
		// One read of each field: the device may change them behind our back.
		e := entry(used, at&mask)
		id, size := e.id, e.len
		if uint64(id) >= uint64(len(slots)) {
			break
		}
		s := &slots[id]
		if s.link>>16 != 1 || size > s.room {
			break
		}
		s.link = free
		free = id
		at++
		dst[i] = Used{uint16(id), size}
		n++
	}
	q.freeHead, q.lastUsed = uint16(free), uint16(at)
	q.nfree += uint16(n)
	q.inFlight -= uint16(n)
	return n
}

package blk

import (
	"fmt"

	"osv/kernel/hw/dma"
)

// Cursor is where in a Request the next part starts.
type Cursor struct {
	at     uint64 // sector
	left   uint64 // sectors
	region int    // index in Mem
	off    int    // bytes into that region
}

// Sector is the first sector not yet in a part.
func (c *Cursor) Sector() uint64 { return c.at }

// Left is how many sectors are not yet in a part.
func (c *Cursor) Left() uint64 { return c.left }

// Seg is a piece of memory that a device command names.
type Seg struct {
	Addr dma.Addr
	Len  uint32
}

// Shape is what one device command may move. A zero field is no limit. Of
// MaxSegBytes and Boundary, one divides the other.
type Shape struct {
	BlockSize   int // bytes; a part is a whole number of blocks
	MaxBytes    int // in all; a multiple of BlockSize
	MaxSegBytes int // of one Seg, at most 1<<31
	// Boundary is a power of two: no Seg crosses a multiple of it.
	Boundary int
	// Page is a power of two: each Seg but the first starts at a multiple of it,
	// and each but the last ends at one, which is NVMe's rule for PRPs.
	Page int
}

// Check refuses a shape with which a command of maxSegs Segs cannot hold one block
// of any memory.
func (s *Shape) Check(maxSegs int) error {
	room := s.segBytes()
	if s.Boundary > 0 {
		room = min(room, s.Boundary)
	}
	need := 1
	if s.BlockSize > room { // unaligned memory meets one boundary more
		need = (s.BlockSize+room-1)/room + 1
	} else if s.Boundary > 0 {
		need = 2
	}
	if s.BlockSize <= 0 || maxSegs < need || s.MaxBytes != 0 && s.MaxBytes < s.BlockSize {
		return fmt.Errorf("%d pieces of %d bytes do not hold a block of %d", maxSegs, room, s.BlockSize)
	}
	return nil
}

const maxSegLen = 1 << 31

func (s *Shape) segBytes() int {
	if s.MaxSegBytes <= 0 {
		return maxSegLen
	}
	return min(s.MaxSegBytes, maxSegLen)
}

// Gather adds to segs, within their capacity, the memory of the next part of a
// transfer from or to mem, as large as s allows, and moves c behind it. It returns
// how many bytes that is: at least one block where s.Check accepts the capacity.
// Neighbours on the bus become one Seg.
func (c *Cursor) Gather(segs []Seg, mem []dma.Region, s *Shape) ([]Seg, int) {
	first, total := len(segs), 0
	limit := int(min(c.left*SectorSize, 1<<62))
	if s.MaxBytes > 0 {
		limit = min(limit, s.MaxBytes)
	}
	most := s.segBytes()
	next := *c
	for total < limit {
		m := mem[next.region]
		a := m.Bus + dma.Addr(next.off)
		n := min(len(m.Bytes)-next.off, limit-total, most)
		if s.Boundary > 0 {
			n = min(n, s.Boundary-int(a&dma.Addr(s.Boundary-1)))
		}
		last := len(segs) - 1
		joined := last >= first && segs[last].Addr+dma.Addr(segs[last].Len) == a &&
			(s.Boundary == 0 || a&dma.Addr(s.Boundary-1) != 0) && int(segs[last].Len) < most
		switch {
		case joined:
			n = min(n, most-int(segs[last].Len))
			segs[last].Len += uint32(n)
		case len(segs) == cap(segs):
			limit = total
			continue
		case last >= first && s.Page > 0 && (a|(segs[last].Addr+dma.Addr(segs[last].Len)))&dma.Addr(s.Page-1) != 0:
			limit = total
			continue
		default:
			segs = append(segs, Seg{a, uint32(n)})
		}
		if next.off += n; next.off == len(m.Bytes) {
			next.region, next.off = next.region+1, 0
		}
		total += n
	}
	if cut := total % s.BlockSize; cut > 0 {
		segs = trim(segs, cut)
		total -= cut
		next.back(mem, cut)
	}
	n := uint64(total / SectorSize)
	next.at, next.left = c.at+n, c.left-n
	*c = next
	return segs, total
}

// trim takes n bytes off the end of segs.
func trim(segs []Seg, n int) []Seg {
	for n > 0 {
		last := &segs[len(segs)-1]
		if int(last.Len) > n {
			last.Len -= uint32(n)
			return segs
		}
		n -= int(last.Len)
		segs = segs[:len(segs)-1]
	}
	return segs
}

// back moves c n bytes back.
func (c *Cursor) back(mem []dma.Region, n int) {
	for n > c.off {
		n -= c.off
		c.region--
		c.off = len(mem[c.region].Bytes)
	}
	c.off -= n
}

// Range takes the next part of a discard or write-zeroes, of at most most sectors,
// and moves c behind it.
func (c *Cursor) Range(most uint64) (sector, n uint64) {
	sector, n = c.at, min(c.left, most)
	c.at, c.left = c.at+n, c.left-n
	return sector, n
}

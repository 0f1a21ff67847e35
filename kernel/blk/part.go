package blk

import (
	"fmt"
	"io"
	"sync"

	"osv/kernel/hw/dma"
)

// part is a range of a disk, as a Disk.
type part struct {
	Disk  // ID, Flush, Err, ReadOnly and BlockSize are the whole disk's
	name  string
	first uint64 // sector
	size  int64  // bytes
	free  sync.Pool
}

// Part returns the size bytes of d from byte offset off on as a Disk of that name.
// Closing it flushes d, and does not close it. off and size must be multiples of
// d's block size.
func Part(d Disk, name string, off, size int64) (Disk, error) {
	bs := int64(d.BlockSize())
	if off < 0 || size <= 0 || size > d.Size() || off > d.Size()-size || off%bs != 0 || size%bs != 0 {
		return nil, fmt.Errorf("blk: %s: %d bytes at %d of %s, which has %d bytes in blocks of %d", name, size, off, d.Name(), d.Size(), bs)
	}
	return &part{Disk: d, name: name, first: uint64(off) / SectorSize, size: size}, nil
}

// partRequest is a Request of a part on its way to the whole disk.
type partRequest struct {
	Request
	p     *part
	outer *Request
}

func (p *part) Name() string { return p.name }
func (p *part) Size() int64  { return p.size }
func (p *part) Close() error { return p.Disk.Flush() }

// off is where a byte of p is on the disk.
func (p *part) off(off int64) int64 { return int64(p.first)*SectorSize + off }

// fits reports whether n bytes at off are in p.
func (p *part) fits(off, n int64) bool { return off >= 0 && n >= 0 && n <= p.size && off <= p.size-n }

func (p *part) outside(op Op, off, n int64) error {
	return &Error{Driver: p.name, Op: op, Sector: uint64(max(off, 0)) / SectorSize, Count: uint64(max(n, 0)) / SectorSize,
		Why: ErrRange, Detail: fmt.Sprintf("%d bytes at offset %d of %d", n, off, p.size)}
}

// Submit is Disk's. The error of a request names sectors of the whole disk.
func (p *part) Submit(r *Request) {
	if r.Op == OpFlush {
		p.Disk.Submit(r)
		return
	}
	n := r.Sectors
	if r.Op == OpRead || r.Op == OpWrite {
		n = 0
		for _, m := range r.Mem {
			n += uint64(len(m.Bytes)) / SectorSize
		}
	}
	if all := uint64(p.size) / SectorSize; n > all || r.Sector > all-n {
		r.Err = &Error{Driver: p.name, Op: r.Op, Sector: r.Sector, Count: n, Why: ErrRange, Detail: fmt.Sprintf("of %d sectors", all)}
		r.Done(r)
		return
	}
	q, _ := p.free.Get().(*partRequest)
	if q == nil {
		q = &partRequest{p: p}
		q.Done = q.done
	}
	q.outer, q.Op, q.Sector, q.Sectors, q.Mem = r, r.Op, p.first+r.Sector, r.Sectors, r.Mem
	p.Disk.Submit(&q.Request)
}

func (q *partRequest) done(*Request) {
	r := q.outer
	r.Err = q.Err
	q.outer, q.Mem, q.Err = nil, []dma.Region(nil), nil
	q.p.free.Put(q)
	r.Done(r)
}

// ReadAt is Disk's.
func (p *part) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 {
		return 0, p.outside(OpRead, off, int64(len(b)))
	}
	if off >= p.size && len(b) > 0 {
		return 0, io.EOF
	}
	want := b[:min(int64(len(b)), max(p.size-off, 0))]
	n, err := p.Disk.ReadAt(want, p.off(min(off, p.size)))
	if err == nil && n < len(b) {
		err = io.EOF
	}
	return n, err
}

// WriteAt is Disk's.
func (p *part) WriteAt(b []byte, off int64) (int, error) {
	if !p.fits(off, int64(len(b))) {
		return 0, p.outside(OpWrite, off, int64(len(b)))
	}
	return p.Disk.WriteAt(b, p.off(off))
}

// Discard is Disk's.
func (p *part) Discard(off, n int64) error {
	if !p.fits(off, n) {
		return p.outside(OpDiscard, off, n)
	}
	return p.Disk.Discard(p.off(off), n)
}

// WriteZeroes is Disk's.
func (p *part) WriteZeroes(off, n int64) error {
	if !p.fits(off, n) {
		return p.outside(OpWriteZeroes, off, n)
	}
	return p.Disk.WriteZeroes(p.off(off), n)
}

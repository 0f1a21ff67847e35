package tmpfs

import (
	"sync/atomic"

	"osv/kernel/vfs"
)

// pages is the contents of a file: pages by number, in chunks. What is not there
// reads as zeros.
type pages struct {
	chunks map[int64]*chunk
	count  int64
}

const chunkPages = 64

type chunk struct {
	p [chunkPages]*page
	n int
}

func (d *pages) get(i int64) *page {
	if c := d.chunks[i/chunkPages]; c != nil {
		return c.p[i%chunkPages]
	}
	return nil
}

func (d *pages) put(i int64, p *page) {
	c := d.chunks[i/chunkPages]
	if c == nil {
		if d.chunks == nil {
			d.chunks = map[int64]*chunk{}
		}
		c = &chunk{}
		d.chunks[i/chunkPages] = c
	}
	c.p[i%chunkPages] = p
	c.n++
	d.count++
}

func (d *pages) take(i int64) *page {
	c := d.chunks[i/chunkPages]
	if c == nil {
		return nil
	}
	p := c.p[i%chunkPages]
	if p == nil {
		return nil
	}
	c.p[i%chunkPages] = nil
	d.count--
	if c.n--; c.n == 0 {
		delete(d.chunks, i/chunkPages)
	}
	return p
}

// cut takes out the pages from number i on.
func (d *pages) cut(i int64) []*page { return d.cutRange(i, 1<<62) }

// cutRange takes out the pages [i, end).
func (d *pages) cutRange(i, end int64) []*page {
	var out []*page
	each := func(k int64, c *chunk) {
		for j := range c.p {
			if n := k*chunkPages + int64(j); c.p[j] != nil && n >= i && n < end {
				out = append(out, d.take(n))
			}
		}
	}
	first, last := i/chunkPages, (end-1)/chunkPages
	if last-first < int64(len(d.chunks)) {
		for k := first; k <= last; k++ {
			if c := d.chunks[k]; c != nil {
				each(k, c)
			}
		}
		return out
	}
	for k, c := range d.chunks {
		if k >= first && k <= last {
			each(k, c)
		}
	}
	return out
}

// next is the first page number from i on that is there (or with hole set is not),
// below end.
func (d *pages) next(i, end int64, hole bool) int64 {
	for i < end {
		c := d.chunks[i/chunkPages]
		if c == nil {
			if hole {
				return i
			}
			i = d.nextChunk(i, end)
			continue
		}
		if (c.p[i%chunkPages] == nil) == hole {
			return i
		}
		i++
	}
	return end
}

// nextChunk is the start of the next chunk after i, or end.
func (d *pages) nextChunk(i, end int64) int64 {
	k := i/chunkPages + 1
	if left := (end - i) / chunkPages; left < int64(len(d.chunks)) {
		return min(k*chunkPages, end)
	}
	best := end
	for c := range d.chunks {
		if c >= k {
			best = min(best, c*chunkPages)
		}
	}
	return best
}

// page is one page of a file; it implements vfs.Page. The file has a reference, and
// everyone who copies or maps.
type page struct {
	fs    *FS
	frame uint64
	b     []byte
	refs  atomic.Int32
}

// Frame is the physical address.
func (p *page) Frame() uint64 { return p.frame }

// Bytes is the memory.
func (p *page) Bytes() []byte { return p.b }

// Dirty has nothing to note.
func (p *page) Dirty() {}

// Release ends a use.
func (p *page) Release() {
	if p.refs.Add(-1) == 0 {
		p.fs.opt.Frames.Free(p.frame, p.b)
		p.fs.used.Add(-1)
		p.b = nil
	}
}

// newPage makes a page of zeros with one reference.
func (f *FS) newPage() (*page, error) {
	if err := f.charge(); err != nil {
		return nil, err
	}
	frame, b, err := f.opt.Frames.Alloc(true)
	if err != nil {
		f.used.Add(-1)
		return nil, err
	}
	p := &page{fs: f, frame: frame, b: b}
	p.refs.Store(1)
	return p, nil
}

var _ vfs.Page = (*page)(nil)

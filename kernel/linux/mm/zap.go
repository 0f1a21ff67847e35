package mm

import "sync"

// zapper takes pages out of a space's table and gives each back to whom it belongs.
// A space has one; it is used with the write lock held.
type zapper struct {
	s         *Space
	v         *vma
	keepOwned bool // leave private copies of file pages
	fn        func(va uint64, e PTE)
	buf       *[zapBatch]Frame
	frames    []Frame
	large     []Frame
	punched   []uint64
	anon      int64 // pages that were mapped, by kind
	files     int64
}

const zapBatch = 256

// buffers hold frames on their way back.
var buffers = sync.Pool{New: func() any { return new([zapBatch]Frame) }}

func (z *zapper) init(s *Space) {
	z.s = s
	z.fn = z.page
	z.buf = buffers.Get().(*[zapBatch]Frame)
	z.frames = z.buf[:0]
}

// end gives the buffer back: the space is gone.
func (z *zapper) end() {
	buffers.Put(z.buf)
	z.buf, z.frames = nil, nil
}

func (z *zapper) begin(v *vma) { z.v, z.keepOwned = v, false }

// run empties [from, to), which lies in the mapping of begin. ENOMEM, with nothing
// changed, where a 2 MiB page would have to be split and there is no memory for it.
func (z *zapper) run(from, to uint64) error {
	var err error
	if z.keepOwned && z.v.flags&vmShared == 0 {
		z.s.table.Walk(from, to, z.punch)
		for _, va := range z.punched {
			err = z.s.table.Unmap(va, va+PageSize, z.fn)
		}
		z.punched = z.punched[:0]
	} else {
		err = z.s.table.Unmap(from, to, z.fn)
	}
	z.flush()
	if z.anon != 0 {
		z.s.anon.Add(-z.anon)
	}
	if z.files != 0 {
		z.s.files.Add(-z.files)
	}
	z.anon, z.files, z.v = 0, 0, nil
	return err
}

// page gets a page that the table has just let go of.
func (z *zapper) page(_ uint64, e PTE) {
	v := z.v
	if v.back != nil && z.s.refs.dropPage(e.Frame, e.Dirty && v.flags&vmShared != 0) {
		z.files++
		return
	}
	z.anon += 1 << e.Order
	switch {
	case v.cow:
		for f, n := e.Frame, 0; n < 1<<e.Order; f, n = f+PageSize, n+1 {
			if z.s.refs.drop(f) {
				z.put(f)
			}
		}
	case e.Order == 0:
		z.put(e.Frame)
	default:
		z.large = append(z.large, e.Frame)
	}
}

// punch notes e if it is a page of the file.
func (z *zapper) punch(va uint64, e PTE) bool {
	if z.s.refs.isFile(e.Frame) {
		z.punched = append(z.punched, va)
	}
	return true
}

// put frees f with the next batch.
func (z *zapper) put(f Frame) {
	z.frames = append(z.frames, f)
	if len(z.frames) >= zapBatch {
		z.flush()
	}
}

// flush frees what is waiting.
func (z *zapper) flush() {
	if len(z.frames) > 0 {
		z.s.m.Free(z.frames, 0)
		z.frames = z.frames[:0]
	}
	if len(z.large) > 0 {
		z.s.m.Free(z.large, largeOrder)
		z.large = z.large[:0]
	}
}

// harvest tells the pages behind [from, to) of a mapping what was written to.
// Caller holds mu for writing.
func (s *Space) harvest(v *vma, from, to uint64) {
	if !v.writesInPlace() {
		return
	}
	s.table.Harvest(from, to, func(_ uint64, e PTE) {
		if p := s.refs.page(e.Frame); p != nil {
			p.Dirty()
		}
	})
}

package cache

import "sync/atomic"

// ReadAhead follows one reader of one file. The zero value is ready. Its user keeps
// it with the open file; a race between two readers costs a wrong guess, no more.
//
// Reading that goes on where it stopped is sequential: the cluster doubles from 4
// pages to the cache's limit, and the page in the middle of a cluster carries a
// mark; who reads that has the next cluster read while going on.
type ReadAhead struct {
	end  atomic.Int64 // one beyond the last page that was asked for or read ahead
	size atomic.Int64 // of the last cluster, pages
}

const firstCluster = 4

// window says how many pages to read at once where index is missing and want pages
// are asked for.
func (r *ReadAhead) window(f *File, index, want int64) int64 {
	last := (f.Size() + PageSize - 1) >> PageShift // one beyond
	limit := f.cache.readAhead
	n := max(want, 1)
	if r != nil && limit > 0 {
		if index == 0 || index == r.end.Load() {
			n = min(max(n, firstCluster, 2*r.size.Load()), max(limit, 1))
			r.size.Store(n)
		} else {
			r.size.Store(0)
		}
		r.end.Store(index + n)
	}
	return max(min(n, last-index, 256), 1)
}

// mark puts the mark into the middle of a cluster that was just read.
func (r *ReadAhead) mark(f *File, index, n int64) {
	if r == nil || n < firstCluster || f.cache.readAhead <= 0 {
		return
	}
	if p := f.lookup(index + n/2); p != nil {
		p.set(marker)
		p.Release()
	}
}

// next reads the cluster after the last one, in the background, marked again.
func (r *ReadAhead) next(f *File, index int64) {
	if r == nil {
		return
	}
	start := r.end.Load()
	limit := f.cache.readAhead
	n := min(max(2*r.size.Load(), firstCluster), limit)
	n = min(n, (f.Size()+PageSize-1)>>PageShift-start)
	if n <= 0 || start <= index || start > index+limit*2 {
		return
	}
	r.size.Store(n)
	r.end.Store(start + n)
	f.bg.Add(1)
	go f.prefetch(start, n)
}

// prefetch reads n pages from start on, unless memory is short.
func (f *File) prefetch(start, n int64) {
	defer f.bg.Done()
	if p := f.lookup(start); p != nil {
		p.Release()
		return
	}
	p, err := f.fetch(start, n)
	if err != nil || p == nil {
		return // who reads it will see
	}
	f.cache.ahead.Add(1)
	p.set(marker)
	p.Release()
}

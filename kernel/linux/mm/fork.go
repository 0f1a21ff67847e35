package mm

import "sync"

// Fork makes a copy of the space for a child: private memory is shared until one of
// the two writes to it. The child has one user, and no threads yet; those of the parent
// may be running.
func (s *Space) Fork() (*Space, error) {
	for tries := 0; ; tries++ {
		c, err := s.tryFork()
		if !noMemory(err) || tries > 2 || !s.reclaim(LargeSize) {
			return c, err
		}
	}
}

func (s *Space) tryFork() (*Space, error) {
	opt := s.opt
	opt.Refs = s.refs
	opt.Limits = *s.limits.Load()
	c, err := New(s.m, opt)
	if err != nil {
		return nil, err
	}
	f := forkers.Get().(*forker)
	f.parent, f.child = s, c
	defer f.done()
	for s.lock(); !f.ready(); s.lock() {
		// References to files are taken with no lock held, so that what is mapped may
		// change meanwhile: again, until it does not.
		missing := f.missing
		s.unlock()
		for _, b := range missing {
			f.files[b] = b.fork(c)
		}
	}
	c.layout = s.layout
	c.Barriers.Store(s.Barriers.Load())
	for v := s.tree.first; v != nil && err == nil; v = v.next {
		err = f.copy(v)
	}
	s.unlock()
	for b, n := range f.files {
		n.drop()
		b.drop()
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// forkers are there to be used again.
var forkers = sync.Pool{New: func() any {
	f := new(forker)
	f.walk = f.page
	return f
}}

func (f *forker) done() {
	*f = forker{run: f.run[:0], walk: f.walk}
	forkers.Put(f)
}

// forker copies page tables.
type forker struct {
	walk          func(va uint64, e PTE) bool
	parent, child *Space
	files         map[*backing]*backing // the parent's and the child's, a use of each
	missing       []*backing
	v             *vma // the child's
	run           []Frame
	at            uint64 // address of the run
	err           error
}

// ready says whether all that is behind the parent's mappings is in files; what is not
// it puts into missing, with a use of each. Caller holds the parent's mu for writing.
func (f *forker) ready() bool {
	f.missing = nil
	for v := f.parent.tree.first; v != nil; v = v.next {
		b := v.back
		if b == nil || v.flags&vmDontFork != 0 {
			continue
		}
		if f.files == nil {
			f.files = make(map[*backing]*backing)
		}
		if _, ok := f.files[b]; !ok {
			b.hold()
			f.files[b] = nil
			f.missing = append(f.missing, b)
		}
	}
	return f.missing == nil
}

// copy gives the child a mapping like v. Caller holds the parent's mu for writing.
func (f *forker) copy(v *vma) error {
	if v.flags&vmDontFork != 0 {
		return nil
	}
	c := f.child
	w := c.vma()
	w.start, w.end, w.prot, w.max, w.name, w.off = v.start, v.end, v.prot, v.max, v.name, v.off
	w.flags = v.flags &^ vmLocked
	if v.back != nil {
		w.back = f.files[v.back]
		w.back.hold()
	}
	c.add(w)
	var err error
	if v.flags&(vmShared|vmWipeOnFork) == 0 {
		err = f.copyPages(v, w)
	}
	c.rejoin(w) // what only a lock kept apart
	return err
}

// copyPages shares v's private pages with w, the child's mapping.
func (f *forker) copyPages(v, w *vma) error {
	w.cow = true
	f.v, f.run = w, f.run[:0]
	before := f.child.anon.Load()
	f.parent.table.Walk(v.start, v.end, f.walk)
	f.flush()
	if f.child.anon.Load() == before {
		w.cow = false
		return f.err
	}
	v.cow = true
	if f.err == nil && v.prot&ProtWrite != 0 {
		f.err = f.parent.table.Protect(v.start, v.end, v.pageProt())
	}
	return f.err
}

// page shares one page of the parent's. Pages of a file the child faults in itself.
func (f *forker) page(va uint64, e PTE) bool {
	if f.v.back != nil && f.parent.refs.isFile(e.Frame) {
		return true
	}
	if e.Order != 0 {
		f.flush()
		f.run, f.at = append(f.run, e.Frame), va
		f.share(e.Order)
		return f.err == nil
	}
	if n := len(f.run); n != 0 && (f.at+uint64(n)*PageSize != va || n == chunkPages) {
		f.flush()
	}
	if len(f.run) == 0 {
		f.at = va
	}
	f.run = append(f.run, e.Frame)
	return f.err == nil
}

func (f *forker) flush() { f.share(0) }

// share maps the run in the child, and gives each frame a further owner.
func (f *forker) share(order uint) {
	if len(f.run) == 0 || f.err != nil {
		return
	}
	for _, fr := range f.run {
		f.parent.refs.share(fr, order)
	}
	f.err = f.child.table.Map(f.at, f.run, order, f.v.prot&^ProtWrite)
	if f.err != nil {
		// The child has none of them.
		for _, fr := range f.run {
			for n := Frame(0); n < 1<<order; n++ {
				f.parent.refs.drop(fr + n*PageSize)
			}
		}
	} else {
		f.child.resident(&f.child.anon, int64(len(f.run))<<order)
	}
	f.run = f.run[:0]
}

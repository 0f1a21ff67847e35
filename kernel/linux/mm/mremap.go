package mm

import "syscall"

// Flags of mremap.
const (
	MremapMayMove   = 1
	MremapFixed     = 2
	MremapDontUnmap = 4
)

// Mremap changes the size or the place of what is mapped at [old, old+oldLen), and
// returns where it is: mremap(2). The checks are in Linux's order.
func (s *Space) Mremap(old, oldLen, newLen uint64, flags int, newAddr uint64) (uint64, error) {
	if flags&^(MremapMayMove|MremapFixed|MremapDontUnmap) != 0 ||
		flags&MremapFixed != 0 && flags&MremapMayMove == 0 ||
		flags&MremapDontUnmap != 0 && (flags&MremapMayMove == 0 || oldLen != newLen) ||
		old&(PageSize-1) != 0 {
		return 0, syscall.EINVAL
	}
	oldLen = (oldLen + PageSize - 1) &^ (PageSize - 1)
	newLen = (newLen + PageSize - 1) &^ (PageSize - 1)
	if newLen == 0 {
		return 0, syscall.EINVAL
	}
	r := remap{s: s, old: old, oldLen: oldLen, newLen: newLen, flags: flags, to: newAddr}
	err := s.retry(r.do)
	if err != nil {
		return 0, err
	}
	if r.fill[1] != 0 {
		s.populate(r.fill[0], r.fill[1], false)
	}
	return r.to, nil
}

// remap is one mremap under way.
type remap struct {
	s                   *Space
	old, oldLen, newLen uint64
	flags               int
	to                  uint64    // wanted, and then had
	fill                [2]uint64 // to be made present, of a locked mapping
}

func (r *remap) do() error {
	s := r.s
	v := s.tree.at(r.old)
	if v == nil {
		return syscall.EFAULT
	}
	if r.flags&(MremapFixed|MremapDontUnmap) != 0 {
		return r.fixed(v)
	}
	if r.oldLen >= r.newLen { // in place, and what is behind goes
		r.to = r.old
		if r.oldLen == r.newLen {
			return nil
		}
		if r.oldLen > TaskSize-r.old {
			return syscall.EINVAL
		}
		return s.unmap(r.old+r.newLen, r.old+r.oldLen)
	}
	if err := r.allowed(v); err != nil {
		return err
	}
	if r.oldLen == v.end-r.old { // up to the end of its mapping: is there room behind?
		end := r.old + r.newLen
		if end <= TaskSize && s.vacant(v.end, end) {
			n := r.newLen - r.oldLen
			w := *v
			w.start, w.end, w.off = v.end, end, v.offset(v.end)
			if v.back == nil {
				w.off = 0
			}
			if err := s.refuse(&w, 0); err != nil {
				return err
			}
			if v.flags&vmLocked != 0 {
				r.fill = [2]uint64{v.end, end}
			}
			s.count(v, n)
			s.tree.resize(v, v.start, end)
			s.join(v)
			r.to = r.old
			return nil
		}
	}
	if r.flags&MremapMayMove == 0 {
		return syscall.ENOMEM
	}
	to, ok := s.place(0, r.newLen, false, PageSize)
	if !ok {
		return syscall.ENOMEM
	}
	return r.move(v, to)
}

// fixed serves MREMAP_FIXED and MREMAP_DONTUNMAP.
func (r *remap) fixed(v *vma) error {
	s := r.s
	if r.to&(PageSize-1) != 0 || r.newLen > TaskSize || r.to > TaskSize-r.newLen ||
		r.old+r.oldLen > r.to && r.to+r.newLen > r.old {
		return syscall.EINVAL
	}
	if r.flags&MremapFixed != 0 {
		if r.to < MinAddr {
			return syscall.EPERM
		}
		if s.tree.n+2 > MaxMaps {
			return syscall.ENOMEM
		}
		if err := s.unmap(r.to, r.to+r.newLen); err != nil {
			return err
		}
		// What was cut may be v itself, outside of the range.
		if v = s.tree.at(r.old); v == nil {
			return syscall.EFAULT
		}
	}
	if r.oldLen > r.newLen {
		if r.oldLen > TaskSize-r.old {
			return syscall.EINVAL
		}
		if err := s.unmap(r.old+r.newLen, r.old+r.oldLen); err != nil {
			return err
		}
		r.oldLen = r.newLen
		v = s.tree.at(r.old)
	}
	if err := r.allowed(v); err != nil {
		return err
	}
	to := r.to
	if r.flags&MremapFixed == 0 {
		var ok bool
		if to, ok = s.place(r.to, r.newLen, false, PageSize); !ok {
			return syscall.ENOMEM
		}
	}
	return r.move(v, to)
}

// allowed is Linux's vma_to_resize.
func (r *remap) allowed(v *vma) error {
	s := r.s
	if r.oldLen == 0 && v.flags&vmShared == 0 {
		return syscall.EINVAL
	}
	if r.flags&MremapDontUnmap != 0 && v.flags&vmSpecial != 0 {
		return syscall.EINVAL
	}
	if r.oldLen > v.end-r.old {
		return syscall.EFAULT
	}
	if r.newLen == r.oldLen {
		return nil
	}
	off := v.offset(r.old)
	if off+r.newLen < off {
		return syscall.EINVAL
	}
	if v.flags&vmSpecial != 0 {
		return syscall.EFAULT
	}
	n := r.newLen - r.oldLen
	if v.flags&vmLocked != 0 && s.locked+n > s.memlock() {
		return syscall.EAGAIN
	}
	if s.total+n > s.limits.Load().AS {
		return syscall.ENOMEM
	}
	return nil
}

// move takes [old, old+oldLen), inside v, to the free address to.
func (r *remap) move(v *vma, to uint64) error {
	s := r.s
	if s.tree.n+3 > MaxMaps {
		return syscall.ENOMEM
	}
	end := r.old + r.oldLen
	if err := s.carve(r.old); err != nil {
		return err
	}
	if err := s.carve(end); err != nil {
		return err
	}
	keep := r.oldLen == 0 || r.flags&MremapDontUnmap != 0
	w := s.vma()
	w.start, w.end = to, to+r.newLen
	w.prot, w.max, w.flags, w.back, w.name, w.cow = v.prot, v.max, v.flags, v.back, v.name, v.cow
	if v.back != nil {
		w.off = v.offset(r.old)
	}
	free := r.oldLen
	if keep {
		free = 0
	}
	if s.total-free+r.newLen > s.limits.Load().AS {
		s.recycle(w)
		return syscall.ENOMEM
	}
	if w.back != nil {
		w.back.hold()
	}
	if w.flags&vmLocked != 0 {
		r.fill = [2]uint64{w.start, w.end}
	}
	if r.oldLen != 0 {
		if err := s.movePages(v, r.old, end, to); err != nil {
			if w.back != nil {
				s.drops = append(s.drops, w.back)
			}
			s.recycle(w)
			return err
		}
	}
	s.enter(w)
	r.to = to
	if keep {
		if r.oldLen != 0 && v.flags&vmLocked != 0 { // the old one is not locked any more
			s.setFlags(r.old, end, 0, vmLocked)
		}
		return nil
	}
	return s.unmap(r.old, end)
}

// movePages moves what is mapped in [from, end) of v to the empty addresses at to.
func (s *Space) movePages(v *vma, from, end, to uint64) error {
	// The tables at the new place come first, as long as nothing has moved: each run of
	// pages is mapped there as well, and taken away here when all are.
	m := mover{s: s, delta: to - from}
	s.table.Walk(from, end, m.page)
	m.flush()
	if m.err != nil {
		s.table.Unmap(to, to+(end-from), ignorePage)
		return m.err
	}
	return s.table.Unmap(from, end, func(va uint64, e PTE) {
		if e.Dirty && v.writesInPlace() {
			if p := s.refs.page(e.Frame); p != nil {
				p.Dirty()
			}
		}
	})
}

// mover maps pages a second time, at another address.
type mover struct {
	s     *Space
	delta uint64
	run   []Frame
	at    uint64
	prot  Prot
	err   error
}

func (m *mover) page(va uint64, e PTE) bool {
	to := va + m.delta
	if e.Order != 0 && to&(LargeSize-1) == 0 {
		m.flush()
		m.run, m.at, m.prot = append(m.run, e.Frame), to, e.Prot
		m.put(e.Order)
		return m.err == nil
	}
	for f, n := e.Frame, 0; n < 1<<e.Order; f, n, to = f+PageSize, n+1, to+PageSize {
		if k := uint64(len(m.run)); k != 0 && (m.at+k*PageSize != to || m.prot != e.Prot || k == chunkPages) {
			m.flush()
		}
		if len(m.run) == 0 {
			m.at, m.prot = to, e.Prot
		}
		m.run = append(m.run, f)
	}
	return m.err == nil
}

func (m *mover) flush() { m.put(0) }

func (m *mover) put(order uint) {
	if len(m.run) > 0 && m.err == nil {
		m.err = m.s.table.Map(m.at, m.run, order, m.prot)
	}
	m.run = m.run[:0]
}

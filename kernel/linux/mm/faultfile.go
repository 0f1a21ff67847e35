package mm

import (
	"syscall"

	"osv/kernel/vfs"
)

// faultBacked serves a fault in a mapping with something behind it. It may return
// errAgain; v may be gone then.
func (s *Space) faultBacked(v *vma, addr uint64, want Prot) error {
	page := addr &^ (PageSize - 1)
	inPlace := want == ProtWrite && v.writesInPlace()
	r := s.region(page)
	if e, ok := s.table.Lookup(page); ok && (!inPlace || e.grants(want)) {
		err := s.upgradeBacked(r, v, page, e, want)
		r.mu.Unlock()
		return err
	}
	r.mu.Unlock()

	b, off := v.back, v.offset(page)
	gen := b.gen.Load()
	b.hold()
	s.mu.RUnlock()
	s.waits.Add(1)
	p, err := b.mapper.PageAt(int64(off), inPlace)
	s.mu.RLock()
	switch {
	case err == nil:
		err = s.mapBacked(b, gen, p, page, off, want)
	case noMemory(err):
	default:
		err = &Signal{syscall.SIGBUS, BusAdrErr, addr}
	}
	if !b.release() {
		s.mu.RUnlock()
		b.end()
		s.mu.RLock()
	}
	return err
}

// upgradeBacked gives a page that is mapped what it lacks, without the file's help: a
// write makes a private copy. Caller holds r.mu.
func (s *Space) upgradeBacked(r *region, v *vma, page uint64, e PTE, want Prot) error {
	if e.grants(want) {
		return nil
	}
	p := s.refs.page(e.Frame)
	switch {
	case p == nil: // a private copy
		return s.upgrade(r, v, page, e, want)
	case want == ProtWrite:
		return s.copyPage(r, v, page, e.Frame, p.Bytes(), true)
	}
	r.one[0] = e.Frame
	return s.table.Map(page, r.one[:], 0, v.prot&^ProtWrite|v.prot&e.Prot)
}

// mapBacked maps p, which the file gave for page when b's generation was gen, or a copy
// of it; the reference to p is used up. Caller holds mu for reading.
func (s *Space) mapBacked(b *backing, gen uint64, p vfs.Page, page, off uint64, want Prot) error {
	v := s.tree.at(page)
	if v == nil || v.back != b || v.offset(page) != off || !v.allows(want) {
		p.Release()
		return errAgain
	}
	r := s.region(page)
	defer r.mu.Unlock()
	// Invalidate takes pages away after it has changed gen, so that what is mapped here
	// with the old one is still found by it.
	if b.gen.Load() != gen {
		p.Release()
		return errAgain
	}
	write := want == ProtWrite
	if e, ok := s.table.Lookup(page); ok {
		if e.grants(want) || !write || !v.writesInPlace() {
			p.Release()
			return s.upgradeBacked(r, v, page, e, want)
		}
		if e.Frame == Frame(p.Frame()) {
			p.Dirty()
			p.Release() // the entry has a reference
			r.one[0] = e.Frame
			return s.table.Map(page, r.one[:], 0, v.prot)
		}
		// The file changed its mind about which page this is.
		if err := s.take(page); err != nil {
			p.Release()
			return err
		}
		s.replaced(e.Frame, true)
		s.files.Add(-1)
	}
	if write && !v.writesInPlace() {
		err := s.mapCopy(r, v, page, p.Bytes())
		p.Release()
		return err
	}
	prot := v.prot
	if !b.rightAway && !(write && v.writesInPlace()) {
		prot &^= ProtWrite
	}
	if write {
		p.Dirty()
	}
	if err := s.mapPage(r, page, p, prot); err != nil {
		return err
	}
	if b.cached != nil && !write && v.flags&vmRandom == 0 {
		s.mapAround(r, v, page)
	}
	return nil
}

// mapPage maps p at page; the reference becomes the entry's. Caller holds r.mu.
func (s *Space) mapPage(r *region, page uint64, p vfs.Page, prot Prot) error {
	f := Frame(p.Frame())
	s.refs.addPage(p)
	r.one[0] = f
	if err := s.table.Map(page, r.one[:], 0, prot); err != nil {
		s.refs.dropPage(f, false)
		return err
	}
	s.resident(&s.files, 1)
	return nil
}

// mapCopy maps a new frame with the contents data. Caller holds r.mu.
func (s *Space) mapCopy(r *region, v *vma, page uint64, data []byte) error {
	if err := s.m.Alloc(r.one[:], 0, false); err != nil {
		return err
	}
	copy(s.m.Bytes(r.one[0], 0), data)
	if err := s.table.Map(page, r.one[:], 0, v.prot); err != nil {
		s.m.Free(r.one[:], 0)
		return err
	}
	s.resident(&s.anon, 1)
	return nil
}

// aroundFile is how much of a file is mapped at a read fault if it is in memory
// already (Linux's fault_around_bytes).
const aroundFile = 64 << 10

// mapAround maps the cached pages around page for reading. Invalidate waits for the
// caller's lock, so that a page given now is found by it.
func (s *Space) mapAround(r *region, v *vma, page uint64) {
	from := max(page&^(aroundFile-1), v.start)
	to := min(page&^(aroundFile-1)+aroundFile, v.end)
	prot := v.prot &^ ProtWrite
	for a := from; a < to; a += PageSize {
		if _, ok := s.table.Lookup(a); ok {
			continue
		}
		p, ok := v.back.cached.CachedPage(int64(v.offset(a)))
		if !ok {
			continue
		}
		if s.mapPage(r, a, p, prot) != nil {
			return
		}
	}
}

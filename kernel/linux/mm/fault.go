package mm

import (
	"errors"
)

// The bits of a page fault's error code (Intel SDM volume 3, 4.7).
const (
	faultPresent = 1 << 0
	faultWrite   = 1 << 1
	faultUser    = 1 << 2
	faultFetch   = 1 << 4
)

// errAgain is for a fault whose mapping changed while the lock was released.
var errAgain = errors.New("mm: fault again")

// Fault serves a page fault of user mode at addr with the processor's error code. Nil:
// go on. Otherwise it is a *Signal for the thread, or ErrOOM, which kills the program.
func (s *Space) Fault(addr uint64, code uint32) error {
	want := ProtRead
	switch {
	case code&(faultPresent|faultUser) == faultPresent:
		// The page is there, and the processor reached for it as the kernel: SMAP's
		// fault. QEMU's TCG reads the frame of an IRET in ring 3 so. It would fault for
		// ever.
		return segv(SegvAccErr, addr)
	case code&faultWrite != 0:
		want = ProtWrite
	case code&faultFetch != 0:
		want = ProtExec
	}
	s.faults.Add(1)
	s.mu.RLock()
	err := s.fault(addr, want)
	s.mu.RUnlock()
	s.settle()
	return err
}

// allows says whether a mapping lets user mode do want.
func (v *vma) allows(want Prot) bool {
	if want == ProtRead {
		return v.prot != 0
	}
	return v.prot&want != 0
}

// grants says the same of a page.
func (e *PTE) grants(want Prot) bool {
	if want == ProtRead {
		return e.Prot != 0
	}
	return e.Prot&want != 0
}

// fault makes the page at addr such that want can be done. Caller holds mu for reading;
// it is released and taken again where there is something to wait for.
func (s *Space) fault(addr uint64, want Prot) error {
	for tries := 0; ; {
		v := s.tree.find(addr)
		if v == nil || addr >= TaskSize {
			return segv(SegvMapErr, addr)
		}
		if addr < v.start {
			if v.flags&vmGrowsDown == 0 {
				return segv(SegvMapErr, addr)
			}
			s.mu.RUnlock()
			err := s.growStack(addr)
			s.mu.RLock()
			if err != nil {
				return segv(SegvMapErr, addr)
			}
			continue
		}
		if !v.allows(want) {
			return segv(SegvAccErr, addr)
		}
		var err error
		if v.anonymous() {
			err = s.faultAnon(v, addr, want)
		} else {
			err = s.faultBacked(v, addr, want)
		}
		if err == nil {
			return nil
		}
		if err == errAgain {
			continue
		}
		if !noMemory(err) {
			return err
		}
		s.mu.RUnlock()
		more := s.reclaim(LargeSize)
		s.mu.RLock()
		if tries++; !more || tries > 16 {
			return s.outOfMemory()
		}
	}
}

// outOfMemory tells that the program was promised more than there is.
func (s *Space) outOfMemory() error {
	(*s.oom.Load())()
	return ErrOOM
}

// faultAnon serves a fault in private anonymous memory.
func (s *Space) faultAnon(v *vma, addr uint64, want Prot) error {
	page := addr &^ (PageSize - 1)
	r := s.region(page)
	defer r.mu.Unlock()
	if e, ok := s.table.Lookup(page); ok {
		return s.upgrade(r, v, page, e, want)
	}
	from, to, large := v.around(page, s.m)
	if !large && from < page {
		// The page that matters comes first, should memory run out.
		n, err := s.table.MapZero(page, to-page, v.prot, false)
		s.resident(&s.anon, int64(n/PageSize))
		if n != 0 {
			n, _ = s.table.MapZero(from, page-from, v.prot, false)
			s.resident(&s.anon, int64(n/PageSize))
		}
		return err
	}
	n, err := s.table.MapZero(from, to-from, v.prot, large)
	s.resident(&s.anon, int64(n/PageSize))
	if n == to-from || err != nil {
		return err
	}
	// Less than what was asked for: is the page that matters among it?
	if _, ok := s.table.Lookup(page); ok {
		return nil
	}
	n, err = s.table.MapZero(page, PageSize, v.prot, false)
	s.resident(&s.anon, int64(n/PageSize))
	return err
}

// upgrade gives a page that is mapped the rights that it lacks: v has them. A frame
// with further owners is copied first.
func (s *Space) upgrade(r *region, v *vma, page uint64, e PTE, want Prot) error {
	if e.grants(want) {
		return nil // somebody else was faster
	}
	size := uint64(PageSize) << e.Order
	base := page &^ (size - 1)
	f := e.Frame + Frame(page-base)
	prot := v.prot
	if want != ProtWrite && v.cow {
		prot &^= ProtWrite
	}
	if e.Order == 0 || !v.cow {
		if prot&ProtWrite == 0 || !v.cow || !s.refs.shared(f) {
			r.one[0] = e.Frame
			return s.table.Map(base, r.one[:], e.Order, prot)
		}
		return s.copyPage(r, v, page, f, s.m.Bytes(f, 0), false)
	}
	// Part of a 2 MiB page that fork shared: it becomes small pages.
	if s.refs.shared(f) {
		return s.copyPage(r, v, page, f, s.m.Bytes(f, 0), false)
	}
	if err := s.take(page); err != nil {
		return err
	}
	r.one[0] = f
	if err := s.table.Map(page, r.one[:], 0, v.prot); err != nil {
		s.replaced(f, false)
		s.lost(false)
		return s.outOfMemory()
	}
	return nil
}

// take unmaps the page, which the caller has looked at. Caller holds its region's lock.
func (s *Space) take(page uint64) error {
	return s.table.Unmap(page, page+PageSize, ignorePage)
}

// ignorePage is for pages whose entry the caller knows.
func ignorePage(uint64, PTE) {}

// copyPage maps a copy of the page at frame f, whose contents are data, in its place.
// What was there is released later. Caller holds r.mu.
func (s *Space) copyPage(r *region, v *vma, page uint64, f Frame, data []byte, ofFile bool) error {
	if err := s.m.Alloc(r.one[:], 0, false); err != nil {
		return err
	}
	n := r.one[0]
	copy(s.m.Bytes(n, 0), data)
	if err := s.take(page); err != nil {
		s.m.Free(r.one[:], 0)
		return err
	}
	s.replaced(f, ofFile)
	if err := s.table.Map(page, r.one[:], 0, v.prot); err != nil {
		// The page is gone: the program cannot go on.
		s.m.Free(r.one[:], 0)
		s.lost(ofFile)
		return s.outOfMemory()
	}
	if ofFile {
		s.files.Add(-1)
		s.resident(&s.anon, 1)
	}
	return nil
}

// lost corrects the resident set after a page went without a successor.
func (s *Space) lost(ofFile bool) {
	if ofFile {
		s.files.Add(-1)
	} else {
		s.anon.Add(-1)
	}
}

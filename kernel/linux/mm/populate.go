package mm

import "syscall"

// populate makes the pages of [start, end) present: MAP_POPULATE, mlock. For writing
// where the mapping allows it and shares nothing, as Linux does it, or where write is
// set. The first error ends it.
func (s *Space) populate(start, end uint64, write bool) error {
	var err error
	s.mu.RLock()
	for a := start; a < end && err == nil; {
		v := s.tree.at(a)
		if v == nil {
			err = syscall.ENOMEM
			break
		}
		stop := min(end, v.end)
		want := ProtRead
		if write || v.prot&ProtWrite != 0 && v.flags&vmShared == 0 {
			want = ProtWrite
		}
		if !v.allows(want) {
			err = syscall.EFAULT
			break
		}
		a, err = s.populateStep(v, a, stop, want)
	}
	s.mu.RUnlock()
	s.settle()
	return err
}

// populateStep makes a page or more from a on present, inside v and below stop, and
// returns where it stopped. Caller holds mu for reading; v may be gone after.
func (s *Space) populateStep(v *vma, a, stop uint64, want Prot) (uint64, error) {
	if v.anonymous() && !v.cow {
		next, err := s.fillZero(v, a, stop)
		if err == nil || !noMemory(err) {
			return next, err
		}
		a = next
	}
	// Page by page: the slow way waits for files, copies, and asks for memory.
	if err := s.fault(a, want); err != nil {
		return a, err
	}
	return a&^(PageSize-1) + PageSize, nil
}

// fillZero maps zeros at the empty pages of [a, stop), up to the next 2 MiB boundary,
// and returns where it stopped. Caller holds mu for reading.
func (s *Space) fillZero(v *vma, a, stop uint64) (uint64, error) {
	to := min(a&^(LargeSize-1)+LargeSize, stop)
	r := s.region(a)
	defer r.mu.Unlock()
	large := v.flags&vmNoHuge == 0 && a&(LargeSize-1) == 0 && to-a == LargeSize
	n, err := s.table.MapZero(a, to-a, v.prot, large)
	s.resident(&s.anon, int64(n/PageSize))
	if err != nil {
		return a, err
	}
	if n < to-a {
		// Some were there already, or memory ran out: which?
		for p := a; p < to; p += PageSize {
			if _, ok := s.table.Lookup(p); !ok {
				return p, syscall.ENOMEM
			}
		}
	}
	return to, nil
}

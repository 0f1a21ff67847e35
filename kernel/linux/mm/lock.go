package mm

import "syscall"

// Flags of mlockall and mlock2.
const (
	mclCurrent = 1
	mclFuture  = 2
	mclOnFault = 4

	mlockOnFault = 1
)

// Mlock is mlock(2) and, with MLOCK_ONFAULT, mlock2(2): there is no swap, so that what
// is locked and present stays.
func (s *Space) Mlock(addr, n uint64, flags int) error {
	if flags&^mlockOnFault != 0 {
		return syscall.EINVAL
	}
	if s.memlock() == 0 {
		return syscall.EPERM
	}
	n += addr & (PageSize - 1)
	addr &^= PageSize - 1
	end := addr + (n+PageSize-1)&^(PageSize-1)
	if end < addr {
		return syscall.EINVAL
	}
	if end == addr {
		return nil
	}
	err := s.retry(func() error {
		have := uint64(0)
		for v := s.tree.find(addr); v != nil && v.start < end; v = v.next {
			if v.flags&vmLocked != 0 {
				have += min(v.end, end) - max(v.start, addr)
			}
		}
		if s.locked-have+(end-addr) > s.memlock() {
			return syscall.ENOMEM
		}
		return s.relock(addr, end, vmLocked, 0)
	})
	if err != nil || flags&mlockOnFault != 0 {
		return err
	}
	switch s.populate(addr, end, false) {
	case nil:
		return nil
	case ErrOOM:
		return syscall.EAGAIN
	}
	return syscall.ENOMEM
}

// relock changes flags up to the first hole, which is ENOMEM.
func (s *Space) relock(addr, end uint64, set, drop vmFlag) error {
	for a := addr; a < end; {
		v := s.tree.at(a)
		if v == nil {
			return syscall.ENOMEM
		}
		to := min(v.end, end)
		if v.flags&vmSpecial == 0 {
			if _, err := s.reflag(v, a, to, set, drop); err != nil {
				return err
			}
		}
		a = to
	}
	return nil
}

// Munlock is munlock(2).
func (s *Space) Munlock(addr, n uint64) error {
	n += addr & (PageSize - 1)
	addr &^= PageSize - 1
	end := addr + (n+PageSize-1)&^(PageSize-1)
	if end < addr {
		return syscall.EINVAL
	}
	if end == addr {
		return nil
	}
	return s.retry(func() error { return s.relock(addr, end, 0, vmLocked) })
}

// MlockAll is mlockall(2).
func (s *Space) MlockAll(flags int) error {
	if flags == 0 || flags&^(mclCurrent|mclFuture|mclOnFault) != 0 || flags == mclOnFault {
		return syscall.EINVAL
	}
	if s.memlock() == 0 {
		return syscall.EPERM
	}
	err := s.retry(func() error {
		if flags&mclCurrent != 0 && s.total > s.memlock() {
			return syscall.ENOMEM
		}
		s.lockAll = flags&mclFuture != 0
		if flags&mclCurrent == 0 {
			return nil
		}
		for v := s.tree.first; v != nil; v = v.next {
			if v.flags&vmSpecial == 0 {
				w, err := s.reflag(v, v.start, v.end, vmLocked, 0)
				if err != nil {
					return err
				}
				v = w
			}
		}
		return nil
	})
	if err != nil || flags&mclCurrent == 0 || flags&mclOnFault != 0 {
		return err
	}
	// Mapping by mapping; errors do not count.
	for a := uint64(0); ; {
		s.mu.RLock()
		v := s.tree.find(a)
		if v == nil {
			s.mu.RUnlock()
			return nil
		}
		start, end, skip := v.start, v.end, v.prot == 0 || v.flags&vmSpecial != 0
		s.mu.RUnlock()
		if !skip {
			s.populate(start, end, false)
		}
		a = end
	}
}

// MunlockAll is munlockall(2).
func (s *Space) MunlockAll() error {
	return s.retry(func() error {
		s.lockAll = false
		for v := s.tree.first; v != nil; v = v.next {
			w, err := s.reflag(v, v.start, v.end, 0, vmLocked)
			if err != nil {
				return err
			}
			v = w
		}
		return nil
	})
}

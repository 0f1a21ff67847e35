package mm

import (
	"syscall"

	"osv/kernel/vfs"
)

// Advice, from asm-generic/mman-common.h.
const (
	madvNormal         = 0
	madvRandom         = 1
	madvSequential     = 2
	madvWillNeed       = 3
	madvDontNeed       = 4
	madvFree           = 8
	madvRemove         = 9
	madvDontFork       = 10
	madvDoFork         = 11
	madvMergeable      = 12
	madvUnmergeable    = 13
	madvHugePage       = 14
	madvNoHugePage     = 15
	madvDontDump       = 16
	madvDoDump         = 17
	madvWipeOnFork     = 18
	madvKeepOnFork     = 19
	madvCold           = 20
	madvPageOut        = 21
	madvPopulateRead   = 22
	madvPopulateWrite  = 23
	madvDontNeedLocked = 24
	madvCollapse       = 25

	// What fallocate is asked for to punch a hole.
	fallocKeepSize  = 1
	fallocPunchHole = 2
)

// Madvise is madvise(2). Where part of the range is not mapped, the rest is served
// and the error is ENOMEM, as on Linux.
func (s *Space) Madvise(addr, n uint64, advice int) error {
	switch {
	case advice >= madvNormal && advice <= madvDontNeed, advice >= madvFree && advice <= madvCollapse:
	default:
		return syscall.EINVAL
	}
	if addr&(PageSize-1) != 0 {
		return syscall.EINVAL
	}
	end := addr + (n+PageSize-1)&^(PageSize-1)
	if n != 0 && end-addr == 0 || end < addr {
		return syscall.EINVAL
	}
	if end == addr {
		return nil
	}
	switch advice {
	case madvPopulateRead, madvPopulateWrite:
		return s.advisePopulate(addr, end, advice == madvPopulateWrite)
	case madvWillNeed:
		return s.adviseWillNeed(addr, end)
	case madvRemove:
		return s.adviseRemove(addr, end)
	}
	return s.retry(func() error { return s.advise(addr, end, advice) })
}

// each calls f for the parts of mappings in [addr, end); ENOMEM after all of them where
// there are holes. f may split its mapping, and returns what holds the part then.
// Caller holds mu for writing.
func (s *Space) each(addr, end uint64, f func(v *vma, a, to uint64) error) error {
	var err error
	v := s.tree.find(addr)
	for a := addr; a < end; {
		if v == nil || v.start >= end {
			return syscall.ENOMEM
		}
		if v.start > a {
			a, err = v.start, syscall.ENOMEM
		}
		to := min(v.end, end)
		if e := f(v, a, to); e != nil {
			return e
		}
		a, v = to, s.tree.find(to)
	}
	return err
}

func (s *Space) advise(addr, end uint64, advice int) error {
	switch advice {
	case madvDontNeed, madvDontNeedLocked, madvFree:
		if err := s.carve(addr); err != nil {
			return err
		}
		if end < TaskSize {
			if err := s.carve(end); err != nil {
				return err
			}
		}
		return s.each(addr, end, func(v *vma, a, to uint64) error {
			if v.flags&vmLocked != 0 && advice != madvDontNeedLocked || v.flags&vmSpecial != 0 ||
				advice == madvFree && !v.anonymous() {
				return syscall.EINVAL
			}
			s.zap.begin(v)
			return s.zap.run(a, to)
		})
	case madvNormal:
		return s.adviseFlags(addr, end, 0, vmRandom|vmSequential, nil)
	case madvRandom:
		return s.adviseFlags(addr, end, vmRandom, vmSequential, nil)
	case madvSequential:
		return s.adviseFlags(addr, end, vmSequential, vmRandom, nil)
	case madvDontFork:
		return s.adviseFlags(addr, end, vmDontFork, 0, nil)
	case madvDoFork:
		return s.adviseFlags(addr, end, 0, vmDontFork, func(v *vma) bool { return v.flags&vmSpecial != 0 })
	case madvHugePage:
		return s.adviseFlags(addr, end, vmHuge, vmNoHuge, nil)
	case madvNoHugePage:
		return s.adviseFlags(addr, end, vmNoHuge, vmHuge, nil)
	case madvDontDump:
		return s.adviseFlags(addr, end, vmDontDump, 0, nil)
	case madvDoDump:
		return s.adviseFlags(addr, end, 0, vmDontDump, func(v *vma) bool { return v.flags&vmSpecial != 0 })
	case madvWipeOnFork:
		return s.adviseFlags(addr, end, vmWipeOnFork, 0, func(v *vma) bool { return v.back != nil })
	case madvKeepOnFork:
		return s.adviseFlags(addr, end, 0, vmWipeOnFork, nil)
	}
	barred := func(v *vma) bool { return false }
	if advice == madvCold || advice == madvPageOut {
		barred = func(v *vma) bool { return v.flags&(vmLocked|vmSpecial) != 0 }
	}
	// The rest are hints that change nothing that can be seen: only the range counts.
	return s.adviseFlags(addr, end, 0, 0, barred)
}

// adviseFlags sets and clears flags; EINVAL at the first mapping that is barred.
func (s *Space) adviseFlags(addr, end uint64, set, drop vmFlag, barred func(v *vma) bool) error {
	return s.each(addr, end, func(v *vma, a, to uint64) error {
		if barred != nil && barred(v) {
			return syscall.EINVAL
		}
		_, err := s.reflag(v, a, to, set, drop)
		return err
	})
}

// setFlags changes the flags of all that is mapped in [addr, end).
func (s *Space) setFlags(addr, end uint64, set, drop vmFlag) error {
	return s.adviseFlags(addr, end, set, drop, nil)
}

// reflag changes the flags of [a, to), inside v, and returns what holds it then.
func (s *Space) reflag(v *vma, a, to uint64, set, drop vmFlag) (*vma, error) {
	if v.flags&^drop|set == v.flags {
		return v, nil
	}
	pieces := 0
	if v.start < a {
		pieces++
	}
	if to < v.end {
		pieces++
	}
	if s.tree.n+pieces > MaxMaps {
		return v, syscall.ENOMEM
	}
	if err := s.carve(a); err != nil {
		return v, err
	}
	if err := s.carve(to); err != nil {
		return v, err
	}
	if v.start < a {
		v = s.split(v, a)
	}
	if to < v.end {
		s.split(v, to)
	}
	n := to - a
	s.count(v, -n)
	v.flags = v.flags&^drop | set
	s.count(v, n)
	return s.rejoin(v), nil
}

// advisePopulate is MADV_POPULATE_READ and _WRITE.
func (s *Space) advisePopulate(addr, end uint64, write bool) error {
	want := ProtRead
	if write {
		want = ProtWrite
	}
	var err error
	s.mu.RLock()
	for a := addr; a < end && err == nil; {
		v := s.tree.at(a)
		switch {
		case v == nil:
			err = syscall.ENOMEM
		case v.flags&vmSpecial != 0 || !v.allows(want):
			err = syscall.EINVAL
		default:
			a, err = s.populateStep(v, a, min(end, v.end), want)
		}
	}
	s.mu.RUnlock()
	s.settle()
	if _, ok := err.(*Signal); ok {
		return syscall.EFAULT
	}
	if err == ErrOOM {
		return syscall.ENOMEM
	}
	return err
}

// adviseWillNeed reads what is mapped from files ahead. Linux does not wait for it;
// here it is mapped at once, as far as it is in memory or can be read.
func (s *Space) adviseWillNeed(addr, end uint64) error {
	var err error
	s.mu.RLock()
	for a := addr; a < end; {
		v := s.tree.find(a)
		if v == nil || v.start >= end {
			err = syscall.ENOMEM
			break
		}
		if v.start > a {
			a, err = v.start, syscall.ENOMEM
		}
		stop := min(end, v.end)
		if v.back == nil || v.prot == 0 {
			a = stop
			continue
		}
		for a < stop {
			next, e := s.populateStep(v, a, stop, ProtRead)
			if e != nil { // beyond the end of the file, or it cannot be read: no matter
				a = stop
				break
			}
			a = next
			if v = s.tree.at(a); v == nil { // it changed while this waited
				break
			}
			stop = min(end, v.end)
		}
	}
	s.mu.RUnlock()
	s.settle()
	return err
}

// adviseRemove punches holes into what is mapped shared.
func (s *Space) adviseRemove(addr, end uint64) error {
	for a := addr; a < end; {
		s.mu.RLock()
		v := s.tree.at(a)
		switch {
		case v == nil:
			s.mu.RUnlock()
			return syscall.ENOMEM
		case v.flags&vmLocked != 0 || v.back == nil || v.flags&vmSpecial != 0:
			s.mu.RUnlock()
			return syscall.EINVAL
		case v.flags&vmShared == 0 || v.prot&ProtWrite == 0:
			s.mu.RUnlock()
			return syscall.EACCES
		}
		b, to := v.back, min(v.end, end)
		off, n := v.offset(a), to-a
		b.hold()
		s.mu.RUnlock()
		err := syscall.EOPNOTSUPP
		if o, ok := b.mapper.(*anonObject); ok {
			o.remove(off, off+n)
			err = 0
		} else if f, ok := b.file.(vfs.Allocator); ok {
			err = 0
			if e := f.Allocate(fallocPunchHole|fallocKeepSize, int64(off), int64(n)); e != nil {
				b.drop()
				return e
			}
		}
		b.drop()
		if err != 0 {
			return err
		}
		a = to
	}
	return nil
}

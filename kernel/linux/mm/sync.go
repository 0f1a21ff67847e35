package mm

import "syscall"

// Flags of msync.
const (
	msAsync      = 1
	msInvalidate = 2
	msSync       = 4
)

// Msync writes what was changed in shared mappings of files to them: msync(2). It
// waits for the medium with MS_SYNC; with MS_ASYNC the file merely learns what is
// dirty.
func (s *Space) Msync(addr, n uint64, flags int) error {
	if flags&^(msAsync|msInvalidate|msSync) != 0 || addr&(PageSize-1) != 0 ||
		flags&msAsync != 0 && flags&msSync != 0 {
		return syscall.EINVAL
	}
	end := addr + (n+PageSize-1)&^(PageSize-1)
	if end < addr {
		return syscall.ENOMEM
	}
	var err error
	for a := addr; a < end; {
		s.lock()
		v := s.tree.find(a)
		if v == nil || v.start >= end {
			s.unlock()
			return syscall.ENOMEM
		}
		if v.start > a {
			a, err = v.start, syscall.ENOMEM
		}
		if flags&msInvalidate != 0 && v.flags&vmLocked != 0 {
			s.unlock()
			return syscall.EBUSY
		}
		to := min(v.end, end)
		b := v.back
		if b == nil || b.file == nil || v.flags&vmShared == 0 {
			s.unlock()
			a = to
			continue
		}
		s.harvest(v, a, to)
		b.hold()
		s.unlock()
		var e error
		if flags&msSync != 0 {
			e = b.file.Sync(true)
		}
		b.drop()
		if e != nil {
			return e
		}
		a = to
	}
	return err
}

// Mincore says for each page of [addr, addr+n) whether it is in memory, a byte each:
// mincore(2). vec has room for all. ENOMEM where something is not mapped.
func (s *Space) Mincore(addr, n uint64, vec []byte) error {
	if addr&(PageSize-1) != 0 {
		return syscall.EINVAL
	}
	if addr > TaskSize || n > TaskSize-addr {
		return syscall.ENOMEM
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for i := range vec {
		a := addr + uint64(i)*PageSize
		v := s.tree.at(a)
		if v == nil {
			return syscall.ENOMEM
		}
		vec[i] = 0
		if _, ok := s.table.Lookup(a); ok {
			vec[i] = 1
		} else if v.back != nil && v.back.cached != nil {
			if p, ok := v.back.cached.CachedPage(int64(v.offset(a))); ok {
				p.Release()
				vec[i] = 1
			}
		}
	}
	return nil
}

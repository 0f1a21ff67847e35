package mm

import "syscall"

// Further bits of mprotect's protection.
const (
	protSem       = 0x8
	protGrowsDown = 0x01000000
	protGrowsUp   = 0x02000000
)

// pageProt is what the pages of v that are mapped may be given without looking at each:
// no right to write to pages that others have too, or whose writes are noted.
func (v *vma) pageProt() Prot {
	if v.cow || v.back != nil && !v.back.rightAway {
		return v.prot &^ ProtWrite
	}
	return v.prot
}

// Mprotect changes the rights of [addr, addr+n): mprotect(2). As there, what comes
// before the place of an error is changed.
func (s *Space) Mprotect(addr, n uint64, prot uint32) error {
	down := prot&protGrowsDown != 0
	if down && prot&protGrowsUp != 0 || addr&(PageSize-1) != 0 {
		return syscall.EINVAL
	}
	if n == 0 {
		return nil
	}
	end := addr + (n+PageSize-1)&^(PageSize-1)
	if end <= addr {
		return syscall.ENOMEM
	}
	prot &^= protGrowsDown | protGrowsUp
	if prot&^uint32(protAll|protSem) != 0 {
		return syscall.EINVAL
	}
	return s.retry(func() error { return s.protect(addr, end, Prot(prot)&protAll, down) })
}

func (s *Space) protect(addr, end uint64, prot Prot, down bool) error {
	v := s.tree.find(addr)
	if v == nil {
		return syscall.ENOMEM
	}
	if down {
		if v.start >= end {
			return syscall.ENOMEM
		}
		if v.flags&vmGrowsDown == 0 {
			return syscall.EINVAL
		}
		addr = v.start
	}
	for a := addr; a < end; {
		if v == nil || v.start > a {
			return syscall.ENOMEM
		}
		to := min(v.end, end)
		if prot&^v.max != 0 {
			return syscall.EACCES
		}
		if v.prot != prot {
			var err error
			if v, err = s.reprotect(v, a, to, prot); err != nil {
				return err
			}
		}
		a, v = to, s.tree.find(to)
	}
	return nil
}

// reprotect changes [a, to), inside v, and returns the mapping that holds it then.
func (s *Space) reprotect(v *vma, a, to uint64, prot Prot) (*vma, error) {
	n := to - a
	was := v.prot
	v.prot = prot
	data, acct := v.isData(), v.accounted()
	v.prot = was
	if data && !v.isData() && s.data+n > s.limits.Load().Data ||
		acct && !v.accounted() && s.opt.Total != 0 && n > s.opt.Total {
		return v, syscall.ENOMEM
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
	// The usual step of an allocator: the boundary with the mapping before moves up.
	if p := v.prev; p != nil && a == v.start && to < v.end && p.end == a {
		w := vma{start: a, end: to, prot: prot, max: v.max, flags: v.flags, back: v.back, off: v.off, name: v.name}
		if p.joins(&w) {
			p.cow = p.cow || v.cow
			w.cow = p.cow
			if err := s.table.Protect(a, to, w.pageProt()); err != nil {
				return v, err
			}
			s.count(v, -n)
			s.count(&w, n)
			if v.back != nil {
				v.off += n
			}
			v.start = to
			s.tree.resize(p, p.start, to)
			return p, nil
		}
	}
	if v.start < a {
		v = s.split(v, a)
	}
	if to < v.end {
		s.split(v, to)
	}
	s.count(v, -n)
	v.prot = prot
	s.count(v, n)
	if err := s.table.Protect(a, to, v.pageProt()); err != nil {
		return v, err
	}
	return s.rejoin(v), nil
}

// rejoin joins v, whose properties changed, with its neighbours, and returns what holds
// it then.
func (s *Space) rejoin(v *vma) *vma {
	s.join(v)
	if p := v.prev; p != nil && p.joins(v) {
		s.join(p)
		return p
	}
	return v
}

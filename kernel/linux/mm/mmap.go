package mm

import (
	"errors"
	"syscall"

	"osv/kernel/vfs"
)

var errGrow = errors.New("mm: the stack cannot grow")

const protAll = ProtRead | ProtWrite | ProtExec

// Flags of mmap that package syscall lacks, or has under a name of its own only.
const (
	mapShared         = 0x01
	mapPrivate        = 0x02
	mapSharedValidate = 0x03
	mapType           = 0x0f
	mapFixed          = 0x10
	mapAnonymous      = 0x20
	map32Bit          = 0x40
	mapGrowsDown      = 0x100
	mapLocked         = 0x2000
	mapNoReserve      = 0x4000
	mapPopulate       = 0x8000
	mapNonblock       = 0x10000
	mapStack          = 0x20000
	mapHugeTLB        = 0x40000
	mapSync           = 0x80000
	mapFixedNoReplace = 0x100000
	mapHugeShift      = 26

	// What MAP_SHARED_VALIDATE lets through (LEGACY_MAP_MASK): MAP_DENYWRITE,
	// MAP_EXECUTABLE and MAP_UNINITIALIZED do nothing.
	mapLegacy = mapShared | mapPrivate | mapFixed | mapAnonymous | 0x800 | 0x1000 | 0x4000000 |
		mapGrowsDown | mapLocked | mapNoReserve | mapPopulate | mapNonblock | mapStack |
		mapHugeTLB | map32Bit | 0x3f<<mapHugeShift
)

// MapRequest is what mmap is asked for.
type MapRequest struct {
	Addr, Length uint64
	Prot         Prot
	Flags        int // MAP_*

	// File is what is mapped, a vfs.Mapper (ENODEV), from Offset on; nil for anonymous
	// memory. Mapper may be set instead, for pages that no file has.
	File   vfs.File
	Mapper vfs.Mapper
	Offset uint64
	// Max is what mprotect may give, as the file was opened; 0 is all.
	Max Prot
	// Ref and Unref, which may be nil, take and release a reference to the open file:
	// once for this request, and once more for each space that fork makes of it.
	Ref, Unref func()
	// Path is the file's name for /proc/self/maps, at the time of reading.
	Path func() string
	// Name is what maps shows for memory without a file: "[vdso]".
	Name string
}

// Mmap makes a mapping, and returns where it is: mmap(2).
func (s *Space) Mmap(r MapRequest) (uint64, error) {
	v, b, err := s.plan(&r)
	if err != nil {
		return 0, err
	}
	if b != nil {
		b.attach()
	}
	s.lock()
	err = s.mapIn(&r, &v, b)
	start, end := v.start, v.end
	s.unlock()
	if err != nil {
		if b != nil {
			b.drop()
		}
		return 0, err
	}
	if v.flags&vmLocked != 0 || r.Flags&(mapPopulate|mapNonblock) == mapPopulate {
		s.populate(start, end, false)
	}
	return start, nil
}

// plan checks a request and returns what will be mapped, in Linux's order of errors.
func (s *Space) plan(r *MapRequest) (v vma, b *backing, err error) {
	if r.Offset&(PageSize-1) != 0 || r.Length == 0 {
		return v, nil, syscall.EINVAL
	}
	backed := r.File != nil || r.Mapper != nil
	if r.Flags&mapHugeTLB != 0 && !backed {
		// There is no pool of huge pages, as on a Linux where none was reserved.
		switch r.Flags >> mapHugeShift & 0x3f {
		case 0, 21, 30:
			return v, nil, syscall.ENOMEM
		}
		return v, nil, syscall.EINVAL
	}
	n := (r.Length + PageSize - 1) &^ (PageSize - 1)
	if n == 0 || n > TaskSize {
		return v, nil, syscall.ENOMEM
	}
	if r.Flags&mapFixedNoReplace != 0 {
		r.Flags |= mapFixed
	}
	v.start, v.end = 0, n
	v.prot, v.max, v.name, v.off = r.Prot&protAll, protAll, r.Name, r.Offset
	if r.Max != 0 {
		v.max = r.Max
	}
	switch r.Flags & mapType {
	case mapSharedValidate:
		if r.Flags&^mapLegacy != 0 && backed {
			return v, nil, syscall.EOPNOTSUPP
		}
		if !backed {
			return v, nil, syscall.EINVAL
		}
		v.flags |= vmShared
	case mapShared:
		v.flags |= vmShared
	case mapPrivate:
	default:
		return v, nil, syscall.EINVAL
	}
	if v.prot&^v.max != 0 {
		return v, nil, syscall.EACCES
	}
	if r.Flags&mapGrowsDown != 0 {
		if backed || v.flags&vmShared != 0 {
			return v, nil, syscall.EINVAL
		}
		v.flags |= vmGrowsDown
	}
	if r.Flags&mapNoReserve != 0 {
		v.flags |= vmNoReserve
	}
	if r.Flags&mapLocked != 0 {
		if s.memlock() == 0 {
			return v, nil, syscall.EPERM
		}
		v.flags |= vmLocked
	}
	switch {
	case backed:
		b = &backing{space: s, mapper: r.Mapper, file: r.File, path: r.Path, ref: r.Ref, unref: r.Unref}
		if b.mapper == nil {
			m, ok := r.File.(vfs.Mapper)
			if !ok {
				return v, nil, syscall.ENODEV
			}
			if n := r.File.Node(); n != nil { // a file system may have one type for all its open files
				if a, err := n.Attr(); err != nil || a.Type == vfs.TypeDir {
					return v, nil, syscall.ENODEV
				}
			}
			b.mapper = m
		}
		if r.File != nil {
			if node := r.File.Node(); node != nil {
				b.key = node
			} else {
				b.key = r.File
			}
		} else {
			v.flags |= vmSpecial
			b.key = b
		}
	case v.flags&vmShared != 0:
		o := newAnonObject(s.m, n)
		v.off = 0
		b = &backing{space: s, mapper: o, key: o, rightAway: true}
	default:
		v.off = 0
	}
	return v, b, nil
}

// mapIn finds a place for v and puts it there. Caller holds mu for writing.
func (s *Space) mapIn(r *MapRequest, v *vma, b *backing) error {
	n := v.end
	v.back = b
	if s.lockAll && v.flags&vmSpecial == 0 {
		v.flags |= vmLocked
	}
	if s.tree.n >= MaxMaps {
		return syscall.ENOMEM
	}
	if r.Flags&mapFixed != 0 {
		if r.Addr > TaskSize-n {
			return syscall.ENOMEM
		}
		if r.Addr&(PageSize-1) != 0 {
			return syscall.EINVAL
		}
		if r.Addr < MinAddr {
			return syscall.EPERM
		}
		v.start = r.Addr
		if r.Flags&mapFixedNoReplace != 0 {
			if o := s.tree.find(v.start); o != nil && o.start < v.start+n {
				return syscall.EEXIST
			}
		}
	} else {
		align := uint64(PageSize)
		if b == nil && n >= LargeSize && n%LargeSize == 0 && r.Addr == 0 && r.Flags&mapGrowsDown == 0 {
			align = LargeSize // so that 2 MiB pages fit
		}
		hint := r.Addr
		if hint != 0 {
			hint = max(hint, MinAddr)
		}
		a, ok := s.place(hint, n, r.Flags&map32Bit != 0, align)
		if !ok && align > PageSize {
			a, ok = s.place(hint, n, r.Flags&map32Bit != 0, PageSize)
		}
		if !ok {
			return syscall.ENOMEM
		}
		v.start = a
	}
	v.end = v.start + n
	if b != nil && (v.off+n < n || v.off+n > 1<<63) {
		return syscall.EOVERFLOW
	}
	if v.flags&vmLocked != 0 && s.locked+n > s.memlock() {
		return syscall.EAGAIN
	}
	replaced := uint64(0)
	if r.Flags&mapFixed != 0 {
		for o := s.tree.find(v.start); o != nil && o.start < v.end; o = o.next {
			replaced += min(o.end, v.end) - max(o.start, v.start)
		}
	}
	if err := s.refuse(v, replaced); err != nil {
		return err
	}
	if replaced != 0 {
		if err := s.unmap(v.start, v.end); err != nil {
			return err
		}
	}
	w := s.vma()
	*w = *v
	s.enter(w)
	return nil
}

// refuse checks a new mapping against the limits; free is what makes place for it.
func (s *Space) refuse(v *vma, free uint64) error {
	lim := s.limits.Load()
	n := v.end - v.start
	if s.total-free+n > lim.AS || s.total-free+n < n {
		return syscall.ENOMEM
	}
	if v.isData() && s.data+n > lim.Data {
		return syscall.ENOMEM
	}
	// vm.overcommit_memory 0: only what could never be is refused.
	if v.accounted() && s.opt.Total != 0 && n > s.opt.Total {
		return syscall.ENOMEM
	}
	return nil
}

// recycle keeps a mapping that is in no tree for reuse.
func (s *Space) recycle(v *vma) {
	*v = vma{next: s.spare}
	s.spare = v
}

// enter adds a new mapping at free addresses, joined with its neighbours where they are
// alike. It owns a use of v.back. Caller holds mu for writing; v may be gone after.
func (s *Space) enter(v *vma) {
	p := s.tree.before(v.start)
	if p == nil || !p.joins(v) {
		if n := s.tree.find(v.end); n != nil && v.joins(n) {
			// Downwards, as mappings without an address follow each other.
			s.count(v, v.end-v.start)
			n.off, n.cow = v.off, n.cow || v.cow
			s.tree.resize(n, v.start, n.end)
			if v.back != nil {
				s.drops = append(s.drops, v.back)
			}
			s.recycle(v)
			return
		}
		s.add(v)
		return
	}
	s.count(v, v.end-v.start)
	p.cow = p.cow || v.cow
	s.tree.resize(p, p.start, v.end)
	if v.back != nil {
		s.drops = append(s.drops, v.back)
	}
	s.recycle(v)
	s.join(p)
}

// join makes v and the mapping after it one if they are alike.
func (s *Space) join(v *vma) {
	n := v.next
	if n == nil || !v.joins(n) {
		return
	}
	end, cow, kind := n.end, n.cow, n.end-n.start
	s.count(n, kind) // forget takes it again
	s.forget(n)
	v.cow = v.cow || cow
	s.tree.resize(v, v.start, end)
}

// split cuts v at a, which lies inside, and returns the upper part.
func (s *Space) split(v *vma, a uint64) *vma {
	w := s.vma()
	w.start, w.end = a, v.end
	w.prot, w.max, w.flags, w.back, w.name, w.cow = v.prot, v.max, v.flags, v.back, v.name, v.cow
	w.off = v.offset(a)
	if w.back != nil {
		w.back.hold()
		if w.writesInPlace() {
			s.inPlace++
		}
	} else {
		w.off = 0
	}
	s.tree.resize(v, v.start, a)
	s.tree.insert(w)
	return w
}

// carve splits the 2 MiB page that a is inside of, if there is one, so that what
// follows cannot fail for lack of a table.
func (s *Space) carve(a uint64) error {
	if a&(LargeSize-1) == 0 {
		return nil
	}
	e, ok := s.table.Lookup(a)
	if !ok || e.Order == 0 {
		return nil
	}
	// Taking one small page out of it does that; it goes back at once.
	page := a - PageSize
	var f [1]Frame
	if err := s.table.Unmap(page, a, func(_ uint64, e PTE) { f[0] = e.Frame }); err != nil {
		return err
	}
	return s.table.Map(page, f[:], 0, e.Prot)
}

// unmap takes all mappings out of [start, end): the parts of those that reach further
// stay. Caller holds mu for writing.
func (s *Space) unmap(start, end uint64) error {
	v := s.tree.find(start)
	if v == nil || v.start >= end {
		return nil
	}
	if v.start < start && v.end > end && s.tree.n >= MaxMaps {
		return syscall.ENOMEM
	}
	if err := s.carve(start); err != nil {
		return err
	}
	if err := s.carve(end); err != nil {
		return err
	}
	for v != nil && v.start < end {
		a, to := max(v.start, start), min(v.end, end)
		s.zap.begin(v)
		if err := s.zap.run(a, to); err != nil {
			return err
		}
		next := v.next
		switch {
		case a == v.start && to == v.end:
			s.forget(v)
		case a == v.start:
			s.count(v, -(to - a))
			if v.back != nil {
				v.off += to - a
			}
			s.tree.resize(v, to, v.end)
		default:
			if to < v.end {
				s.split(v, to)
			}
			s.count(v, -(to - a))
			s.tree.resize(v, v.start, a)
		}
		v = next
	}
	return nil
}

// span checks the address and length that most calls take and rounds the length up.
func span(addr, n uint64) (end uint64, ok bool) {
	n = (n + PageSize - 1) &^ (PageSize - 1)
	return addr + n, addr&(PageSize-1) == 0 && addr <= TaskSize && n <= TaskSize-addr
}

// Munmap removes what is mapped in the n bytes at addr: munmap(2).
func (s *Space) Munmap(addr, n uint64) error {
	end, ok := span(addr, n)
	if !ok || n == 0 || end == addr {
		return syscall.EINVAL
	}
	return s.retry(func() error { return s.unmap(addr, end) })
}

// retry runs f with the write lock, again after asking for memory where f had none.
func (s *Space) retry(f func() error) error {
	for tries := 0; ; tries++ {
		s.lock()
		err := f()
		s.unlock()
		if !noMemory(err) || tries > 2 || !s.reclaim(LargeSize) {
			return err
		}
	}
}

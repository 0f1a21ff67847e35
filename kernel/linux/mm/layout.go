package mm

// layout is where things go in a space, as arch/x86/mm/mmap.c has it: mappings from
// below the stack downwards.
type layout struct {
	base       uint64 // of the search downwards
	brkStart   uint64
	brk        uint64
	startStack uint64 // an address in the first thread's stack, for its name
}

// The bounds of the gap that is left for the stack, and how far base is moved at random.
const (
	minStackGap = 128 << 20
	maxStackGap = TaskSize / 6 * 5
	maxRandom   = 16 << 30 // Linux's stack_maxrandom_size
	baseRandom  = 28       // bits of pages (vm.mmap_rnd_bits)
)

func (l *layout) choose(stackLimit uint64, random func() uint64) {
	gap := stackLimit
	pad := uint64(stackGuard)
	rnd := uint64(0)
	if random != nil {
		pad += maxRandom
		rnd = random() % (1 << baseRandom) << PageShift
	}
	if gap+pad > gap {
		gap += pad
	}
	gap = min(max(gap, minStackGap), maxStackGap)
	l.base = (TaskSize - gap - rnd) &^ (PageSize - 1)
}

// place finds the address of a new mapping of n bytes. hint is where the caller would
// like it, 0 for anywhere; it is taken where it is free.
func (s *Space) place(hint, n uint64, low32 bool, align uint64) (uint64, bool) {
	if n > TaskSize {
		return 0, false
	}
	if hint != 0 {
		hint = (hint + PageSize - 1) &^ (PageSize - 1)
		if hint >= MinAddr && hint <= TaskSize-n && s.vacant(hint, hint+n) {
			return hint, true
		}
	}
	if low32 { // MAP_32BIT: the second GiB, from below
		return s.tree.gapBottom(window{low: 1 << 30, high: 1 << 31, size: n, align: align})
	}
	w := window{low: MinAddr, high: s.layout.base, size: n, align: align}
	if a, ok := s.tree.gapTop(w); ok {
		return a, true
	}
	w.low, w.high = mmapBottom, TaskSize
	return s.tree.gapBottom(w)
}

// vacant says whether a new mapping could be at [from, to): nothing is there, no
// growing stack right above.
func (s *Space) vacant(from, to uint64) bool {
	v := s.tree.find(from)
	return v == nil || to <= v.guarded()
}

// Base is where the search for free addresses begins, for the loader of a program that
// may be anywhere.
func (s *Space) Base() uint64 { return s.layout.base }

// SetBrk says where the heap begins: after the program's data.
func (s *Space) SetBrk(start uint64) {
	s.lock()
	s.layout.brkStart = (start + PageSize - 1) &^ (PageSize - 1)
	s.layout.brk = s.layout.brkStart
	s.unlock()
}

// SetStack tells an address in the first thread's stack.
func (s *Space) SetStack(a uint64) {
	s.lock()
	s.layout.startStack = a
	s.unlock()
}

// Brk moves the end of the heap to a if it can, and returns where it is then: brk(2),
// which has no error.
func (s *Space) Brk(a uint64) uint64 {
	s.lock()
	var locked [2]uint64
	now := s.moveBrk(a, &locked)
	s.unlock()
	if locked[1] != 0 {
		s.populate(locked[0], locked[1], false)
	}
	return now
}

func (s *Space) moveBrk(a uint64, locked *[2]uint64) uint64 {
	l := &s.layout
	if a < l.brkStart || a >= TaskSize {
		return l.brk
	}
	lim := s.limits.Load()
	if a-l.brkStart > lim.Data {
		return l.brk
	}
	old := (l.brk + PageSize - 1) &^ (PageSize - 1)
	end := (a + PageSize - 1) &^ (PageSize - 1)
	switch {
	case end < old:
		if s.unmap(end, old) != nil {
			return l.brk
		}
	case end > old:
		if v := s.tree.find(old); v != nil && end+PageSize > v.guarded() {
			return l.brk
		}
		v := s.vma()
		v.start, v.end = old, end
		v.prot, v.max = ProtRead|ProtWrite, protAll
		if s.lockAll {
			v.flags |= vmLocked
		}
		if s.refuse(v, 0) != nil {
			s.recycle(v)
			return l.brk
		}
		if v.flags&vmLocked != 0 {
			*locked = [2]uint64{old, end}
		}
		s.enter(v)
	}
	l.brk = a
	return a
}

// growStack extends the growing mapping above addr down to it. Caller holds no lock.
// It fails beyond the limit and where another mapping is too near.
func (s *Space) growStack(addr uint64) error {
	s.lock()
	defer s.unlock()
	v := s.tree.find(addr)
	if v == nil || v.flags&vmGrowsDown == 0 {
		return errGrow
	}
	start := addr &^ (PageSize - 1)
	if start >= v.start {
		return nil // somebody else's fault has done it
	}
	if start < MinAddr {
		return errGrow
	}
	if p := v.prev; p != nil {
		if p.end > start || p.flags&vmGrowsDown == 0 && p.prot != 0 && start-p.end < stackGuard {
			return errGrow
		}
	}
	lim := s.limits.Load()
	n := v.start - start
	if v.end-start > lim.Stack || s.total+n > lim.AS ||
		v.flags&vmLocked != 0 && s.locked+n > s.memlock() {
		return errGrow
	}
	s.count(v, n)
	s.tree.resize(v, start, v.end)
	return nil
}

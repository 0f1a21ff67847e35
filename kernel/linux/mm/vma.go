package mm

// vma is one mapping: pages of [start, end) with the same rights and the same
// contents behind them. Linux calls it a VMA, and so does everyone.
//
// All fields but the hint change only under the space's write lock.
type vma struct {
	start, end uint64
	prot       Prot // what the program asked for
	max        Prot // what mprotect may give
	flags      vmFlag
	back       *backing // nil: private anonymous memory
	off        uint64   // of start in back, bytes
	name       string   // "[heap]" and the like; also of PR_SET_VMA

	// cow says that frames of it may have further owners (refs), so that each is looked
	// up before it is freed or written to.
	cow bool

	hint faultHint // where the last demand-zero fault was

	left, right *vma
	height      int32
	prev, next  *vma
	gap, maxGap uint64 // free bytes below; the largest of them in this subtree
}

// vmFlag are a mapping's properties beside its rights.
type vmFlag uint32

const (
	vmShared vmFlag = 1 << iota
	vmGrowsDown
	vmNoReserve
	vmLocked
	vmDontFork
	vmWipeOnFork
	vmDontDump
	vmRandom     // MADV_RANDOM
	vmSequential // MADV_SEQUENTIAL
	vmHuge       // MADV_HUGEPAGE
	vmNoHuge     // MADV_NOHUGEPAGE
	vmSpecial
)

// stackGuard is the space kept free below a mapping that grows down (Linux's
// stack_guard_gap: 256 pages).
const stackGuard = 256 * PageSize

// guarded is where the mapping begins for those who look for free space.
func (v *vma) guarded() uint64 {
	if v.flags&vmGrowsDown == 0 {
		return v.start
	}
	if v.start < stackGuard {
		return 0
	}
	return v.start - stackGuard
}

// anonymous says that absent pages are zeros of its own.
func (v *vma) anonymous() bool { return v.back == nil }

// writesInPlace says that a write goes to the page behind, not to a copy.
func (v *vma) writesInPlace() bool { return v.back != nil && v.flags&vmShared != 0 }

// offset is where address a lies in what is behind.
func (v *vma) offset(a uint64) uint64 { return v.off + (a - v.start) }

// joins says whether w, which begins where v ends, can be one mapping with it.
func (v *vma) joins(w *vma) bool {
	return v.end == w.start && v.prot == w.prot && v.max == w.max && v.flags == w.flags &&
		v.flags&vmSpecial == 0 && v.name == w.name && v.back.same(w.back) &&
		(v.back == nil || v.off+(v.end-v.start) == w.off)
}

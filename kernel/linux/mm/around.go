package mm

import "sync/atomic"

// faultHint is the last window of a mapping that was filled with zeros: its address,
// and the logarithm of its size in the low bits. Faults of several threads may lose
// each other's: it is a guess, no more.
type faultHint uint64

func (h *faultHint) load() (start uint64, log uint) {
	x := atomic.LoadUint64((*uint64)(h))
	return x &^ (PageSize - 1), uint(x & 0x3f)
}

func (h *faultHint) store(start uint64, log uint) {
	atomic.StoreUint64((*uint64)(h), start&^(PageSize-1)|uint64(log))
}

// The sizes of demand-zero windows, as logarithms. A program that touches memory here
// and there gets 16 KiB at a time, one that goes through it ever more, up to whole
// 2 MiB pages where memory is plenty.
const (
	firstWindow = 14
	tightWindow = 16 // at most, where memory is scarce or the mapping a stack
	largeWindow = 21

	// A window may be this part of what is free.
	freeShare = 64
)

// around chooses what to fill with zeros when page is touched: [from, to) is inside
// the mapping and inside one 2 MiB region; large asks for 2 MiB pages. Nothing but
// empty pages will be filled.
func (v *vma) around(page uint64, m Machine) (from, to uint64, large bool) {
	last, log := v.hint.load()
	size := uint64(1) << log
	switch {
	case log != 0 && page-last < size:
		log = firstWindow // filled before, and taken away again: MADV_DONTNEED
	case log != 0 && page+size >= last && page < last+2*size:
		log = v.grow(log, m)
	case v.flags&vmHuge != 0 && v.covers(page) && m.FreeBytes() >= LargeSize*freeShare:
		log = largeWindow
	default:
		log = firstWindow
	}
	size = 1 << log
	from = page &^ (size - 1)
	v.hint.store(from, log)
	large = log == largeWindow && v.flags&vmNoHuge == 0 && v.covers(page)
	return max(from, v.start), min(from+size, v.end), large
}

// grow is the size of the window after one of 1<<log bytes.
func (v *vma) grow(log uint, m Machine) uint {
	if log < tightWindow || v.flags&vmGrowsDown != 0 {
		return min(log+2, tightWindow)
	}
	next := min(log+2, largeWindow)
	if m.FreeBytes() < freeShare<<next {
		return tightWindow
	}
	return next
}

// covers says whether all of the 2 MiB around page are in the mapping.
func (v *vma) covers(page uint64) bool {
	r := page &^ (LargeSize - 1)
	return v.start <= r && r+LargeSize <= v.end
}

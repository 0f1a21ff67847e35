package vm

import (
	"osv/kernel/metal/arch"
	"osv/kernel/metal/cpu"
	"osv/kernel/metal/phys"
)

// Result of a memory call.
type Result uint8

const (
	OK       Result = iota
	NoMemory        // out of frames or of room for bookkeeping
	BadRange        // not inside the heap region
	NotOurs         // Fault: the address is not committed memory
)

// Committed memory of the heap region: sorted, disjoint, merged where they touch.
// The Go runtime grows the heap upwards, so there are few.
const maxSpans = 4096

type span struct{ start, end uintptr }

var (
	spans  [maxSpans]span
	nspans int
)

// find returns the index of the first span that ends beyond a.
func find(a uintptr) int {
	lo, hi := 0, nspans
	for lo < hi {
		m := (lo + hi) / 2
		if spans[m].end > a {
			hi = m
		} else {
			lo = m + 1
		}
	}
	return lo
}

// committed says whether all of [a, b) may be used.
func committed(a, b uintptr) bool {
	i := find(a)
	return i < nspans && spans[i].start <= a && b <= spans[i].end
}

// commit adds [a, b). Caller holds mu.
func commit(a, b uintptr) bool {
	i := find(a)
	if i > 0 && spans[i-1].end == a {
		i--
	}
	// Swallow every span that overlaps or touches [a, b).
	j := i
	for j < nspans && spans[j].start <= b {
		a, b = min(a, spans[j].start), max(b, spans[j].end)
		j++
	}
	if j == i {
		if nspans == maxSpans {
			return false
		}
		for k := nspans; k > i; k-- {
			spans[k] = spans[k-1]
		}
		nspans++
	} else if j > i+1 {
		for k := j; k < nspans; k++ {
			spans[i+1+k-j] = spans[k]
		}
		nspans -= j - i - 1
	}
	spans[i] = span{a, b}
	return true
}

// decommit removes [a, b). Caller holds mu.
func decommit(a, b uintptr) bool {
	for i := find(a); i < nspans && spans[i].start < b; {
		s := spans[i]
		switch {
		case s.start < a && s.end > b: // a hole in the middle
			if nspans == maxSpans {
				return false
			}
			for k := nspans; k > i; k-- {
				spans[k] = spans[k-1]
			}
			nspans++
			spans[i].end, spans[i+1].start = a, b
			return true
		case s.start < a:
			spans[i].end = a
			i++
		case s.end > b:
			spans[i].start = b
			return true
		default:
			for k := i; k < nspans-1; k++ {
				spans[k] = spans[k+1]
			}
			nspans--
		}
	}
	return true
}

// Reserve hands out n bytes of the heap region, committed if rw is set. Hints
// are not honoured: the caller asked for no particular place, or the runtime
// tries the next hint and takes what it gets.
func Reserve(n uintptr, rw bool) (va uintptr, r Result) {
	n = (n + pageSize - 1) &^ (pageSize - 1)
	if n == 0 || n > heapEnd-heapBase {
		return 0, NoMemory
	}
	mu.Lock()
	va = nextHeap
	if n >= 4<<20 {
		va = (va + 64<<20 - 1) &^ (64<<20 - 1) // Go's arena size, so that trimming wastes nothing
	} else if n >= largeSize {
		va = (va + largeSize - 1) &^ (largeSize - 1)
	}
	if n > heapEnd-va || rw && !commit(va, va+n) {
		mu.Unlock()
		return 0, NoMemory
	}
	nextHeap = va + n
	mu.Unlock()
	return va, OK
}

func inHeap(va, n uintptr) bool {
	return va >= heapBase && va < heapEnd && n <= heapEnd-va
}

// SetProt commits [va, va+n) with zero contents (rw) or decommits it and gives
// its frames back: mmap with MAP_FIXED.
func SetProt(va, n uintptr, rw bool) Result {
	n = (n + pageSize - 1) &^ (pageSize - 1)
	if va&(pageSize-1) != 0 || !inHeap(va, n) {
		return BadRange
	}
	mu.Lock()
	drop(va, va+n)
	ok := false
	if rw {
		ok = commit(va, va+n)
	} else {
		ok = decommit(va, va+n)
	}
	mu.Unlock()
	if !ok {
		return NoMemory
	}
	return OK
}

// Unmap is munmap: the range is gone and its frames are free. The topmost range
// can be handed out again.
func Unmap(va, n uintptr) Result {
	n = (n + pageSize - 1) &^ (pageSize - 1)
	r := SetProt(va, n, false)
	if r == OK {
		mu.Lock()
		if nextHeap == va+n {
			nextHeap = va
		}
		mu.Unlock()
	}
	return r
}

// Discard is madvise(MADV_DONTNEED): the range reads as zero from now on. The Go
// runtime (1.26, mheap.initSpan) takes that for granted and does not clear.
func Discard(va, n uintptr) Result {
	end := (va + n) &^ (pageSize - 1)
	start := (va + pageSize - 1) &^ (pageSize - 1)
	if start >= end {
		return OK
	}
	if !inHeap(start, end-start) {
		return BadRange
	}
	mu.Lock()
	drop(start, end)
	mu.Unlock()
	return OK
}

// drop unmaps all pages in [va, end) and frees their frames once no processor
// can reach them. Caller holds mu.
func drop(va, end uintptr) {
	list4k, list2m := detach(va, end)
	if list4k == phys.None && list2m == phys.None {
		return
	}
	cpu.FlushAll()
	release(list4k, 0)
	release(list2m, phys.LargeOrder)
}

// detach clears the entries of all pages in [va, end) and returns the frames that
// they mapped, small and large, each list chained through the frames themselves.
// A part of a large page is zeroed in place instead. Caller holds mu.
func detach(va, end uintptr) (list4k, list2m uintptr) {
	list4k, list2m = phys.None, phys.None
	for va < end {
		e, level := entry(va, 12, false)
		v := *arch.Ptr(e)
		size := uintptr(1) << level
		next := (va + size) &^ (size - 1)
		if v&ptePresent != 0 {
			switch {
			case level == 12:
				*arch.Ptr(e) = 0
				*arch.Ptr(phys.ToVirt(v & pteAddr)) = list4k
				list4k = v & pteAddr
			case va&(size-1) == 0 && end-va >= size:
				*arch.Ptr(e) = 0
				p := v & pteAddr &^ (size - 1)
				*arch.Ptr(phys.ToVirt(p)) = list2m
				list2m = p
			default:
				arch.Zero(va, min(next, end)-va)
			}
		}
		va = next
		if va == 0 {
			break
		}
	}
	return list4k, list2m
}

// release frees the blocks of a list.
func release(list uintptr, order uint) {
	for list != phys.None {
		next := *arch.Ptr(phys.ToVirt(list))
		phys.Free(list, order)
		list = next
	}
}

// SetLargeFloor says below how many free frames a fault maps 4 KiB, not 2 MiB.
func SetLargeFloor(frames uintptr) { largeFloor = frames }

// Fault maps zeroed memory at va if it is committed heap or the lazy tail of
// .bss. It must not be called with mu held: metal touches pageable memory only
// outside of it.
func Fault(va uintptr) Result {
	mu.Lock()
	r := fault(va)
	mu.Unlock()
	return r
}

func fault(va uintptr) Result {
	page := va &^ (pageSize - 1)
	inBSS := va >= image.LoadedEnd && va < image.BSSEnd
	if !inBSS && !(inHeap(va, 1) && committed(page, page+pageSize)) {
		return NotOurs
	}
	e, level := entry(va, 21, true)
	if e == 0 {
		return NoMemory
	}
	v := *arch.Ptr(e)
	if v&ptePresent != 0 && v&pteLarge != 0 || level != 21 {
		return OK // another processor was first
	}
	block := va &^ (largeSize - 1)
	if v&ptePresent == 0 && !inBSS && committed(block, block+largeSize) {
		if _, now, _ := phys.Counts(); now > largeFloor {
			if p := phys.AllocZero(phys.LargeOrder); p != phys.None {
				*arch.Ptr(e) = p | protRW | pteLarge
				return OK
			}
		}
	}
	e, _ = entry(va, 12, true)
	if e == 0 {
		return NoMemory
	}
	if *arch.Ptr(e)&ptePresent != 0 {
		return OK
	}
	p := phys.AllocZero(0)
	if p == phys.None {
		return NoMemory
	}
	*arch.Ptr(e) = p | protRW
	return OK
}

// Ensure maps all of [va, va+n), so that a handler that must not fault may touch
// it. It reports false where part of it is not valid memory.
func Ensure(va, n uintptr) bool {
	for p := va &^ (pageSize - 1); p < va+n; p += pageSize {
		mu.Lock()
		_, ok := translate(p)
		if !ok {
			ok = fault(p) == OK
		}
		mu.Unlock()
		if !ok {
			return false
		}
	}
	return true
}

// LockHeld says whether this processor is inside vm: a page fault then is a bug.
func LockHeld() bool { return mu.HeldHere() }

// Committed is the number of bytes that the heap region may use.
func Committed() uintptr {
	mu.Lock()
	n := uintptr(0)
	for i := 0; i < nspans; i++ {
		n += spans[i].end - spans[i].start
	}
	mu.Unlock()
	return n
}

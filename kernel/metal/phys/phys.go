// Package phys allocates physical memory: a binary buddy allocator over 4 KiB
// frames, up to 1 GiB contiguous.
//
// Who may call it: kernel/metal/vm, and kernel/metal/boot for start-up. It may
// not map anything; it reaches frames through the direct map (ToVirt). Free
// frames hold their own list links, so the only state beside them is one byte
// per frame. Start reading at Alloc.
package phys

import (
	"sync/atomic"

	"osv/kernel/metal/arch"
	"osv/kernel/metal/cpu"
)

const (
	// FrameSize is the unit of allocation in bytes.
	FrameSize = 4096
	// MaxOrder is the largest block: 4 KiB << 18 = 1 GiB.
	MaxOrder = 18
	// LargeOrder is the block that a 2 MiB page maps.
	LargeOrder = 9
	// DirectBase is where all RAM is mapped once the kernel's own page tables
	// are live: virtual = DirectBase + physical.
	DirectBase = 0xffff800000000000
	// None is no frame.
	None = ^uintptr(0)
)

// Per-frame state. A free block is marked at its first frame only.
const (
	metaBusy   = 0x00 // allocated, or inside a larger block
	metaFree   = 0x80 // | order: first frame of a free block
	metaAbsent = 0x40 // not RAM, or never to be given out
)

var (
	base   uintptr // what ToVirt adds: 0 under the boot tables, then DirectBase
	meta   uintptr // virtual address of the per-frame bytes
	frames uintptr // number of frames that meta covers

	mu    cpu.SpinLock
	heads [MaxOrder + 1]uintptr        // first free block of each order: frame number + 1
	free  uintptr                      // frames in free blocks
	total uintptr                      // frames ever given to AddRange
	low   uintptr               = None // fewest free frames seen since boot
)

// ToVirt returns where the byte at physical address p can be reached.
func ToVirt(p uintptr) uintptr { return p + base }

// SetBase moves ToVirt to the direct map.
func SetBase(b uintptr) {
	if meta != 0 {
		meta += b - base
	}
	base = b
}

// MetaBytes is the size of the state that Init needs for RAM that ends at top.
func MetaBytes(top uintptr) uintptr {
	return (top/FrameSize + FrameSize - 1) &^ (FrameSize - 1)
}

// Init readies the allocator, with no memory yet. at is the physical address of
// MetaBytes(top) bytes that the caller set aside.
func Init(at, top uintptr) {
	meta, frames = ToVirt(at), top/FrameSize
	for f := uintptr(0); f < MetaBytes(top); f += 8 {
		*arch.U64(meta + f) = metaAbsent * 0x0101010101010101
	}
}

// AddRange gives RAM [start, end) to the allocator.
func AddRange(start, end uintptr) {
	f := (start + FrameSize - 1) / FrameSize
	last := min(end/FrameSize, frames)
	mu.Lock()
	for f < last {
		// The largest naturally aligned block that fits.
		o := uint(0)
		for o < MaxOrder && f&(1<<(o+1)-1) == 0 && f+1<<(o+1) <= last {
			o++
		}
		arch.Zero(meta+f, 1<<o)
		total += 1 << o
		freeBlock(f, o)
		f += 1 << o
	}
	mu.Unlock()
}

// Free-list links live in the first two words of a free block, as frame
// numbers + 1 so that zero means none.
func link(f uintptr) (next, prev *uintptr) {
	a := ToVirt(f * FrameSize)
	return arch.Ptr(a), arch.Ptr(a + 8)
}

func push(f uintptr, o uint) {
	next, prev := link(f)
	*next, *prev = heads[o], 0
	if heads[o] != 0 {
		_, p := link(heads[o] - 1)
		*p = f + 1
	}
	heads[o] = f + 1
	*arch.Byte(meta + f) = metaFree | byte(o)
	free += 1 << o
}

func remove(f uintptr, o uint) {
	next, prev := link(f)
	if *prev != 0 {
		n, _ := link(*prev - 1)
		*n = *next
	} else {
		heads[o] = *next
	}
	if *next != 0 {
		_, p := link(*next - 1)
		*p = *prev
	}
	*arch.Byte(meta + f) = metaBusy
	free -= 1 << o
}

// freeBlock joins f with its free buddies and lists the result. Caller holds mu.
func freeBlock(f uintptr, o uint) {
	for o < MaxOrder {
		b := f ^ 1<<o
		if b+1<<o > frames || *arch.Byte(meta + b) != metaFree|byte(o) {
			break
		}
		remove(b, o)
		f &^= 1 << o
		o++
	}
	push(f, o)
}

// Alloc returns the physical address of 2^order contiguous frames, aligned to
// their size, contents undefined; None where there is no such block.
func Alloc(order uint) uintptr {
	mu.Lock()
	p := alloc(order)
	mu.Unlock()
	return p
}

// alloc is Alloc for who holds mu.
func alloc(order uint) uintptr {
	o := order
	for o <= MaxOrder && heads[o] == 0 {
		o++
	}
	if o > MaxOrder {
		return None
	}
	f := heads[o] - 1
	remove(f, o)
	for o > order {
		o--
		push(f+1<<o, o)
	}
	low = min(low, free)
	return f * FrameSize
}

// AllocList stores n blocks of 2^order frames, contents undefined, in the words at
// list, which are mapped; it allocates all or none.
func AllocList(list, n uintptr, order uint) bool {
	mu.Lock()
	for i := uintptr(0); i < n; i++ {
		p := alloc(order)
		if p == None {
			freeList(list, i, order)
			mu.Unlock()
			return false
		}
		*arch.Ptr(list + i*8) = p
	}
	mu.Unlock()
	return true
}

// FreeList gives back the blocks in a list; false if one of them was refused.
func FreeList(list, n uintptr, order uint) bool {
	mu.Lock()
	ok := freeList(list, n, order)
	mu.Unlock()
	return ok
}

func freeList(list, n uintptr, order uint) bool {
	ok := true
	for i := uintptr(0); i < n; i++ {
		ok = release(*arch.Ptr(list + i*8), order) && ok
	}
	return ok
}

// AllocZero is Alloc with the contents zeroed.
func AllocZero(order uint) uintptr {
	p := Alloc(order)
	if p != None {
		arch.Zero(ToVirt(p), FrameSize<<order)
	}
	return p
}

// Free gives back a block that Alloc(order) returned. A block that is not
// allocated, or lies inside a free one, is refused: false.
func Free(p uintptr, order uint) bool {
	mu.Lock()
	ok := release(p, order)
	mu.Unlock()
	return ok
}

// release is Free for who holds mu.
func release(p uintptr, order uint) bool {
	f := p / FrameSize
	if p%(FrameSize<<order) != 0 || f+1<<order > frames || *arch.Byte(meta + f) != metaBusy || insideFree(f) {
		return false
	}
	freeBlock(f, order)
	return true
}

// insideFree says whether f lies in a free block that starts before it. Blocks are
// aligned to their size, so one that holds f starts at f with some low bits cleared.
func insideFree(f uintptr) bool {
	for head := f & (f - 1); head != f && f^head < 1<<MaxOrder; head &= head - 1 {
		if m := *arch.Byte(meta + head); m&metaFree != 0 && head+1<<(m&^metaFree) > f {
			return true
		}
		if head == 0 {
			break
		}
	}
	return false
}

// AllocContiguous returns n frames in a row aligned to align frames (a power of
// two), zeroed.
func AllocContiguous(n, align uintptr) uintptr {
	p := AllocRun(n, align)
	if p != None {
		arch.Zero(ToVirt(p), n*FrameSize)
	}
	return p
}

// AllocRun is AllocContiguous with whatever the frames hold; the tail of the block
// beyond n goes back at once.
func AllocRun(n, align uintptr) uintptr {
	if n == 0 || n > 1<<MaxOrder || align > 1<<MaxOrder {
		return None
	}
	o := uint(0)
	for 1<<o < n || 1<<o < align {
		o++
	}
	p := Alloc(o)
	if p == None {
		return None
	}
	FreeRun(p+n*FrameSize, p+FrameSize<<o)
	return p
}

// FreeRun gives back the allocated frames [start, end).
func FreeRun(start, end uintptr) {
	for f := start / FrameSize; f < end/FrameSize; {
		o := uint(0)
		for o < MaxOrder && f&(1<<(o+1)-1) == 0 && f+1<<(o+1) <= end/FrameSize {
			o++
		}
		Free(f*FrameSize, o)
		f += 1 << o
	}
}

// Counts returns the number of frames given to the allocator, free now, and the
// fewest ever free.
func Counts() (all, now, least uintptr) {
	now = atomic.LoadUintptr(&free)
	return atomic.LoadUintptr(&total), now, min(now, atomic.LoadUintptr(&low))
}

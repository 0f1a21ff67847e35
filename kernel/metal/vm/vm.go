// Package vm is the kernel's address space: the map of image, RAM and devices,
// and the demand-paged region that the Go heap lives in.
//
// Spec: Intel SDM vol. 3A (2024-06) chapter 4; the mmap, munmap and madvise
// contracts are those of Linux as far as the Go runtime relies on them. Who may
// call it: kernel/metal. Start reading at the drawing below, then Init, then
// heap.go for demand paging.
//
//	ffffffff80000000  the image, as linked for physical 0.. (Image.Delta); text RX, rodata R, data RW,
//	                  the untouched tail of .bss demand-zero (the post-link tool
//	                  does not load it, so it costs no RAM until used)
//	ffffc00000000000  device windows, uncached, handed out upwards (MapDevice)
//	ffff900000000000  heap region: Go's arenas, handed out upwards (Mmap)
//	ffff800000000000  direct map of all RAM (phys.ToVirt)
//	0000000000000000  nothing: nil dereference faults; in the page tables of
//	                  programs (user.go), user memory
package vm

import (
	"osv/kernel/metal/arch"
	"osv/kernel/metal/cpu"
	"osv/kernel/metal/phys"
)

const (
	ImageBase  = 0xffffffff80000000
	deviceBase = 0xffffc00000000000
	deviceEnd  = 0xffffd00000000000
	heapBase   = 0xffff900000000000
	heapEnd    = 0xffffc00000000000
)

// Image is where the linker put things, virtual addresses.
type Image struct {
	Start, TextEnd    uintptr // text from the ELF header on: RX
	RodataEnd         uintptr // R
	LoadedEnd, BSSEnd uintptr // RW up to LoadedEnd, demand-zero up to BSSEnd
	Delta             uintptr // how far from its linked physical address it lies, mod 2^64
}

// Phys is the physical address behind va, an address in the loaded image.
func (i *Image) Phys(va uintptr) uintptr { return va - ImageBase + i.Delta }

var (
	mu         cpu.SpinLock // guards all below and the page tables
	image      Image
	nextHeap   uintptr = heapBase
	nextDevice uintptr = deviceBase
	largeFloor uintptr // free frames below which faults map 4 KiB pages
)

// Init builds the kernel's page tables with the RAM ranges that Direct adds
// later, and switches this processor to them. It returns false where there is
// no memory for the tables.
func Init(img Image, giB bool) bool {
	image, haveGiB = img, giB
	root = allocTable()
	if root == phys.None {
		return false
	}
	return mapImage(img.Start, img.TextEnd, protRX) &&
		mapImage(img.TextEnd, img.RodataEnd, protRO) &&
		mapImage(img.RodataEnd, img.LoadedEnd, protRW)
}

func mapImage(from, to, prot uintptr) bool {
	from &^= pageSize - 1
	to = (to + pageSize - 1) &^ (pageSize - 1)
	return mapRange(from, image.Phys(from), to-from, prot)
}

// Direct adds RAM (or firmware tables) [start, end) to the direct map.
func Direct(start, end uintptr) bool {
	start &^= pageSize - 1
	end = (end + pageSize - 1) &^ (pageSize - 1)
	return mapRange(phys.DirectBase+start, start, end-start, protRW)
}

// Activate loads the page tables on this processor.
func Activate() {
	arch.WriteCR0(arch.ReadCR0() | 1<<16) // WP: text is read-only for us too
	cpu.KernelRoot = root
	cpu.LoadRoot(cpu.Current(), root)
}

// Root is the physical address of the top page table.
func Root() uintptr { return root }

// Identity maps one page at its physical address, executable, for the start of
// other processors; Unidentity removes it.
func Identity(pa uintptr) bool {
	return mapRange(pa, pa, pageSize, ptePresent|pteWrite)
}

// Unidentity removes what Identity mapped.
func Unidentity(pa uintptr) {
	if e, level := entry(pa, 12, false); level == 12 {
		*arch.Ptr(e) = 0
	}
	cpu.FlushAll()
}

func allocTable() uintptr { return phys.AllocZero(0) }

// MapDevice maps device memory uncached and returns where, 0 if there is no room.
func MapDevice(pa, n uintptr) uintptr {
	off := pa & (pageSize - 1)
	size := (off + n + pageSize - 1) &^ (pageSize - 1)
	mu.Lock()
	va := nextDevice
	if size&(largeSize-1) == 0 || size > largeSize {
		va = (va+largeSize-1)&^(largeSize-1) + (pa-off)&(largeSize-1)
	}
	ok := n != 0 && size < deviceEnd-va && mapRange(va, pa-off, size, protMMIO)
	if ok {
		nextDevice = va + size + pageSize // an unmapped page between windows
	}
	mu.Unlock()
	if !ok {
		return 0
	}
	return va + off
}

// Translate returns the physical address behind a mapped kernel address.
func Translate(va uintptr) (pa uintptr, ok bool) {
	mu.Lock()
	pa, ok = translate(va)
	mu.Unlock()
	return pa, ok
}

// Mapped says whether va can be read. It takes no lock: it is for a processor
// that is dying, which may hold it.
func Mapped(va uintptr) bool {
	_, ok := translate(va)
	return ok
}

// AddDirect makes [pa, pa+n), memory that the boot map did not list as RAM
// (firmware tables), readable through the direct map.
func AddDirect(pa, n uintptr) bool {
	const top = 1 << 46
	if pa >= top || n > top-pa {
		return false
	}
	mu.Lock()
	ok := true
	for p := pa &^ (pageSize - 1); p < pa+n && ok; p += pageSize {
		if _, mapped := translate(phys.DirectBase + p); !mapped {
			ok = mapRange(phys.DirectBase+p, p, pageSize, protRO)
		}
	}
	mu.Unlock()
	return ok
}

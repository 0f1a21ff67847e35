package boot

//go:generate sh -c "cd stub32 && go run gen.go"

import (
	"osv/kernel/metal/arch"
	"osv/kernel/metal/klog"
	"osv/kernel/metal/phys"
)

// struct hvm_start_info and hvm_memmap_table_entry, offsets in bytes.
const (
	siMagic      = 0
	siVersion    = 4
	siCmdline    = 24
	siRSDP       = 32
	siMemmap     = 40 // version 1 and later
	siMemEntries = 48
	pvhMagic     = 0x336ec578

	meAddr  = 0
	meSize  = 8
	meType  = 16
	meBytes = 24
	typeRAM = 1

	maxRanges  = 64
	lowestUsed = 0x1000  // page 0 stays out: physical 0 means none
	biosStart  = 0xa0000 // legacy video and BIOS
	biosEnd    = 0x100000
)

type extent struct{ start, end uintptr }

var (
	ram    [maxRanges]extent // RAM, page-aligned inwards
	ranges int
	ramTop uintptr // end of the highest RAM that is used
)

// readStartInfo copies what the loader left in memory that will be reused.
func readStartInfo() {
	var l klog.Line
	if startInfo == 0 || startInfo >= lowLimit || *arch.U32(startInfo + siMagic) != pvhMagic {
		l.Str("osv: not started by the PVH protocol: no start info at ").Hex(uint64(startInfo))
		fatal(&l)
	}
	rsdp = *arch.Ptr(startInfo + siRSDP)
	copyCommandLine(*arch.Ptr(startInfo + siCmdline))
	mm, n := *arch.Ptr(startInfo + siMemmap), uintptr(*arch.U32(startInfo + siMemEntries))
	if *arch.U32(startInfo + siVersion) < 1 || mm == 0 || mm >= lowLimit || n == 0 || n > 1024 {
		l.Str("osv: the loader passed no memory map (version ").Dec(uint64(*arch.U32(startInfo + siVersion))).
			Str(", ").Dec(uint64(n)).Str(" entries at ").Hex(uint64(mm)).Str(")")
		fatal(&l)
	}
	for i := uintptr(0); i < n; i++ {
		e := mm + i*meBytes
		addr, size := *arch.Ptr(e + meAddr), *arch.Ptr(e + meSize)
		if *arch.U32(e + meType) != typeRAM || addr+size < addr {
			continue
		}
		start, end := max(pageUp(addr), lowestUsed), (addr+size)&^(phys.FrameSize-1)
		addRange(start, min(end, biosStart))
		addRange(max(start, biosEnd), end)
	}
}

// addRange notes RAM [start, end), if that is anything. The legacy video and BIOS
// areas between 640 KiB and 1 MiB have been left out.
func addRange(start, end uintptr) {
	if start >= end || ranges == maxRanges {
		return
	}
	ram[ranges] = extent{start, end}
	ranges++
	ramTop = max(ramTop, end)
}

// ramHolds says whether one RAM range contains [start, end).
func ramHolds(start, end uintptr) bool {
	for i := 0; i < ranges; i++ {
		if ram[i].start <= start && end <= ram[i].end {
			return true
		}
	}
	return false
}

// addRAM gives the part of RAM inside [from, to) to the frame allocator, except
// [cutLo, cutHi), which is in use. The page for starting processors is kept out
// by apPage having been chosen first.
func addRAM(from, to, cutLo, cutHi uintptr) {
	for i := 0; i < ranges; i++ {
		lo, hi := max(ram[i].start, from), min(ram[i].end, to)
		if lo >= hi {
			continue
		}
		if lo < cutLo && cutLo < hi {
			add(lo, cutLo)
			lo = cutLo
		}
		if lo < cutHi && cutLo < cutHi && lo >= cutLo {
			lo = min(cutHi, hi)
		}
		if lo < hi {
			add(lo, hi)
		}
	}
}

// add keeps the first page below 640 KiB for starting other processors.
func add(lo, hi uintptr) {
	if apPage == 0 && lo < biosStart && hi-lo >= phys.FrameSize {
		apPage = lo
		lo += phys.FrameSize
	}
	phys.AddRange(lo, hi)
}

// RAM returns the i-th range of RAM, page-aligned inwards.
func RAM(i int) (start, end uintptr, ok bool) {
	if i >= ranges {
		return 0, 0, false
	}
	return ram[i].start, ram[i].end, true
}

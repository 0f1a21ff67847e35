package gate

import (
	"unsafe"

	"osv/kernel/metal/clock"
	"osv/kernel/metal/phys"
)

// DirectMap is where the byte at physical address 0 would be: RAM is mapped from
// there on.
const DirectMap = phys.DirectBase

// Direct is the kernel's view of n bytes of RAM at a physical address.
func Direct(pa uint64, n int) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(uintptr(pa)+phys.DirectBase)), n)
}

// FreeMemory is how many bytes of frames could be had now.
func FreeMemory() uint64 {
	_, now, _ := phys.Counts()
	return uint64(now) * phys.FrameSize
}

// ClockParameters are how the TSC becomes time: since entry, ns = (TSC - Start) *
// Mul >> 32 with a product of 96 bits; WallNS is the Unix time in ns at Start.
type ClockParameters struct{ Start, Mul, WallNS uint64 }

// Clock returns them. They do not change.
func Clock() ClockParameters {
	start, mul, wall := clock.Parameters()
	return ClockParameters{start, mul, wall}
}

package mm

import "unsafe"

// moveSize is up to where the runtime's memmove copies forward with SSE registers, 37
// instructions for 256 bytes. Beyond it, as the kernel has no AVX, it takes REP MOVSQ,
// and where not both ends are aligned REP MOVSB: a step for each byte on processors
// without fast strings, and on emulated ones.
const moveSize = 2048

// move copies as much of src as dst has room for, which do not overlap, and returns how
// much that was.
func move(dst, src []byte) int {
	n := min(len(dst), len(src))
	dst, src = dst[:n], src[:n]
	if n > moveSize && (uintptr(unsafe.Pointer(&dst[0]))|uintptr(unsafe.Pointer(&src[0])))&7 != 0 {
		for len(src) > moveSize {
			copy(dst[:moveSize], src[:moveSize])
			dst, src = dst[moveSize:], src[moveSize:]
		}
	}
	copy(dst, src)
	return n
}

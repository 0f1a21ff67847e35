// Package hostcpu lets code below the Go runtime (kernel/metal) run in a hosted
// test, as far as it does nothing privileged.
//
// That code finds its per-CPU block through the GS register, which neither the
// Go runtime nor Linux uses in a 64-bit program: Become points it there. Memory
// it manages comes from Arena and LowArena, outside the Go heap.
//
// Who may use it: tests of kernel/metal. It imports nothing of ours, or those
// tests would import themselves. Spec: arch_prctl(2), mmap(2).
package hostcpu

import (
	"runtime"
	"syscall"
	"testing"
	"unsafe"
)

const (
	archSetGS = 0x1001 // asm/prctl.h
	map32Bit  = 0x40   // MAP_32BIT: below 2 GiB
)

// Become makes block, the address of a per-CPU block whose first word is its own
// address, that of the calling goroutine for good: the goroutine keeps its thread,
// which ends with it. A subtest is another goroutine and calls Become itself.
func Become(t testing.TB, block uintptr) {
	t.Helper()
	runtime.LockOSThread()
	if _, _, e := syscall.RawSyscall(syscall.SYS_ARCH_PRCTL, archSetGS, block, 0); e != 0 {
		t.Fatalf("arch_prctl(ARCH_SET_GS): %v", e)
	}
}

// Arena returns the address of n zeroed bytes, page-aligned, and a view of them.
// They are unmapped when the test ends.
func Arena(t testing.TB, n int) (addr uintptr, b []byte) { return mmap(t, n, 0) }

// LowArena is Arena below 2 GiB: boot code expects what loaders leave below 4.
func LowArena(t testing.TB, n int) (addr uintptr, b []byte) { return mmap(t, n, map32Bit) }

func mmap(t testing.TB, n, flags int) (uintptr, []byte) {
	t.Helper()
	b, err := syscall.Mmap(-1, 0, n, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON|flags)
	if err != nil {
		t.Fatalf("mmap of %d bytes: %v", n, err)
	}
	t.Cleanup(func() { syscall.Munmap(b) })
	return uintptr(unsafe.Pointer(&b[0])), b
}

package store

import (
	"fmt"
	"syscall"
)

// HostMemory is the Memory of a plain Linux process: anonymous mappings, backed
// on first touch. Huge asks for transparent huge pages. The zero value is ready.
type HostMemory struct{ Huge bool }

// madvHugepage is MADV_HUGEPAGE of <asm-generic/mman-common.h>.
const madvHugepage = 14

// Map reserves n bytes without promising swap for them.
func (m *HostMemory) Map(n int) ([]byte, error) {
	b, err := syscall.Mmap(-1, 0, n, syscall.PROT_READ|syscall.PROT_WRITE,
		syscall.MAP_ANON|syscall.MAP_PRIVATE|syscall.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("mmap: %w", err)
	}
	if m.Huge {
		// Advice only: a kernel without huge pages serves small ones.
		_ = syscall.Madvise(b, madvHugepage)
	}
	return b, nil
}

// Unmap ends b.
func (m *HostMemory) Unmap(b []byte) {
	if err := syscall.Munmap(b); err != nil {
		panic(fmt.Sprintf("store: unmap of %d bytes: %v", len(b), err))
	}
}

// Drop gives the frames behind b back.
func (m *HostMemory) Drop(b []byte) {
	// The contents are dead either way; a failure only keeps the memory busy.
	_ = syscall.Madvise(b, syscall.MADV_DONTNEED)
}

// Available is the free memory of the host in bytes, buffers included.
func (m *HostMemory) Available() int {
	var si syscall.Sysinfo_t
	if syscall.Sysinfo(&si) != nil {
		return 0
	}
	return int((si.Freeram + si.Bufferram) * uint64(si.Unit))
}

package cpu

import (
	"testing"
	"unsafe"

	"osv/kernel/ktest/hostcpu"
)

// become makes the calling goroutine processor i.
func become(t testing.TB, i int) *CPU {
	t.Helper()
	c := &all[i]
	c.Self, c.ID = uintptr(unsafe.Pointer(c)), int32(i)
	hostcpu.Become(t, c.Self)
	return c
}

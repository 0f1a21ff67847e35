package usermem

import (
	"syscall"
	"testing"

	"osv/kernel/linux/mm"
)

// What is kept for the kernel programs do not get, however they ask.
func TestReserve(t *testing.T) {
	h, m, tab := newTable(t)
	keep := h.FreeMemory() / 2
	m.SetReserve(func() uint64 { return keep })
	if n := m.FreeBytes(); n != h.FreeMemory()-keep {
		t.Errorf("%d bytes are free", n)
	}
	mapped := uint64(0)
	for va := uint64(0); ; va += largeSize {
		n, err := tab.MapZero(va, largeSize, mm.ProtRead|mm.ProtWrite, va%(2*largeSize) == 0)
		mapped += n
		if err != nil || n < largeSize {
			break
		}
	}
	if free := h.FreeMemory(); free < keep || free > keep+largeSize {
		t.Errorf("%d bytes are left, %d are to be kept", free, keep)
	}
	var f [1]mm.Frame
	if err := m.Alloc(f[:], LargeOrder, false); err != syscall.ENOMEM {
		t.Errorf("a large block out of what is kept: %v", err)
	}
	keep /= 2
	got := 0
	for range 2 * askEvery {
		if m.Alloc(f[:], 0, false) == nil {
			m.Free(f[:], 0)
			got++
		}
		m.drain()
	}
	if got == 0 {
		t.Error("what is kept less is not given out")
	}
	tab.Unmap(0, 1<<40, func(_ uint64, e mm.PTE) { m.Free([]mm.Frame{e.Frame}, e.Order) })
	tab.Free()
	m.drain()
}

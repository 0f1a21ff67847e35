package shim

import (
	"testing"
	"unsafe"
)

// A thread that ends the program out of one of the two functions goes on at the hook,
// as if it had been called; any other caller ends the machine.
func TestExitHook(t *testing.T) {
	g := start(t)
	top := g.at + 4096
	word := func(at uintptr) *uintptr { return (*uintptr)(unsafe.Pointer(&g.b[at-g.at])) }
	words := (*[5]uintptr)(unsafe.Pointer(&g.b[0]))
	*words = [5]uintptr{0xf00, 0x1000, 0x1020, 0x2000, 0x2020}
	f := &g.th.Frame
	f.RSP = top
	if diverted(f) {
		t.Error("without a hook")
	}
	g.want(0, CallExitHook, g.at)
	defer SetExitHook(0, 0, 0, 0, 0)
	for from, want := range map[uintptr]bool{0xfff: false, 0x1000: true, 0x101f: true, 0x1020: false, 0x1fff: false, 0x2000: true, 0x2020: false, 0: false} {
		*word(top), *word(top - 8) = from, 0
		f.RIP, f.RSP = 0x77, top
		if got := diverted(f); got != want {
			t.Errorf("called from %#x: %v, want %v", from, got, want)
		}
		if want && (f.RIP != 0xf00 || f.RSP != top-8 || *word(top - 8) != 0x77) || !want && (f.RIP != 0x77 || f.RSP != top) {
			t.Errorf("called from %#x: goes on at %#x with the stack at %#x, below it %#x", from, f.RIP, f.RSP, *word(top - 8))
		}
	}
	*word(top), f.RIP, f.RSP = 0x1005, 0x78, top
	g.call(sysExitGroup, 7)
	if f.RIP != 0xf00 || f.RDI != 7 {
		t.Errorf("exit_group: goes on at %#x with status %d", f.RIP, f.RDI)
	}
}

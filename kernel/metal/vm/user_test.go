package vm

import (
	"testing"
	"unsafe"

	"osv/kernel/metal/cpu"
	"osv/kernel/metal/phys"
)

// The upper half of every root is the kernel's, also what comes later.
func TestRootsShareTheUpperHalf(t *testing.T) {
	fresh(t)
	firstRoot = phys.None
	if !mapRange(phys.DirectBase, 0, pageSize, protRW) {
		t.Fatal("no memory")
	}
	_, before, _ := phys.Counts()
	top := func(r uintptr) *[512]uintptr { return (*[512]uintptr)(unsafe.Pointer(phys.ToVirt(r))) }
	same := func(r uintptr) bool { return string(bytesOf(top(r))[2048:]) == string(bytesOf(top(root))[2048:]) }
	var roots [4]uintptr
	for i := range roots {
		roots[i] = NewRoot()
		if roots[i] == phys.None {
			t.Fatal("no memory")
		}
		for k, e := range top(roots[i])[:256] {
			if e != 0 {
				t.Fatalf("entry %d of a new root is %#x", k, e)
			}
		}
		if !same(roots[i]) {
			t.Error("a new root lacks the kernel")
		}
	}
	c := cpu.All(0)
	FreeRoot(c, roots[1]) // from the middle of the list
	_, now, _ := phys.Counts()
	if !mapRange(heapBase+5<<39, 0x1000, pageSize, protRW) || !mapRange(0x400000, 0x1000, pageSize, protRW) {
		t.Fatal("no memory")
	}
	for _, i := range []int{0, 2, 3} {
		if !same(roots[i]) || top(roots[i])[(heapBase+5<<39)>>39&511]&ptePresent == 0 {
			t.Errorf("root %d does not see what the kernel mapped later", i)
		}
		if top(roots[i])[0] != 0 {
			t.Errorf("root %d sees the kernel's lower half", i)
		}
	}
	if now != before-6 {
		t.Errorf("three roots take %d frames", before-now)
	}
	_, now, _ = phys.Counts()
	FreeRoot(c, roots[3]) // the first
	FreeRoot(c, roots[0]) // the last
	FreeRoot(c, roots[2])
	if _, after, _ := phys.Counts(); after != now+6 || firstRoot != phys.None {
		t.Errorf("%d frames came back, list starts at %#x", after-now, firstRoot)
	}
}

func bytesOf(p *[512]uintptr) []byte { return unsafe.Slice((*byte)(unsafe.Pointer(p)), 4096) }

func TestNoMemoryForRoot(t *testing.T) {
	fresh(t)
	var held []uintptr
	for o := uint(phys.MaxOrder); ; {
		p := phys.Alloc(o)
		if p == phys.None {
			if o == 0 {
				break
			}
			o--
			continue
		}
		held = append(held, p, uintptr(o))
	}
	if r := NewRoot(); r != phys.None {
		t.Errorf("a root at %#x of no memory", r)
	}
	for i := 0; i < len(held); i += 2 {
		phys.Free(held[i], uint(held[i+1]))
	}
}

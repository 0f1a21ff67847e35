package vm

import (
	"testing"

	"osv/kernel/metal/arch"
	"osv/kernel/metal/phys"
)

func TestReserve(t *testing.T) {
	fresh(t)
	end := uintptr(heapBase)
	for _, test := range []struct{ n, align, size uintptr }{
		{1, pageSize, pageSize},
		{pageSize + 1, pageSize, 2 * pageSize},
		{largeSize, largeSize, largeSize},
		{64 << 20, 64 << 20, 64 << 20}, // Go's arena
		{4096, pageSize, 4096},
	} {
		va, r := Reserve(test.n, test.n == 1)
		if r != OK || va%test.align != 0 || va < end {
			t.Errorf("Reserve(%#x) = %#x, %d; want above %#x, aligned to %#x", test.n, va, r, end, test.align)
		}
		end = va + test.size
		if (Fault(va) == OK) != (test.n == 1) {
			t.Errorf("Reserve(%#x, %v): memory can be used: %v", test.n, test.n == 1, test.n != 1)
		}
	}
	for _, n := range []uintptr{0, heapEnd - heapBase + 1, ^uintptr(0), heapEnd - heapBase} {
		if va, r := Reserve(n, false); r != NoMemory {
			t.Errorf("Reserve(%#x) = %#x, %d", n, va, r)
		}
	}
}

func TestSetProtAndUnmapRanges(t *testing.T) {
	fresh(t)
	va, _ := Reserve(4*pageSize, false)
	for _, bad := range []struct{ va, n uintptr }{
		{va + 1, pageSize}, {heapBase - pageSize, pageSize}, {heapEnd, pageSize}, {heapEnd - pageSize, 2 * pageSize}, {0x1000, pageSize}, {va, ^uintptr(0) - 8191},
	} {
		if r := SetProt(bad.va, bad.n, true); r != BadRange {
			t.Errorf("SetProt(%#x, %#x) = %d", bad.va, bad.n, r)
		}
		if r := Unmap(bad.va, bad.n); r != BadRange {
			t.Errorf("Unmap(%#x, %#x) = %d", bad.va, bad.n, r)
		}
	}
	if r := SetProt(va+pageSize, 2*pageSize-1, true); r != OK || Committed() != 2*pageSize {
		t.Errorf("SetProt: %d, %d bytes committed", r, Committed())
	}
	for i, want := range []Result{NotOurs, OK, OK, NotOurs} {
		if r := Fault(va + uintptr(i)*pageSize); r != want {
			t.Errorf("fault on page %d: %d, want %d", i, r, want)
		}
	}
	// What lies on top can be handed out again, what does not cannot.
	a, _ := Reserve(pageSize, false)
	b, _ := Reserve(pageSize, false)
	if Unmap(a, pageSize); nextHeap != b+pageSize {
		t.Error("an inner range is handed out again")
	}
	if Unmap(b, pageSize); nextHeap != b {
		t.Error("the topmost range is not handed out again")
	}
	if r := Discard(va+1, pageSize); r != OK { // holds no whole page
		t.Errorf("Discard of less than a page: %d", r)
	}
	if r := Discard(heapBase-largeSize, pageSize); r != BadRange {
		t.Errorf("Discard outside of the heap: %d", r)
	}
}

// A fault maps 2 MiB where all of it is committed and memory is plenty, else 4 KiB.
func TestFaultPageSize(t *testing.T) {
	fresh(t)
	va, _ := Reserve(64<<20, false)
	for _, step := range []struct {
		name       string
		start, n   uintptr // committed before
		floor      uintptr
		at, va, sz uintptr
	}{
		{"whole block", 0, largeSize, 0, largeSize / 2, 0, largeSize},
		{"part of a block", largeSize, pageSize, 0, largeSize, largeSize, pageSize},
		{"memory is scarce", 2 * largeSize, largeSize, ^uintptr(0), 2*largeSize + 5, 2 * largeSize, pageSize},
		{"block with a small page in it", 2 * largeSize, 0, 0, 2*largeSize + pageSize, 2*largeSize + pageSize, pageSize},
	} {
		if step.n != 0 && SetProt(va+step.start, step.n, true) != OK {
			t.Fatalf("%s: refused", step.name)
		}
		SetLargeFloor(step.floor)
		before := len(mappings())
		if r := Fault(va + step.at); r != OK {
			t.Fatalf("%s: %d", step.name, r)
		}
		var got mapping
		m := mappings()
		for _, x := range m {
			if x.va <= va+step.at && va+step.at < x.va+x.size {
				got = x
			}
		}
		if got.va != va+step.va || got.size != step.sz || got.flags&^pteLarge != protRW || len(m) != before+1 {
			t.Errorf("%s: mapped %#x+%#x with flags %#x, want %#x+%#x", step.name, got.va, got.size, got.flags, va+step.va, step.sz)
		}
		for a := phys.ToVirt(got.pa); a < phys.ToVirt(got.pa)+got.size; a += 8 {
			if *arch.U64(a) != 0 {
				t.Fatalf("%s: the page is not zero at %#x", step.name, a)
			}
		}
		*arch.U64(phys.ToVirt(got.pa)) = 1 // for the next owner to trip over
		// Another processor was first.
		if r := Fault(va + step.at); r != OK || len(mappings()) != len(m) {
			t.Errorf("%s: a second fault maps again", step.name)
		}
	}
	for _, a := range []uintptr{0, 0x1000, va - 1, va + 8*largeSize, heapEnd, phys.DirectBase, ^uintptr(0)} {
		if r := Fault(a); r != NotOurs {
			t.Errorf("fault at %#x: %d", a, r)
		}
	}
}

func TestEnsure(t *testing.T) {
	fresh(t)
	va, _ := Reserve(8*pageSize, true)
	SetLargeFloor(^uintptr(0))
	if !Ensure(va+100, 3*pageSize) {
		t.Fatal("refused")
	}
	for i, want := range []bool{true, true, true, true, false} {
		if Mapped(va+uintptr(i)*pageSize) != want {
			t.Errorf("page %d is mapped: %v", i, !want)
		}
	}
	if Ensure(va+7*pageSize, pageSize+1) {
		t.Error("Ensure reaches beyond what is committed")
	}
	if !Ensure(va, 0) || LockHeld() {
		t.Error("Ensure of nothing, or the lock is held")
	}
	mu.Lock()
	if !LockHeld() {
		t.Error("LockHeld does not see the lock")
	}
	mu.Unlock()
}

// detach takes frames out of the tables, release gives them back: all that was
// mapped, once, and the tables stay.
func TestDetachAndRelease(t *testing.T) {
	fresh(t)
	va, _ := Reserve(64<<20, false)
	SetProt(va, 4*largeSize, true)
	_, start, _ := phys.Counts()
	Fault(va)               // large
	Fault(va + 2*largeSize) // large
	SetLargeFloor(^uintptr(0))
	for i := range uintptr(5) {
		Fault(va + largeSize + i*pageSize) // small
	}
	_, before, _ := phys.Counts()
	list4k, list2m := detach(va+largeSize+pageSize, va+3*largeSize)
	count := func(list uintptr) (n int) {
		for list != phys.None && n < 1000 {
			list = *arch.Ptr(phys.ToVirt(list))
			n++
		}
		return n
	}
	if count(list4k) != 4 || count(list2m) != 1 {
		t.Errorf("detached %d small and %d large pages, want 4 and 1", count(list4k), count(list2m))
	}
	if m := mappings(); len(m) != 2 || m[0].va != va || m[1].va != va+largeSize {
		t.Errorf("left mapped: %#x", m)
	}
	if _, now, _ := phys.Counts(); now != before {
		t.Error("frames were freed before the processors were told")
	}
	release(list4k, 0)
	release(list2m, phys.LargeOrder)
	if _, now, _ := phys.Counts(); now != before+4+512 {
		t.Errorf("%d frames came back, want %d", now-before, 4+512)
	}
	list4k, list2m = detach(va, va+4*largeSize)
	release(list4k, 0)
	release(list2m, phys.LargeOrder)
	if _, now, _ := phys.Counts(); start-now > 5 {
		t.Errorf("%d frames are missing, more than tables need", start-now)
	}
	if list4k, list2m = detach(va, va+64<<20); list4k != phys.None || list2m != phys.None {
		t.Error("something is left to detach")
	}
	release(phys.None, 0)
}

package vm

import (
	"slices"
	"testing"

	"osv/kernel/metal/arch"
	"osv/kernel/metal/phys"
)

// mapRange uses the largest pages that fit, and translate finds each byte.
func TestMapRange(t *testing.T) {
	const k4, m2, g1 = pageSize, largeSize, giantSize
	const va = 0xffff800000000000
	for _, test := range []struct {
		name      string
		giB       bool
		va, pa, n uintptr
		want      []mapping // flags are left out
	}{
		{"one page", false, va, 0x5000, k4, []mapping{{va: va, pa: 0x5000, size: k4}}},
		{"one large page", false, va + m2, 4 * m2, m2, []mapping{{va: va + m2, pa: 4 * m2, size: m2}}},
		{"small, large, small", false, va + m2 - k4, 4*m2 - k4, m2 + 2*k4, []mapping{
			{va: va + m2 - k4, pa: 4*m2 - k4, size: k4}, {va: va + m2, pa: 4 * m2, size: m2}, {va: va + 2*m2, pa: 5 * m2, size: k4}}},
		{"no giant pages", false, va, 0, 2 * m2, []mapping{{va: va, pa: 0, size: m2}, {va: va + m2, pa: m2, size: m2}}},
		{"giant page", true, va, 3 * g1, g1 + m2, []mapping{{va: va, pa: 3 * g1, size: g1}, {va: va + g1, pa: 4 * g1, size: m2}}},
		{"identity", false, 0x8000, 0x8000, k4, []mapping{{va: 0x8000, pa: 0x8000, size: k4}}},
	} {
		fresh(t)
		haveGiB = test.giB
		if !mapRange(test.va, test.pa, test.n, protRW) {
			t.Errorf("%s: refused", test.name)
			continue
		}
		got := mappings()
		for i := range got {
			large := uintptr(0)
			if got[i].size > k4 {
				large = pteLarge
			}
			if got[i].flags != protRW|large {
				t.Errorf("%s: flags %#x", test.name, got[i].flags)
			}
			got[i].flags = 0
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: mapped\n%#x\nwant\n%#x", test.name, got, test.want)
		}
		for _, off := range []uintptr{0, 1, test.n / 2, test.n - 1} {
			if pa, ok := translate(test.va + off); !ok || pa != test.pa+off {
				t.Errorf("%s: byte %#x is at %#x, %v; want %#x", test.name, test.va+off, pa, ok, test.pa+off)
			}
		}
		for _, a := range []uintptr{test.va - 1, test.va + test.n} {
			if pa, ok := translate(a); ok || Mapped(a) {
				t.Errorf("%s: byte %#x, outside, is at %#x", test.name, a, pa)
			}
		}
	}
}

// A differently aligned physical address rules large pages out.
func TestMapRangeMisaligned(t *testing.T) {
	fresh(t)
	if !mapRange(phys.DirectBase, pageSize, 2*largeSize, protRO) {
		t.Fatal("refused")
	}
	m := mappings()
	if len(m) != 1024 || m[0].size != pageSize || m[1023].pa != 1024*pageSize || m[5].flags != protRO {
		t.Errorf("%d mappings, first %#x, last %#x", len(m), m[0], m[len(m)-1])
	}
}

// A small page cannot be put where a large one is mapped.
func TestMapRangeOverLargePage(t *testing.T) {
	fresh(t)
	if !mapRange(phys.DirectBase, 0, largeSize, protRW) || mapRange(phys.DirectBase+pageSize, 0, pageSize, protRW) {
		t.Error("a small page was mapped inside a large one")
	}
}

func TestInitMapsTheImage(t *testing.T) {
	for _, delta := range []uintptr{0, 32 << 20, ^uintptr(2<<20) + 1} {
		testInitMapsTheImage(t, delta)
	}
}

// Delta is how far a loader moved the image.
func testInitMapsTheImage(t *testing.T, delta uintptr) {
	fresh(t)
	img := Image{Delta: delta, Start: ImageBase + 4<<20, TextEnd: ImageBase + 6<<20 + 0x3000, RodataEnd: ImageBase + 8<<20, LoadedEnd: ImageBase + 9<<20, BSSEnd: ImageBase + 12<<20}
	if !Init(img, false) || root != Root() {
		t.Fatal("refused")
	}
	for _, m := range mappings() {
		want := uintptr(protRX)
		switch {
		case m.va >= img.RodataEnd:
			want = protRW
		case m.va >= img.TextEnd:
			want = protRO
		}
		if m.flags&^pteLarge != want || m.pa != m.va-ImageBase+delta {
			t.Errorf("%#x: to %#x with flags %#x, want %#x", m.va, m.pa, m.flags, want)
		}
		if m.va < img.Start || m.va+m.size > img.LoadedEnd {
			t.Errorf("%#x+%#x is outside of what was loaded", m.va, m.size)
		}
	}
	for _, a := range []uintptr{img.Start, img.TextEnd - 1, img.TextEnd, img.LoadedEnd - 1} {
		if !Mapped(a) {
			t.Errorf("%#x is not mapped", a)
		}
	}
	// The tail of .bss comes on demand.
	if Mapped(img.LoadedEnd) {
		t.Error("the tail of .bss is mapped")
	}
	for _, a := range []uintptr{img.LoadedEnd, img.BSSEnd - 1} {
		if Fault(a) != OK || !Mapped(a) {
			t.Errorf("a fault at %#x, in the tail of .bss, is refused", a)
		}
	}
	if r := Fault(img.BSSEnd); r != NotOurs {
		t.Errorf("a fault behind .bss: %d", r)
	}
	if !Direct(0x1234, 0x5678) || !Mapped(phys.DirectBase+0x1000) || !Mapped(phys.DirectBase+0x5fff) || Mapped(phys.DirectBase+0x6000) {
		t.Error("Direct does not cover whole pages")
	}
}

func TestMapDevice(t *testing.T) {
	fresh(t)
	a := MapDevice(0xfee00000, 4096)
	b := MapDevice(0xfec00010, 32)
	c := MapDevice(0xe0000000, 8<<20)
	for _, w := range []struct{ va, pa, n uintptr }{{a, 0xfee00000, 4096}, {b, 0xfec00010, 32}, {c, 0xe0000000, 8 << 20}} {
		for _, off := range []uintptr{0, w.n - 1} {
			if pa, ok := Translate(w.va + off); !ok || pa != w.pa+off {
				t.Errorf("window of %#x: byte %d is at %#x, %v", w.pa, off, pa, ok)
			}
		}
		if Mapped((w.va + w.n + pageSize - 1) &^ (pageSize - 1)) {
			t.Errorf("window of %#x: no unmapped page behind it", w.pa)
		}
	}
	large := 0
	for _, m := range mappings() {
		// Uncached: PCD and PWT select UC in the reset PAT (SDM vol. 3A §12.12.4).
		if m.flags&^pteLarge != protMMIO || m.flags&(ptePCD|ptePWT|pteNX|pteWrite) != ptePCD|ptePWT|pteNX|pteWrite {
			t.Errorf("%#x: flags %#x", m.va, m.flags)
		}
		if m.size == largeSize {
			large++
		}
	}
	if large != 4 {
		t.Errorf("%d large pages for 8 MiB of registers, want 4", large)
	}
	for _, bad := range []struct{ pa, n uintptr }{{0x1000, 0}, {0x1000, deviceEnd - deviceBase + 1}, {0x1000, ^uintptr(0) >> 1}} {
		if va := MapDevice(bad.pa, bad.n); va != 0 {
			t.Errorf("MapDevice(%#x, %#x) = %#x", bad.pa, bad.n, va)
		}
	}
}

func TestAddDirect(t *testing.T) {
	fresh(t)
	if !Direct(0x100000, 0x101000) {
		t.Fatal("refused")
	}
	// Over memory that is mapped already, and what is not.
	if !AddDirect(0xff800, 0x1900) {
		t.Fatal("refused")
	}
	for _, m := range mappings() {
		want := uintptr(protRO)
		if m.pa == 0x100000 {
			want = protRW // as it was
		}
		if m.flags != want {
			t.Errorf("%#x: flags %#x, want %#x", m.pa, m.flags, want)
		}
	}
	for pa, want := range map[uintptr]bool{0xfe000: false, 0xff000: true, 0x100000: true, 0x101000: true, 0x102000: false} {
		if Mapped(phys.DirectBase+pa) != want {
			t.Errorf("%#x is mapped: %v", pa, !want)
		}
	}
	for _, bad := range []struct{ pa, n uintptr }{{1 << 46, 1}, {^uintptr(0), 1}, {0x1000, 1 << 46}, {0x1000, ^uintptr(0)}} {
		if AddDirect(bad.pa, bad.n) {
			t.Errorf("AddDirect(%#x, %#x) is accepted", bad.pa, bad.n)
		}
	}
}

func TestIdentity(t *testing.T) {
	fresh(t)
	if !Identity(0x9000) {
		t.Fatal("refused")
	}
	if m := mappings(); len(m) != 1 || m[0] != (mapping{0x9000, 0x9000, pageSize, ptePresent | pteWrite}) {
		t.Errorf("mapped %#x, want one page, executable", m)
	}
}

// Without memory for tables nothing is mapped, and nobody crashes.
func TestNoMemoryForTables(t *testing.T) {
	fresh(t)
	before, _, _ := phys.Counts()
	list := takeAll()
	defer giveBack(list)
	if mapRange(phys.DirectBase, 0, pageSize, protRW) {
		t.Error("mapped without a table")
	}
	if va := MapDevice(0xfee00000, 4096); va != 0 {
		t.Errorf("MapDevice without a table: %#x", va)
	}
	if AddDirect(0x5000, 1) {
		t.Error("AddDirect without a table")
	}
	if Init(Image{}, false) {
		t.Error("Init without a table")
	}
	if va, r := Reserve(largeSize, true); r != OK || Fault(va) != NoMemory {
		t.Error("a fault without memory is not NoMemory")
	}
	if after, _, _ := phys.Counts(); after != before {
		t.Errorf("RAM grew from %d to %d frames", before, after)
	}
}

// takeAll takes all free memory, the largest blocks first, chained through their
// first word with the order beside it.
func takeAll() (list uintptr) {
	list = phys.None
	for o := phys.MaxOrder; o >= 0; {
		p := phys.Alloc(uint(o))
		if p == phys.None {
			o--
			continue
		}
		*arch.Ptr(phys.ToVirt(p)), *arch.Ptr(phys.ToVirt(p) + 8) = list, uintptr(o)
		list = p
	}
	return list
}

func giveBack(list uintptr) {
	for list != phys.None {
		next, o := *arch.Ptr(phys.ToVirt(list)), *arch.Ptr(phys.ToVirt(list) + 8)
		phys.Free(list, uint(o))
		list = next
	}
}

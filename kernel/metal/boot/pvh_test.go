package boot

import (
	"fmt"
	"slices"
	"testing"

	"osv/kernel/ktest/hostcpu"
	"osv/kernel/metal/cpu"
	"osv/kernel/metal/phys"
	"unsafe"
)

// startInfoAt writes a struct hvm_start_info with a memory map, and the command
// line behind it.
func (m *low) startInfo(cmdline string, entries [][3]uint64) {
	startInfo = m.at
	m.put32(0, 0x336ec578)
	m.put32(4, 1) // version
	m.put64(24, uint64(m.at)+0x1000)
	m.put64(32, 0xf5a10)
	m.put64(40, uint64(m.at)+0x2000)
	m.put32(48, uint32(len(entries)))
	copy(m.mem[0x1000:], cmdline+"\x00")
	for i, e := range entries {
		at := 0x2000 + i*24
		m.put64(at, e[0])
		m.put64(at+8, e[1])
		m.put32(at+16, uint32(e[2]))
	}
}

func TestReadStartInfo(t *testing.T) {
	for name, test := range map[string]struct {
		entries [][3]uint64 // start, size, type
		want    string
		top     uintptr
	}{
		"QEMU q35": {
			[][3]uint64{{0, 0x9fc00, 1}, {0x9fc00, 0x400, 2}, {0xf0000, 0x10000, 2}, {0x100000, 0xfee0000, 1}, {0xffe0000, 0x20000, 2}, {0x100000000, 0x40000000, 1}},
			"[1000-9f000 100000-ffe0000 100000000-140000000]", 0x140000000,
		},
		"ragged ends": {[][3]uint64{{0x100001, 0x2ffe, 1}, {0x200fff, 0x2002, 1}}, "[101000-102000 201000-203000]", 0x203000},
		"too small":   {[][3]uint64{{0x100001, 0x1ffd, 1}, {0x300000, 0, 1}}, "[]", 0},
		"not RAM":     {[][3]uint64{{0x100000, 0x100000, 2}, {0x200000, 0x100000, 5}}, "[]", 0},
		"wraps":       {[][3]uint64{{0xfffffffffffff000, 0x2000, 1}}, "[]", 0},
		"into BIOS":   {[][3]uint64{{0x90000, 0x40000, 1}}, "[90000-a0000]", 0xa0000},
		"in BIOS":     {[][3]uint64{{0xb0000, 0x10000, 1}}, "[]", 0},
	} {
		m := fresh(t)
		m.startInfo("--verbose x", test.entries)
		readStartInfo()
		got := "["
		for i, e := range ram[:ranges] {
			if i > 0 {
				got += " "
			}
			got += fmt.Sprintf("%x-%x", e.start, e.end)
		}
		if got += "]"; got != test.want || ramTop != test.top {
			t.Errorf("%s: RAM is %s up to %#x, want %s up to %#x", name, got, ramTop, test.want, test.top)
		}
		if RSDP() != 0xf5a10 || nwords != 2 || !Verbose() {
			t.Errorf("%s: RSDP %#x, %d words, verbose %v", name, RSDP(), nwords, Verbose())
		}
	}
}

func TestReadStartInfoWithManyRanges(t *testing.T) {
	m := fresh(t)
	var entries [][3]uint64
	for i := range uint64(maxRanges + 20) {
		entries = append(entries, [3]uint64{0x100000 + i*0x2000, 0x1000, 1})
	}
	m.startInfo("", entries)
	readStartInfo()
	if ranges != maxRanges || ram[maxRanges-1].start != 0x100000+(maxRanges-1)*0x2000 {
		t.Errorf("%d ranges", ranges)
	}
}

func TestRAMHolds(t *testing.T) {
	fresh(t)
	ram[0], ram[1], ranges = extent{0x1000, 0x9f000}, extent{0x100000, 0x200000}, 2
	for r, want := range map[extent]bool{
		{0x1000, 0x9f000}:    true,
		{0x100000, 0x100000}: true,
		{0x180000, 0x200000}: true,
		{0x180000, 0x200001}: false,
		{0, 0x2000}:          false,
		{0x9e000, 0x101000}:  false,
		{0x300000, 0x300001}: false,
	} {
		if ramHolds(r.start, r.end) != want {
			t.Errorf("ramHolds(%#x, %#x) = %v", r.start, r.end, !want)
		}
	}
}

// addRAM gives the allocator everything but what is in use, in two steps, and
// keeps one low page for starting processors.
func TestAddRAM(t *testing.T) {
	const top = 8 << 20
	for name, test := range map[string]struct {
		cutLo, cutHi uintptr
		want         uintptr // frames in all
	}{
		"image inside":                  {0x200000, 0x300000, (0x9f000-0x1000-0x1000)/4096 + (top-0x100000-0x100000)/4096},
		"image at the start of a range": {0x100000, 0x180000, (0x9f000-0x2000)/4096 + (top-0x180000)/4096},
		"image to the end":              {0x600000, top, (0x9f000-0x2000)/4096 + (0x600000-0x100000)/4096},
	} {
		fresh(t)
		ram[0], ram[1], ranges = extent{0x1000, 0x9f000}, extent{0x100000, top}, 2
		c := cpu.All(0)
		c.Self = uintptr(unsafe.Pointer(c))
		hostcpu.Become(t, c.Self)
		at, _ := hostcpu.Arena(t, top)
		phys.SetBase(at)
		phys.Init(test.cutLo, top) // inside of what is in use
		before, _, _ := phys.Counts()
		const half = 4 << 20
		addRAM(0, half, test.cutLo, test.cutHi)
		addRAM(half, ^uintptr(0), test.cutLo, test.cutHi)
		after, _, _ := phys.Counts()
		if after-before != test.want || apPage != 0x1000 {
			t.Errorf("%s: %d frames, want %d; start page %#x", name, after-before, test.want, apPage)
		}
		for a := test.cutLo; a < test.cutHi; a += phys.FrameSize {
			if phys.Free(a, 0) {
				t.Fatalf("%s: frame %#x, in use, was given to the allocator", name, a)
			}
		}
	}
}

// RAM that starts below the BIOS area and goes on beyond it loses that area only.
func TestReadStartInfoAcrossTheBIOS(t *testing.T) {
	m := fresh(t)
	m.startInfo("", [][3]uint64{{0, 64 << 20, typeRAM}})
	readStartInfo()
	want := []extent{{lowestUsed, biosStart}, {biosEnd, 64 << 20}}
	if got := ram[:ranges]; !slices.Equal(got, want) || ramTop != 64<<20 {
		t.Errorf("RAM is %v up to %#x, want %v", got, ramTop, want)
	}
}

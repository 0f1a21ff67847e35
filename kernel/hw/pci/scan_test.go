package pci_test

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"osv/kernel/hw/pci"
	"osv/kernel/ktest/fakepci"
)

// at is a function on bus 0 or another.
func at(bus, dev, fn uint8) pci.Addr { return pci.Addr{Bus: bus, Device: dev, Function: fn} }

// nic is a device that nothing is wrong with.
func nic() *fakepci.Function {
	return fakepci.NewDevice(0x1AF4, 0x1041, 0x020000).Memory32(1, 0xFE00_0000, 0x1000)
}

// found is the addresses of the devices.
func found(r *pci.Result) []string {
	var out []string
	for _, d := range r.Devices {
		out = append(out, d.Addr.String())
	}
	return out
}

func wantFound(t *testing.T, r *pci.Result, want ...string) {
	t.Helper()
	if got := found(r); !slices.Equal(got, want) {
		t.Errorf("devices %q, want %q", got, want)
	}
}

// wantWarnings checks that there are as many warnings as wants, each with its
// text.
func wantWarnings(t *testing.T, r *pci.Result, wants ...string) {
	t.Helper()
	if len(r.Warnings) != len(wants) {
		t.Errorf("warnings %q, want %d", r.Warnings, len(wants))
		return
	}
	for i, w := range wants {
		if s := r.Warnings[i].Error(); !strings.Contains(s, w) {
			t.Errorf("warning %q does not say %q", s, w)
		}
	}
}

func wantNoViolations(t *testing.T, b *fakepci.Bus) {
	t.Helper()
	for _, v := range b.Violations {
		t.Errorf("violation: %s", v)
	}
}

func load(t testing.TB, name string) *fakepci.Bus {
	t.Helper()
	f, err := os.Open("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := fakepci.Load(f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestScanQ35(t *testing.T) {
	bus := load(t, "q35.pci")
	r := pci.Scan(bus, pci.Options{RAM: []pci.Range{{Base: 0, Size: 64 << 20}}})
	wantNoViolations(t, bus)
	wantWarnings(t, r)
	var got []string
	for _, d := range r.Devices {
		got = append(got, d.String())
		for i, b := range d.BARs {
			if b.Present() {
				got = append(got, fmt.Sprintf("  %d %v", i, b))
			}
		}
		for _, c := range d.Caps {
			got = append(got, fmt.Sprintf("  cap %#02x at %#02x", c.ID, c.Off))
		}
		for _, c := range d.ExtCaps {
			got = append(got, fmt.Sprintf("  ext %#04x v%d at %#x", c.ID, c.Version, c.Off))
		}
	}
	golden, err := os.ReadFile("testdata/q35.scan")
	if err != nil {
		t.Fatal(err)
	}
	if text := strings.Join(got, "\n") + "\n"; text != string(golden) {
		t.Errorf("got:\n%s\nwant testdata/q35.scan:\n%s", text, golden)
	}
	// What is behind the root port, and its interrupt.
	last := r.Devices[slices.Index(found(r), "0000:01:00.0")]
	if last.SubsystemVendorID != 0x1AF4 || last.SubsystemID != 0x1100 || last.IntPin != 1 || last.IntLine != 11 {
		t.Errorf("%+v", last)
	}
	port := r.Devices[slices.Index(found(r), "0000:00:02.0")]
	if want := (&pci.Bridge{Primary: 0, Secondary: 1, Subordinate: 1}); !reflect.DeepEqual(port.Bridge, want) {
		t.Errorf("root port leads to %+v, want %+v", port.Bridge, want)
	}
}

// Firmware that assigns nothing: QEMU's microvm. The windows are those of its
// DSDT.
func TestScanAssignsOnMicroVM(t *testing.T) {
	bus := load(t, "microvm-pcie.pci")
	r := pci.Scan(bus, pci.Options{
		RAM: []pci.Range{{Base: 0, Size: 64 << 20}},
		Roots: []pci.Root{{Windows: []pci.Window{
			{Range: pci.Range{Base: 0xC000_0000, Size: 0x2000_0000}},
			{Range: pci.Range{Base: 0xC0_0000_0000, Size: 0x40_0000_0000}},
		}}},
	})
	wantNoViolations(t, bus)
	wantFound(t, r, "0000:00:00.0", "0000:00:01.0", "0000:00:02.0")
	wantWarnings(t, r) // it has no ports for PCI, so the I/O BARs stay as they are
	for i, want := range []struct{ bar1, bar4 uint64 }{{}, {0xC000_8000, 0xC000_0000}, {0xC000_9000, 0xC000_4000}} {
		d := r.Devices[i]
		if d.BARs[1].Base != want.bar1 || d.BARs[4].Base != want.bar4 {
			t.Errorf("%v: BARs %v and %v, want bases %#x and %#x", d, d.BARs[1], d.BARs[4], want.bar1, want.bar4)
		}
		f := bus.At(d.Addr)
		if i > 0 && (f.Get32(0x14) != uint32(want.bar1) || f.Get32(0x20) != uint32(want.bar4)|0xC || f.Get32(0x24) != 0) {
			t.Errorf("%v: registers %#x, %#x, %#x", d, f.Get32(0x14), f.Get32(0x20), f.Get32(0x24))
		}
	}
}

// §6.2.5.1: decoders off, all ones, read, the old value back, decoders as before.
func TestSizingTranscript(t *testing.T) {
	bus := fakepci.New()
	bus.Add(at(0, 3, 0), fakepci.NewDevice(0x1AF4, 0x1041, 0x020000).Command(0x0107).
		IO(0, 0xC000, 0x20).Memory64(4, 0x10_FE00_0000, 0x4000))
	r := pci.Scan(bus, pci.Options{})
	want := []string{
		"W16 004 0104",
		"W32 010 ffffffff", "W32 010 0000c001",
		"W32 014 ffffffff", "W32 014 00000000",
		"W32 018 ffffffff", "W32 018 00000000",
		"W32 01c ffffffff", "W32 01c 00000000",
		"W32 020 ffffffff", "W32 020 fe00000c",
		"W32 024 ffffffff", "W32 024 00000010",
		"W16 004 0107",
	}
	for i := range want {
		want[i] = "0000:00:03.0 " + want[i]
	}
	if !slices.Equal(bus.Writes, want) {
		t.Errorf("writes:\n%s\nwant:\n%s", strings.Join(bus.Writes, "\n"), strings.Join(want, "\n"))
	}
	wantNoViolations(t, bus)
	wantWarnings(t, r)
	same(t, "BARs", r.Devices[0].BARs, [6]pci.BAR{
		0: {Kind: pci.IO, Base: 0xC000, Size: 0x20},
		4: {Kind: pci.Memory64, Prefetchable: true, Base: 0x10_FE00_0000, Size: 0x4000},
	})
}

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s:\n got %+v\nwant %+v", what, got, want)
	}
}

// A device with an absurd BAR is left out, with its decoders off; its neighbour
// is found.
func TestAbsurdBARs(t *testing.T) {
	ram := []pci.Range{{Base: 0, Size: 1 << 30}, {Base: 4 << 30, Size: 1 << 30}}
	for name, c := range map[string]struct {
		change func(f *fakepci.Function)
		want   string
	}{
		"size 0": {func(f *fakepci.Function) { f.RawBAR(2, 8, 0) },
			"BAR 2: 0x8: size 0"},
		"size 0 with an address": {func(f *fakepci.Function) { sizesAs(f, 2, 0xFD00_0000, 0) },
			"BAR 2: 0xfd000000: size 0"},
		"hardwired": {func(f *fakepci.Function) { f.RawBAR(2, 0xFD00_0000, 0) },
			"BAR 2: 0xfd000000: writable address bits 0xfd000000 have gaps"},
		"size 0, 64 bits": {func(f *fakepci.Function) { f.RawBAR(2, 4, 0) },
			"BAR 2: 0x4: size 0"},
		"size 0, I/O": {func(f *fakepci.Function) { f.RawBAR(2, 1, 0) },
			"BAR 2: 0x1: size 0"},
		"overlaps RAM": {func(f *fakepci.Function) { f.Memory32(0, 0x3FFF_F000, 0x1000) },
			"BAR 0: 0x3ffff000: 0x1000 bytes overlap RAM at 0x0-0x3fffffff"},
		"around RAM": {func(f *fakepci.Function) { f.Memory64(0, 1<<32, 1<<31) },
			"BAR 0: 0x10000000c: 0x80000000 bytes overlap RAM at 0x100000000-0x13fffffff"},
		"last slot": {func(f *fakepci.Function) { f.RawBAR(5, 0xFD00_0004, 0xFFFF_F000) },
			"BAR 5: 0xfd000004: 64-bit BAR in the last slot"},
		"larger than the address space": {func(f *fakepci.Function) { f.RawBAR(2, 4, 0).RawBAR(3, 0, 0x8000_0000) },
			"BAR 2: 0x4: size 0x8000000000000000 is larger than the address space of 0x10000000000"},
		"beyond the address space": {func(f *fakepci.Function) { f.RawBAR(2, 4, 0xFFFF_F000).RawBAR(3, 0x100, 0xFFFF_FFFF) },
			"BAR 2: 0x10000000004: 0x1000 bytes reach beyond"},
		"I/O beyond the ports": {func(f *fakepci.Function) { f.RawBAR(0, 0x1_0001, 0xFFFF_FFF0) },
			"BAR 0: 0x10001: 0x10 bytes reach beyond the address space of 0x10000"},
		"I/O larger than the ports": {func(f *fakepci.Function) { f.RawBAR(0, 1, 0xFFFE_0000) },
			"size 0x20000 is larger"},
		"reserved type": {func(f *fakepci.Function) { f.RawBAR(1, 0xFD00_0002, 0xFFFF_F000) },
			"BAR 1: 0xfd000002: reserved type 1"},
		"gaps": {func(f *fakepci.Function) { f.RawBAR(1, 0, 0xF0FF_F000) },
			"have gaps"},
		"odd base": {func(f *fakepci.Function) { sizesAs(f, 1, 0xFD00_0100, 0xFFFF_F000) },
			"BAR 1: 0xfd000100: base is not a multiple of the size 0x1000"},
		"type changes": {func(f *fakepci.Function) { f.RawBAR(1, 0, 0xFFFF_F008) },
			"read-only bits change from 0x0 to 0x8"},
		"all ones": {func(f *fakepci.Function) { f.RawBAR(3, 0xFFFF_FFFF, 0) },
			"BAR 3: 0xffffffff"},
	} {
		t.Run(name, func(t *testing.T) {
			bus := fakepci.New()
			bad := bus.Add(at(0, 1, 0), fakepci.NewDevice(0x1234, 0x5678, 0xFF0000).Command(7))
			c.change(bad)
			bus.Add(at(0, 2, 0), nic())
			held := [6]uint32{}
			for i := range held {
				held[i] = bad.Get32(uint16(0x10 + 4*i))
			}
			r := pci.Scan(bus, pci.Options{RAM: ram, PhysBits: 40})
			wantFound(t, r, "0000:00:02.0")
			wantWarnings(t, r, c.want)
			var de *pci.DeviceError
			if len(r.Warnings) == 1 && (!errors.As(r.Warnings[0], &de) || de.Addr != at(0, 1, 0)) {
				t.Errorf("warning %v does not carry the address", r.Warnings[0])
			}
			if got := bad.Get16(4); got != 0 {
				t.Errorf("command register is %#x, want all decoders and bus master off", got)
			}
			for i := range held {
				if got := bad.Get32(uint16(0x10 + 4*i)); got != held[i] && name != "type changes" {
					t.Errorf("BAR %d holds %#x, firmware left %#x", i, got, held[i])
				}
			}
			wantNoViolations(t, bus)
		})
	}
}

// sizesAs has BAR i hold value, and read as ones after a write of all ones,
// whether or not that agrees.
func sizesAs(f *fakepci.Function, i int, value, ones uint32) {
	f.RawBAR(i, value, 0)
	f.OnWrite = func(off uint16, v uint32) {
		if off == uint16(0x10+4*i) {
			if v != 0xFFFF_FFFF {
				ones = value
			}
			f.RawBAR(i, ones, 0)
		}
	}
}

// BARs at the edge of what is allowed.
func TestOddBARsThatAreFine(t *testing.T) {
	bus := fakepci.New()
	bus.Add(at(0, 1, 0), fakepci.NewDevice(1, 1, 0xFF0000).
		RawBAR(0, 0xC001, 0xFFF0). // I/O with the upper half hardwired
		Memory32(1, 0x8000_0000, 0x8000_0000).
		RawBAR(2, 0xFFFF_F000, 0xFFFF_F000). // ends at 4 GiB
		Memory64(4, 0xFF_0000_0000, 1<<32))
	r := pci.Scan(bus, pci.Options{PhysBits: 40, RAM: []pci.Range{{Base: 0, Size: 0x8000_0000}}})
	wantFound(t, r, "0000:00:01.0")
	wantWarnings(t, r, "BAR 2: 0xfffff000: 0x1000 bytes overlap BAR 1 of 0000:00:01.0")
	same(t, "BARs", r.Devices[0].BARs, [6]pci.BAR{
		0: {Kind: pci.IO, Base: 0xC000, Size: 0x10},
		1: {Kind: pci.Memory32, Base: 0x8000_0000, Size: 0x8000_0000},
		2: {Kind: pci.Memory32, Base: 0xFFFF_F000, Size: 0x1000},
		4: {Kind: pci.Memory64, Prefetchable: true, Base: 0xFF_0000_0000, Size: 1 << 32},
	})
}

func TestMultiFunction(t *testing.T) {
	bus := fakepci.New()
	bus.Add(at(0, 1, 0), nic())
	bus.Add(at(0, 1, 5), fakepci.NewDevice(1, 1, 0x010601))
	// Function 0 is not there, so the others are not looked for (§3.2.2.3.4).
	bus.Add(at(0, 2, 3), nic())
	// Not a multi-function device: its other functions are ghosts.
	bus.Add(at(0, 3, 0), fakepci.NewDevice(1, 1, 0x010601))
	ghost := bus.Add(at(0, 3, 1), nic())
	_ = ghost
	bus.At(at(0, 3, 0)).Put(0x0E, 0)
	// Vendor 0 is no vendor.
	bus.Add(at(0, 4, 0), fakepci.NewDevice(0, 1, 0x010601))
	r := pci.Scan(bus, pci.Options{})
	wantFound(t, r, "0000:00:01.0", "0000:00:01.5", "0000:00:03.0")
	wantWarnings(t, r)
}

func TestUnknownHeaderAndPin(t *testing.T) {
	bus := fakepci.New()
	bus.Add(at(0, 1, 0), nic().Put(0x0E, 2))
	bus.Add(at(0, 2, 0), nic().INTx(10, 9))
	r := pci.Scan(bus, pci.Options{})
	wantFound(t, r, "0000:00:02.0")
	wantWarnings(t, r, "0000:00:01.0: header type 0x2", "0000:00:02.0: interrupt pin 9")
	if r.Devices[0].IntPin != 0 || r.Devices[0].IntLine != 10 {
		t.Errorf("pin %d, line %d", r.Devices[0].IntPin, r.Devices[0].IntLine)
	}
}

func TestBridges(t *testing.T) {
	bus := fakepci.New()
	bus.Add(at(0, 1, 0), fakepci.NewBridge(0, 1, 4)).Command(0)
	bus.Add(at(1, 0, 0), fakepci.NewBridge(1, 2, 3))
	bus.Add(at(2, 7, 0), nic())
	bus.Add(at(1, 1, 0), fakepci.NewBridge(1, 4, 4))
	bus.Add(at(4, 31, 0), fakepci.NewDevice(1, 2, 0x010802))
	bus.Add(at(0x40, 0, 0), nic()) // behind a second root
	r := pci.Scan(bus, pci.Options{Roots: []pci.Root{{}, {Bus: 0x40}, {Bus: 2}}})
	wantFound(t, r, "0000:00:01.0", "0000:01:00.0", "0000:02:07.0", "0000:01:01.0", "0000:04:1f.0", "0000:40:00.0")
	wantWarnings(t, r, "root bus 2 of segment 0 is already behind 0000:01:00.0", "0000:40:00.0: BAR 1: 0xfe000000: 0x1000 bytes overlap BAR 1 of 0000:02:07.0")
	if got := bus.At(at(0, 1, 0)).Get16(4); got != 7 {
		t.Errorf("bridge's command register is %#x, want 7: it passes on what devices behind it need", got)
	}
}

func TestBridgesThatMisbehave(t *testing.T) {
	for name, c := range map[string]struct {
		secondary, subordinate uint8
		want                   string
	}{
		"no number":        {0, 0, "gave the bus behind the bridge no number"},
		"back to the root": {0x10, 0x20, "leads to bus 16, which is already a root"},
		"to its sibling":   {0x11, 0x12, "leads to bus 17, which is already behind 0000:10:01.0"},
		"downwards":        {5, 8, "bridge on bus 16 leads to buses 5 to 8, want them within 17 to 255"},
		"backwards":        {0x20, 0x1F, "leads to buses 32 to 31"},
	} {
		t.Run(name, func(t *testing.T) {
			bus := fakepci.New()
			bus.Add(at(0x10, 1, 0), fakepci.NewBridge(0x10, 0x11, 0x11))
			bus.Add(at(0x10, 2, 0), fakepci.NewBridge(0x10, c.secondary, c.subordinate))
			bus.Add(at(0x10, 3, 0), nic())
			r := pci.Scan(bus, pci.Options{Roots: []pci.Root{{Bus: 0x10}}})
			wantFound(t, r, "0000:10:01.0", "0000:10:02.0", "0000:10:03.0")
			wantWarnings(t, r, c.want)
		})
	}
}

// A bridge may not lead to buses that its parent does not.
func TestBridgeBeyondItsParent(t *testing.T) {
	bus := fakepci.New()
	bus.Add(at(0, 1, 0), fakepci.NewBridge(0, 1, 2))
	bus.Add(at(1, 0, 0), fakepci.NewBridge(1, 2, 3))
	bus.Add(at(2, 0, 0), nic())
	r := pci.Scan(bus, pci.Options{})
	wantFound(t, r, "0000:00:01.0", "0000:01:00.0")
	wantWarnings(t, r, "0000:01:00.0: bridge on bus 1 leads to buses 2 to 3, want them within 2 to 2")
}

func TestBridgeChainIsBounded(t *testing.T) {
	bus := fakepci.New()
	for i := range uint8(100) {
		bus.Add(at(i, 0, 0), fakepci.NewBridge(i, i+1, 200))
	}
	r := pci.Scan(bus, pci.Options{})
	if len(r.Devices) != 65 {
		t.Errorf("%d bridges, want 65", len(r.Devices))
	}
	wantWarnings(t, r, "0000:40:00.0: bridge to bus 65 is 64 bridges deep")
}

// A bridge with an absurd BAR of its own still leads on.
func TestBridgeWithAbsurdBAR(t *testing.T) {
	bus := fakepci.New()
	bus.Add(at(0, 1, 0), fakepci.NewBridge(0, 1, 1).Command(6).RawBAR(1, 4, 0xFFFF_F000))
	bus.Add(at(1, 0, 0), nic())
	r := pci.Scan(bus, pci.Options{})
	wantFound(t, r, "0000:00:01.0", "0000:01:00.0")
	wantWarnings(t, r, "0000:00:01.0: BAR 1: 0x4: 64-bit BAR in the last slot")
	if got := bus.At(at(0, 1, 0)).Get16(4); got != 7 {
		t.Errorf("command register is %#x, want 7", got)
	}
}

// Below a port with a link there is only device 0; the rest would be its echoes.
func TestOnlyDevice0BehindRootPort(t *testing.T) {
	bus := fakepci.New()
	for dev, portType := range []uint8{4, 6, 5} {
		f := fakepci.NewBridge(0, uint8(dev+1), uint8(dev+1))
		f.PCIe(portType)
		bus.Add(at(0, uint8(dev), 0), f)
		bus.Add(at(uint8(dev+1), 0, 0), fakepci.NewDevice(1, 1, 0x020000))
		bus.Add(at(uint8(dev+1), 1, 0), fakepci.NewDevice(1, 1, 0x020000))
	}
	r := pci.Scan(bus, pci.Options{})
	wantFound(t, r, "0000:00:00.0", "0000:01:00.0", "0000:00:01.0", "0000:02:00.0", "0000:00:02.0", "0000:03:00.0", "0000:03:01.0")
}

// A function that goes away at any moment ends in a warning or in nothing.
func TestSurpriseRemoval(t *testing.T) {
	for n := 1; n < 120; n++ {
		bus := fakepci.New()
		f := nic()
		f.MSIX(4, 1, 0, 1, 0x800)
		f.PCIe(0)
		f.GoneAfter = n
		bus.Add(at(0, 1, 0), f)
		bus.Add(at(0, 2, 0), nic().Memory32(1, 0xFD00_0000, 0x1000))
		r := pci.Scan(bus, pci.Options{})
		if got := found(r); !slices.Contains(got, "0000:00:02.0") {
			t.Fatalf("gone after %d accesses: found %q", n, got)
		}
	}
}

// The decoders of a host bridge may be what memory is reached through.
func TestHostBridgeIsLeftAlone(t *testing.T) {
	bus := fakepci.New()
	bus.Add(at(0, 0, 0), fakepci.NewDevice(0x8086, 0x1237, 0x060000).Command(6).RawBAR(0, 0x8, 0xFE00_0000))
	r := pci.Scan(bus, pci.Options{})
	wantFound(t, r, "0000:00:00.0")
	if len(bus.Writes) != 0 {
		t.Errorf("writes %q, want none", bus.Writes)
	}
}

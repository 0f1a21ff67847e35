package pci_test

import (
	"testing"

	"osv/kernel/hw/pci"
	"osv/kernel/ktest/fakepci"
)

func mem(base, size uint64) pci.Window { return pci.Window{Range: pci.Range{Base: base, Size: size}} }

func io(base, size uint64) pci.Window {
	return pci.Window{Range: pci.Range{Base: base, Size: size}, IO: true}
}

// root is bus 0 with windows.
func root(w ...pci.Window) pci.Options { return pci.Options{Roots: []pci.Root{{Windows: w}}} }

func TestAssign(t *testing.T) {
	for name, c := range map[string]struct {
		opt  pci.Options
		make func(f *fakepci.Function)
		bar  int
		want uint64
		warn []string
	}{
		"memory":    {root(mem(0xC000_0800, 0x1_0000)), func(f *fakepci.Function) { f.Memory32(0, 0, 0x1000) }, 0, 0xC000_1000, nil},
		"I/O":       {root(io(0, 0x10000)), func(f *fakepci.Function) { f.IO(0, 0, 0x20) }, 0, 0x1000, nil},
		"I/O, full": {root(io(0x1000, 0x10)), func(f *fakepci.Function) { f.IO(0, 0, 0x20) }, 0, 0, []string{"no window has room for 0x20 bytes of I/O"}},
		"64-bit, low first": {root(mem(1<<40, 1<<30), mem(0xC000_0000, 0x1_0000)),
			func(f *fakepci.Function) { f.Memory64(2, 0, 0x4000) }, 2, 0xC000_0000, nil},
		"64-bit, high where low is full": {root(mem(1<<40, 1<<32), mem(0xC000_0000, 0x1_0000)),
			func(f *fakepci.Function) { f.Memory64(2, 0, 1<<30) }, 2, 1 << 40, nil},
		"32-bit never high": {root(mem(1<<40, 1<<32), mem(0xFFFF_0000, 1<<32)),
			func(f *fakepci.Function) { f.Memory32(0, 0, 0x2_0000) }, 0, 0, []string{"BAR 0: 0x0: no window has room for 0x20000 bytes of 32-bit memory"}},
		"64-bit not beyond the address space": {pci.Options{PhysBits: 40, Roots: root(mem(1<<40, 1<<32)).Roots},
			func(f *fakepci.Function) { f.Memory64(2, 0, 0x4000) }, 2, 0, []string{"no window"}},
		"not in RAM": {pci.Options{RAM: []pci.Range{{Base: 0, Size: 0xC000_8000}}, Roots: root(mem(0xC000_0000, 0x1_0000)).Roots},
			func(f *fakepci.Function) { f.Memory32(0, 0, 0x1000) }, 0, 0xC000_8000, nil},
		"not below 1 MiB": {root(mem(0xA0000, 0x2_0000)),
			func(f *fakepci.Function) { f.Memory32(0, 0, 0x1000) }, 0, 0, []string{"no window"}},
		"beside another BAR": {root(mem(0xFE00_0000, 0x1_0000)),
			func(f *fakepci.Function) { f.Memory32(0, 0, 0x1000) }, 0, 0xFE00_1000, nil},
		"no window": {pci.Options{}, func(f *fakepci.Function) { f.Memory32(0, 0, 0x1000) }, 0, 0, []string{"no window"}},
		"prefetchable window": {root(pci.Window{Range: pci.Range{Base: 0xC000_0000, Size: 0x1_0000}, Prefetchable: true}),
			func(f *fakepci.Function) { f.Memory64(0, 0, 0x1000) }, 0, 0xC000_0000, nil},
		"prefetchable window, other BAR": {root(pci.Window{Range: pci.Range{Base: 0xC000_0000, Size: 0x1_0000}, Prefetchable: true}),
			func(f *fakepci.Function) { f.Memory32(0, 0, 0x1000) }, 0, 0, []string{"no window"}},
		"window that wraps": {root(mem(1<<63, 1<<63)), func(f *fakepci.Function) { f.Memory64(0, 0, 0x1000) }, 0, 0, []string{"no window"}},
		"RAM to the end of all": {pci.Options{RAM: []pci.Range{{Base: 1 << 20, Size: 0xFFFF_FFFF_FFF0_0000}}, Roots: root(mem(0xC000_0000, 0x1_0000)).Roots},
			func(f *fakepci.Function) { f.Memory32(0, 0, 0x1000) }, 0, 0, []string{"no window"}},
		"address not taken": {root(mem(0xC000_0000, 0x1_0000)), func(f *fakepci.Function) {
			f.Memory32(0, 0, 0x1000)
			f.OnWrite = func(off uint16, v uint32) {
				if off == 0x10 && v == 0xC000_0000 {
					f.Put(0x13, 0xD0)
				}
			}
		}, 0, 0, []string{"BAR 0: 0xd0000000: does not take the address 0xc0000000"}},
	} {
		t.Run(name, func(t *testing.T) {
			bus := fakepci.New()
			bus.Add(at(0, 1, 0), fakepci.NewDevice(1, 1, 0x020000).Command(3))
			c.make(bus.At(at(0, 1, 0)))
			other := nic()
			if len(c.opt.RAM) > 0 {
				other = fakepci.NewDevice(1, 1, 0x020000)
			}
			bus.Add(at(0, 2, 0), other) // its BAR 1 is at 0xfe000000
			r := pci.Scan(bus, c.opt)
			wantFound(t, r, "0000:00:01.0", "0000:00:02.0")
			wantWarnings(t, r, c.warn...)
			wantNoViolations(t, bus)
			if got := r.Devices[0].BARs[c.bar]; got.Base != c.want {
				t.Errorf("BAR %d is %v, want base %#x", c.bar, got, c.want)
			}
			if got := bus.At(at(0, 1, 0)).Get16(4); got != 3 {
				t.Errorf("command register is %#x, firmware left 3", got)
			}
		})
	}
}

// Large BARs first, no two overlap, what does not fit is said.
func TestAssignManyIsBounded(t *testing.T) {
	bus := fakepci.New()
	for dev := range uint8(32) {
		f := fakepci.NewDevice(1, 1, 0x020000)
		for i := range 6 {
			f.Memory32(i, 0, 0x1000<<(i%3))
		}
		bus.Add(at(0, dev, 0), f)
	}
	// 32 × 2 × (4+2+1) pages are wanted; half of the small ones find no room.
	r := pci.Scan(bus, root(mem(0xC000_0000, 0x1000*(32*2*6+32))))
	type span struct{ base, size uint64 }
	var spans []span
	unassigned := 0
	for _, d := range r.Devices {
		for _, b := range d.BARs {
			if !b.Assigned() {
				unassigned++
				continue
			}
			for _, s := range spans {
				if b.Base < s.base+s.size && s.base < b.Base+b.Size {
					t.Fatalf("%v overlaps %#x+%#x", b, s.base, s.size)
				}
			}
			spans = append(spans, span{b.Base, b.Size})
		}
	}
	if unassigned != 32 || len(r.Warnings) != 32 {
		t.Errorf("%d BARs without address, %d warnings, want 32", unassigned, len(r.Warnings))
	}
}

// Behind a bridge only what the bridge passes on is of use, and on its own bus
// that is taken.
func TestAssignBehindBridge(t *testing.T) {
	bus := fakepci.New()
	bus.Add(at(0, 1, 0), fakepci.NewBridge(0, 1, 1).
		Windows(0xC000_0000, 0xC01F_FFFF, 0x1_0000_0000, 0x1_000F_FFFF, 0x2000, 0x2FFF))
	bus.Add(at(1, 0, 0), fakepci.NewDevice(1, 1, 0x020000).
		Memory32(0, 0, 0x10_0000).Memory64(2, 0, 0x10_0000).IO(4, 0, 0x100).Memory32(5, 0, 0x1000))
	bus.Add(at(1, 1, 0), fakepci.NewDevice(1, 1, 0x020000).Memory64(2, 0, 0x10_0000).Memory32(5, 0, 0x100_0000))
	bus.Add(at(0, 2, 0), fakepci.NewDevice(1, 1, 0x020000).Memory32(0, 0, 0x1000).IO(1, 0, 0x20))
	for _, opt := range []pci.Options{
		root(mem(0xC000_0000, 0x1000_0000), mem(1<<32, 1<<32), io(0x2000, 0x2000)),
	} {
		r := pci.Scan(bus, opt)
		wantFound(t, r, "0000:00:01.0", "0000:01:00.0", "0000:01:01.0", "0000:00:02.0")
		wantWarnings(t, r, "0000:01:01.0: BAR 5: 0x0: no window has room for 0x1000000 bytes",
			"0000:01:00.0: BAR 5: 0x0: no window has room for 0x1000 bytes")
		for i, want := range []map[int]uint64{
			{}, {0: 0xC000_0000, 2: 0xC010_0000, 4: 0x2000}, {2: 0x1_0000_0000}, {0: 0xC020_0000, 1: 0x3000},
		} {
			for j, b := range r.Devices[i].BARs {
				if b.Base != want[j] {
					t.Errorf("%v: BAR %d is %v, want base %#x", r.Devices[i], j, b, want[j])
				}
			}
		}
	}
}

// Where the host bridge's windows are not known, those of a bridge still are.
func TestAssignBehindBridgeOnly(t *testing.T) {
	bus := fakepci.New()
	bus.Add(at(0, 1, 0), fakepci.NewBridge(0, 1, 1).Windows(0xC000_0000, 0xC00F_FFFF, 0, 0, 0, 0))
	bus.Add(at(1, 0, 0), fakepci.NewDevice(1, 1, 0x020000).Memory32(0, 0, 0x1000))
	r := pci.Scan(bus, pci.Options{})
	wantWarnings(t, r)
	if b := r.Devices[1].BARs[0]; b.Base != 0xC000_0000 {
		t.Errorf("BAR 0 is %v", b)
	}
}

// A bridge whose own BAR has no address does not decode it.
func TestBridgeWithUnassignedBAR(t *testing.T) {
	bus := fakepci.New()
	bus.Add(at(0, 1, 0), fakepci.NewBridge(0, 1, 1).Memory32(0, 0, 0x1000).IO(1, 0, 0x20))
	r := pci.Scan(bus, pci.Options{})
	wantWarnings(t, r, "BAR 0: 0x0: no window has room for 0x1000 bytes")
	if got := bus.At(at(0, 1, 0)).Get16(4); got != 4 {
		t.Errorf("command register is %#x, want only bus master", got)
	}
}

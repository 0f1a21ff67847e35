package pci_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"osv/kernel/hw/mmio"
	"osv/kernel/hw/pci"
	"osv/kernel/hw/pci/msi"
	"osv/kernel/ktest/fakepci"
)

// one scans a bus that has only f, at 0000:00:01.0.
func one(t testing.TB, f *fakepci.Function) (*pci.Device, *fakepci.Bus) {
	t.Helper()
	bus := fakepci.New()
	bus.Add(at(0, 1, 0), f)
	r := pci.Scan(bus, pci.Options{})
	if len(r.Devices) != 1 {
		t.Fatalf("%d devices, warnings %q", len(r.Devices), r.Warnings)
	}
	return r.Devices[0], bus
}

func wantErr(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error, want one that says %q", parts)
		return
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("error %q does not say %q", err, p)
		}
	}
}

func TestIdentity(t *testing.T) {
	d, _ := one(t, nic().Subsystem(0x1AF4, 0x0042).INTx(11, 2))
	if d.VendorID != 0x1AF4 || d.DeviceID != 0x1041 || d.Revision != 1 || d.SubsystemVendorID != 0x1AF4 ||
		d.SubsystemID != 0x42 || d.IntLine != 11 || d.IntPin != 2 || d.Bridge != nil {
		t.Errorf("%+v", d)
	}
	c := pci.Class(0x010802)
	if c.Base() != 1 || c.Sub() != 8 || c.ProgIF() != 2 || !c.Is(1, 8) || c.Is(1, 6) {
		t.Errorf("class %v", c)
	}
	if s := d.String(); s != "0000:00:01.0 1af4:1041 class 020000" {
		t.Error(s)
	}
	for got, want := range map[string]string{
		pci.BAR{}.String():                         "none",
		pci.BAR{Kind: pci.IO, Size: 0x20}.String(): "I/O, 0x20 bytes, not assigned",
		pci.BAR{Kind: pci.Memory64, Prefetchable: true, Base: 0x1000, Size: 0x20}.String():    "64-bit memory prefetchable 0x1000-0x101f",
		(&pci.DeviceError{Addr: at(1, 2, 3), BAR: pci.NoBAR, Problem: "is odd"}).Error():      "pci: 0000:01:02.3: is odd",
		(&pci.DeviceError{Addr: at(1, 2, 3), BAR: 4, Value: 0x10, Problem: "is odd"}).Error(): "pci: 0000:01:02.3: BAR 4: 0x10: is odd",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestCommandBits(t *testing.T) {
	d, bus := one(t, nic().Command(0x0002))
	f := bus.At(d.Addr)
	for _, c := range []struct {
		do   func()
		want uint16
	}{
		{func() { d.SetBusMaster(true) }, 0x0006},
		{func() { d.SetINTx(false) }, 0x0406},
		{func() { d.SetINTx(true) }, 0x0006},
		{func() { d.SetBusMaster(false) }, 0x0002},
	} {
		if c.do(); f.Get16(4) != c.want {
			t.Errorf("command register is %#x, want %#x", f.Get16(4), c.want)
		}
	}
	if d.INTxPending() {
		t.Error("interrupt pending")
	}
	if f.Put(6, 8); !d.INTxPending() {
		t.Error("no interrupt pending")
	}
	d.Write8(0x3C, 9)
	d.Write16(4, 6)
	d.Write32(0x14, 0xFD00_0000)
	if d.Read8(0x3C) != 9 || d.Read16(4) != 6 || d.Read32(0x14) != 0xFD00_0000 {
		t.Error("what is written is not read back")
	}
}

func TestMapBAR(t *testing.T) {
	f := fakepci.NewDevice(1, 1, 0x020000).Memory32(1, 0xFE00_0000, 0x1000).IO(2, 0xC000, 0x20).Memory64(4, 1<<40, 1<<33)
	d, bus := one(t, f)
	m := &fakepci.Memory{}
	m.Add(0xFE00_0000, 0x1000)
	m.Add(1<<40+0x4000, 0x2000)
	m.AddPorts(0xC000, 0x20)
	s, err := d.MapBAR(1, m)
	if err != nil || s.Len() != 0x1000 {
		t.Fatalf("memory BAR: %v", err)
	}
	if got := bus.At(d.Addr).Get16(4); got != 2 {
		t.Errorf("command register is %#x, want memory decode only", got)
	}
	if s, err := d.MapBAR(2, m); err != nil || s.Len() != 0x20 {
		t.Fatalf("I/O BAR: %v", err)
	}
	if got := bus.At(d.Addr).Get16(4); got != 3 {
		t.Errorf("command register is %#x, want I/O and memory decode", got)
	}
	if s, err := d.MapRange(4, 0x4000, 0x2000, m); err != nil || s.Len() != 0x2000 {
		t.Fatalf("part of a large BAR: %v", err)
	}
	same(t, "mappings", m.Mapped, []string{"fe000000+1000", "io c000+20", "10000004000+2000"})

	for _, c := range []struct {
		bar       int
		off, size uint64
		want      string
	}{
		{0, 0, 1, "BAR 0: 0x0: the device has no such BAR"},
		{5, 0, 1, "BAR 5: 0x0: the device has no such BAR"}, // the upper half of 4
		{7, 0, 1, "no such BAR"},
		{-2, 0, 1, "no such BAR"},
		{1, 0, 0x1001, "BAR 1: 0xfe000000: 0x1001 bytes at 0x0 are not inside its 0x1000"},
		{1, 0x1001, 1, "not inside"},
		{1, 0xFFF, 2, "not inside"},
		{1, ^uint64(0), 2, "not inside"},
		{1, 0, 0, "not inside"},
		{4, 0, 1 << 32, "not inside"}, // more than an mmio.Space counts
		{4, 0, 0x1000, "mapping 0x1000 bytes at 0x0: fakepci: nothing at 0x10000000000"},
	} {
		_, err := d.MapRange(c.bar, c.off, c.size, m)
		wantErr(t, err, "pci: 0000:00:01.0: ", c.want)
	}
	_, err = d.MapBAR(6, m)
	wantErr(t, err, "no such BAR")
	_, err = d.MapBAR(2, failMapper{})
	wantErr(t, err, "I/O ports cannot be reached")
}

// A BAR without address would answer at 0: its kind is not decoded.
func TestMapBARBesideUnassigned(t *testing.T) {
	d, bus := one(t, fakepci.NewDevice(1, 1, 0x020000).Memory32(1, 0xFE00_0000, 0x1000).Memory32(2, 0, 0x2000).IO(3, 0xC000, 0x20))
	m := &fakepci.Memory{}
	m.Add(0xFE00_0000, 0x1000)
	m.AddPorts(0xC000, 0x20)
	_, err := d.MapBAR(1, m)
	wantErr(t, err, "BAR 2: 0x0: 0x2000 bytes of 32-bit memory have no address, so BAR 1 cannot be decoded")
	if _, err := d.MapBAR(3, m); err != nil {
		t.Error(err)
	}
	if got := bus.At(d.Addr).Get16(4); got != 1 {
		t.Errorf("command register is %#x, want I/O decode only", got)
	}
}

func TestCapabilityLists(t *testing.T) {
	for name, c := range map[string]struct {
		change func(f *fakepci.Function)
		caps   []pci.Cap
		warn   []string
	}{
		"sound":         {func(*fakepci.Function) {}, []pci.Cap{{ID: 9, Off: 0x40}, {ID: 1, Off: 0x50}}, nil},
		"no list":       {func(f *fakepci.Function) { f.Put(6, 0) }, nil, nil},
		"reserved bits": {func(f *fakepci.Function) { f.Put(0x34, 0x43).Put(0x41, 0x52) }, []pci.Cap{{ID: 9, Off: 0x40}, {ID: 1, Off: 0x50}}, nil},
		"loop": {func(f *fakepci.Function) { f.Put(0x51, 0x40) },
			[]pci.Cap{{ID: 9, Off: 0x40}, {ID: 1, Off: 0x50}}, []string{"0000:00:01.0: capability list loops back to 0x40"}},
		"loop of one": {func(f *fakepci.Function) { f.Put(0x41, 0x40) },
			[]pci.Cap{{ID: 9, Off: 0x40}}, []string{"loops back to 0x40"}},
		"into the header": {func(f *fakepci.Function) { f.Put(0x51, 0x10) },
			[]pci.Cap{{ID: 9, Off: 0x40}, {ID: 1, Off: 0x50}}, []string{"points into the header, to 0x10"}},
		"all ones": {func(f *fakepci.Function) { f.Put(0x50, 0xFF, 0xFF) },
			[]pci.Cap{{ID: 9, Off: 0x40}}, []string{"capability at 0x50 reads as all ones"}},
		"in the last place": {func(f *fakepci.Function) { f.Put(0x51, 0xFC).Put(0xFC, 5, 0) },
			[]pci.Cap{{ID: 9, Off: 0x40}, {ID: 1, Off: 0x50}, {ID: 5, Off: 0xFC}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			f := nic()
			f.Cap(pci.CapVendor, make([]byte, 14)...)
			f.Cap(1, make([]byte, 6)...)
			c.change(f)
			bus := fakepci.New()
			bus.Add(at(0, 1, 0), f)
			r := pci.Scan(bus, pci.Options{})
			wantFound(t, r, "0000:00:01.0") // a bad list is no reason to lose the device
			wantWarnings(t, r, c.warn...)
			same(t, "capabilities", r.Devices[0].Caps, c.caps)
			if _, ok := r.Devices[0].Cap(0x42); ok {
				t.Error("a capability that is not there")
			}
		})
	}
}

func TestExtendedCapabilityLists(t *testing.T) {
	both := []pci.ExtCap{{ID: 1, Version: 2, Off: 0x100}, {ID: 0xB, Version: 1, Off: 0x140}}
	for name, c := range map[string]struct {
		change func(f *fakepci.Function)
		caps   []pci.ExtCap
		warn   []string
	}{
		"sound":    {func(*fakepci.Function) {}, both, nil},
		"no PCIe":  {func(f *fakepci.Function) { f.Put(0x40, 0x09) }, nil, nil},
		"empty":    {func(f *fakepci.Function) { f.Put(0x100, 0, 0, 0, 0) }, nil, nil},
		"no reach": {func(f *fakepci.Function) { f.Put(0x100, 0xFF, 0xFF, 0xFF, 0xFF) }, nil, nil},
		"loop":     {func(f *fakepci.Function) { f.Put(0x142, 0x01, 0x10) }, both, []string{"extended capability list loops back to 0x100"}},
		"below":    {func(f *fakepci.Function) { f.Put(0x142, 0x01, 0x08) }, both, []string{"extended capability list points to 0x80"}},
		"all ones": {func(f *fakepci.Function) { f.Put(0x140, 0xFF, 0xFF, 0xFF, 0xFF) }, both[:1], []string{"extended capability at 0x140 reads as all ones"}},
		"last place": {func(f *fakepci.Function) { f.Put(0x142, 0xC1, 0xFF).Put(0xFFC, 3, 0, 1, 0) },
			append(slices.Clone(both), pci.ExtCap{ID: 3, Version: 1, Off: 0xFFC}), nil},
	} {
		t.Run(name, func(t *testing.T) {
			f := nic()
			f.PCIe(0)
			f.ExtCap(1, 2)
			f.ExtCap(0xB, 1)
			c.change(f)
			bus := fakepci.New()
			bus.Add(at(0, 1, 0), f)
			r := pci.Scan(bus, pci.Options{})
			wantWarnings(t, r, c.warn...)
			same(t, "capabilities", r.Devices[0].ExtCaps, c.caps)
			if got, ok := r.Devices[0].ExtCap(1); ok != (len(c.caps) > 0) || ok && got != c.caps[0] {
				t.Errorf("ExtCap(1) is %v, %v", got, ok)
			}
		})
	}
}

// message is what intc would compose for CPU 1 and vector 0x30+i.
func message(i int) msi.Message {
	return msi.Message{Addr: 0xFEE0_1000, Data: 0x30 + uint32(i)}
}

func TestMSIEnable(t *testing.T) {
	for _, c := range []struct {
		name           string
		wide, maskable bool
		data, mask     uint16
	}{
		{"32 bits", false, false, 8, 0}, {"64 bits", true, false, 12, 0},
		{"32 bits maskable", false, true, 8, 12}, {"64 bits maskable", true, true, 12, 16},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := nic()
			msix := f.MSIX(4, 1, 0, 1, 0x800)
			f.Put(msix+3, 0x80) // firmware left MSI-X on
			off := f.MSI(3, c.wide, c.maskable)
			d, _ := one(t, f)
			m, err := d.MSI()
			if err != nil {
				t.Fatal(err)
			}
			if m.Max != 8 || m.Maskable() != c.maskable {
				t.Fatalf("%+v", m)
			}
			addr := uint64(0xFEE0_1000)
			if c.wide {
				addr |= 1 << 32
			}
			if c.maskable {
				f.Put(off+c.mask, 0xFF)
			}
			if err := m.Enable(msi.Message{Addr: addr, Data: 0x38}, 4); err != nil {
				t.Fatal(err)
			}
			if got := f.Get16(off + 2); got&0x71 != 0x21 {
				t.Errorf("control is %#x, want enabled with 4 messages", got)
			}
			if f.Get32(off+4) != 0xFEE0_1000 || f.Get16(off+c.data) != 0x38 || c.wide && f.Get32(off+8) != 1 {
				t.Errorf("address %#x %#x, data %#x", f.Get32(off+4), f.Get32(off+8), f.Get16(off+c.data))
			}
			if f.Get16(msix+2)&0x8000 != 0 {
				t.Error("MSI-X is still on")
			}
			if f.Get16(4)&0x400 == 0 {
				t.Error("the pin is still in use")
			}
			if c.maskable {
				if f.Get32(off+c.mask) != 0 {
					t.Errorf("mask is %#x", f.Get32(off+c.mask))
				}
				m.SetMask(2, true)
				m.SetMask(0, true)
				m.SetMask(0, false)
				if f.Get32(off+c.mask) != 4 {
					t.Errorf("mask is %#x, want 4", f.Get32(off+c.mask))
				}
			}
			m.Disable()
			if f.Get16(off+2)&1 != 0 {
				t.Error("still enabled")
			}
		})
	}
}

func TestMSIRefuses(t *testing.T) {
	f := nic()
	f.MSI(2, false, false)
	d, bus := one(t, f)
	m, err := d.MSI()
	if err != nil {
		t.Fatal(err)
	}
	before := len(bus.Writes)
	for want, c := range map[string]struct {
		msg msi.Message
		n   int
	}{
		"MSI: 0 messages":                {message(0), 0},
		"MSI: 3 messages":                {message(0), 3},
		"MSI: 8 messages":                {message(0), 8},
		"MSI: data 0x31 for 2 messages":  {message(1), 2},
		"MSI: data 0x10000":              {msi.Message{Addr: 0xFEE0_0000, Data: 0x10000}, 1},
		"MSI: address 0xfee00002":        {msi.Message{Addr: 0xFEE0_0002}, 1},
		"MSI: address 0x1fee00000, want": {msi.Message{Addr: 0x1_FEE0_0000}, 1},
	} {
		wantErr(t, m.Enable(c.msg, c.n), "pci: 0000:00:01.0: ", want)
	}
	if n := len(bus.Writes) - before; n != 0 {
		t.Errorf("%d writes by refused calls", n)
	}
	for _, i := range []int{0, 9} {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("SetMask without mask register: no panic")
				}
			}()
			m.SetMask(i, true)
		}()
	}
}

func TestNoMSI(t *testing.T) {
	d, _ := one(t, nic())
	if _, err := d.MSI(); !errors.Is(err, pci.ErrNoMSI) {
		t.Errorf("error %v", err)
	}
	if _, err := d.MSIX(&fakepci.Memory{}); !errors.Is(err, pci.ErrNoMSIX) {
		t.Errorf("error %v", err)
	}
}

func TestMSIGarbled(t *testing.T) {
	f := nic()
	f.Cap(1)
	f.Put(0x41, 0xF4).Put(0xF4, pci.CapMSI, 0, 0x80, 0x01) // 64 bits, maskable: 20 bytes
	d, _ := one(t, f)
	_, err := d.MSI()
	wantErr(t, err, "MSI capability at 0xf4 does not fit")
	g := nic()
	g.MSI(7, false, false)
	d, _ = one(t, g)
	_, err = d.MSI()
	wantErr(t, err, "asks for 2^7 messages")
}

// msixDevice has 40 entries at BAR 1 + 0x800, and the pending bits in BAR 4.
func msixDevice(t testing.TB) (*pci.MSIX, *fakepci.Function, *fakepci.RAM, *fakepci.RAM, uint16) {
	f := nic().Memory64(4, 1<<40, 0x1000)
	msiOff := f.MSI(0, false, false)
	f.Put(msiOff+2, 1) // firmware left MSI on
	off := f.MSIX(40, 1, 0x800, 4, 0x100)
	d, _ := one(t, f)
	m := &fakepci.Memory{}
	table := m.Add(0xFE00_0000, 0x1000)
	pba := m.Add(1<<40, 0x1000)
	x, err := d.MSIX(m)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"fe000800+280", "10000000100+8"}; !slices.Equal(m.Mapped, want) {
		t.Errorf("mappings %q, want %q", m.Mapped, want)
	}
	return x, f, table, pba, off
}

func TestMSIXEnable(t *testing.T) {
	x, f, table, _, off := msixDevice(t)
	if x.Len() != 40 {
		t.Errorf("%d entries", x.Len())
	}
	var controls []uint32
	f.OnWrite = func(o uint16, v uint32) {
		if o == off+2 {
			controls = append(controls, v&0xC000)
		}
	}
	if err := x.Enable([]msi.Message{message(0), {Addr: 0x1_FEE0_2000, Data: 0x77}}); err != nil {
		t.Fatal(err)
	}
	// Function mask on with the enable bit, off only after the table is written.
	same(t, "control writes", controls, []uint32{0xC000, 0x8000})
	entry := func(i int) [4]uint32 {
		at := 0x800 + 16*i
		var e [4]uint32
		for k := range e {
			e[k] = uint32(table.B[at+4*k]) | uint32(table.B[at+4*k+1])<<8 | uint32(table.B[at+4*k+2])<<16 | uint32(table.B[at+4*k+3])<<24
		}
		return e
	}
	same(t, "entry 0", entry(0), [4]uint32{0xFEE0_1000, 0, 0x30, 0})
	same(t, "entry 1", entry(1), [4]uint32{0xFEE0_2000, 1, 0x77, 0})
	for i := 2; i < 40; i++ {
		same(t, "unused entry", entry(i), [4]uint32{0, 0, 0, 1})
	}
	if f.Get16(0x42)&1 != 0 {
		t.Error("MSI is still on")
	}
	if f.Get16(4)&0x402 != 0x402 {
		t.Errorf("command register is %#x, want memory decode and no pin", f.Get16(4))
	}
	x.Mask(1)
	same(t, "masked", entry(1)[3], uint32(1))
	x.Set(1, message(5)) // stays masked
	same(t, "moved while masked", entry(1), [4]uint32{0xFEE0_1000, 0, 0x35, 1})
	x.Unmask(1)
	same(t, "unmasked", entry(1)[3], uint32(0))
	x.Set(1, message(6))
	same(t, "moved", entry(1), [4]uint32{0xFEE0_1000, 0, 0x36, 0})
	x.SetFunctionMask(true)
	x.SetFunctionMask(false)
	x.Disable()
	same(t, "control writes", controls, []uint32{0xC000, 0x8000, 0xC000, 0x8000, 0})
}

// order writes down loads and stores of entry 0's control register.
type order struct {
	*fakepci.RAM
	log *[]string
}

func (o order) Load32(off mmio.Off) uint32 {
	if off == 0xC {
		*o.log = append(*o.log, "R")
	}
	return o.RAM.Load32(off)
}

func (o order) Store32(off mmio.Off, v uint32) {
	if off == 0xC {
		*o.log = append(*o.log, "W")
	}
	o.RAM.Store32(off, v)
}

func (o order) Map(_ uint64, size int) (mmio.Space, error) {
	return order{&fakepci.RAM{B: make([]byte, size)}, o.log}, nil
}

// A mask is in effect when Mask returns: a read has pushed the posted write.
func TestMSIXMaskReadsBack(t *testing.T) {
	f := nic()
	f.MSIX(4, 1, 0, 1, 0x800)
	d, _ := one(t, f)
	var log []string
	x, err := d.MSIX(order{log: &log})
	if err != nil {
		t.Fatal(err)
	}
	log = nil
	x.Mask(0)
	same(t, "accesses", log, []string{"R", "W", "R"})
}

func TestMSIXPending(t *testing.T) {
	x, _, _, pba, _ := msixDevice(t)
	pba.Store32(0x100, 1<<31)
	pba.Store32(0x104, 1<<7)
	for i := range 40 {
		if got, want := x.Pending(i), i == 31 || i == 39; got != want {
			t.Errorf("entry %d pending %v, want %v", i, got, want)
		}
	}
	for _, i := range []int{-1, 40} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("entry %d: no panic", i)
				}
			}()
			x.Pending(i)
		}()
	}
}

func TestMSIXRefuses(t *testing.T) {
	x, f, _, _, off := msixDevice(t)
	wantErr(t, x.Enable(nil), "MSI-X: 0 messages, the device has 1 to 40")
	wantErr(t, x.Enable(make([]msi.Message, 41)), "MSI-X: 41 messages")
	wantErr(t, x.Enable([]msi.Message{message(0), {Addr: 0xFEE0_0001}}), "MSI-X entry 1: address 0xfee00001")
	if f.Get16(off+2)&0x8000 != 0 {
		t.Error("enabled by a refused call")
	}
}

func TestMSIXGarbled(t *testing.T) {
	m := &fakepci.Memory{}
	m.Add(0xFE00_0000, 0x1000)
	for want, f := range map[string]*fakepci.Function{
		"MSI-X table: pci: 0000:00:01.0: BAR 7":             msixAt(7, 0, 1, 0x800),
		"MSI-X table: pci: 0000:00:01.0: BAR 0: 0x0: the":   msixAt(0, 0, 1, 0x800),
		"0x40 bytes at 0xfd0 are not inside its 0x1000":     msixAt(1, 0xFD0, 1, 0x800),
		"MSI-X pending bits: pci: 0000:00:01.0: BAR 1: 0xf": msixAt(1, 0, 1, 0x1000),
		"BAR 2: 0xc000: MSI-X table in an I/O BAR":          msixAt(2, 0, 1, 0),
		"MSI-X table at 0x0 and pending bits at 0x38":       msixAt(1, 0, 1, 0x38),
	} {
		d, _ := one(t, f)
		_, err := d.MSIX(m)
		wantErr(t, err, "0000:00:01.0", want)
	}
	f := nic()
	f.Cap(1)
	f.Put(0x41, 0xF8).Put(0xF8, pci.CapMSIX, 0)
	d, _ := one(t, f)
	_, err := d.MSIX(m)
	wantErr(t, err, "MSI-X capability at 0xf8 does not fit")
}

func msixAt(tableBAR int, tableOff uint32, pbaBAR int, pbaOff uint32) *fakepci.Function {
	f := nic().IO(2, 0xC000, 0x20)
	f.MSIX(4, tableBAR, tableOff, pbaBAR, pbaOff)
	return f
}

// forgetful is a table that does not keep what is written.
type forgetful struct{ *fakepci.RAM }

func (f forgetful) Store32(mmio.Off, uint32) {}

type forgetfulMapper struct{}

func (forgetfulMapper) Map(_ uint64, size int) (mmio.Space, error) {
	return forgetful{&fakepci.RAM{B: make([]byte, size)}}, nil
}

func TestMSIXTableIsReadOnly(t *testing.T) {
	f := nic()
	off := f.MSIX(4, 1, 0, 1, 0x800)
	d, _ := one(t, f)
	x, err := d.MSIX(forgetfulMapper{})
	if err != nil {
		t.Fatal(err)
	}
	wantErr(t, x.Enable([]msi.Message{message(0)}), "MSI-X entry 0: holds address 0x0, data 0x0 after a write of 0xfee01000, 0x30")
	if f.Get16(off+2)&0x8000 != 0 {
		t.Error("still enabled")
	}
}

func TestMaskDoesNotAllocate(t *testing.T) {
	x, _, _, _, _ := msixDevice(t)
	if n := testing.AllocsPerRun(1000, func() { x.Mask(3); x.Unmask(3); x.Pending(3) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

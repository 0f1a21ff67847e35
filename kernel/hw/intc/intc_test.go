package intc

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"

	"osv/kernel/hw/acpi"
	"osv/kernel/hw/mmio"
	"osv/kernel/hw/pci/msi"
)

// fakeIOAPIC plays an I/O APIC behind its window. It forgets writes to bits that
// hardware does not keep, and writes down the others.
type fakeIOAPIC struct {
	sel     uint32
	version uint32
	table   [256]uint32
	log     []string
	quiet   bool
}

func (f *fakeIOAPIC) Load32(o mmio.Off) uint32 {
	if o != regIOWIN {
		return f.sel
	}
	switch {
	case f.sel == 1:
		return f.version
	case f.sel >= 0x10 && f.sel < 0x100:
		return f.table[f.sel]
	}
	return 0
}

func (f *fakeIOAPIC) Store32(o mmio.Off, v uint32) {
	if o == regIOREGSEL {
		f.sel = v & 0xFF
		return
	}
	if f.sel < 0x10 {
		return
	}
	if f.sel&1 == 0 {
		v &= 0x1_AFFF // delivery status and remote IRR are the chip's
	} else {
		v &= 0xFF00_0000
	}
	f.table[f.sel] = v
	if !f.quiet {
		f.log = append(f.log, fmt.Sprintf("%02x %08x", f.sel, v))
	}
}

func (f *fakeIOAPIC) Len() uint32                     { return 0x20 }
func (f *fakeIOAPIC) Load8(mmio.Off) uint8            { panic("narrow access") }
func (f *fakeIOAPIC) Load16(mmio.Off) uint16          { panic("narrow access") }
func (f *fakeIOAPIC) Store8(mmio.Off, uint8)          { panic("narrow access") }
func (f *fakeIOAPIC) Store16(mmio.Off, uint16)        { panic("narrow access") }
func (f *fakeIOAPIC) Doorbell(mmio.Off) mmio.Doorbell { panic("no doorbell") }

// chips is a Mapper of fakes by address.
type chips map[uint64]mmio.Space

func (c chips) Map(phys uint64, size int) (mmio.Space, error) {
	if s := c[phys]; s != nil {
		return s, nil
	}
	return nil, errors.New("nothing there")
}

// machine has two I/O APICs, as QEMU's microvm, and the overrides of a PC.
func machine(t testing.TB) (*Controller, *fakeIOAPIC, *fakeIOAPIC) {
	t.Helper()
	a, b := &fakeIOAPIC{version: 0x17_0020}, &fakeIOAPIC{version: 0x17_0011}
	c, err := New(chips{0xFEC0_0000: a, 0xFEC1_0000: b}, &acpi.MADT{
		IOAPICs: []acpi.IOAPIC{{ID: 0, Addr: 0xFEC0_0000}, {ID: 1, Addr: 0xFEC1_0000, GSIBase: 24}},
		Overrides: []acpi.InterruptOverride{
			{IRQ: 0, GSI: 2},
			{IRQ: 9, GSI: 9, Polarity: acpi.ActiveHigh, Trigger: acpi.Level},
			{IRQ: 10, GSI: 20, Polarity: acpi.ActiveLow},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	a.log, b.log = nil, nil
	return c, a, b
}

func TestNewMasksAllInputs(t *testing.T) {
	_, a, b := machine(t)
	for _, f := range []*fakeIOAPIC{a, b} {
		for pin := range 24 {
			if f.table[0x10+2*pin] != 1<<16 || f.table[0x11+2*pin] != 0 {
				t.Errorf("input %d: %#x %#x", pin, f.table[0x10+2*pin], f.table[0x11+2*pin])
			}
		}
		if f.table[0x10+2*24] != 0 {
			t.Error("an input beyond the last was written")
		}
	}
}

// The destination first, then the rest, and masked all the while.
func TestRouteTranscript(t *testing.T) {
	c, a, b := machine(t)
	if err := c.Route(9, Route{0x31, 3, acpi.ActiveHigh, acpi.Level}); err != nil {
		t.Fatal(err)
	}
	c.Unmask(9)
	c.Mask(9)
	if err := c.Route(47, Route{0xFE, 254, acpi.ActiveLow, acpi.Edge}); err != nil {
		t.Fatal(err)
	}
	c.Unmask(47)
	if err := c.Route(47, Route{0x40, 0, acpi.ActiveLow, acpi.Level}); err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string][2][]string{
		"first":  {a.log, {"22 00010000", "23 03000000", "22 00018031", "22 00008031", "22 00018031"}},
		"second": {b.log, {"3e 00010000", "3f fe000000", "3e 000120fe", "3e 000020fe", "3e 000120fe", "3f 00000000", "3e 0001a040"}},
	} {
		if !reflect.DeepEqual(v[0], v[1]) {
			t.Errorf("%s: writes\n got %q\nwant %q", name, v[0], v[1])
		}
	}
}

func TestRouteRefuses(t *testing.T) {
	c, a, _ := machine(t)
	good := Route{0x30, 0, acpi.ActiveHigh, acpi.Edge}
	with := func(change func(r *Route)) Route {
		r := good
		change(&r)
		return r
	}
	for want, v := range map[string]struct {
		gsi uint32
		r   Route
	}{
		"intc: GSI 48: no I/O APIC serves it, there are [0-23 24-47]": {48, good},
		"intc: GSI 4: APIC ID 255: only IDs below 255":                {4, with(func(r *Route) { r.APICID = 255 })},
		"intc: GSI 4: APIC ID 256":                                    {4, with(func(r *Route) { r.APICID = 256 })},
		"intc: GSI 4: vector 0xf is reserved":                         {4, with(func(r *Route) { r.Vector = 15 })},
		"intc: GSI 4: the polarity is not resolved":                   {4, with(func(r *Route) { r.Polarity = acpi.BusPolarity })},
		"intc: GSI 4: the trigger mode is not resolved":               {4, with(func(r *Route) { r.Trigger = acpi.BusTrigger })},
	} {
		if err := c.Route(v.gsi, v.r); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	if len(a.log) != 0 {
		t.Errorf("writes by refused calls: %q", a.log)
	}
	c.Mask(48) // of no I/O APIC: nothing to do
	c.Unmask(48)
}

func TestPin(t *testing.T) {
	c, _, _ := machine(t)
	io, pin, err := c.Pin(25)
	if err != nil || pin != 1 || io.Len() != 24 || io.Version() != 0x11 {
		t.Errorf("%v, %d, %v", io, pin, err)
	}
	for _, pin := range []int{-1, 24} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("input %d: no panic", pin)
				}
			}()
			io.SetMask(pin, true)
		}()
	}
}

func TestResolve(t *testing.T) {
	c, _, _ := machine(t)
	type how struct {
		gsi uint32
		p   acpi.Polarity
		t   acpi.Trigger
	}
	isa := func(irq uint8) how { g, p, t := c.ResolveISA(irq); return how{g, p, t} }
	sci := func(irq uint16) how { g, p, t := c.ResolveSCI(irq); return how{g, p, t} }
	pci := func(irq uint8) how {
		g, p, tr, err := c.ResolvePCI(irq)
		if err != nil {
			t.Error(err)
		}
		return how{g, p, tr}
	}
	for what, v := range map[string][2]how{
		"the timer":                      {isa(0), {2, acpi.ActiveHigh, acpi.Edge}},
		"an ISA IRQ without override":    {isa(4), {4, acpi.ActiveHigh, acpi.Edge}},
		"an ISA IRQ with all of it":      {isa(9), {9, acpi.ActiveHigh, acpi.Level}},
		"an ISA IRQ with the bus's":      {isa(10), {20, acpi.ActiveLow, acpi.Edge}},
		"the SCI with override":          {sci(9), {9, acpi.ActiveHigh, acpi.Level}},
		"the SCI without override":       {sci(7), {7, acpi.ActiveLow, acpi.Level}},
		"the SCI on a far GSI":           {sci(300), {300, acpi.ActiveLow, acpi.Level}},
		"a PCI line without override":    {pci(11), {11, acpi.ActiveLow, acpi.Level}},
		"a PCI line with override":       {pci(9), {9, acpi.ActiveHigh, acpi.Level}},
		"a PCI line with the bus's mode": {pci(10), {20, acpi.ActiveLow, acpi.Level}},
	} {
		if v[0] != v[1] {
			t.Errorf("%s: %+v, want %+v", what, v[0], v[1])
		}
	}
	for _, line := range []uint8{0, 16, 0xFF} {
		if _, _, _, err := c.ResolvePCI(line); err == nil {
			t.Errorf("PCI line %d: no error", line)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	short := shortSpace{&fakeIOAPIC{}}
	ok := func() *fakeIOAPIC { return &fakeIOAPIC{version: 0x17_0020} }
	one := []acpi.IOAPIC{{ID: 3, Addr: 0xFEC0_0000}}
	for want, v := range map[string]struct {
		m    chips
		list []acpi.IOAPIC
	}{
		"I/O APIC 3 at 0xfec00000: nothing there":                  {chips{}, one},
		"I/O APIC 3 at 0xfec00000: 16 bytes of registers, want 20": {chips{0xFEC0_0000: short}, one},
		"version register reads as 0xffffffff":                     {chips{0xFEC0_0000: &fakeIOAPIC{version: 0xFFFF_FFFF}}, one},
		"version register reads as 0x0":                            {chips{0xFEC0_0000: &fakeIOAPIC{}}, one},
		"version register 0xf80020: 249 entries, at most 120":      {chips{0xFEC0_0000: &fakeIOAPIC{version: 0xF8_0020}}, one},
		"24 inputs from GSI 4294967280 on":                         {chips{0xFEC0_0000: ok()}, []acpi.IOAPIC{{Addr: 0xFEC0_0000, GSIBase: 0xFFFF_FFF0}}},
		"I/O APICs for GSIs 0-23 and 23-46 overlap":                {chips{0xFEC0_0000: ok(), 0xFEC1_0000: ok()}, []acpi.IOAPIC{{Addr: 0xFEC0_0000}, {Addr: 0xFEC1_0000, GSIBase: 23}}},
	} {
		if _, err := New(v.m, &acpi.MADT{IOAPICs: v.list}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

// shortSpace is a window too small for the two registers.
type shortSpace struct{ *fakeIOAPIC }

func (shortSpace) Len() uint32 { return 16 }

// SDM vol. 3A §11.11.1 and §11.11.2.
func TestMessage(t *testing.T) {
	for _, v := range []struct {
		id     uint32
		vector uint8
		want   msi.Message
	}{
		{0, 0x30, msi.Message{Addr: 0xFEE0_0000, Data: 0x30}},
		{1, 0xFF, msi.Message{Addr: 0xFEE0_1000, Data: 0xFF}},
		{254, 0x10, msi.Message{Addr: 0xFEEF_E000, Data: 0x10}},
	} {
		if got, err := Message(v.id, v.vector); err != nil || got != v.want {
			t.Errorf("CPU %d, vector %#x: %+v, %v, want %+v", v.id, v.vector, got, err, v.want)
		}
	}
	for _, v := range []struct {
		id     uint32
		vector uint8
	}{{255, 0x30}, {256, 0x30}, {0, 15}} {
		if got, err := Message(v.id, v.vector); err == nil {
			t.Errorf("CPU %d, vector %#x: %+v, want an error", v.id, v.vector, got)
		}
	}
}

// Index and window belong together: under -race and by its outcome this sees an
// access without the lock.
func TestConcurrentMasking(t *testing.T) {
	c, a, _ := machine(t)
	a.quiet = true
	var wg sync.WaitGroup
	for gsi := range uint32(8) {
		if err := c.Route(gsi, Route{uint8(0x30 + gsi), gsi, acpi.ActiveHigh, acpi.Edge}); err != nil {
			t.Fatal(err)
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range 200 {
				c.Mask(gsi)
				c.Unmask(gsi)
			}
		}()
	}
	wg.Wait()
	for gsi := range uint32(8) {
		if lo, hi := a.table[0x10+2*gsi], a.table[0x11+2*gsi]; lo != 0x30+gsi || hi != gsi<<24 {
			t.Errorf("GSI %d: entry %#x %#x", gsi, hi, lo)
		}
	}
}

func TestConcurrentWindow(t *testing.T) {
	w, err := NewWindow(&fakeIOAPIC{version: 0x17_0020, quiet: true})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range uint8(4) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for n := range uint32(200) {
				w.Write(0x10+2*i, n)
				if got := w.Read(0x10 + 2*i); got != n {
					t.Errorf("register %#x: %#x, want %#x", 0x10+2*i, got, n)
				}
			}
		}()
	}
	wg.Wait()
}

func TestMaskDoesNotAllocate(t *testing.T) {
	c, a, _ := machine(t)
	a.quiet = true
	if n := testing.AllocsPerRun(1000, func() { c.Mask(3); c.Unmask(3) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

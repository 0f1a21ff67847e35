package fakepci

import (
	"strings"
	"testing"

	"osv/kernel/hw/pci"
)

var a10 = pci.Addr{Device: 1}

// A BAR reads as its size mask after a write of all ones, and the fake notices
// when its decoder was on.
func TestBARBehavesLikeHardware(t *testing.T) {
	b := New()
	f := b.Add(a10, NewDevice(1, 2, 0x020000).Memory32(0, 0xFE00_0000, 0x1000).IO(1, 0xC000, 0x20))
	for off, want := range map[uint16]uint32{0x10: 0xFFFF_F000, 0x14: 0xFFE1} {
		b.Write32(a10, off, 0xFFFF_FFFF)
		if got := b.Read32(a10, off); got != want {
			t.Errorf("BAR at %#x reads %#x, want %#x", off, got, want)
		}
	}
	if len(b.Violations) != 0 {
		t.Errorf("violations %q", b.Violations)
	}
	b.Write16(a10, 4, 3)
	b.Write32(a10, 0x10, 0)
	b.Write32(a10, 0x14, 0)
	if len(b.Violations) != 2 || !strings.Contains(b.Violations[0], "memory") || !strings.Contains(b.Violations[1], "I/O") {
		t.Errorf("violations %q", b.Violations)
	}
	if b.Write16(a10, 0, 0x5555); f.Get16(0) != 1 {
		t.Error("the vendor ID was written")
	}
}

func TestWhatIsNotThereReadsAllOnes(t *testing.T) {
	b := New()
	f := b.Add(a10, NewDevice(1, 2, 0))
	f.GoneAfter = 1
	if b.Read16(a10, 0) != 1 || b.Read16(a10, 0) != 0xFFFF || b.Read8(a10, 0) != 0xFF || b.Read32(pci.Addr{}, 0) != 0xFFFF_FFFF {
		t.Error("a function that is gone still answers")
	}
	b.Write8(a10, 4, 7)
	if f.Get16(4) != 0 {
		t.Error("a function that is gone was written")
	}
}

func TestLoadRefuses(t *testing.T) {
	for in, want := range map[string]string{
		"000: 00":                  "line 1",
		"0000:00:01.0 x":           "x",
		"0000:00:01.0 0=rom:10":    `kind "rom"`,
		"0000:00:zz.0":             "zz",
		"\n0000:00:01.0\nxyz: 00":  "line 3",
		"0000:00:01.0\n000: 0":     "line 2",
		"0000:00:01.0\nfff: 00 00": "beyond 0x1000",
	} {
		if _, err := Load(strings.NewReader(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", in, err, want)
		}
	}
}

func TestLoad(t *testing.T) {
	b, err := Load(strings.NewReader("# comment\n0000:00:01.0 0=io:20 1=mem:1000 2=mem64:2000 conventional\n" +
		"000: 34 12 78 56 00 00 10 00\n030: 00 00 00 00 40\n040: 05 50 80\n050: 11 00 03 80\n"))
	if err != nil {
		t.Fatal(err)
	}
	f := b.At(a10)
	if f.Get32(0) != 0x5678_1234 || f.Get32(0x100) != 0xFFFF_FFFF || f.Get32(0xFFC) != 0xFFFF_FFFF || f.Get32(0xFC) != 0 {
		t.Error("what was loaded is not there")
	}
	b.Write16(a10, 0x42, 0xFFFF)
	b.Write16(a10, 0x52, 0)
	if f.Get16(0x42) != 0x00F1 || f.Get16(0x52) != 3 {
		t.Errorf("MSI control %#x, MSI-X control %#x", f.Get16(0x42), f.Get16(0x52))
	}
}

func TestMemory(t *testing.T) {
	m := &Memory{}
	m.Add(0x1000, 0x100)
	m.AddPorts(0x60, 8)
	s, err := m.Map(0x1010, 0x10)
	if err != nil {
		t.Fatal(err)
	}
	s.Store8(0, 1)
	s.Store16(2, 0x0302)
	s.Doorbell(4).Ring32(0x0706_0504)
	s.Doorbell(8).Ring16(0x0908)
	whole, err := m.Map(0x1000, 0x100)
	if err != nil {
		t.Fatal(err)
	}
	if whole.Load8(0x10) != 1 || whole.Load16(0x12) != 0x0302 || whole.Load32(0x14) != 0x0706_0504 || whole.Load16(0x18) != 0x0908 {
		t.Error("two mappings of the same memory differ")
	}
	for _, err := range []error{
		second(m.Map(0xFFF, 1)), second(m.Map(0x10FF, 2)), second(m.Map(0x1101, 1)), second(m.MapPorts(0x64, 5)),
	} {
		if err == nil {
			t.Error("a mapping beyond memory")
		}
	}
	if s, err := m.MapPorts(0x64, 4); err != nil || s.Len() != 4 {
		t.Errorf("ports: %v", err)
	}
}

func second(_ any, err error) error { return err }

func TestSpaces(t *testing.T) {
	b := New()
	f := b.Add(a10, NewDevice(1, 2, 0))
	e := &ECAM{Bus: b, Base: 1 << 20}
	s, err := e.Map(1<<20, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Map(1<<19, 1<<20); err == nil {
		t.Error("ECAM below its base")
	}
	if s.Load16(1<<15) != 1 || s.Load8(1<<15+2) != 2 || s.Load32(0) != 0xFFFF_FFFF {
		t.Error("ECAM does not show the function")
	}
	s.Store8(1<<15+4, 1)
	s.Store16(1<<15+4, 2)
	s.Store32(1<<15+4, 4)
	if f.Get16(4) != 4 || len(b.Writes) != 3 {
		t.Errorf("writes %q", b.Writes)
	}
	p := &Ports{Bus: b}
	if p.Load32(4) != 0xFFFF_FFFF || p.Load16(4) != 0xFFFF || p.Load8(4) != 0xFF {
		t.Error("data without an address")
	}
	p.Store8(4, 1)
	p.Store32(4, 1)
	p.Store16(4, 1)
	p.Store32(0, 1<<31|1<<11)
	if p.Load32(0) != 1<<31|1<<11 || p.Load16(6) != 2 || p.Load8(4) != 1 || p.Load32(4) != 0x0002_0001 {
		t.Error("the ports do not show the function")
	}
	if len(b.Writes) != 3 {
		t.Errorf("writes without an address: %q", b.Writes)
	}
	for _, bad := range []func(){
		func() { s.Load32(1<<20 - 2) }, func() { s.Doorbell(0) }, func() { p.Doorbell(0) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			bad()
		}()
	}
}

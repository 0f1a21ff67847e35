package pci_test

import (
	"errors"
	"strings"
	"testing"

	"osv/kernel/hw/acpi"
	"osv/kernel/hw/mmio"
	"osv/kernel/hw/pci"
	"osv/kernel/ktest/fakepci"
)

// The same machine looks the same through either mechanism, but for what lies
// beyond the first 256 bytes.
func TestMechanismsAgree(t *testing.T) {
	bus := load(t, "q35.pci")
	ecam, err := pci.NewECAM(&fakepci.ECAM{Bus: bus, Base: 0xB000_0000}, []pci.Region{{Base: 0xB000_0000, EndBus: 255}})
	if err != nil {
		t.Fatal(err)
	}
	ports, err := pci.NewPortConfig(&fakepci.Ports{Bus: bus})
	if err != nil {
		t.Fatal(err)
	}
	for _, cfg := range []pci.Config{ecam, ports} {
		for _, a := range []pci.Addr{at(0, 1, 0), at(1, 0, 0), at(0, 31, 3), at(0, 9, 0), at(9, 0, 0)} {
			for off := uint16(0); off < 256; off++ {
				if got, want := cfg.Read8(a, off), bus.Read8(a, off); got != want {
					t.Errorf("%T: %v at %#x: byte %#x, want %#x", cfg, a, off, got, want)
				}
				if off%2 == 0 && cfg.Read16(a, off) != bus.Read16(a, off) {
					t.Errorf("%T: %v at %#x: 16 bits differ", cfg, a, off)
				}
				if off%4 == 0 && cfg.Read32(a, off) != bus.Read32(a, off) {
					t.Errorf("%T: %v at %#x: 32 bits differ", cfg, a, off)
				}
			}
		}
		before := len(bus.Writes)
		cfg.Write8(at(0, 1, 0), 0x3D, 0x12)
		cfg.Write16(at(1, 0, 0), 0x06, 0x3456)
		cfg.Write32(at(0, 31, 3), 0x10, 0x789A_BCDE)
		same(t, "writes", bus.Writes[before:], []string{
			"0000:00:01.0 W8 03d 12", "0000:01:00.0 W16 006 3456", "0000:00:1f.3 W32 010 789abcde",
		})
	}
	if got := ecam.Read32(at(0, 2, 0), 0x100); got != 0x1482_0001 {
		t.Errorf("ECAM: extended capability is %#x, want 0x14820001", got)
	}
	if got := ports.Read32(at(0, 2, 0), 0x100); got != 0xFFFF_FFFF {
		t.Errorf("ports: extended configuration reads %#x, want all ones", got)
	}
	if ecam.Err() != nil {
		t.Error(ecam.Err())
	}
}

// What cannot be reached reads as all ones, and writes to it are lost.
func TestOutOfReach(t *testing.T) {
	bus := fakepci.New()
	for i := range 256 {
		bus.Add(at(uint8(i), 0, 0), nic())
	}
	ecam, err := pci.NewECAM(&fakepci.ECAM{Bus: bus, Base: 0xB000_0000}, []pci.Region{{Base: 0xB000_0000, StartBus: 2, EndBus: 4}})
	if err != nil {
		t.Fatal(err)
	}
	ports, err := pci.NewPortConfig(&fakepci.Ports{Bus: bus})
	if err != nil {
		t.Fatal(err)
	}
	seg1 := pci.Addr{Segment: 1, Bus: 2}
	for _, c := range []struct {
		cfg pci.Config
		a   pci.Addr
		off uint16
	}{
		{ecam, at(1, 0, 0), 0}, {ecam, at(5, 0, 0), 0}, {ecam, seg1, 0},
		{ports, seg1, 0}, {ports, at(0, 0, 0), 0x100},
	} {
		if c.cfg.Read8(c.a, c.off) != 0xFF || c.cfg.Read16(c.a, c.off) != 0xFFFF || c.cfg.Read32(c.a, c.off) != 0xFFFF_FFFF {
			t.Errorf("%T: %v at %#x: not all ones", c.cfg, c.a, c.off)
		}
		before := len(bus.Writes)
		c.cfg.Write8(c.a, c.off, 0)
		c.cfg.Write16(c.a, c.off, 0)
		c.cfg.Write32(c.a, c.off, 0)
		if n := len(bus.Writes) - before; n != 0 {
			t.Errorf("%T: %v at %#x: %d writes arrived", c.cfg, c.a, c.off, n)
		}
	}
	if ecam.Read16(at(4, 0, 0), 0) != 0x1AF4 || ports.Read16(at(4, 0, 0), 0) != 0x1AF4 {
		t.Error("a bus within reach is not there")
	}
}

func TestECAMMapsBusesOnce(t *testing.T) {
	m := &fakepci.ECAM{Bus: load(t, "q35.pci"), Base: 0xB000_0000}
	ecam, err := pci.NewECAM(m, []pci.Region{{Base: 0xB000_0000, EndBus: 255}})
	if err != nil {
		t.Fatal(err)
	}
	if m.Mapped != 0 {
		t.Errorf("%d buses mapped before they are used", m.Mapped)
	}
	pci.Scan(ecam, pci.Options{})
	if m.Mapped != 2 {
		t.Errorf("%d mappings for 2 buses", m.Mapped)
	}
}

type failMapper struct{ short bool }

func (f failMapper) Map(uint64, int) (mmio.Space, error) {
	if f.short {
		return &fakepci.RAM{B: make([]byte, 16)}, nil
	}
	return nil, errors.New("out of address space")
}

// A bus that cannot be mapped has no functions, and the reason is kept.
func TestECAMMappingFails(t *testing.T) {
	for _, m := range []failMapper{{false}, {true}} {
		ecam, err := pci.NewECAM(m, []pci.Region{{Base: 0xB000_0000, EndBus: 255}})
		if err != nil {
			t.Fatal(err)
		}
		if r := pci.Scan(ecam, pci.Options{}); len(r.Devices) != 0 {
			t.Errorf("devices %v", r.Devices)
		}
		if err := ecam.Err(); err == nil || !strings.Contains(err.Error(), "segment 0 bus 0 at 0xb0000000") {
			t.Errorf("error %v", err)
		}
	}
}

func TestBadRegions(t *testing.T) {
	for _, r := range []pci.Region{{Base: 0}, {Base: 0xB000_1000}, {Base: 0xB000_0000, StartBus: 2, EndBus: 1}} {
		if _, err := pci.NewECAM(nil, []pci.Region{r}); err == nil {
			t.Errorf("%+v: no error", r)
		}
	}
}

// On a machine without configuration ports nothing answers there.
func TestNoConfigPorts(t *testing.T) {
	if _, err := pci.NewPortConfig(&fakepci.Ports{Absent: true}); err == nil {
		t.Error("no error where nothing answers")
	}
	if _, err := pci.NewPortConfig(&fakepci.RAM{B: make([]byte, 4)}); err == nil {
		t.Error("no error with 4 ports")
	}
}

func TestAccessThatIsNoneOfConfigPanics(t *testing.T) {
	bus := fakepci.New()
	ports, _ := pci.NewPortConfig(&fakepci.Ports{Bus: bus})
	ecam, _ := pci.NewECAM(&fakepci.ECAM{Bus: bus, Base: 1 << 20}, []pci.Region{{Base: 1 << 20, EndBus: 1}})
	for _, cfg := range []pci.Config{ports, ecam} {
		for name, f := range map[string]func(){
			"odd 16":   func() { cfg.Read16(at(0, 0, 0), 1) },
			"odd 32":   func() { cfg.Write32(at(0, 0, 0), 2, 0) },
			"beyond":   func() { cfg.Read8(at(0, 0, 0), 0x1000) },
			"device":   func() { cfg.Read8(at(0, 32, 0), 0) },
			"function": func() { cfg.Read8(at(0, 0, 8), 0) },
		} {
			func() {
				defer func() {
					if recover() == nil {
						t.Errorf("%T: %s: no panic", cfg, name)
					}
				}()
				f()
			}()
		}
	}
}

// What ACPI says converts to what is wanted here.
var _ = pci.Region(acpi.ECAM{})

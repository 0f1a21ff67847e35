package acpi

import (
	"os"
	"path/filepath"
	"testing"
)

// seedTables calls add with each captured table.
func seedTables(f *testing.F, add func(name string, b []byte)) {
	files, err := filepath.Glob("testdata/*/*.aml")
	if err != nil || len(files) == 0 {
		f.Fatalf("no captured tables: %v", err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		add(filepath.Base(name), b)
	}
}

// flat is memory that starts at base.
type flat struct {
	base uint64
	b    []byte
}

func (m flat) Bytes(phys uint64, n int) ([]byte, error) {
	return image{m.base: m.b}.Bytes(phys, n)
}

// FuzzDiscover takes the bytes for the BIOS area, with and without a given RSDP.
func FuzzDiscover(f *testing.F) {
	for _, name := range []string{"microvm", "q35"} {
		mem, rsdp := loadMachine(f, name)
		// The part that holds the tables, so that mutations hit them.
		first := rsdp &^ 0xFFF
		if name == "microvm" {
			first = 0xEF000
		}
		f.Add(mem[biosAreaAddr][first-biosAreaAddr:rsdp-biosAreaAddr+64], uint32(first), uint32(rsdp))
	}
	f.Fuzz(func(t *testing.T, b []byte, base, rsdp uint32) {
		checkTables(t, flat{uint64(base), b}, uint64(rsdp))
		area := make([]byte, biosAreaLen)
		copy(area[min(uint64(base)&0x1FFF0, biosAreaLen):], b)
		checkTables(t, flat{biosAreaAddr, area}, 0)
	})
}

// FuzzTable gives one table a right length and checksum, so that its parser
// sees whatever else is in it, as part of a sound machine.
func FuzzTable(f *testing.F) {
	seedTables(f, func(_ string, b []byte) { f.Add(b) })
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < headerLen {
			return
		}
		b = sealed(append([]byte{}, b...))
		ParseMADT(b)
		ParseFADT(b)
		ParseMCFG(b)
		ParseHPET(b)
		dsdt := append([]byte{}, b...)
		copy(dsdt, "DSDT")
		mem, at := machine(goodMADT(), b, goodFADT(0x20_0000))
		mem[0x20_0000] = sealed(dsdt)
		checkTables(t, mem, at)
	})
}

// FuzzRSDP also gives the checksums.
func FuzzRSDP(f *testing.F) {
	seedTables(f, func(name string, b []byte) {
		if name == "RSDP.aml" {
			f.Add(b)
		}
	})
	f.Fuzz(func(t *testing.T, b []byte) {
		ParseRSDP(b)
		if len(b) >= rsdpV1Len {
			ParseRSDP(sealRSDP(append([]byte{}, b...)))
		}
	})
}

// FuzzAML scans the bytes as the body of a DSDT and as resource template.
func FuzzAML(f *testing.F) {
	seedTables(f, func(name string, b []byte) {
		if name == "DSDT.aml" {
			f.Add(b[headerLen:])
		}
	})
	f.Add(amlScope("_SB_", amlDevice("V000", virtioHID, virtioCRS), garbage))
	f.Fuzz(func(t *testing.T, b []byte) {
		checkSound(t, scanned(b))
		parseResources(b)
	})
}

// checkTables runs Discover and checks what its callers rely on.
func checkTables(t *testing.T, mem Memory, rsdp uint64) {
	tables, err := Discover(mem, rsdp)
	if err != nil {
		return
	}
	if tables.MADT == nil {
		t.Fatal("no error and no MADT")
	}
	checkSound(t, tables)
}

func checkSound(t *testing.T, tables *Tables) {
	inside := func(what string, base, size uint64) {
		if size == 0 || base+size-1 < base {
			t.Fatalf("%s: %#x bytes at %#x", what, size, base)
		}
	}
	for _, v := range tables.VirtioMMIO {
		inside(v.Path, v.Base, v.Size)
	}
	for _, h := range tables.HostBridges {
		for _, w := range h.Windows {
			inside(h.Path, w.Base, w.Size)
		}
	}
	for _, e := range tables.ECAMs() {
		inside("ECAM", e.Base+uint64(e.StartBus)<<20, (uint64(e.EndBus)-uint64(e.StartBus)+1)<<20)
	}
	if s := tables.S5; s != nil && (s.A > 7 || s.B > 7) {
		t.Fatalf("S5 %v", *s)
	}
	tables.PowerOff()
	tables.ResetWrite()
}

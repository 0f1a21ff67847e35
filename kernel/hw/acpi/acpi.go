// Package acpi reads the firmware tables that describe the machine: where the
// CPUs and interrupt controllers are, how PCI is reached, which registers power
// the machine off, and which devices exist that no bus can be asked for.
//
// Spec: ACPI 6.5 (UEFI Forum, August 2022): §5.2.5 RSDP, §5.2.6 header, §5.2.7
// RSDT, §5.2.8 XSDT, §5.2.9 FADT, §5.2.12 MADT, §6.4 resource data, §20 AML
// encoding. PCI Firmware 3.3 §4.1.2 (MCFG); IA-PC HPET 1.0a §3.2.4 (HPET).
// Not covered: an AML interpreter. The DSDT and SSDTs are only scanned for
// constant objects (see aml.go), so nothing that a control method computes is
// known: no _PRT, no _CRS or _STA that is more than a constant.
//
// Who may use it: kernel/platform, and kernel/hw/intc for the MADT. Everything
// here is a pure function of bytes; physical memory is reached through Memory.
// It may not touch a register: what to write in order to power off is returned
// as data (power.go).
//
// Table contents are not trusted: no input panics, reads outside the bytes
// given, or takes more than linear time.
//
// Start reading at Discover. Tests run on tables captured from QEMU, see
// testdata/README.md.
package acpi

import (
	"errors"
	"fmt"
)

// Memory reaches physical memory.
type Memory interface {
	// Bytes returns the n bytes at physical address phys, valid and unchanged
	// for as long as the caller of Discover runs. It returns an error, and does
	// not fault, where there is no such memory.
	Bytes(phys uint64, n int) ([]byte, error)
}

// Tables is what the firmware says about the machine.
type Tables struct {
	RSDP RSDP
	// Present lists the tables found, the DSDT included, in the order they
	// were met.
	Present []TableRef

	MADT *MADT  // never nil
	FADT *FADT  // nil where absent or garbled
	MCFG []ECAM // nil where absent or garbled: PCI then has ports 0xCF8/0xCFC only
	HPET *HPET  // nil where absent or garbled

	// From the scan of DSDT and SSDTs.
	S5          *SleepType   // nil: no constant \_S5_, so no soft-off
	VirtioMMIO  []VirtioMMIO // devices with _HID LNRO0005
	GED         *GED         // generic event device, ACPI0013; nil where absent
	HostBridges []HostBridge // PNP0A03 and PNP0A08

	// Warnings says which optional tables or objects were left out, and why.
	Warnings []Warning
}

// TableRef is a table that was found.
type TableRef struct {
	Signature string
	Addr      uint64
	Length    uint32 // bytes
}

// Warning is a table or object that was left out.
type Warning struct {
	Table   string // signature, or "table" where that could not be read
	Addr    uint64 // physical address of the table
	Problem string
}

func (w Warning) String() string {
	return fmt.Sprintf("acpi: %s at %#x: %s", w.Table, w.Addr, w.Problem)
}

// ErrNoMADT says that the tables are sound but hold no MADT, without which the
// CPUs are not known.
var ErrNoMADT = errors.New("acpi: no MADT (signature APIC)")

// maxTables bounds how many tables are looked at: real machines have under 100.
const maxTables = 1024

// Discover reads the tables. rsdp is the physical address of the RSDP as the
// boot protocol gave it, or 0 to search the BIOS areas for it.
//
// A garbled RSDP, RSDT, XSDT or MADT is an error, as is a missing one
// (ErrNoRSDP, ErrNoMADT). Any other garbled table is left out with a Warning.
func Discover(mem Memory, rsdp uint64) (*Tables, error) {
	if rsdp == 0 {
		var err error
		if rsdp, err = FindRSDP(mem); err != nil {
			return nil, err
		}
	}
	root, err := readRSDP(mem, rsdp)
	if err != nil {
		return nil, err
	}
	d := discovery{mem: mem, t: &Tables{RSDP: root}, aml: newNamespace()}
	addrs, err := d.rootEntries()
	if err != nil {
		return nil, err
	}
	for _, addr := range addrs {
		if err := d.table(addr); err != nil {
			return nil, err
		}
	}
	if d.t.MADT == nil {
		return nil, fmt.Errorf("%w among %d tables", ErrNoMADT, len(addrs))
	}
	d.scanAML()
	return d.t, nil
}

// discovery is one run of Discover.
type discovery struct {
	mem   Memory
	t     *Tables
	ssdts []uint64
	aml   *namespace
}

func (d *discovery) warn(table string, addr uint64, err error) {
	d.t.Warnings = append(d.t.Warnings, Warning{table, addr, err.Error()})
}

// rootEntries returns the addresses in the XSDT, or in the RSDT where there is
// no XSDT (§5.2.8: an OS that knows the XSDT uses it).
func (d *discovery) rootEntries() ([]uint64, error) {
	sig, addr, width := "XSDT", d.t.RSDP.XSDT, 8
	if addr == 0 {
		sig, addr, width = "RSDT", uint64(d.t.RSDP.RSDT), 4
	}
	b, err := readTable(d.mem, addr)
	if err != nil {
		return nil, fmt.Errorf("acpi: %s at %#x: %w", sig, addr, err)
	}
	if got := signature(b); got != sig {
		return nil, fmt.Errorf("acpi: %s at %#x: signature is %q", sig, addr, got)
	}
	body := b[headerLen:]
	if len(body)%width != 0 {
		return nil, fmt.Errorf("acpi: %s at %#x: %d bytes of entries are not a multiple of %d", sig, addr, len(body), width)
	}
	n := len(body) / width
	if n > maxTables {
		return nil, fmt.Errorf("acpi: %s at %#x: %d entries, more than %d", sig, addr, n, maxTables)
	}
	addrs := make([]uint64, n)
	for i := range addrs {
		if width == 8 {
			addrs[i] = le64(body, i*8)
		} else {
			addrs[i] = uint64(le32(body, i*4))
		}
	}
	return addrs, nil
}

// table reads the table at addr into d.t. It returns an error only where the
// machine cannot be understood without that table.
func (d *discovery) table(addr uint64) error {
	sig, err := peekSignature(d.mem, addr)
	if err != nil {
		d.warn("table", addr, err)
		return nil
	}
	b, err := readTable(d.mem, addr)
	if err == nil {
		d.t.Present = append(d.t.Present, TableRef{sig, addr, uint32(len(b))})
	}
	switch sig {
	case "APIC":
		if d.t.MADT != nil {
			d.warn(sig, addr, errors.New("a second MADT; the first one counts"))
			return nil
		}
		if err == nil {
			d.t.MADT, err = ParseMADT(b)
		}
		if err != nil {
			return fmt.Errorf("acpi: %s at %#x: %w", sig, addr, err)
		}
	case "FACP":
		if err == nil && d.t.FADT == nil {
			d.t.FADT, err = ParseFADT(b)
		}
	case "MCFG":
		if err == nil && d.t.MCFG == nil {
			d.t.MCFG, err = ParseMCFG(b)
		}
	case "HPET":
		if err == nil && d.t.HPET == nil {
			d.t.HPET, err = ParseHPET(b)
		}
	case "SSDT":
		if err == nil {
			d.ssdts = append(d.ssdts, addr)
		}
	}
	if err != nil {
		d.warn(sig, addr, err)
	}
	return nil
}

// scanAML walks the DSDT, then the SSDTs, and fills in what they describe.
func (d *discovery) scanAML() {
	if f := d.t.FADT; f != nil && f.DSDT != 0 {
		b, err := readTable(d.mem, f.DSDT)
		if err == nil && signature(b) != "DSDT" {
			err = fmt.Errorf("signature is %q", signature(b))
		}
		if err != nil {
			d.warn("DSDT", f.DSDT, err)
		} else {
			d.t.Present = append(d.t.Present, TableRef{"DSDT", f.DSDT, uint32(len(b))})
			d.scanTable("DSDT", f.DSDT, b)
		}
	}
	for _, addr := range d.ssdts {
		b, err := readTable(d.mem, addr)
		if err != nil {
			d.warn("SSDT", addr, err)
			continue
		}
		d.scanTable("SSDT", addr, b)
	}
	d.t.S5 = d.aml.s5
	for _, p := range d.aml.resolve(d.t) {
		d.t.Warnings = append(d.t.Warnings, p)
	}
}

func (d *discovery) scanTable(sig string, addr uint64, b []byte) {
	d.aml.table, d.aml.addr = sig, addr
	d.aml.scan(b[headerLen:])
	for _, p := range d.aml.takeProblems() {
		d.warn(sig, addr, p)
	}
}

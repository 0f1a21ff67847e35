package acpi

import (
	"reflect"
	"testing"
)

// cpus is what the captured machines have in common: two CPUs, NMI on LINT1.
var (
	twoCPUs = []LocalAPIC{{UID: 0, APICID: 0, Enabled: true}, {UID: 1, APICID: 1, Enabled: true}}
	nmis    = []LocalNMI{{UID: AllProcessors, LINT: 1}}
	pcMADT  = &MADT{
		LocalAPICAddr: 0xFEE0_0000, PCATCompat: true, LocalAPICs: twoCPUs, LocalNMIs: nmis,
		IOAPICs: []IOAPIC{{ID: 0, Addr: 0xFEC0_0000}},
		Overrides: []InterruptOverride{
			{IRQ: 0, GSI: 2},
			{IRQ: 5, GSI: 5, Polarity: ActiveHigh, Trigger: Level},
			{IRQ: 9, GSI: 9, Polarity: ActiveHigh, Trigger: Level},
			{IRQ: 10, GSI: 10, Polarity: ActiveHigh, Trigger: Level},
			{IRQ: 11, GSI: 11, Polarity: ActiveHigh, Trigger: Level},
		},
	}
	microvmMADT = &MADT{
		LocalAPICAddr: 0xFEE0_0000, PCATCompat: true, LocalAPICs: twoCPUs, LocalNMIs: nmis,
		IOAPICs: []IOAPIC{{ID: 0, Addr: 0xFEC0_0000}, {ID: 1, Addr: 0xFEC1_0000, GSIBase: 24}},
	}
	qemuHPET = &HPET{
		Regs: GAS{Addr: 0xFED0_0000}, HardwareRev: 1, Comparators: 3, Counter64: true,
		LegacyRoute: true, VendorID: 0x8086,
	}
	microvmFADT = &FADT{
		Revision: 5, Flags: FlagResetReg | FlagHardwareReduced, ResetValue: 0x42,
		Reset:        GAS{SystemMemory, 8, 0, 0, 0xFEA0_0202},
		SleepControl: GAS{SystemMemory, 8, 0, 0, 0xFEA0_0200},
		SleepStatus:  GAS{SystemMemory, 8, 0, 0, 0xFEA0_0201},
	}
)

// window makes a Window of its first and last address.
func window(k WindowKind, first, last uint64) Window {
	return Window{Kind: k, Base: first, Size: last - first + 1}
}

func discover(t *testing.T, name string, rsdp bool) *Tables {
	t.Helper()
	mem, addr := loadMachine(t, name)
	if !rsdp {
		addr = 0
	}
	tables, err := Discover(mem, addr)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range tables.Warnings {
		t.Errorf("warning on a sound machine: %v", w)
	}
	return tables
}

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s:\n got %+v\nwant %+v", what, got, want)
	}
}

func TestDiscoverQ35(t *testing.T) {
	for _, given := range []bool{true, false} {
		got := discover(t, "q35", given)
		same(t, "RSDP", got.RSDP, RSDP{Addr: 0xF59C0, OEMID: "BOCHS", RSDT: 0x3FE236A})
		same(t, "MADT", got.MADT, pcMADT)
		same(t, "FADT", got.FADT, &FADT{
			Revision: 3, SCI: 9, SMICommand: 0xB2, ACPIEnable: 2, ACPIDisable: 3,
			Flags: 0x84A5, BootArch: Boot8042, Century: 0x32, PM1EventLen: 4, GPE0Len: 16,
			PM1aEvent: GAS{SystemIO, 32, 0, 0, 0x600}, PM1aControl: GAS{SystemIO, 16, 0, 0, 0x604},
			PMTimer: GAS{SystemIO, 32, 0, 0, 0x608}, GPE0: GAS{SystemIO, 128, 0, 0, 0x620},
			Reset: GAS{SystemIO, 8, 0, 0, 0xCF9}, ResetValue: 0xF, DSDT: 0x3FE0040,
		})
		same(t, "MCFG", got.MCFG, []ECAM{{Base: 0xB000_0000, EndBus: 255}})
		same(t, "ECAMs", got.ECAMs(), got.MCFG)
		same(t, "HPET", got.HPET, qemuHPET)
		same(t, "S5", got.S5, &SleepType{0, 0})
		same(t, "host bridges", got.HostBridges, []HostBridge{{
			Path: `\_SB.PCI0`, Express: true, Windows: []Window{
				window(WindowBus, 0, 0xFF), window(WindowIO, 0, 0xCF7), window(WindowIO, 0xD00, 0xFFFF),
				window(WindowMemory, 0xA0000, 0xBFFFF), window(WindowMemory, 0x400_0000, 0xAFFF_FFFF),
				window(WindowMemory, 0xC000_0000, 0xFEBF_FFFF), window(WindowMemory, 1<<32, 0x8_FFFF_FFFF),
			},
		}})
		if len(got.VirtioMMIO) != 0 || got.GED != nil {
			t.Errorf("virtio-mmio %v and GED %v, want none", got.VirtioMMIO, got.GED)
		}
		same(t, "tables", got.Present, []TableRef{
			{"FACP", 0x3FE215A, 244}, {"APIC", 0x3FE224E, 128}, {"HPET", 0x3FE22CE, 56},
			{"MCFG", 0x3FE2306, 60}, {"WAET", 0x3FE2342, 40}, {"DSDT", 0x3FE0040, 8474},
		})
	}
}

func TestDiscoverPC(t *testing.T) {
	got := discover(t, "pc", false)
	same(t, "MADT", got.MADT, pcMADT)
	same(t, "HPET", got.HPET, qemuHPET)
	same(t, "S5", got.S5, &SleepType{0, 0})
	if got.MCFG != nil || got.ECAMs() != nil {
		t.Errorf("ECAM %v, want none", got.ECAMs())
	}
	f := got.FADT
	if f.Revision != 1 || f.Reset.Valid() || f.SMICommand != 0xB2 || f.ACPIEnable != 0xF1 {
		t.Errorf("FADT %+v, want revision 1 without reset register", f)
	}
	if hb := got.HostBridges; len(hb) != 1 || hb[0].Express || hb[0].Path != `\_SB.PCI0` || len(hb[0].Windows) != 6 {
		t.Errorf("host bridges %+v", hb)
	}
}

func TestDiscoverMicroVM(t *testing.T) {
	got := discover(t, "microvm", false)
	same(t, "RSDP", got.RSDP, RSDP{Addr: 0xF3490, Revision: 2, OEMID: "BOCHS", XSDT: 0xEFF8E})
	same(t, "MADT", got.MADT, microvmMADT)
	fadt := *microvmFADT
	fadt.DSDT = 0xEFC40
	same(t, "FADT", got.FADT, &fadt)
	same(t, "S5", got.S5, &SleepType{A: 5})
	high := func(gsi uint32, tr Trigger) Interrupt {
		return Interrupt{GSI: gsi, Trigger: tr, Polarity: ActiveHigh}
	}
	same(t, "virtio-mmio", got.VirtioMMIO, []VirtioMMIO{
		{Path: `\_SB.VR23`, UID: 23, Base: 0xFEB0_2E00, Size: 0x200, Interrupt: high(47, Level)},
		{Path: `\_SB.VR22`, UID: 22, Base: 0xFEB0_2C00, Size: 0x200, Interrupt: high(46, Level)},
		{Path: `\_SB.VR21`, UID: 21, Base: 0xFEB0_2A00, Size: 0x200, Interrupt: high(45, Level)},
	})
	same(t, "GED", got.GED, &GED{Path: `\_SB.GED`, Interrupts: []Interrupt{high(9, Edge)}, EventReg: 0xFEA0_0000})
}

// The machine has neither MCFG nor configuration ports: _CBA is all there is.
func TestDiscoverMicroVMWithPCIe(t *testing.T) {
	got := discover(t, "microvm-pcie", false)
	if got.MCFG != nil {
		t.Fatalf("MCFG %v; this test is about a machine without", got.MCFG)
	}
	same(t, "ECAMs", got.ECAMs(), []ECAM{{Base: 0xE000_0000, EndBus: 255}})
	same(t, "host bridges", got.HostBridges, []HostBridge{{
		Path: `\_SB.PCI0`, Express: true, ConfigBase: 0xE000_0000, Windows: []Window{
			window(WindowBus, 0, 0xFF), window(WindowMemory, 0xC000_0000, 0xDFFF_FFFF),
			window(WindowMemory, 0xC0_0000_0000, 0xFF_FFFF_FFFF),
		},
	}})
}

func TestPowerOff(t *testing.T) {
	pm1 := GAS{SystemIO, 16, 0, 0, 0x604}
	for name, want := range map[string][]RegisterWrite{
		"q35":     {{pm1, 16, 0x3C00, 0}, {pm1, 16, 0x3C00, 0x2000}},
		"microvm": {{GAS{SystemMemory, 8, 0, 0, 0xFEA0_0200}, 8, 0x1C, 0x34}},
	} {
		got, err := discover(t, name, true).PowerOff()
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		same(t, name, got, want)
	}
}

// With two control blocks both get their type before either is enabled.
func TestPowerOffTwoBlocks(t *testing.T) {
	a, b := GAS{Space: SystemIO, Addr: 0x404}, GAS{Space: SystemIO, Addr: 0x504}
	tables := &Tables{FADT: &FADT{PM1aControl: a, PM1bControl: b}, S5: &SleepType{5, 7}}
	got, err := tables.PowerOff()
	if err != nil {
		t.Fatal(err)
	}
	same(t, "sequence", got, []RegisterWrite{
		{a, 16, 0x3C00, 0x1400}, {b, 16, 0x3C00, 0x1C00}, {a, 16, 0x3C00, 0x3400}, {b, 16, 0x3C00, 0x3C00},
	})
}

func TestPowerOffImpossible(t *testing.T) {
	for _, tables := range []*Tables{
		{S5: &SleepType{}},
		{FADT: &FADT{PM1aControl: GAS{Addr: 1}}},
		{FADT: &FADT{}, S5: &SleepType{}},
		{FADT: &FADT{Flags: FlagHardwareReduced, PM1aControl: GAS{Addr: 1}}, S5: &SleepType{}},
	} {
		if seq, err := tables.PowerOff(); err == nil {
			t.Errorf("FADT %+v, S5 %v: %v, want an error", tables.FADT, tables.S5, seq)
		}
	}
}

func TestResetWrite(t *testing.T) {
	got, err := discover(t, "q35", true).ResetWrite()
	if err != nil {
		t.Fatal(err)
	}
	same(t, "q35", got, RegisterWrite{GAS{SystemIO, 8, 0, 0, 0xCF9}, 8, 0xFF, 0xF})
	if _, err := discover(t, "pc", true).ResetWrite(); err == nil {
		t.Error("pc: no error without reset register")
	}
	for _, f := range []*FADT{nil, {Reset: GAS{Addr: 1}}, {Flags: FlagResetReg}, {Flags: FlagResetReg, Reset: GAS{Space: 3, Addr: 1}}} {
		if _, err := (&Tables{FADT: f}).ResetWrite(); err == nil {
			t.Errorf("FADT %+v: no error", f)
		}
	}
}

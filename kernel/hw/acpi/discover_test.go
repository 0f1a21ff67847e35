package acpi

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"
)

// goodMADT has one CPU and one I/O APIC.
func goodMADT() []byte {
	return table("APIC", join(
		[]byte{0, 0, 0xE0, 0xFE, 1, 0, 0, 0},
		[]byte{madtLocalAPIC, 8, 0, 0, 1, 0, 0, 0},
		[]byte{madtIOAPIC, 12, 4, 0, 0, 0, 0xC0, 0xFE, 0, 0, 0, 0},
	)...)
}

// goodFADT points to a DSDT at addr.
func goodFADT(dsdt uint64) []byte {
	b := table("FACP", make([]byte, 276-headerLen)...)
	b[offRevision] = 6
	binary.LittleEndian.PutUint64(b[offFADTXDSDT:], dsdt)
	return sealed(b)
}

func wantError(t *testing.T, mem Memory, rsdp uint64, parts ...string) error {
	t.Helper()
	tables, err := Discover(mem, rsdp)
	if err == nil {
		t.Fatalf("no error; tables %+v", tables)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("error %q does not name %q", err, p)
		}
	}
	return err
}

// wantWarning checks that Discover succeeds with one warning that has parts.
func wantWarning(t *testing.T, mem Memory, rsdp uint64, parts ...string) *Tables {
	t.Helper()
	tables, err := Discover(mem, rsdp)
	if err != nil {
		t.Fatal(err)
	}
	if len(tables.Warnings) != 1 {
		t.Fatalf("warnings %v, want one", tables.Warnings)
	}
	for _, p := range parts {
		if s := tables.Warnings[0].String(); !strings.Contains(s, p) {
			t.Errorf("warning %q does not name %q", s, p)
		}
	}
	return tables
}

func TestFindRSDPInEBDA(t *testing.T) {
	mem, rsdp := machine(goodMADT())
	ebda := make([]byte, ebdaScanLen)
	copy(ebda[0x30:], mem[rsdp])
	mem[ebdaSegmentAddr] = []byte{0xC0, 0x9F}
	mem[0x9FC00] = ebda
	got, err := Discover(mem, 0)
	if err != nil || got.RSDP.Addr != 0x9FC30 {
		t.Fatalf("RSDP at %#x, error %v, want 0x9fc30", got.RSDP.Addr, err)
	}
}

// A string that looks like an RSDP but does not sum to 0 is passed over.
func TestFindRSDPSkipsBadChecksum(t *testing.T) {
	mem, rsdp := loadMachine(t, "q35")
	decoy := mem[biosAreaAddr][0x100:]
	copy(decoy, mem[biosAreaAddr][rsdp-biosAreaAddr:][:rsdpV1Len])
	decoy[10] ^= 1
	if got, err := FindRSDP(mem); err != nil || got != rsdp {
		t.Errorf("RSDP at %#x, error %v, want %#x", got, err, rsdp)
	}
}

func TestFindRSDPNone(t *testing.T) {
	for _, mem := range []image{
		{},
		{biosAreaAddr: make([]byte, biosAreaLen), ebdaSegmentAddr: {0, 0}},
		{ebdaSegmentAddr: {0xC0, 0x9F}}, // EBDA not readable
	} {
		if err := wantError(t, mem, 0); !errors.Is(err, ErrNoRSDP) {
			t.Errorf("error %v, want ErrNoRSDP", err)
		}
	}
}

func TestGarbledRSDP(t *testing.T) {
	v2 := func(change func(b []byte)) []byte {
		b := rsdpV2(0x9000)
		change(b)
		return b
	}
	for name, c := range map[string]struct {
		rsdp []byte
		want string
	}{
		"cut short":          {rsdpV2(0x9000)[:19], "no memory"},
		"signature":          {v2(func(b []byte) { b[0] = 'X' }), "signature"},
		"checksum":           {v2(func(b []byte) { b[10]++ }), "first 20 bytes"},
		"extended checksum":  {v2(func(b []byte) { b[33]++ }), "all 36 bytes"},
		"length too short":   {v2(func(b []byte) { b[20] = 20; sealRSDP(b) }), "length field is 20"},
		"length too long":    {v2(func(b []byte) { b[23] = 0x7F; sealRSDP(b) }), "length field is"},
		"length beyond":      {v2(func(b []byte) { b[20] = 200; sealRSDP(b) }), "no memory"},
		"no address":         {v2(func(b []byte) { copy(b[24:], make([]byte, 8)); sealRSDP(b) }), "neither"},
		"second half absent": {rsdpV2(0x9000)[:20], "no memory"},
	} {
		t.Run(name, func(t *testing.T) {
			mem, at := machine(goodMADT())
			mem[at] = c.rsdp
			wantError(t, mem, at, "RSDP at 0x8000", c.want)
		})
	}
	if _, err := ParseRSDP(make([]byte, 19)); err == nil {
		t.Error("19 bytes: no error")
	}
	if _, err := ParseRSDP(rsdpV2(1)[:30]); err == nil {
		t.Error("30 bytes of revision 2: no error")
	}
}

// A longer RSDP of a later revision is read as far as it is known.
func TestLongRSDP(t *testing.T) {
	mem, at := machine(goodMADT())
	b := append(rsdpV2(0x9000), make([]byte, 4)...)
	b[offRSDPLength] = byte(len(b))
	mem[at] = sealRSDP(b)
	if _, err := Discover(mem, at); err != nil {
		t.Error(err)
	}
}

func TestGarbledRoot(t *testing.T) {
	many := table("XSDT", make([]byte, 8*(maxTables+1))...)
	for name, c := range map[string]struct {
		xsdt []byte
		want string
	}{
		"absent":    {nil, "no memory"},
		"signature": {table("RSDT", 0, 0, 0, 0, 0, 0, 0, 0), `"RSDT"`},
		"checksum":  {broken(table("XSDT", 1, 2, 3, 4, 5, 6, 7, 8), 40), "sum to 0x01"},
		"odd size":  {table("XSDT", 1, 2, 3), "multiple of 8"},
		"too many":  {many, "1025 entries"},
		"length":    {sealedLength(table("XSDT"), 8), "length is 8"},
		"huge":      {sealedLength(table("XSDT"), 1<<30), "length is 1073741824"},
	} {
		t.Run(name, func(t *testing.T) {
			mem, at := machine(goodMADT())
			delete(mem, 0x9000)
			if c.xsdt != nil {
				mem[0x9000] = c.xsdt
			}
			wantError(t, mem, at, "XSDT at 0x9000", c.want)
		})
	}
}

// broken changes one byte behind the checksum's back.
func broken(b []byte, off int) []byte {
	b[off]++
	return b
}

// sealedLength claims a length.
func sealedLength(b []byte, n uint32) []byte {
	binary.LittleEndian.PutUint32(b[offLength:], n)
	return b
}

func TestNoMADT(t *testing.T) {
	mem, at := machine(goodFADT(0))
	if err := wantError(t, mem, at); !errors.Is(err, ErrNoMADT) {
		t.Errorf("error %v, want ErrNoMADT", err)
	}
}

func TestGarbledMADT(t *testing.T) {
	head := []byte{0, 0, 0xE0, 0xFE, 1, 0, 0, 0}
	cpu := []byte{madtLocalAPIC, 8, 0, 0, 1, 0, 0, 0}
	for name, c := range map[string]struct {
		body []byte
		want string
	}{
		"no body":           {nil, "36 bytes, want at least 44"},
		"no CPU":            {head, "none of 0 local APICs"},
		"no enabled CPU":    {join(head, []byte{0, 8, 0, 0, 2, 0, 0, 0}), "none of 1 local APICs"},
		"empty slot only":   {join(head, []byte{0, 8, 0, 0xFF, 1, 0, 0, 0}), "none of 0 local APICs"},
		"stray byte":        {join(head, cpu, []byte{0}), "1 stray byte"},
		"zero length":       {join(head, cpu, []byte{0, 0}), "0 bytes long"},
		"overrun":           {join(head, cpu, []byte{1, 12, 0}), "12 bytes long, 3 remain"},
		"short local APIC":  {join(head, []byte{0, 4, 0, 0}), "offset 0x2c: structure of type 0 is 4 bytes long, want 8"},
		"I/O APIC at 0":     {join(head, cpu, []byte{1, 12, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0}), "I/O APIC 3 has address 0"},
		"override bus":      {join(head, cpu, []byte{2, 10, 1, 9, 9, 0, 0, 0, 0, 0}), "bus 1"},
		"override polarity": {join(head, cpu, []byte{2, 10, 0, 9, 9, 0, 0, 0, 2, 0}), "override of IRQ 9: MPS INTI flags 0x0002: reserved polarity"},
		"override trigger":  {join(head, cpu, []byte{2, 10, 0, 9, 9, 0, 0, 0, 8, 0}), "reserved trigger"},
		"NMI source":        {join(head, cpu, []byte{3, 8, 2, 0, 7, 0, 0, 0}), "NMI source GSI 7"},
		"LINT number":       {join(head, cpu, []byte{4, 6, 0xFF, 0, 0, 2}), "LINT2"},
		"LINT flags":        {join(head, cpu, []byte{4, 6, 0xFF, 2, 0, 1}), "LINT1"},
		"address override":  {join(head, cpu, []byte{5, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}), "override is 0"},
	} {
		t.Run(name, func(t *testing.T) {
			mem, at := machine(table("APIC", c.body...))
			wantError(t, mem, at, "APIC at 0x100000", c.want)
		})
	}
	t.Run("checksum", func(t *testing.T) {
		b := goodMADT()
		b[50]++
		mem, at := machine(b)
		wantError(t, mem, at, "APIC at 0x100000", "64 bytes sum to 0x01")
	})
}

func TestMADTStructures(t *testing.T) {
	b := table("APIC", join(
		[]byte{0, 0, 0xE0, 0xFE, 0, 0, 0, 0},
		[]byte{madtLocalAPIC, 8, 1, 1, 0, 0, 0, 0},                            // disabled here …
		[]byte{madtLocalX2APIC, 16, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0}, // … enabled here
		[]byte{madtLocalX2APIC, 16, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 2, 0, 0}, // APIC ID 256
		[]byte{madtLocalX2APIC, 16, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 1, 0, 0, 0, 0, 2, 0, 0},
		[]byte{madtLocalAPIC, 8, 9, 1, 0, 0, 0, 0}, // disabled again: does not count
		[]byte{madtLocalAPIC, 8, 2, 2, 2, 0, 0, 0},
		[]byte{0x42, 3, 0}, // unknown, skipped
		[]byte{madtNMISource, 8, 0x0F, 0, 7, 0, 0, 0},
		[]byte{madtLocalX2APINMI, 12, 5, 0, 0xFF, 0xFF, 0xFF, 0xFF, 1, 0, 0, 0},
		[]byte{madtLocalAPICNMI, 6, 3, 0, 0, 0},
		[]byte{madtAddrOverride, 12, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0},
	)...)
	m, err := ParseMADT(b)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "MADT", m, &MADT{
		LocalAPICAddr: 1 << 32,
		LocalAPICs: []LocalAPIC{
			{UID: 1, APICID: 1, Enabled: true, X2APIC: true},
			{UID: 512, APICID: 256, Enabled: true, X2APIC: true},
			{UID: 2, APICID: 2, OnlineCapable: true},
		},
		NMISources: []NMISource{{GSI: 7, Polarity: ActiveLow, Trigger: Level}},
		LocalNMIs: []LocalNMI{
			{UID: AllProcessors, LINT: 1, Polarity: ActiveHigh, Trigger: Edge},
			{UID: 3, LINT: 0},
		},
	})
}

func TestSecondMADT(t *testing.T) {
	mem, at := machine(goodMADT(), goodMADT())
	wantWarning(t, mem, at, "APIC at 0x110000", "second MADT")
}

// Each optional table that is garbled costs itself only.
func TestGarbledOptionalTables(t *testing.T) {
	mcfg := func(base uint64, start, end byte, more ...byte) []byte {
		e := binary.LittleEndian.AppendUint64(make([]byte, 8), base)
		return table("MCFG", join(e, []byte{0, 0, start, end, 0, 0, 0, 0}, more)...)
	}
	hpet := func(space byte, addr uint64) []byte {
		return table("HPET", join(make([]byte, 4), []byte{space, 64, 0, 0}, binary.LittleEndian.AppendUint64(nil, addr), make([]byte, 4))...)
	}
	short := func(off int, v byte, port uint32) []byte {
		b := goodFADT(0)
		b[off] = v
		binary.LittleEndian.PutUint32(b[offFADTPM1aEvt:], port)
		binary.LittleEndian.PutUint32(b[offFADTPM1aCnt:], port)
		return sealed(b)
	}
	second := []byte{0, 0, 0, 0xE0, 0, 0, 0, 0, 0, 0, 5, 9, 0, 0, 0, 0}
	for name, c := range map[string]struct {
		table []byte
		want  []string
	}{
		"FADT checksum":    {broken(goodFADT(0), 100), []string{"FACP at 0x110000", "sum to 0x01"}},
		"FADT short":       {table("FACP", 1, 2, 3), []string{"FACP", "39 bytes, want at least 116"}},
		"FADT event len":   {short(offFADTPM1EvtLen, 3, 0x600), []string{"FACP", "PM1_EVT_LEN is 3"}},
		"FADT control len": {short(offFADTPM1EvtLen, 4, 0x600), []string{"FACP", "PM1_CNT_LEN is 0"}},
		"MCFG empty":       {table("MCFG", make([]byte, 8)...), []string{"MCFG", "0 bytes of entries"}},
		"MCFG cut":         {mcfg(0xB000_0000, 0, 255, 1), []string{"MCFG", "17 bytes of entries"}},
		"MCFG base":        {mcfg(0xB000_1000, 0, 255), []string{"MCFG", "base 0xb0001000"}},
		"MCFG base 0":      {mcfg(0, 0, 255), []string{"MCFG", "base 0x0"}},
		"MCFG buses":       {mcfg(0xB000_0000, 9, 8), []string{"MCFG", "buses 9 to 8"}},
		"MCFG wraps":       {mcfg(0xFFFF_FFFF_FFF0_0000, 0, 8), []string{"MCFG", "beyond the address space"}},
		"MCFG overlap":     {mcfg(0xB000_0000, 0, 5, second...), []string{"MCFG", "entry 1: segment 0 buses 5 to 9 overlap entry 0"}},
		"MCFG many":        {table("MCFG", make([]byte, 8+16*(maxECAMs+1))...), []string{"MCFG", "257 entries"}},
		"HPET space":       {hpet(1, 0xFED0_0000), []string{"HPET", "I/O"}},
		"HPET address":     {hpet(0, 0), []string{"HPET", "memory 0x0"}},
		"HPET short":       {table("HPET", 1), []string{"HPET", "want at least 56"}},
		"length lies":      {sealedLength(table("OEM1"), 0x100), []string{"OEM1 at 0x110000", "no memory"}},
		"signature":        {[]byte{0, 1, 2, 3}, []string{"table at 0x110000", "signature"}},
		"not there":        {nil, []string{"table at 0x110000", "no memory"}},
		"DSDT not there":   {goodFADT(0x1234_5678), []string{"DSDT at 0x12345678", "no memory"}},
		"DSDT is MADT":     {goodFADT(0x10_0000), []string{"DSDT at 0x100000", `signature is "APIC"`}},
		"SSDT checksum":    {broken(table("SSDT", 1, 2, 3), 37), []string{"SSDT", "sum to"}},
	} {
		t.Run(name, func(t *testing.T) {
			mem, at := machine(goodMADT(), c.table)
			wantWarning(t, mem, at, c.want...)
		})
	}
}

func TestXSDTEntryZero(t *testing.T) {
	mem, at := machine(goodMADT())
	mem[0x9000] = table("XSDT", append(binary.LittleEndian.AppendUint64(nil, 0x10_0000), make([]byte, 8)...)...)
	wantWarning(t, mem, at, "table at 0x0", "address is 0")
}

func TestReadTableAtEndOfAddressSpace(t *testing.T) {
	if _, err := readTable(image{}, ^uint64(0)-8); err == nil || !strings.Contains(err.Error(), "beyond the address space") {
		t.Errorf("error %v", err)
	}
}

// A Memory that gives less than it was asked for must not be trusted.
func TestShortMemory(t *testing.T) {
	if _, err := Discover(shortMemory{}, 0x8000); err == nil || !strings.Contains(err.Error(), "only 3 of 20") {
		t.Errorf("error %v", err)
	}
}

type shortMemory struct{}

func (shortMemory) Bytes(uint64, int) ([]byte, error) { return make([]byte, 3), nil }

// §5.2.9: the X_ fields win over the 32-bit ones where they are not 0.
func TestFADTExtendedFields(t *testing.T) {
	b := goodFADT(0x1_0000_0000)
	binary.LittleEndian.PutUint32(b[offFADTDSDT:], 0x5000)
	b[offFADTPM1EvtLen], b[offFADTPM1CntLen] = 4, 2
	binary.LittleEndian.PutUint32(b[offFADTPM1aCnt:], 0x604)
	binary.LittleEndian.PutUint32(b[offFADTPM1bCnt:], 0x704)
	copy(b[offFADTXPM1bCnt:], []byte{0, 16, 0, 2, 0, 0, 0, 0xFE, 0, 0, 0, 0})
	f, err := ParseFADT(sealed(b))
	if err != nil {
		t.Fatal(err)
	}
	same(t, "DSDT", f.DSDT, uint64(1<<32))
	same(t, "PM1a", f.PM1aControl, GAS{SystemIO, 16, 0, 0, 0x604})
	same(t, "PM1b", f.PM1bControl, GAS{SystemMemory, 16, 0, 2, 0xFE00_0000})
}

func TestStrings(t *testing.T) {
	for got, want := range map[string]string{
		ActiveLow.String() + " " + Polarity(9).String(): "active low active low",
		Edge.String() + " " + Trigger(9).String():       "edge level",
		GAS{}.String():                              "none",
		GAS{PCIConfig, 8, 0, 0, 0x44}.String():      "PCI config 0x44/8",
		GAS{SystemMemory, 8, 0, 0, 0x44}.String():   "memory 0x44/8",
		AddressSpace(9).String():                    "address space 9",
		Interrupt{GSI: 4, Trigger: Edge}.String():   "GSI 4 edge bus polarity",
		Window{WindowBus, 1, 2, false}.String():     "bus 0x1-0x2",
		WindowKind(77).String():                     "reserved",
		Warning{"HPET", 0x10, "it is odd"}.String(): "acpi: HPET at 0x10: it is odd",
		text([]byte("AB\x01 \x00")):                 "AB?",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

package acpi

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// scanned runs the scan over the AML of one DSDT.
func scanned(aml ...[]byte) *Tables {
	d := discovery{t: &Tables{}, aml: newNamespace()}
	d.scanTable("DSDT", 0x1000, table("DSDT", join(aml...)...))
	d.t.S5 = d.aml.s5
	d.t.Warnings = append(d.t.Warnings, d.aml.resolve(d.t)...)
	return d.t
}

var (
	virtioHID = amlName("_HID", amlString(hidVirtioMMIO))
	virtioCRS = amlName("_CRS", amlBuffer(resFixedMem(0xD000_0000, 0x1000), resInterrupt(3, 5), resEndTag))
	virtioDev = []VirtioMMIO{{
		Path: `\_SB.V000`, Base: 0xD000_0000, Size: 0x1000,
		Interrupt: Interrupt{GSI: 5, Trigger: Edge, Polarity: ActiveHigh},
	}}
	garbage = []byte{0x70, 0x68, 0x0A, 0x05, 0x61, 0x10, 0xFF, 0x14, 0x5B, 0x82, 0x02, 0x5B, 0x80, 0x08}
)

func TestVirtioDeviceFound(t *testing.T) {
	plain := amlDevice("V000", virtioHID, virtioCRS)
	for name, aml := range map[string][]byte{
		"scope":             amlScope("_SB_", plain),
		"rooted scope":      amlScope(`\_SB_`, plain),
		"dual name":         amlDevice("._SB_V000", virtioHID, virtioCRS),
		"multi name":        amlDevice("/\x02_SB_V000", virtioHID, virtioCRS),
		"parent prefix":     amlScope("_SB_", amlDevice("XXXX", amlDevice("^V000", virtioHID, virtioCRS))),
		"null scope":        amlScope("\\\x00", amlScope("_SB_", plain)),
		"CRS first":         amlScope("_SB_", amlDevice("V000", virtioCRS, virtioHID)),
		"split":             join(amlScope("_SB_", amlDevice("V000", virtioHID)), amlScope("\\._SB_V000", virtioCRS)),
		"in If":             amlScope("_SB_", pkg([]byte{opIf}, []byte{0x68}, plain)),
		"in Else":           amlScope("_SB_", pkg([]byte{opElse}, plain)),
		"after garbage":     amlScope("_SB_", garbage, plain, garbage),
		"garbage in device": amlScope("_SB_", amlDevice("V000", garbage, virtioHID, garbage, virtioCRS)),
		"STA present":       amlScope("_SB_", amlDevice("V000", virtioHID, virtioCRS, amlName("_STA", []byte{opByte, 0xF}))),
		"STA method":        amlScope("_SB_", amlDevice("V000", virtioHID, virtioCRS, amlMethod("_STA", []byte{opReturn, opByte, 0xF}))),
		"CRS method":        amlScope("_SB_", amlDevice("V000", virtioHID, amlMethod("_CRS", []byte{opReturn}, virtioCRS[5:]))),
		"among others": amlScope("_SB_",
			[]byte{opAlias}, []byte("AAAABBBB"), []byte{opExternal}, []byte("\\CCCC"), []byte{6, 0},
			[]byte{opExt, extMutex}, []byte("MUTX"), []byte{0}, []byte{opExt, extEvent}, []byte("EVNT"),
			[]byte{opExt, extRegion}, []byte("REGN"), []byte{1, opWord, 0x00, 0x06, opByte, 0x10},
			pkg([]byte{opExt, extField}, []byte("REGN"), plain), // not scanned: fields hold no devices
			amlMethod("METH", amlDevice("V001", virtioHID, virtioCRS)),
			amlName("PACK", pkg([]byte{opPackage}, []byte{2, opOne, opZero})), plain),
	} {
		t.Run(name, func(t *testing.T) {
			got := scanned(aml)
			same(t, "devices", got.VirtioMMIO, virtioDev)
			if len(got.Warnings) != 0 {
				t.Errorf("warnings %v", got.Warnings)
			}
		})
	}
}

func TestVirtioDeviceNotThere(t *testing.T) {
	for name, aml := range map[string][]byte{
		"not present":  amlDevice("V000", virtioHID, virtioCRS, amlName("_STA", []byte{opZero})),
		"other HID":    amlDevice("V000", amlName("_HID", amlString("LNRO0006")), virtioCRS),
		"in a method":  amlMethod("V000", amlDevice("V001", virtioHID, virtioCRS)),
		"in a string":  amlName("V000", amlString("_HID LNRO0005 _CRS")),
		"in a buffer":  amlName("V000", amlBuffer(amlDevice("V001", virtioHID, virtioCRS))),
		"cut short":    amlDevice("V000", virtioHID, virtioCRS)[:20],
		"bad name":     amlDevice("v000", virtioHID),
		"digit first":  amlDevice("0ABC", virtioHID, virtioCRS),
		"just garbage": garbage,
	} {
		got := scanned(aml)
		if len(got.VirtioMMIO)+len(got.Warnings) != 0 {
			t.Errorf("%s: devices %v, warnings %v; want none", name, got.VirtioMMIO, got.Warnings)
		}
	}
}

// A device's _CRS that is its child's must not be taken for its own.
func TestNestedDevicesKeepApart(t *testing.T) {
	got := scanned(amlDevice("BUS0",
		amlDevice("V000", virtioHID, virtioCRS),
		amlName("_HID", amlString("ACPI0004"))))
	if len(got.VirtioMMIO) != 1 || got.VirtioMMIO[0].Path != `\BUS0.V000` {
		t.Errorf("devices %+v", got.VirtioMMIO)
	}
}

func TestVirtioDeviceGarbled(t *testing.T) {
	crs := func(parts ...[]byte) []byte { return amlName("_CRS", amlBuffer(parts...)) }
	mem, irq := resFixedMem(0xD000_0000, 0x1000), resInterrupt(1, 5)
	for name, c := range map[string]struct {
		crs  []byte
		want string
	}{
		"no CRS":         {nil, "no _CRS"},
		"method":         {amlMethod("_CRS", []byte{0x70, 0x68, 0x69, opReturn, opZero}), "_CRS is a method"},
		"not a buffer":   {amlName("_CRS", []byte{opZero}), "not a constant buffer"},
		"buffer size":    {amlName("_CRS", pkg([]byte{opBuffer}, []byte{0x68}, mem)), "not a constant buffer"},
		"buffer length":  {amlName("_CRS", []byte{opBuffer, 0x3F, opByte, 3}), "not a constant buffer"},
		"no memory":      {crs(irq, resEndTag), "0 memory ranges and 1 interrupts"},
		"no interrupt":   {crs(mem, resEndTag), "1 memory ranges and 0 interrupts"},
		"two interrupts": {crs(mem, resInterrupt(1, 5, 6), resEndTag), "2 interrupts"},
		"no end tag":     {crs(mem, irq), "no end tag"},
		"cut short":      {crs(mem[:5]), "resource at 0x0: 9 bytes long, 2 remain"},
		"cut header":     {crs(mem, irq, []byte{0x86}), "cut short"},
		"item too short": {crs([]byte{resFixed32, 3, 0, 1, 2, 3}), "type 0x86 is 3 bytes long, want 9"},
		"size 0":         {crs(resFixedMem(0xD000_0000, 0), irq, resEndTag), "memory range at 0xd0000000 has size 0"},
		"too small":      {crs(resFixedMem(0xD000_0000, 0x80), irq, resEndTag), "0x80 bytes of registers"},
		"interrupt list": {crs(mem, []byte{resExtIRQ, 2, 0, 1, 9}), "9 interrupts in 2 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			got := scanned(amlScope("_SB_", amlDevice("V000", virtioHID, c.crs)))
			if len(got.VirtioMMIO) != 0 {
				t.Errorf("devices %+v, want none", got.VirtioMMIO)
			}
			if len(got.Warnings) != 1 {
				t.Fatalf("warnings %v, want one", got.Warnings)
			}
			for _, p := range []string{"DSDT at 0x1000", `\_SB.V000`, c.want} {
				if s := got.Warnings[0].String(); !strings.Contains(s, p) {
					t.Errorf("warning %q does not name %q", s, p)
				}
			}
		})
	}
}

func TestVirtioDevicesOverlap(t *testing.T) {
	got := scanned(amlDevice("V000", virtioHID, virtioCRS), amlDevice("V001", virtioHID, virtioCRS))
	if len(got.VirtioMMIO) != 1 || len(got.Warnings) != 1 || !strings.Contains(got.Warnings[0].Problem, `overlap those of \V000`) {
		t.Errorf("devices %+v, warnings %v", got.VirtioMMIO, got.Warnings)
	}
}

func TestS5(t *testing.T) {
	for name, c := range map[string]struct {
		data []byte
		want SleepType
	}{
		"constants":   {pkg([]byte{opPackage}, []byte{4, opZero, opOne, 0, 0}), SleepType{0, 1}},
		"bytes":       {pkg([]byte{opPackage}, []byte{4, opByte, 7, opByte, 5, 0, 0}), SleepType{7, 5}},
		"words":       {pkg([]byte{opPackage}, []byte{4, opWord, 7, 0, opDWord, 5, 0, 0, 0, 0, 0}), SleepType{7, 5}},
		"quad":        {pkg([]byte{opPackage}, []byte{2, opQWord, 6, 0, 0, 0, 0, 0, 0, 0, opOne}), SleepType{6, 1}},
		"one number":  {pkg([]byte{opPackage}, []byte{1, opWord, 5, 4}), SleepType{5, 4}},
		"two of four": {pkg([]byte{opPackage}, []byte{2, opByte, 3, opByte, 3}), SleepType{3, 3}},
	} {
		for _, aml := range [][]byte{amlName("_S5_", c.data), amlName(`\_S5_`, c.data), amlScope("\\\x00", garbage, amlName("_S5_", c.data))} {
			got := scanned(aml)
			if got.S5 == nil || *got.S5 != c.want || len(got.Warnings) != 0 {
				t.Errorf("%s: %v, warnings %v, want %v", name, got.S5, got.Warnings, c.want)
			}
		}
	}
}

func TestS5Garbled(t *testing.T) {
	for want, data := range map[string][]byte{
		"not a constant package":  {opZero},
		"bad length":              {opPackage, 1},
		"package is empty":        pkg([]byte{opPackage}, []byte{0}),
		"element 1 is not":        pkg([]byte{opPackage}, []byte{2, opZero, 0x68}),
		"SLP_TYP 0x8 and 0x0":     pkg([]byte{opPackage}, []byte{2, opByte, 8, opZero}),
		"SLP_TYP 0x0 and 0xfffff": pkg([]byte{opPackage}, []byte{2, opZero, opOnes}),
	} {
		got := scanned(amlName("_S5_", data))
		if got.S5 != nil || len(got.Warnings) != 1 || !strings.Contains(got.Warnings[0].String(), want) {
			t.Errorf("%s: S5 %v, warnings %v", want, got.S5, got.Warnings)
		}
	}
	// An _S5 that is not at the root is another object.
	if got := scanned(amlScope("_SB_", amlName("_S5_", []byte{opZero}))); got.S5 != nil || len(got.Warnings) != 0 {
		t.Errorf("S5 %v, warnings %v", got.S5, got.Warnings)
	}
}

func TestGED(t *testing.T) {
	ged := func(name string, crs []byte) []byte {
		return amlDevice(name, amlName("_HID", amlString(hidGED)), crs,
			[]byte{opExt, extRegion}, []byte("EREG"), []byte{0, opDWord, 0, 0, 0xA0, 0xFE, opByte, 4})
	}
	crs := amlName("_CRS", amlBuffer(resInterrupt(0xD, 9, 10), resEndTag))
	got := scanned(ged("GED_", crs), ged("GED2", crs), ged("GED3", nil))
	in := Interrupt{GSI: 9, Trigger: Level, Polarity: ActiveLow, Shared: true}
	in2 := in
	in2.GSI = 10
	same(t, "GED", got.GED, &GED{Path: `\GED`, Interrupts: []Interrupt{in, in2}, EventReg: 0xFEA0_0000})
	if len(got.Warnings) != 2 || !strings.Contains(got.Warnings[0].String(), `\GED2: a second event device; \GED counts`) {
		t.Errorf("warnings %v", got.Warnings)
	}
	for want, crs := range map[string][]byte{"no interrupt": amlName("_CRS", amlBuffer(resEndTag)), "no _CRS": nil} {
		got := scanned(ged("GED_", crs))
		if got.GED != nil || len(got.Warnings) != 1 || !strings.Contains(got.Warnings[0].Problem, want) {
			t.Errorf("%s: GED %v, warnings %v", want, got.GED, got.Warnings)
		}
	}
}

func TestHostBridge(t *testing.T) {
	word := func(kind byte, min, max, translation, size uint16) []byte {
		b := []byte{resWord, 13, 0, kind, 0xC, 0, 0, 0}
		for _, v := range []uint16{min, max, translation, size} {
			b = append(b, byte(v), byte(v>>8))
		}
		return b
	}
	qword := func(flags byte, base, size uint64) []byte {
		b := []byte{resQWord, 43, 0, 0, 0xC, flags}
		for _, v := range []uint64{0, base, base + size - 1, 0, size} {
			for i := range 8 {
				b = append(b, byte(v>>(8*i)))
			}
		}
		return b
	}
	bridge := func(parts ...[]byte) []byte {
		return amlScope("_SB_", amlDevice("PC01", parts...))
	}
	hid := amlName("_HID", []byte{opDWord, 0x41, 0xD0, 0x0A, 0x03}) // PNP0A03
	cid := amlName("_CID", []byte{opDWord, 0x41, 0xD0, 0x0A, 0x08}) // PNP0A08
	got := scanned(bridge(hid, cid,
		amlName("_SEG", []byte{opOne}), amlName("_BBN", []byte{opByte, 0x40}), amlName("_UID", []byte{opOne}),
		amlMethod("_CBA", []byte{opReturn, opQWord, 0, 0, 0, 0, 1, 0, 0, 0}),
		amlName("_CRS", amlBuffer(word(2, 0x40, 0x7F, 0, 0x40), word(0xC0, 0, 0, 0, 1), word(1, 0, 0, 0, 0),
			[]byte{0x47, 1, 0xF8, 0xC, 0xF8, 0xC, 1, 8}, qword(6, 1<<40, 1<<39), resEndTag))))
	same(t, "bridges", got.HostBridges, []HostBridge{{
		Path: `\_SB.PC01`, Segment: 1, Bus: 0x40, Express: true, ConfigBase: 1 << 32,
		Windows: []Window{
			{WindowBus, 0x40, 0x40, false}, {WindowMemory, 1 << 40, 1 << 39, true},
		},
	}})
	same(t, "ECAMs", got.ECAMs(), []ECAM{{Base: 1 << 32, Segment: 1, StartBus: 0x40, EndBus: 0x7F}})
	if len(got.Warnings) != 0 {
		t.Errorf("warnings %v", got.Warnings)
	}

	for want, c := range map[string]struct {
		aml  []byte
		kept int
	}{
		"_SEG 0x10000 and _BBN 0x0": {bridge(hid, amlName("_SEG", []byte{opDWord, 0, 0, 1, 0})), 0},
		"no _CRS":                   {bridge(hid), 1},
		"translated by 0x1":         {bridge(hid, amlName("_CRS", amlBuffer(word(1, 0x1000, 0x1FFF, 1, 0x1000)))), 1},
		"beyond the address space":  {bridge(hid, amlName("_CRS", amlBuffer(qword(0, ^uint64(0), 2)))), 1},
	} {
		got := scanned(c.aml)
		if len(got.HostBridges) != c.kept || len(got.Warnings) != 1 || !strings.Contains(got.Warnings[0].Problem, want) {
			t.Errorf("%s: bridges %+v, warnings %v", want, got.HostBridges, got.Warnings)
		}
	}
	if e := (&Tables{HostBridges: []HostBridge{{ConfigBase: 0x1234}, {}}}).ECAMs(); e != nil {
		t.Errorf("ECAMs %v of bridges without a sound _CBA, want none", e)
	}
}

func TestSmallResources(t *testing.T) {
	r, err := parseResources([]byte{
		0x22, 0x00, 0x10, // IRQ 12, no flags
		0x23, 0x08, 0x00, 0x18, // IRQ 3, level, active low, shared
		0x47, 1, 0x10, 5, 0x10, 5, 1, 0xC,
		0x31, 0, // start dependent: skipped
		resMem32, 17, 0, 1, 0, 0, 0, 0xF0, 0, 0, 0, 0xF1, 0, 0, 0, 0, 0, 0x10, 0, 0,
		resDWord, 23, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0xC0, 0xFF, 0xFF, 0xFF, 0xDF, 0, 0, 0, 0, 0, 0, 0, 0x20,
		0x79, 0,
	})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "resources", r, resources{
		interrupts: []Interrupt{
			{GSI: 12, Trigger: Edge, Polarity: ActiveHigh},
			{GSI: 3, Trigger: Level, Polarity: ActiveLow, Shared: true},
		},
		fixed:   []Window{{WindowIO, 0x510, 0xC, false}, {WindowMemory, 0xF000_0000, 0x1000, false}},
		windows: []Window{{WindowMemory, 0xC000_0000, 0x2000_0000, true}},
	})
}

func TestSSDTsCount(t *testing.T) {
	mem, at := machine(goodMADT(), table("SSDT", amlDevice("V000", virtioHID, virtioCRS)...),
		table("SSDT", amlName("_S5_", pkg([]byte{opPackage}, []byte{2, opByte, 5, opZero}))...))
	got, err := Discover(mem, at)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.VirtioMMIO) != 1 || got.S5 == nil || got.S5.A != 5 || len(got.Warnings) != 0 {
		t.Errorf("%+v", got)
	}
}

func TestPkgLength(t *testing.T) {
	big := make([]byte, 0x20_0000)
	for _, c := range []struct {
		enc        []byte
		start, end int
	}{
		{[]byte{0x01}, 1, 1}, {[]byte{0x3F}, 1, 0x3F}, {[]byte{0x42, 0x01}, 2, 0x12},
		{[]byte{0x8F, 0xFF, 0x01}, 3, 0x1FFF}, {[]byte{0xC0, 0, 0, 0x01}, 4, 0x10_0000},
	} {
		b := slices.Clone(big)
		copy(b, c.enc)
		start, end, ok := pkgLength(b, 0)
		if !ok || start != c.start || end != c.end {
			t.Errorf("% x: %#x-%#x %v, want %#x-%#x", c.enc, start, end, ok, c.start, c.end)
		}
	}
	for _, enc := range [][]byte{{}, {0x00}, {0x05, 0}, {0x50, 0}, {0xC0, 0, 0}, {0x41, 0x00}, {0x72, 0x00}} {
		if start, end, ok := pkgLength(enc, 0); ok {
			t.Errorf("% x: %#x-%#x, want none", enc, start, end)
		}
	}
}

func TestDeviceID(t *testing.T) {
	for want, b := range map[string][]byte{
		"PNP0A03":  {opDWord, 0x41, 0xD0, 0x0A, 0x03},
		"PNP0B00":  {opDWord, 0x41, 0xD0, 0x0B, 0x00},
		"ACPI0013": amlString("ACPI0013"),
	} {
		if got := deviceID(b, 0); got != want {
			t.Errorf("% x: %q, want %q", b, got, want)
		}
	}
	for _, b := range [][]byte{{}, {opString}, {opString, 'A'}, {opString, 0x80, 0}, {opOnes}, {opDWord, 1}} {
		if got := deviceID(b, 0); got != "" {
			t.Errorf("% x: %q, want none", b, got)
		}
	}
}

// Deep nesting ends in a warning, not in a deep stack.
func TestNestingIsBounded(t *testing.T) {
	for _, depth := range []int{maxDepth, maxDepth + 1, 200} {
		deep := amlDevice("V000", virtioHID, virtioCRS)
		for range depth - 1 {
			deep = amlScope("AAAA", deep)
		}
		got := scanned(deep)
		if found := len(got.VirtioMMIO); found != 0 != (depth <= maxDepth) {
			t.Errorf("%d deep: devices %v", depth, got.VirtioMMIO)
		}
		if depth > maxDepth && (len(got.Warnings) != 1 || !strings.Contains(got.Warnings[0].Problem, "nested too deep")) {
			t.Errorf("%d deep: warnings %v", depth, got.Warnings)
		}
	}
}

// A table full of objects or mistakes does not grow the record without end.
func TestScanIsBounded(t *testing.T) {
	var many, wrong []byte
	for i := range maxObjects + 10 {
		many = append(many, amlScope(fmt.Sprintf("A%03X", i&0xFFF), amlScope(fmt.Sprintf("B%03X", i>>12), amlName("_UID", []byte{opOne})))...)
		wrong = append(wrong, amlName("_S5_", []byte{opZero})...)
	}
	ns := newNamespace()
	ns.scan(many)
	if len(ns.order) != maxObjects {
		t.Errorf("%d objects kept, want %d", len(ns.order), maxObjects)
	}
	ns.scan(wrong)
	if n := len(ns.takeProblems()); n != 64 {
		t.Errorf("%d problems kept, want 64", n)
	}
	ns.scan(bytes.Repeat([]byte{opIf, 0x3F}, 1<<15)) // must end
}

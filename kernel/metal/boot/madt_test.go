package boot

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"osv/kernel/metal/cpu"
)

// table writes an ACPI table with header and checksum (ACPI 6.5 §5.2.6).
func (m *low) table(off int, sig string, body []byte) (at uint64) {
	b := m.mem[off : off+36+len(body)]
	copy(b, sig)
	binary.LittleEndian.PutUint32(b[4:], uint32(len(b)))
	copy(b[36:], body)
	b[9] = 0
	b[9] = -checksum(b)
	return uint64(m.at) + uint64(off)
}

func checksum(b []byte) (s byte) {
	for _, v := range b {
		s += v
	}
	return s
}

// root writes an RSDP at offset 0 (§5.2.5.3): revision 0 has the RSDT's address,
// revision 2 the XSDT's too.
func (m *low) root(revision byte, table uint64) {
	b := m.mem[:36]
	copy(b, "RSD PTR ")
	b[15] = revision
	if revision < 2 {
		binary.LittleEndian.PutUint32(b[16:], uint32(table))
	} else {
		binary.LittleEndian.PutUint32(b[20:], 36)
		binary.LittleEndian.PutUint64(b[24:], table)
	}
	b[8] = 0
	b[8] = -checksum(b[:20])
	rsdp = m.at
}

func lapic(id byte, flags uint32) []byte {
	return binary.LittleEndian.AppendUint32([]byte{0, 8, 99, id}, flags)
}

func x2apic(id, flags uint32) []byte {
	b := binary.LittleEndian.AppendUint32([]byte{9, 16, 0, 0}, id)
	b = binary.LittleEndian.AppendUint32(b, flags)
	return binary.LittleEndian.AppendUint32(b, 7)
}

// madt is the body of a MADT: local APIC address, flags, entries (§5.2.12).
func madt(entries ...[]byte) []byte {
	return slices.Concat(append([][]byte{make([]byte, 8)}, entries...)...)
}

func entries(revision byte, addrs ...uint64) (b []byte) {
	for _, a := range addrs {
		if revision < 2 {
			b = binary.LittleEndian.AppendUint32(b, uint32(a))
		} else {
			b = binary.LittleEndian.AppendUint64(b, a)
		}
	}
	return b
}

func TestFindProcessors(t *testing.T) {
	good := madt(lapic(0, 1), lapic(1, 1), []byte{1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, lapic(2, 0), lapic(3, 2), x2apic(300, 1), x2apic(301, 0), lapic(1, 1))
	for _, revision := range []byte{0, 2} {
		m := fresh(t)
		other := m.table(0x3000, "FACP", make([]byte, 8))
		apic := m.table(0x4000, "APIC", good)
		sig := "RSDT"
		if revision == 2 {
			sig = "XSDT"
		}
		m.root(revision, m.table(0x1000, sig, entries(revision, 0, other, 1<<33, apic)))
		out := printed(findProcessors)
		if got := apicIDs[:apicNum]; !slices.Equal(got, []uint32{0, 1, 300}) || out != "" {
			t.Errorf("revision %d: processors %v, printed %q", revision, got, out)
		}
	}
}

// Garbled tables leave one processor and one line that says why.
func TestFindProcessorsInGarbledTables(t *testing.T) {
	for name, test := range map[string]struct {
		spoil func(*low)
		want  string
	}{
		"RSDP signature":   {func(m *low) { m.mem[0] ^= 1 }, "no valid RSDP"},
		"RSDP checksum":    {func(m *low) { m.mem[10] ^= 1 }, "no valid RSDP"},
		"RSDP too high":    {func(m *low) { rsdp = 1 << 32 }, "no valid RSDP"},
		"XSDT checksum":    {func(m *low) { m.mem[0x1000+36] ^= 1 }, "garbled root table"},
		"XSDT signature":   {func(m *low) { m.mem[0x1000] ^= 1 }, "garbled root table"},
		"XSDT length 0":    {func(m *low) { m.put32(0x1004, 0) }, "garbled root table"},
		"XSDT length huge": {func(m *low) { m.put32(0x1004, 0xffffffff) }, "garbled root table"},
		"XSDT too high":    {func(m *low) { m.root(2, 1<<40) }, "garbled root table"},
		"XSDT at 0":        {func(m *low) { m.root(2, 0) }, "garbled root table"}, // then the RSDT's address counts, 0 too
		"MADT checksum":    {func(m *low) { m.mem[0x4000+36] ^= 1 }, "garbled MADT"},
		"MADT length":      {func(m *low) { m.put32(0x4004, 20) }, "garbled MADT"},
		"no MADT":          {func(m *low) { m.root(2, m.table(0x1000, "XSDT", nil)) }, ""},
	} {
		m := fresh(t)
		m.root(2, m.table(0x1000, "XSDT", entries(2, m.table(0x4000, "APIC", madt(lapic(0, 1), lapic(1, 1))))))
		test.spoil(m)
		out := printed(findProcessors)
		if apicNum != 0 || !strings.Contains(out, test.want) || strings.Count(out, "\n") > 1 {
			t.Errorf("%s: %d processors, printed %q, want %q", name, apicNum, out, test.want)
		}
	}
}

// Entries that lie about their length end the walk, inside the table.
func TestReadMADTEntryLengths(t *testing.T) {
	for name, test := range map[string]struct {
		entries [][]byte
		want    []uint32
	}{
		"length 0":        {[][]byte{lapic(5, 1), {0, 0}, lapic(6, 1)}, []uint32{5}},
		"length 1":        {[][]byte{lapic(5, 1), {0, 1}, lapic(6, 1)}, []uint32{5}},
		"beyond the end":  {[][]byte{lapic(5, 1), {0, 200, 1, 6, 1, 0, 0, 0}}, []uint32{5}},
		"short LAPIC":     {[][]byte{{0, 4, 1, 6}, lapic(5, 1)}, []uint32{5}},
		"short x2APIC":    {[][]byte{{9, 8, 0, 0, 6, 0, 0, 0}, {1, 4, 0, 0}, lapic(5, 1)}, []uint32{5}},
		"unknown kind":    {[][]byte{{200, 6, 1, 2, 3, 4}, lapic(5, 1)}, []uint32{5}},
		"half an entry":   {[][]byte{lapic(5, 1), {0}}, []uint32{5}},
		"no entry at all": {nil, nil},
	} {
		m := fresh(t)
		at := m.table(0x4000, "APIC", madt(test.entries...))
		readMADT(uintptr(at), uintptr(binary.LittleEndian.Uint32(m.mem[0x4004:])))
		if got := apicIDs[:apicNum]; !slices.Equal(got, test.want) {
			t.Errorf("%s: processors %v, want %v", name, got, test.want)
		}
	}
}

func TestMoreProcessorsThanAreUsed(t *testing.T) {
	m := fresh(t)
	var all [][]byte
	for id := range cpu.Max + 10 {
		all = append(all, lapic(byte(id), 1))
	}
	m.root(0, m.table(0x1000, "RSDT", entries(0, m.table(0x4000, "APIC", madt(all...)))))
	findProcessors()
	if apicNum != cpu.Max || apicIDs[cpu.Max-1] != cpu.Max-1 {
		t.Errorf("%d processors, last has ID %d", apicNum, apicIDs[cpu.Max-1])
	}
}

func TestScanRSDP(t *testing.T) {
	m := fresh(t)
	m.root(0, 0x1234)
	copy(m.mem[0x2350:], m.mem[:36]) // 16-aligned
	copy(m.mem[0x2008:], m.mem[:36]) // not
	copy(m.mem[0x2200:], m.mem[:36])
	m.mem[0x2210]++ // checksum
	if got := scanRSDP(m.at+0x1000, m.at+0x3000); got != m.at+0x2350 {
		t.Errorf("RSDP found at %#x, want %#x", got, m.at+0x2350)
	}
	if got := scanRSDP(m.at+0x2360, m.at+0x3000); got != 0 {
		t.Errorf("RSDP found at %#x, there is none", got)
	}
}

// Whatever the tables hold: no crash, no more processors than there is room for.
func FuzzFindProcessors(f *testing.F) {
	f.Add([]byte{}, byte(2))
	f.Add(madt(lapic(0, 1), x2apic(1, 1)), byte(0))
	f.Fuzz(func(t *testing.T, body []byte, revision byte) {
		m := fresh(t)
		if len(body) > 0x8000 {
			body = body[:0x8000]
		}
		sig := "RSDT"
		if revision >= 2 {
			sig = "XSDT"
		}
		apic := m.table(0x4000, "APIC", body)
		m.root(revision, m.table(0x1000, sig, entries(revision, apic)))
		findProcessors()
		if apicNum > cpu.Max {
			t.Fatalf("%d processors", apicNum)
		}
	})
}

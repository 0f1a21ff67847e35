package acpi

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// image is physical memory with holes: chunks at addresses.
type image map[uint64][]byte

func (m image) Bytes(phys uint64, n int) ([]byte, error) {
	for base, b := range m {
		if phys >= base && phys-base <= uint64(len(b)) && uint64(n) <= uint64(len(b))-(phys-base) {
			return b[phys-base:][:n], nil
		}
	}
	return nil, fmt.Errorf("no memory at %#x-%#x", phys, phys+uint64(n))
}

// loadMachine builds the image of testdata/name: each table where the machine
// had it, in a zeroed BIOS area where it was there.
func loadMachine(t testing.TB, name string) (image, uint64) {
	t.Helper()
	dir := filepath.Join("testdata", name)
	layout, err := os.ReadFile(filepath.Join(dir, "layout"))
	if err != nil {
		t.Fatal(err)
	}
	m := image{biosAreaAddr: make([]byte, biosAreaLen), ebdaSegmentAddr: {0, 0}}
	var rsdp uint64
	for line := range strings.Lines(string(layout)) {
		var addr uint64
		var table string
		if _, err := fmt.Sscanf(line, "0x%x %s", &addr, &table); err != nil {
			t.Fatalf("%s/layout: %q: %v", dir, line, err)
		}
		b, err := os.ReadFile(filepath.Join(dir, table+".aml"))
		if err != nil {
			t.Fatal(err)
		}
		if table == "RSDP" {
			rsdp = addr
		}
		if addr >= biosAreaAddr && addr+uint64(len(b)) <= biosAreaAddr+biosAreaLen {
			copy(m[biosAreaAddr][addr-biosAreaAddr:], b)
		} else {
			m[addr] = b
		}
	}
	return m, rsdp
}

// sealed fills in length and checksum of a table.
func sealed(b []byte) []byte {
	binary.LittleEndian.PutUint32(b[offLength:], uint32(len(b)))
	b[9] = 0
	b[9] = -checksum(b)
	return b
}

// table builds a table of signature and body.
func table(sig string, body ...byte) []byte {
	return sealed(append(append([]byte(sig), make([]byte, headerLen-len(sig))...), body...))
}

// machine is a synthetic machine: an RSDP of revision 2 and an XSDT that lists
// the tables given.
func machine(tables ...[]byte) (image, uint64) {
	m := image{}
	var entries []byte
	for i, b := range tables {
		addr := uint64(0x10_0000 + i*0x1_0000)
		m[addr] = b
		entries = binary.LittleEndian.AppendUint64(entries, addr)
	}
	m[0x9000] = table("XSDT", entries...)
	m[0x8000] = rsdpV2(0x9000)
	return m, 0x8000
}

func rsdpV2(xsdt uint64) []byte {
	b := make([]byte, rsdpV2Len)
	copy(b, rsdpSignature)
	copy(b[9:], "TEST  ")
	b[offRSDPRevision] = 2
	binary.LittleEndian.PutUint32(b[offRSDPLength:], rsdpV2Len)
	binary.LittleEndian.PutUint64(b[offRSDPXSDT:], xsdt)
	return sealRSDP(b)
}

func sealRSDP(b []byte) []byte {
	b[8] = 0
	b[8] = -checksum(b[:rsdpV1Len])
	if len(b) >= rsdpV2Len {
		b[32] = 0
		b[32] = -checksum(b)
	}
	return b
}

// join concatenates.
func join(parts ...[]byte) []byte {
	var out []byte
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

// The AML that the tests are written in.

func pkg(op []byte, content ...[]byte) []byte {
	c := join(content...)
	switch n := len(c); {
	case n+1 < 0x40:
		return join(op, []byte{byte(n + 1)}, c)
	case n+2 < 0x1000:
		n += 2
		return join(op, []byte{0x40 | byte(n&0xF), byte(n >> 4)}, c)
	default:
		n += 3
		return join(op, []byte{0x80 | byte(n&0xF), byte(n >> 4), byte(n >> 12)}, c)
	}
}

func amlScope(name string, content ...[]byte) []byte {
	return pkg([]byte{opScope}, append([][]byte{[]byte(name)}, content...)...)
}

func amlDevice(name string, content ...[]byte) []byte {
	return pkg([]byte{opExt, extDevice}, append([][]byte{[]byte(name)}, content...)...)
}

func amlMethod(name string, content ...[]byte) []byte {
	return pkg([]byte{opMethod}, append([][]byte{[]byte(name), {0}}, content...)...)
}

func amlName(name string, data []byte) []byte { return join([]byte{opName}, []byte(name), data) }

func amlString(s string) []byte { return join([]byte{opString}, []byte(s), []byte{0}) }

func amlBuffer(content ...[]byte) []byte {
	c := join(content...)
	return pkg([]byte{opBuffer}, []byte{opWord, byte(len(c)), byte(len(c) >> 8)}, c)
}

func resFixedMem(base, size uint32) []byte {
	b := []byte{resFixed32, 9, 0, 1}
	b = binary.LittleEndian.AppendUint32(b, base)
	return binary.LittleEndian.AppendUint32(b, size)
}

func resInterrupt(flags byte, gsi ...uint32) []byte {
	b := []byte{resExtIRQ, byte(2 + 4*len(gsi)), 0, flags, byte(len(gsi))}
	for _, g := range gsi {
		b = binary.LittleEndian.AppendUint32(b, g)
	}
	return b
}

var resEndTag = []byte{0x79, 0}

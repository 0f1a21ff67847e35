package smbios

import (
	"encoding/binary"
	"errors"
	"os"
	"strings"
	"testing"
)

// tables are those of a machine with two structures and an end.
func tables() []byte {
	bios := []byte{typeBIOS, 18, 0, 0, 1, 2, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	system := []byte{typeSystem, 8, 1, 0, 1, 2, 0, 9}
	b := append(bios, "SeaBIOS\x001.16\x002014\x00\x00"...)
	b = append(b, system...)
	b = append(b, "QEMU\x00Standard PC\x00\x00"...)
	return append(b, typeEnd, 4, 2, 0, 0, 0)
}

// segment is a BIOS segment with an entry point of n bytes at off.
func segment(off int, e []byte, sumAt int) []byte {
	s := make([]byte, ScanBytes)
	e[sumAt] = -sum(e)
	copy(s[off:], e)
	return s
}

func entry32() []byte {
	e := make([]byte, 31)
	copy(e, "_SM_")
	e[5] = 31
	binary.LittleEndian.PutUint16(e[22:], uint16(len(tables())))
	binary.LittleEndian.PutUint32(e[24:], 0x1234000)
	return e
}

func entry64() []byte {
	e := make([]byte, 24)
	copy(e, "_SM3_")
	e[6] = 24
	binary.LittleEndian.PutUint32(e[12:], uint32(len(tables())))
	binary.LittleEndian.PutUint64(e[16:], 0x1234000)
	return e
}

func at(t *testing.T) func(uint64, int) ([]byte, error) {
	return func(pa uint64, n int) ([]byte, error) {
		if pa != 0x1234000 {
			t.Errorf("reads at %#x", pa)
		}
		return tables()[:n], nil
	}
}

func TestFind(t *testing.T) {
	want := Info{"SeaBIOS", "1.16", "QEMU", "Standard PC"}
	for name, s := range map[string][]byte{"32-bit": segment(0x5910, entry32(), 4), "64-bit": segment(0, entry64(), 5)} {
		got, err := Find(s, at(t))
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	broken := segment(0x100, entry32(), 4)
	broken[0x110]++
	for name, s := range map[string][]byte{"nothing": make([]byte, ScanBytes), "a bad sum": broken, "no segment": nil} {
		if _, err := Find(s, at(t)); !errors.Is(err, ErrNone) {
			t.Errorf("%s: %v", name, err)
		}
	}
	unmapped := errors.New("not mapped")
	if _, err := Find(segment(0, entry64(), 5), func(uint64, int) ([]byte, error) { return nil, unmapped }); !errors.Is(err, unmapped) {
		t.Errorf("memory that cannot be read: %v", err)
	}
}

// The tables of this machine, where Linux shows them, have the vendor that it tells.
func TestHost(t *testing.T) {
	b, err := os.ReadFile("/sys/firmware/dmi/tables/DMI")
	if err != nil {
		t.Skip(err)
	}
	v, err := os.ReadFile("/sys/class/dmi/id/bios_vendor")
	if err != nil {
		t.Skip(err)
	}
	if got := parse(b).BIOSVendor; got != strings.TrimSpace(string(v)) {
		t.Errorf("vendor %q, Linux has %q", got, v)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(tables(), entry32())
	f.Add([]byte{0, 255}, entry64())
	f.Fuzz(func(t *testing.T, b, e []byte) {
		parse(b)
		Find(e, func(_ uint64, n int) ([]byte, error) { return b[:min(n, len(b))], nil })
	})
}

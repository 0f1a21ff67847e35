// Package smbios reads the maker's names from the System Management BIOS tables.
//
// Spec: DMTF DSP0134 3.6.0: §5.2 entry points, §6.1 structures, §7.1 BIOS
// information (type 0), §7.2 system information (type 1). Not covered: entry points
// that only UEFI's configuration table names. Who may use it: kernel/platform. It
// trusts nothing that it reads. Start reading at Find.
package smbios

import (
	"bytes"
	"encoding/binary"
	"errors"
)

// The segment that an entry point lies in, on a 16-byte boundary (§5.2.1, §5.2.2).
const (
	ScanBase  = 0xf0000
	ScanBytes = 0x10000
)

// Info is what was found; a name may be empty.
type Info struct {
	BIOSVendor   string
	BIOSVersion  string
	Manufacturer string
	Product      string
}

// ErrNone says that there are no tables.
var ErrNone = errors.New("smbios: no entry point in the BIOS segment")

// maxTables is more than any machine has, in bytes.
const maxTables = 1 << 20

// Find looks for the entry point in segment, the bytes at ScanBase, and reads the
// tables that it names through physical.
func Find(segment []byte, physical func(pa uint64, n int) ([]byte, error)) (Info, error) {
	for at := 0; at+24 <= len(segment); at += 16 {
		pa, n, ok := entry(segment[at:])
		if !ok || n == 0 || n > maxTables {
			continue
		}
		b, err := physical(pa, n)
		if err != nil {
			return Info{}, err
		}
		return parse(b), nil
	}
	return Info{}, ErrNone
}

// entry reads an entry point: where the tables are, and how many bytes at most.
func entry(b []byte) (pa uint64, n int, ok bool) {
	switch {
	case bytes.HasPrefix(b, []byte("_SM3_")): // §5.2.2, 64-bit
		if l := int(b[6]); l >= 24 && l <= len(b) && sum(b[:l]) == 0 {
			return binary.LittleEndian.Uint64(b[16:]), int(binary.LittleEndian.Uint32(b[12:])), true
		}
	case bytes.HasPrefix(b, []byte("_SM_")): // §5.2.1, 32-bit
		if l := int(b[5]); l >= 31 && l <= len(b) && sum(b[:l]) == 0 {
			return uint64(binary.LittleEndian.Uint32(b[24:])), int(binary.LittleEndian.Uint16(b[22:])), true
		}
	}
	return 0, 0, false
}

func sum(b []byte) (s byte) {
	for _, x := range b {
		s += x
	}
	return s
}

// Structure types.
const (
	typeBIOS   = 0
	typeSystem = 1
	typeEnd    = 127
)

// parse walks the structures: a header of type, length and handle, the formatted
// part, then strings up to an empty one (§6.1.2, §6.1.3).
func parse(b []byte) (i Info) {
	for len(b) >= 4 && int(b[1]) >= 4 && int(b[1]) <= len(b) {
		s, text := b[:b[1]], b[b[1]:]
		end := bytes.Index(text, []byte{0, 0})
		if end < 0 {
			end = len(text)
		}
		names := bytes.Split(text[:end], []byte{0})
		name := func(off int) string {
			if off >= len(s) || int(s[off]) < 1 || int(s[off]) > len(names) {
				return ""
			}
			return string(names[s[off]-1])
		}
		switch s[0] {
		case typeBIOS:
			i.BIOSVendor, i.BIOSVersion = name(4), name(5)
		case typeSystem:
			i.Manufacturer, i.Product = name(4), name(5)
		case typeEnd:
			return i
		}
		b = text[min(end+2, len(text)):]
	}
	return i
}

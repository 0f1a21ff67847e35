package acpi

import (
	"encoding/binary"
	"fmt"
)

// System description table header, §5.2.6 table 5.4.
const (
	offSignature = 0 // 4 bytes
	offLength    = 4 // 4 bytes: of the whole table, header included
	offRevision  = 8 // 1 byte; the checksum is at 9
	headerLen    = 36

	// maxTableLen bounds one table. The largest DSDTs known are under 1 MiB.
	maxTableLen = 4 << 20
)

func le16(b []byte, off int) uint16 { return binary.LittleEndian.Uint16(b[off:]) }
func le32(b []byte, off int) uint32 { return binary.LittleEndian.Uint32(b[off:]) }
func le64(b []byte, off int) uint64 { return binary.LittleEndian.Uint64(b[off:]) }

// signature returns the signature of a table that has a header.
func signature(b []byte) string { return string(b[offSignature : offSignature+4]) }

// checksum is the sum of all bytes, modulo 256; of a sound table it is 0.
func checksum(b []byte) uint8 {
	var sum uint8
	for _, x := range b {
		sum += x
	}
	return sum
}

// fetch is Memory.Bytes with its answer checked.
func fetch(mem Memory, addr uint64, n int) ([]byte, error) {
	if addr == 0 {
		return nil, fmt.Errorf("the address is 0")
	}
	if addr+uint64(n) < addr {
		return nil, fmt.Errorf("%d bytes reach beyond the address space", n)
	}
	b, err := mem.Bytes(addr, n)
	if err != nil {
		return nil, err
	}
	if len(b) < n {
		return nil, fmt.Errorf("only %d of %d bytes are readable", len(b), n)
	}
	return b[:n:n], nil
}

// peekSignature reads only the signature, so that a table whose rest is
// garbled can be named.
func peekSignature(mem Memory, addr uint64) (string, error) {
	b, err := fetch(mem, addr, 4)
	if err != nil {
		return "", err
	}
	for _, c := range b {
		if c < ' ' || c > '~' {
			return "", fmt.Errorf("signature is %q", b)
		}
	}
	return string(b), nil
}

// readTable returns the whole table at addr, its header and checksum verified.
func readTable(mem Memory, addr uint64) ([]byte, error) {
	h, err := fetch(mem, addr, headerLen)
	if err != nil {
		return nil, err
	}
	n := le32(h, offLength)
	if n < headerLen || n > maxTableLen {
		return nil, fmt.Errorf("length is %d bytes, want %d to %d", n, headerLen, maxTableLen)
	}
	b, err := fetch(mem, addr, int(n))
	if err != nil {
		return nil, err
	}
	if err := verify(b); err != nil {
		return nil, err
	}
	return b, nil
}

// verify checks length and checksum of a whole table.
func verify(b []byte) error {
	if len(b) < headerLen {
		return fmt.Errorf("%d bytes are shorter than a table header", len(b))
	}
	if n := le32(b, offLength); uint64(n) != uint64(len(b)) {
		return fmt.Errorf("length field is %d, table has %d bytes", n, len(b))
	}
	if sum := checksum(b); sum != 0 {
		return fmt.Errorf("the %d bytes sum to %#02x, want 0", len(b), sum)
	}
	return nil
}

// verifyAs is verify, with a signature and a least length.
func verifyAs(b []byte, sig string, least int) error {
	if err := verify(b); err != nil {
		return err
	}
	if got := signature(b); got != sig {
		return fmt.Errorf("signature is %q, want %q", got, sig)
	}
	if len(b) < least {
		return fmt.Errorf("%d bytes, want at least %d", len(b), least)
	}
	return nil
}

// AddressSpace says what a GAS address means, §5.2.3.2 table 5.1.
type AddressSpace uint8

// The address spaces that occur on PCs.
const (
	SystemMemory AddressSpace = 0
	SystemIO     AddressSpace = 1
	PCIConfig    AddressSpace = 2 // bus 0 only: device<<32 | function<<16 | offset
)

func (s AddressSpace) String() string {
	switch s {
	case SystemMemory:
		return "memory"
	case SystemIO:
		return "I/O"
	case PCIConfig:
		return "PCI config"
	}
	return fmt.Sprintf("address space %d", uint8(s))
}

// GAS is a Generic Address Structure: where a register is, §5.2.3.2. The zero
// value means that there is no such register.
type GAS struct {
	Space      AddressSpace
	BitWidth   uint8
	BitOffset  uint8
	AccessSize uint8 // 0 undefined, 1 byte, 2 word, 3 dword, 4 qword
	Addr       uint64
}

const gasLen = 12

// parseGAS reads the GAS at off. Caller has checked the length.
func parseGAS(b []byte, off int) GAS {
	return GAS{AddressSpace(b[off]), b[off+1], b[off+2], b[off+3], le64(b, off+4)}
}

// Valid reports whether there is such a register: §4.8.1, an address of 0 means
// that it is not implemented.
func (g GAS) Valid() bool { return g.Addr != 0 }

func (g GAS) String() string {
	if !g.Valid() {
		return "none"
	}
	return fmt.Sprintf("%s %#x/%d", g.Space, g.Addr, g.BitWidth)
}

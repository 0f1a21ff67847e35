package acpi

import (
	"errors"
	"fmt"
)

// Root System Description Pointer, §5.2.5.3 table 5.3.
const (
	rsdpSignature = "RSD PTR "
	rsdpV1Len     = 20 // up to and with RsdtAddress: what ACPI 1.0 defines
	rsdpV2Len     = 36

	offRSDPRevision = 15
	offRSDPRSDT     = 16
	offRSDPLength   = 20
	offRSDPXSDT     = 24
)

// ErrNoRSDP says that the BIOS areas hold no RSDP: the machine has no ACPI, or
// only its boot loader knows where.
var ErrNoRSDP = errors.New("acpi: no RSDP in the EBDA or in 0xe0000-0xfffff")

// RSDP is the root of all tables.
type RSDP struct {
	Addr     uint64 // physical address of the structure itself
	Revision uint8  // 0 is ACPI 1.0, 2 is ACPI 2.0 and later
	OEMID    string
	RSDT     uint32 // physical address, or 0
	XSDT     uint64 // physical address, or 0; always 0 before revision 2
}

// Where §5.2.5.1 lets the RSDP be on machines booted by a BIOS: on 16-byte
// boundaries in the first KiB of the EBDA and in the BIOS read-only area.
const (
	ebdaSegmentAddr = 0x40E // BIOS data area: real-mode segment of the EBDA
	ebdaScanLen     = 1 << 10
	biosAreaAddr    = 0xE0000
	biosAreaLen     = 0x20000
	rsdpAlign       = 16
)

// FindRSDP returns the physical address of the first RSDP with a right checksum
// in the EBDA or the BIOS area. It returns ErrNoRSDP where there is none; an
// area that cannot be read holds none.
func FindRSDP(mem Memory) (uint64, error) {
	if b, err := fetch(mem, ebdaSegmentAddr, 2); err == nil {
		ebda := uint64(le16(b, 0)) << 4
		// Below 0x400 is the interrupt vector table: no EBDA was set up.
		if ebda >= 0x400 {
			if addr, ok := scanRSDP(mem, ebda, ebdaScanLen); ok {
				return addr, nil
			}
		}
	}
	if addr, ok := scanRSDP(mem, biosAreaAddr, biosAreaLen); ok {
		return addr, nil
	}
	return 0, ErrNoRSDP
}

func scanRSDP(mem Memory, base uint64, n int) (uint64, bool) {
	area, err := fetch(mem, base, n)
	if err != nil {
		return 0, false
	}
	for off := 0; off+rsdpV1Len <= n; off += rsdpAlign {
		b := area[off : off+rsdpV1Len]
		if string(b[:8]) == rsdpSignature && checksum(b) == 0 {
			return base + uint64(off), true
		}
	}
	return 0, false
}

// readRSDP reads and verifies the RSDP at addr.
func readRSDP(mem Memory, addr uint64) (RSDP, error) {
	fail := func(err error) (RSDP, error) {
		return RSDP{}, fmt.Errorf("acpi: RSDP at %#x: %w", addr, err)
	}
	b, err := fetch(mem, addr, rsdpV1Len)
	if err != nil {
		return fail(err)
	}
	if b[offRSDPRevision] >= 2 {
		if b, err = fetch(mem, addr, rsdpV2Len); err != nil {
			return fail(err)
		}
		// The structure may grow; the extended checksum covers all of it.
		if n := le32(b, offRSDPLength); n > rsdpV2Len && n <= 1<<10 {
			if b, err = fetch(mem, addr, int(n)); err != nil {
				return fail(err)
			}
		}
	}
	r, err := ParseRSDP(b)
	if err != nil {
		return fail(err)
	}
	r.Addr = addr
	return r, nil
}

// ParseRSDP verifies and decodes an RSDP. b holds 20 bytes at revision 0, and
// from revision 2 on as many as its length field says.
func ParseRSDP(b []byte) (RSDP, error) {
	if len(b) < rsdpV1Len {
		return RSDP{}, fmt.Errorf("%d bytes, want at least %d", len(b), rsdpV1Len)
	}
	if got := string(b[:8]); got != rsdpSignature {
		return RSDP{}, fmt.Errorf("signature is %q, want %q", got, rsdpSignature)
	}
	if sum := checksum(b[:rsdpV1Len]); sum != 0 {
		return RSDP{}, fmt.Errorf("the first %d bytes sum to %#02x, want 0", rsdpV1Len, sum)
	}
	r := RSDP{
		Revision: b[offRSDPRevision],
		OEMID:    text(b[9:15]),
		RSDT:     le32(b, offRSDPRSDT),
	}
	if r.Revision >= 2 {
		if len(b) < rsdpV2Len {
			return RSDP{}, fmt.Errorf("revision %d in %d bytes, want %d", r.Revision, len(b), rsdpV2Len)
		}
		n := le32(b, offRSDPLength)
		if n < rsdpV2Len || uint64(n) > uint64(len(b)) {
			return RSDP{}, fmt.Errorf("length field is %d bytes, want %d to %d", n, rsdpV2Len, len(b))
		}
		if sum := checksum(b[:n]); sum != 0 {
			return RSDP{}, fmt.Errorf("all %d bytes sum to %#02x, want 0", n, sum)
		}
		r.XSDT = le64(b, offRSDPXSDT)
	}
	if r.RSDT == 0 && r.XSDT == 0 {
		return RSDP{}, errors.New("neither an RSDT nor an XSDT address")
	}
	return r, nil
}

// text is a fixed-width field without its padding, made printable.
func text(b []byte) string {
	end := len(b)
	for end > 0 && (b[end-1] == ' ' || b[end-1] == 0) {
		end--
	}
	out := make([]byte, end)
	for i, c := range b[:end] {
		if c < ' ' || c > '~' {
			c = '?'
		}
		out[i] = c
	}
	return string(out)
}

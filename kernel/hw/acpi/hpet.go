package acpi

import "fmt"

// HPET describes a high precision event timer block, IA-PC HPET 1.0a §3.2.4.
// Its period is in the block's own capability register.
type HPET struct {
	Regs        GAS // always in memory
	HardwareRev uint8
	Comparators uint8 // at least 1
	Counter64   bool  // the main counter has 64 bits
	LegacyRoute bool  // can take over IRQ 0 and 8
	VendorID    uint16
	Number      uint8
	MinTick     uint16 // least period in periodic mode, in counter ticks
}

const (
	offHPETBlockID = 36
	offHPETRegs    = 40
	offHPETNumber  = 52
	offHPETMinTick = 53
	hpetLen        = 56
)

// ParseHPET decodes a whole HPET table.
func ParseHPET(b []byte) (*HPET, error) {
	if err := verifyAs(b, "HPET", hpetLen); err != nil {
		return nil, err
	}
	id := le32(b, offHPETBlockID)
	h := &HPET{
		Regs:        parseGAS(b, offHPETRegs),
		HardwareRev: uint8(id),
		Comparators: uint8(id>>8&0x1F) + 1,
		Counter64:   id>>13&1 != 0,
		LegacyRoute: id>>15&1 != 0,
		VendorID:    uint16(id >> 16),
		Number:      b[offHPETNumber],
		MinTick:     le16(b, offHPETMinTick),
	}
	if h.Regs.Space != SystemMemory || h.Regs.Addr == 0 {
		return nil, fmt.Errorf("registers at %v %#x, want an address in memory", h.Regs.Space, h.Regs.Addr)
	}
	return h, nil
}

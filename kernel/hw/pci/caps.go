package pci

// Cap is one entry of the capability list, PCI 3.0 §6.7.
type Cap struct {
	ID  uint8
	Off uint16 // 0x40 to 0xFC, a multiple of 4
}

// Capability IDs, PCI Code and ID Assignment 1.11 §2.
const (
	CapMSI    uint8 = 0x05
	CapVendor uint8 = 0x09
	CapPCIe   uint8 = 0x10
	CapMSIX   uint8 = 0x11
)

// ExtCap is one entry of the extended capability list, PCI Express 5.0 §7.6.3.
type ExtCap struct {
	ID      uint16
	Version uint8
	Off     uint16 // 0x100 to 0xFFC, a multiple of 4
}

const extCapStart = 0x100

// Cap returns the first capability with the ID.
func (d *Device) Cap(id uint8) (Cap, bool) {
	for _, c := range d.Caps {
		if c.ID == id {
			return c, true
		}
	}
	return Cap{}, false
}

// ExtCap returns the first extended capability with the ID.
func (d *Device) ExtCap(id uint16) (ExtCap, bool) {
	for _, c := range d.ExtCaps {
		if c.ID == id {
			return c, true
		}
	}
	return ExtCap{}, false
}

// readCaps walks the capability list. On error the capabilities up to the fault
// stand.
func (d *Device) readCaps() error {
	if d.Read16(regStatus)&statusCapList == 0 {
		return nil
	}
	var seen [configLen / 4]bool
	// §6.7: the two lowest bits of a pointer are reserved and to be masked.
	for off := uint16(d.Read8(regCapPointer) &^ 3); off != 0; {
		if off < headerLen {
			return d.errorf("capability list points into the header, to %#x", off)
		}
		if seen[off/4] {
			return d.errorf("capability list loops back to %#x", off)
		}
		seen[off/4] = true
		v := d.Read16(off)
		if v == 0xFFFF {
			return d.errorf("capability at %#x reads as all ones", off)
		}
		d.Caps = append(d.Caps, Cap{uint8(v), off})
		off = v >> 8 &^ 3
	}
	return nil
}

// readExtCaps walks the extended capability list; only PCI Express has one.
func (d *Device) readExtCaps() error {
	if _, ok := d.Cap(CapPCIe); !ok {
		return nil
	}
	var seen [extendedConfigLen / 4]bool
	for off := uint16(extCapStart); off != 0; {
		if off < extCapStart {
			return d.errorf("extended capability list points to %#x", off)
		}
		if seen[off/4] {
			return d.errorf("extended capability list loops back to %#x", off)
		}
		seen[off/4] = true
		v := d.Read32(off)
		if v == 0xFFFF_FFFF && off == extCapStart {
			return nil // configuration access does not reach that far
		}
		if v == 0xFFFF_FFFF {
			return d.errorf("extended capability at %#x reads as all ones", off)
		}
		if v == 0 {
			return nil // §7.6.3.1: an empty list is an all-zero header
		}
		d.ExtCaps = append(d.ExtCaps, ExtCap{uint16(v), uint8(v >> 16 & 0xF), off})
		off = uint16(v>>20) &^ 3
	}
	return nil
}

// PCI Express capability, PCI Express 5.0 §7.5.3.2: device/port type.
const (
	regPCIeCaps        = 2 // from the capability's start
	pcieRootPort       = 4
	pcieDownstreamPort = 6
)

// oneDeviceBelow reports whether d is a port with a link below it, on which
// there is only device 0.
func (d *Device) oneDeviceBelow() bool {
	c, ok := d.Cap(CapPCIe)
	if !ok {
		return false
	}
	switch d.Read16(c.Off+regPCIeCaps) >> 4 & 0xF {
	case pcieRootPort, pcieDownstreamPort:
		return true
	}
	return false
}

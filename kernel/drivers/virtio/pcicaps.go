package virtio

import "fmt"

// VendorPCI is the PCI vendor ID of all virtio devices, §4.1.2.
const VendorPCI = 0x1af4

// PCIDeviceID tells the device type of a PCI function by its IDs, §4.1.2: device
// 0x1040 + type is modern only; 0x1000 to 0x103f is transitional, with the type
// as subsystem device ID. It reports false where it is no virtio function.
func PCIDeviceID(vendor, device, subsystem uint16) (id DeviceID, transitional, ok bool) {
	switch {
	case vendor != VendorPCI || device < 0x1000 || device > 0x107f:
		return 0, false, false
	case device >= 0x1040:
		return DeviceID(device - 0x1040), false, true
	}
	return DeviceID(subsystem), true, true
}

// cfg_type of a virtio capability, §4.1.4.
const (
	capCommon = 1
	capNotify = 2
	capISR    = 3
	capDevice = 4
)

// PCICap is one virtio structure capability: length bytes at offset in a BAR.
type PCICap struct {
	BAR    uint8
	Offset uint32
	Length uint32
}

// PCICaps are the capabilities that a driver uses; Length 0 means absent.
type PCICaps struct {
	Common, Notify, ISR, Device PCICap
	NotifyMultiplier            uint32
}

// Modern reports whether the function has what the modern transport needs.
func (c PCICaps) Modern() bool {
	return c.Common.Length != 0 && c.Notify.Length != 0 && c.ISR.Length != 0
}

// Offsets in PCI configuration space, PCI 3.0 §6.1 and §6.7.
const (
	pciStatus         = 0x06 // upper half of the dword at 4
	pciStatusCapList  = 1 << 4
	pciCapPointer     = 0x34
	pciCapVendor      = 0x09
	maxPCICaps        = 48 // (256 - 64) / 4: a longer list has a loop in it
	pciHeaderLen      = 0x40
	pciCapLen         = 16
	pciNotifyCapLen   = 20
	pciConfigSpaceLen = 256
)

// FindPCICaps walks the capability list of a function. read returns the aligned
// 32-bit word at an offset below 256 of its configuration space. As §4.1.4.1
// says, the first usable capability of each type counts, and those with reserved
// BAR numbers or types are passed over. A garbled list is an error.
func FindPCICaps(read func(off uint16) uint32) (PCICaps, error) {
	var c PCICaps
	if read(pciStatus&^3)>>16&pciStatusCapList == 0 {
		return c, nil
	}
	at := uint16(read(pciCapPointer)) & 0xfc
	for n := 0; at != 0; n++ {
		if at < pciHeaderLen || n >= maxPCICaps {
			return c, fmt.Errorf("virtio-pci: capability list is garbled: entry %d at %#x", n, at)
		}
		head := read(at)
		if uint8(head) == pciCapVendor {
			c.add(read, at, head)
		}
		at = uint16(head>>8) & 0xfc
	}
	return c, nil
}

// add takes the capability at offset at, whose first word is head: vendor ID,
// next, cap_len, cfg_type.
func (c *PCICaps) add(read func(off uint16) uint32, at uint16, head uint32) {
	capLen, cfgType := int(head>>16&0xff), uint8(head>>24)
	if capLen < pciCapLen || int(at)+pciCapLen > pciConfigSpaceLen {
		return
	}
	p := PCICap{BAR: uint8(read(at + 4)), Offset: read(at + 8), Length: read(at + 12)}
	if p.BAR > 5 || p.Length == 0 {
		return
	}
	switch cfgType {
	case capCommon:
		setFirst(&c.Common, p)
	case capISR:
		setFirst(&c.ISR, p)
	case capDevice:
		setFirst(&c.Device, p)
	case capNotify:
		if c.Notify.Length == 0 && capLen >= pciNotifyCapLen && int(at)+pciNotifyCapLen <= pciConfigSpaceLen {
			c.Notify, c.NotifyMultiplier = p, read(at+16)
		}
	}
}

func setFirst(dst *PCICap, p PCICap) {
	if dst.Length == 0 {
		*dst = p
	}
}

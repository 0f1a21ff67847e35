package virtio

import (
	"fmt"

	"osv/kernel/hw/mmio"
)

// Legacy register layout in the first BAR, a range of I/O ports, VIRTIO 1.2
// §4.1.4.10. The two vectors are there only while MSI-X is enabled, and the
// device-specific configuration comes right behind.
const (
	legDeviceFeatures   mmio.Off = 0x00 // R  32 bits
	legDriverFeatures   mmio.Off = 0x04 // RW 32 bits
	legQueueAddress     mmio.Off = 0x08 // RW 32 bits, in pages of 4 KiB
	legQueueSize        mmio.Off = 0x0c // R  16 bits
	legQueueSelect      mmio.Off = 0x0e // RW 16 bits
	legQueueNotify      mmio.Off = 0x10 // RW 16 bits; a doorbell
	legDeviceStatus     mmio.Off = 0x12 // RW 8 bits
	legISRStatus        mmio.Off = 0x13 // R  8 bits; reading clears
	legConfig           mmio.Off = 0x14 // without MSI-X
	legConfigMSIXVector mmio.Off = 0x14 // RW 16 bits
	legQueueMSIXVector  mmio.Off = 0x16 // RW 16 bits
	legConfigMSIX       mmio.Off = 0x18 // with MSI-X
)

// LegacyPCI is the PCI transport from before VIRTIO 1.0.
type LegacyPCI struct {
	s    mmio.Space
	id   DeviceID
	msix bool
}

// NewLegacyPCI makes the transport of a legacy or transitional device whose first
// BAR is s. msix says that MSI-X is enabled, which moves the configuration.
func NewLegacyPCI(id DeviceID, s mmio.Space, msix bool) (*LegacyPCI, error) {
	t := &LegacyPCI{s, id, msix}
	if n := s.Len(); n < uint32(t.config()) {
		return nil, fmt.Errorf("virtio-pci: device %d: legacy registers of %d bytes, need %d", id, n, uint32(t.config()))
	}
	return t, nil
}

func (t *LegacyPCI) String() string     { return "pci-legacy" }
func (t *LegacyPCI) DeviceID() DeviceID { return t.id }

// Legacy is true.
func (t *LegacyPCI) Legacy() bool { return true }

// MSIX reports whether vectors count.
func (t *LegacyPCI) MSIX() bool { return t.msix }

// Reset writes 0 to the status and reads it back.
func (t *LegacyPCI) Reset() error {
	t.SetStatus(0)
	return waitReset(func() uint32 { return uint32(t.Status()) })
}

// Status reads device_status.
func (t *LegacyPCI) Status() Status { return Status(t.s.Load8(legDeviceStatus)) }

// SetStatus writes device_status.
func (t *LegacyPCI) SetStatus(s Status) { t.s.Store8(legDeviceStatus, uint8(s)) }

// DeviceFeatures reads the 32 bits there are.
func (t *LegacyPCI) DeviceFeatures() Features { return Features(t.s.Load32(legDeviceFeatures)) }

// SetDriverFeatures writes the 32 bits there are.
func (t *LegacyPCI) SetDriverFeatures(f Features) { t.s.Store32(legDriverFeatures, uint32(f)) }

// QueueMax reads the queue's size, which the driver cannot change.
func (t *LegacyPCI) QueueMax(i uint16) (int, error) {
	t.s.Store16(legQueueSelect, i)
	if a := t.s.Load32(legQueueAddress); a != 0 {
		return 0, fmt.Errorf("queue is in use after a reset: page %#x", a)
	}
	return int(t.s.Load16(legQueueSize)), nil
}

// QueueSizeFixed is true.
func (t *LegacyPCI) QueueSizeFixed() bool { return true }

// EnableQueue is §4.1.5.1.3 with the legacy notes.
func (t *LegacyPCI) EnableQueue(i uint16, m QueueMem, vector uint16) (Notify, error) {
	pfn, err := legacyPFN(m)
	if err != nil {
		return Notify{}, err
	}
	t.s.Store16(legQueueSelect, i)
	if t.msix {
		t.s.Store16(legQueueMSIXVector, vector)
		if got := t.s.Load16(legQueueMSIXVector); got != vector {
			return Notify{}, fmt.Errorf("device takes MSI-X vector %#x as %#x", vector, got)
		}
	}
	t.s.Store32(legQueueAddress, pfn)
	return Notify{Bell: t.s.Doorbell(legQueueNotify)}, nil
}

// SetConfigVector writes the configuration vector.
func (t *LegacyPCI) SetConfigVector(vector uint16) error {
	if !t.msix {
		return nil
	}
	t.s.Store16(legConfigMSIXVector, vector)
	if got := t.s.Load16(legConfigMSIXVector); got != vector {
		return fmt.Errorf("device takes MSI-X vector %#x for configuration changes as %#x", vector, got)
	}
	return nil
}

func (t *LegacyPCI) config() mmio.Off {
	if t.msix {
		return legConfigMSIX
	}
	return legConfig
}

// Config is what lies behind the registers.
func (t *LegacyPCI) Config() mmio.Space {
	n := t.s.Len() - uint32(t.config())
	if n == 0 {
		return nil
	}
	return window{t.s, t.config(), n}
}

// Generation is constant: legacy devices have none.
func (t *LegacyPCI) Generation() uint32 { return 0 }

// AckInterrupt reads the ISR status, which clears it.
func (t *LegacyPCI) AckInterrupt() uint8 { return t.s.Load8(legISRStatus) }

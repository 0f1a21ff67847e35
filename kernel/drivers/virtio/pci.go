package virtio

import (
	"fmt"

	"osv/kernel/hw/dma"
	"osv/kernel/hw/mmio"
)

// Common configuration structure, VIRTIO 1.2 §4.1.4.3. Names follow the spec.
const (
	regDeviceFeatureSelect mmio.Off = 0x00 // RW
	regDeviceFeature       mmio.Off = 0x04 // R
	regDriverFeatureSelect mmio.Off = 0x08 // RW
	regDriverFeature       mmio.Off = 0x0c // RW
	regConfigMSIXVector    mmio.Off = 0x10 // RW 16 bits
	regNumQueues           mmio.Off = 0x12 // R  16 bits
	regDeviceStatus        mmio.Off = 0x14 // RW 8 bits
	regConfigGeneration    mmio.Off = 0x15 // R  8 bits
	regQueueSelect         mmio.Off = 0x16 // RW 16 bits; what follows is about this queue
	regQueueSize           mmio.Off = 0x18 // RW 16 bits
	regQueueMSIXVector     mmio.Off = 0x1a // RW 16 bits
	regQueueEnable         mmio.Off = 0x1c // RW 16 bits
	regQueueNotifyOff      mmio.Off = 0x1e // R  16 bits, in units of the notify multiplier
	regQueueDesc           mmio.Off = 0x20 // RW 64 bits, as are the next two
	regQueueDriver         mmio.Off = 0x28 // RW
	regQueueDevice         mmio.Off = 0x30 // RW
	commonLen                       = 0x38
)

// PCIWindows are the register windows of a modern PCI device, each as large as
// its capability says (see PCICaps).
type PCIWindows struct {
	Common           mmio.Space
	Notify           mmio.Space
	NotifyMultiplier uint32
	ISR              mmio.Space
	Device           mmio.Space // device-specific configuration; nil where there is none
}

// PCI is the modern PCI transport, §4.1.
type PCI struct {
	w    PCIWindows
	id   DeviceID
	msix bool
}

// NewPCI makes the transport of a modern device. msix says that MSI-X is enabled
// in the function's capability, so that vectors count and the ISR does not.
func NewPCI(id DeviceID, w PCIWindows, msix bool) (*PCI, error) {
	if w.Common == nil || w.Notify == nil || w.ISR == nil {
		return nil, fmt.Errorf("virtio-pci: device %d: common, notify or ISR window is missing", id)
	}
	if n := w.Common.Len(); n < commonLen {
		return nil, fmt.Errorf("virtio-pci: device %d: common configuration of %d bytes, need %d", id, n, commonLen)
	}
	if w.ISR.Len() < 1 {
		return nil, fmt.Errorf("virtio-pci: device %d: ISR window is empty", id)
	}
	return &PCI{w: w, id: id, msix: msix}, nil
}

func (t *PCI) String() string     { return "pci" }
func (t *PCI) DeviceID() DeviceID { return t.id }

// Legacy is false.
func (t *PCI) Legacy() bool { return false }

// MSIX reports whether vectors count.
func (t *PCI) MSIX() bool { return t.msix }

// Reset is §4.1.4.3.2.
func (t *PCI) Reset() error {
	t.SetStatus(0)
	return waitReset(func() uint32 { return uint32(t.Status()) })
}

// Status reads device_status.
func (t *PCI) Status() Status { return Status(t.w.Common.Load8(regDeviceStatus)) }

// SetStatus writes device_status.
func (t *PCI) SetStatus(s Status) { t.w.Common.Store8(regDeviceStatus, uint8(s)) }

// DeviceFeatures reads both words of device_feature.
func (t *PCI) DeviceFeatures() Features {
	c := t.w.Common
	c.Store32(regDeviceFeatureSelect, 0)
	lo := c.Load32(regDeviceFeature)
	c.Store32(regDeviceFeatureSelect, 1)
	return Features(lo) | Features(c.Load32(regDeviceFeature))<<32
}

// SetDriverFeatures writes both words of driver_feature.
func (t *PCI) SetDriverFeatures(f Features) {
	c := t.w.Common
	c.Store32(regDriverFeatureSelect, 0)
	c.Store32(regDriverFeature, uint32(f))
	c.Store32(regDriverFeatureSelect, 1)
	c.Store32(regDriverFeature, uint32(f>>32))
}

// QueueMax reads queue_size, which is the maximum after a reset.
func (t *PCI) QueueMax(i uint16) (int, error) {
	c := t.w.Common
	if n := c.Load16(regNumQueues); i >= n {
		return 0, fmt.Errorf("device has only %d queues", n)
	}
	c.Store16(regQueueSelect, i)
	return int(c.Load16(regQueueSize)), nil
}

// QueueSizeFixed is false.
func (t *PCI) QueueSizeFixed() bool { return false }

// EnableQueue is §4.1.5.1.3.
func (t *PCI) EnableQueue(i uint16, m QueueMem, vector uint16) (Notify, error) {
	c := t.w.Common
	c.Store16(regQueueSelect, i)
	off := uint64(c.Load16(regQueueNotifyOff)) * uint64(t.w.NotifyMultiplier)
	if off&1 != 0 || off&^3+4 > uint64(t.w.Notify.Len()) {
		return Notify{}, fmt.Errorf("notify register at %#x is outside its window of %#x bytes", off, t.w.Notify.Len())
	}
	c.Store16(regQueueSize, m.Size)
	store64(c, regQueueDesc, m.Desc)
	store64(c, regQueueDriver, m.Driver)
	store64(c, regQueueDevice, m.Device)
	if t.msix {
		c.Store16(regQueueMSIXVector, vector)
		if got := c.Load16(regQueueMSIXVector); got != vector { // §4.1.5.1.2
			return Notify{}, fmt.Errorf("device takes MSI-X vector %#x as %#x", vector, got)
		}
	}
	c.Store16(regQueueEnable, 1)
	return Notify{Bell: t.w.Notify.Doorbell(mmio.Off(off))}, nil
}

// store64 writes a 64-bit register as two halves, §4.1.3.1.
func store64(s mmio.Space, o mmio.Off, a dma.Addr) {
	s.Store32(o, uint32(a))
	s.Store32(o+4, uint32(a>>32))
}

// SetConfigVector writes config_msix_vector.
func (t *PCI) SetConfigVector(vector uint16) error {
	if !t.msix {
		return nil
	}
	t.w.Common.Store16(regConfigMSIXVector, vector)
	if got := t.w.Common.Load16(regConfigMSIXVector); got != vector {
		return fmt.Errorf("device takes MSI-X vector %#x for configuration changes as %#x", vector, got)
	}
	return nil
}

// Config is the device-specific configuration window.
func (t *PCI) Config() mmio.Space { return t.w.Device }

// Generation reads config_generation.
func (t *PCI) Generation() uint32 { return uint32(t.w.Common.Load8(regConfigGeneration)) }

// AckInterrupt reads the ISR status, which also clears it and lowers the pin,
// §4.1.4.5.
func (t *PCI) AckInterrupt() uint8 { return t.w.ISR.Load8(0) }

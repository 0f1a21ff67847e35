package virtio

import (
	"errors"
	"fmt"

	"osv/kernel/hw/mmio"
)

// MMIO register layout, VIRTIO 1.2 §4.2.2 table 4.1, and for version 1 §4.2.4
// table 4.2. Names follow the spec. Registers are 32 bits wide.
const (
	regMagicValue        mmio.Off = 0x000 // R   "virt", little-endian
	regVersion           mmio.Off = 0x004 // R   2; legacy 1
	regDeviceID          mmio.Off = 0x008 // R   device type; 0: an empty slot
	regDeviceFeatures    mmio.Off = 0x010 // R
	regDeviceFeaturesSel mmio.Off = 0x014 // W
	regDriverFeatures    mmio.Off = 0x020 // W
	regDriverFeaturesSel mmio.Off = 0x024 // W
	regGuestPageSize     mmio.Off = 0x028 // W   legacy
	regQueueSel          mmio.Off = 0x030 // W
	regQueueNumMax       mmio.Off = 0x034 // R   0: no such queue
	regQueueNum          mmio.Off = 0x038 // W
	regQueueAlign        mmio.Off = 0x03c // W   legacy
	regQueuePFN          mmio.Off = 0x040 // RW  legacy
	regQueueReady        mmio.Off = 0x044 // RW
	regQueueNotify       mmio.Off = 0x050 // W   queue index; a doorbell
	regInterruptStatus   mmio.Off = 0x060 // R   bit 0 used buffer, bit 1 configuration
	regInterruptACK      mmio.Off = 0x064 // W
	regStatus            mmio.Off = 0x070 // RW  device status
	regQueueDescLow      mmio.Off = 0x080 // W   64 bits, as are the next two
	regQueueDriverLow    mmio.Off = 0x090 // W
	regQueueDeviceLow    mmio.Off = 0x0a0 // W
	regGeneration        mmio.Off = 0x0fc // R   ConfigGeneration
	regConfig            mmio.Off = 0x100 // RW  device-specific configuration
)

const mmioMagic = 0x74726976

// ErrNoDevice is returned for an MMIO slot with nothing in it.
var ErrNoDevice = errors.New("virtio-mmio: empty slot")

// MMIO is the MMIO transport, §4.2, of version 2 or 1 (legacy).
type MMIO struct {
	s      mmio.Space
	id     DeviceID
	legacy bool
}

// NewMMIO makes the transport of the device in slot s. It returns ErrNoDevice
// where the slot is empty, and another error where it is no virtio slot.
func NewMMIO(s mmio.Space) (*MMIO, error) {
	if n := s.Len(); n < uint32(regConfig) {
		return nil, fmt.Errorf("virtio-mmio: slot of %d bytes, need at least %d", n, uint32(regConfig))
	}
	if m := s.Load32(regMagicValue); m != mmioMagic {
		return nil, fmt.Errorf("virtio-mmio: magic value %#x", m)
	}
	v := s.Load32(regVersion)
	if v != 1 && v != 2 {
		return nil, fmt.Errorf("virtio-mmio: version %d", v)
	}
	id := s.Load32(regDeviceID)
	if id == 0 {
		return nil, ErrNoDevice
	}
	return &MMIO{s, DeviceID(id), v == 1}, nil
}

func (t *MMIO) String() string {
	if t.legacy {
		return "mmio-legacy"
	}
	return "mmio"
}

// DeviceID is the device type.
func (t *MMIO) DeviceID() DeviceID { return t.id }

// Legacy reports version 1.
func (t *MMIO) Legacy() bool { return t.legacy }

// MSIX is false: there is one interrupt.
func (t *MMIO) MSIX() bool { return false }

// Reset writes 0 to Status and waits for 0.
func (t *MMIO) Reset() error {
	t.SetStatus(0)
	return waitReset(func() uint32 { return t.s.Load32(regStatus) })
}

// Status reads Status.
func (t *MMIO) Status() Status { return Status(t.s.Load32(regStatus)) }

// SetStatus writes Status.
func (t *MMIO) SetStatus(s Status) { t.s.Store32(regStatus, uint32(s)) }

// DeviceFeatures reads both words of DeviceFeatures; legacy has one.
func (t *MMIO) DeviceFeatures() Features {
	t.s.Store32(regDeviceFeaturesSel, 0)
	f := Features(t.s.Load32(regDeviceFeatures))
	if !t.legacy {
		t.s.Store32(regDeviceFeaturesSel, 1)
		f |= Features(t.s.Load32(regDeviceFeatures)) << 32
	}
	return f
}

// SetDriverFeatures writes both words of DriverFeatures; legacy has one.
func (t *MMIO) SetDriverFeatures(f Features) {
	t.s.Store32(regDriverFeaturesSel, 0)
	t.s.Store32(regDriverFeatures, uint32(f))
	if !t.legacy {
		t.s.Store32(regDriverFeaturesSel, 1)
		t.s.Store32(regDriverFeatures, uint32(f>>32))
	}
}

// QueueMax reads QueueNumMax.
func (t *MMIO) QueueMax(i uint16) (int, error) {
	t.s.Store32(regQueueSel, uint32(i))
	inUse := regQueueReady
	if t.legacy {
		inUse = regQueuePFN
	}
	if v := t.s.Load32(inUse); v != 0 { // §4.2.3.2 step 2
		return 0, fmt.Errorf("queue is in use after a reset: %#x", v)
	}
	return int(t.s.Load32(regQueueNumMax)), nil
}

// QueueSizeFixed is false.
func (t *MMIO) QueueSizeFixed() bool { return false }

// EnableQueue is §4.2.3.2, or for legacy §4.2.4.
func (t *MMIO) EnableQueue(i uint16, m QueueMem, _ uint16) (Notify, error) {
	n := Notify{Bell: t.s.Doorbell(regQueueNotify), Wide: true}
	t.s.Store32(regQueueSel, uint32(i))
	if t.legacy {
		pfn, err := legacyPFN(m)
		if err != nil {
			return n, err
		}
		t.s.Store32(regGuestPageSize, legacyAlign)
		t.s.Store32(regQueueNum, uint32(m.Size))
		t.s.Store32(regQueueAlign, legacyAlign)
		t.s.Store32(regQueuePFN, pfn)
		return n, nil
	}
	t.s.Store32(regQueueNum, uint32(m.Size))
	store64(t.s, regQueueDescLow, m.Desc)
	store64(t.s, regQueueDriverLow, m.Driver)
	store64(t.s, regQueueDeviceLow, m.Device)
	t.s.Store32(regQueueReady, 1)
	return n, nil
}

// SetConfigVector does nothing: there are no vectors.
func (t *MMIO) SetConfigVector(uint16) error { return nil }

// Config is what lies behind the registers.
func (t *MMIO) Config() mmio.Space {
	if t.s.Len() == uint32(regConfig) {
		return nil
	}
	return window{t.s, regConfig, t.s.Len() - uint32(regConfig)}
}

// Generation reads ConfigGeneration; legacy has none.
func (t *MMIO) Generation() uint32 {
	if t.legacy {
		return 0
	}
	return t.s.Load32(regGeneration)
}

// AckInterrupt reads InterruptStatus and writes it to InterruptACK.
func (t *MMIO) AckInterrupt() uint8 {
	s := t.s.Load32(regInterruptStatus)
	if s != 0 {
		t.s.Store32(regInterruptACK, s)
	}
	return uint8(s)
}

// Package virtio is the part of VIRTIO that all device types share: transports,
// initialisation, and the split virtqueue.
//
// Spec: VIRTIO 1.2 (OASIS, 2022-07-01). Covered: §2.1 status, §2.2 features,
// §2.5 configuration, §2.7 split virtqueues with indirect descriptors and event
// index, §3.1 initialisation, §4.1 PCI (modern, and the legacy interface of
// §4.1.4.10), §4.2 MMIO (version 2, and the legacy version 1 of §4.2.4).
// Not covered: §2.8 packed rings (no gain seen), §2.6.1 per-queue reset,
// §4.3 channel I/O, notification data.
//
// Who may use it: drivers/virtio* and the platform, which finds the register
// windows and makes a Transport of them. It may not know any device type.
//
// Memory: rings come from a dma.Allocator and are shared with the device, which
// is not trusted: each field that it writes is read once, checked against what
// the driver keeps in memory of its own, and a lie marks the queue broken with
// an error that says which. Byte order is that of the machine, little-endian.
//
// Start reading at Transport, then device.go (initialisation, in the order of
// §3.1.1), then queue.go. Tests play the device with ktest/fakedev.
package virtio

import (
	"fmt"

	"osv/kernel/hw/dma"
	"osv/kernel/hw/mmio"
)

// DeviceID is the device type, §5.
type DeviceID uint16

const (
	IDNet     DeviceID = 1
	IDBlock   DeviceID = 2
	IDConsole DeviceID = 3
	IDEntropy DeviceID = 4
	IDSCSI    DeviceID = 8
)

// Status is the device status field, §2.1. Bits are only ever added, in the
// order of §3.1.1, until a write of 0 resets the device.
type Status uint8

const (
	StatusAcknowledge Status = 1 << 0
	StatusDriver      Status = 1 << 1
	StatusDriverOK    Status = 1 << 2
	StatusFeaturesOK  Status = 1 << 3
	StatusNeedsReset  Status = 1 << 6 // DEVICE_NEEDS_RESET: set by the device
	StatusFailed      Status = 1 << 7
)

// Features is a set of feature bits, §2.2. Bits 0-23 and 50-127 belong to the
// device type; those below are common, §6.
type Features uint64

const (
	FeatureNotifyOnEmpty  Features = 1 << 24 // legacy only
	FeatureAnyLayout      Features = 1 << 27 // legacy only; implied by VERSION_1
	FeatureIndirectDesc   Features = 1 << 28
	FeatureEventIdx       Features = 1 << 29
	FeatureVersion1       Features = 1 << 32
	FeatureAccessPlatform Features = 1 << 33
)

// Has reports whether all bits of f are in the set.
func (s Features) Has(f Features) bool { return s&f == f }

// NoVector is the MSI-X table index that stands for none, §4.1.5.1.2.
const NoVector uint16 = 0xffff

// ISR bits as AckInterrupt returns them, §4.1.4.5 and §4.2.2.
const (
	ISRQueue  uint8 = 1 << 0 // a queue has used buffers
	ISRConfig uint8 = 1 << 1 // the configuration or the status changed
)

// QueueMem says where a split virtqueue of Size descriptors lies.
type QueueMem struct {
	Size   uint16
	Desc   dma.Addr // descriptor table
	Driver dma.Addr // available ring
	Device dma.Addr // used ring
}

// Notify is how the driver tells the device that a queue has new buffers: the
// queue's index, written to Bell.
type Notify struct {
	Bell mmio.Doorbell
	Wide bool // a 32-bit register (MMIO); 16 bits on PCI
}

// Transport is one virtio device behind its bus. Calls are made by one goroutine
// at a time, except AckInterrupt, which the interrupt's goroutine makes.
type Transport interface {
	// String names the transport: "pci", "pci-legacy", "mmio", "mmio-legacy".
	String() string
	// DeviceID is the device type.
	DeviceID() DeviceID
	// Legacy reports the interface from before VIRTIO 1.0: no FEATURES_OK, no
	// configuration generation, rings in one piece of whole pages.
	Legacy() bool
	// MSIX reports that the vector arguments below mean something. Without it
	// the device has one interrupt, which AckInterrupt quiets.
	MSIX() bool

	// Reset writes 0 to the status and waits until the device says it is done.
	Reset() error
	Status() Status
	SetStatus(Status)

	DeviceFeatures() Features
	SetDriverFeatures(Features)

	// QueueMax is the largest size of queue i that the device takes, 0 where the
	// queue does not exist.
	QueueMax(i uint16) (int, error)
	// QueueSizeFixed reports that a queue must have exactly QueueMax descriptors.
	QueueSizeFixed() bool
	// EnableQueue gives queue i its memory and its MSI-X table index.
	EnableQueue(i uint16, m QueueMem, vector uint16) (Notify, error)
	// SetConfigVector gives the MSI-X table index for configuration changes.
	SetConfigVector(vector uint16) error

	// Config is the device-specific configuration, nil where there is none.
	Config() mmio.Space
	// Generation is the configuration generation, §2.5.1; constant on legacy.
	Generation() uint32
	// AckInterrupt reads and quiets the interrupt status (ISR bits).
	AckInterrupt() uint8
}

// ErrDevice is what the driver says of a device that broke the protocol. Queue is
// the queue's index, or -1 where the whole device is meant.
type ErrDevice struct {
	Driver string // "virtio-net"
	Queue  int
	Msg    string
}

func (e *ErrDevice) Error() string {
	if e.Queue < 0 {
		return e.Driver + ": " + e.Msg
	}
	return fmt.Sprintf("%s: queue %d: %s", e.Driver, e.Queue, e.Msg)
}

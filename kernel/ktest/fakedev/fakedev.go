// Package fakedev plays virtio devices on a plain host, so that drivers can be
// tested without hardware: register windows of each transport, the device's side
// of a split virtqueue on the same ring memory, and on top of them a network
// card (NIC), a disk (Blk) and an entropy source (RNG).
//
// Spec: VIRTIO 1.2 (OASIS, 2022-07-01), read anew from the device's side: nothing
// here is shared with the drivers, so that a misreading shows. The boot tests on
// QEMU are what keeps this reading true.
//
// A fake moves only when the test calls Step, so an interleaving is written down
// and not hoped for. Each can misbehave on demand: see the fields of Device and
// the raw methods of Queue. Interrupts arrive at a Line.
//
// Who may use it: tests only. Start reading at Device, then nic.go.
package fakedev

// Status bits, §2.1.
const (
	statusDriverOK   = 1 << 2
	statusFeaturesOK = 1 << 3
	statusNeedsReset = 1 << 6
)

// Feature bits that the rings themselves know, §6.
const (
	FeatureIndirectDesc uint64 = 1 << 28
	FeatureEventIdx     uint64 = 1 << 29
	FeatureVersion1     uint64 = 1 << 32
)

// NoVector stands for no MSI-X vector.
const NoVector = 0xffff

// ISR bits, §4.1.4.5.
const (
	isrQueue  = 1 << 0
	isrConfig = 1 << 1
)

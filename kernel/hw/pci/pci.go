// Package pci finds the devices on PCI and PCI Express and gives drivers their
// configuration space, register windows and interrupts.
//
// Spec: PCI Local Bus 3.0 (2004-02-03): §3.2.2.3.2 configuration ports, §6.1
// header, §6.2.5 base addresses, §6.7 capability list, §6.8 MSI and MSI-X.
// PCI-to-PCI Bridge Architecture 1.2, §3.2 (bridge header). PCI Express Base 5.0
// §7.2.2 (ECAM), §7.6 (extended capabilities). Not covered: giving bus numbers
// to bridges that firmware left without, hot-plug, SR-IOV and ARI, resizable
// BARs, expansion ROMs, power states.
//
// Who may use it: kernel/platform scans once, before any driver runs, and hands
// each Device to one driver. It may not know any device.
//
// What devices answer is not trusted. A device that makes no sense is left out
// with its decoders off and an error that names it; the scan goes on.
//
// Start reading at Scan (scan.go), then bar.go. Tests play a bus with
// kernel/ktest/fakepci, from scripts and from the configuration space of QEMU
// machines (testdata).
package pci

import (
	"fmt"

	"osv/kernel/hw/mmio"
)

// Addr names a function.
type Addr struct {
	Segment  uint16
	Bus      uint8
	Device   uint8 // 0 to 31
	Function uint8 // 0 to 7
}

func (a Addr) String() string {
	return fmt.Sprintf("%04x:%02x:%02x.%x", a.Segment, a.Bus, a.Device, a.Function)
}

// Config reaches configuration space. Offsets are multiples of the width and
// below 4096; anything else panics, being a bug of the caller. Reads of what
// does not exist return all ones, writes to it are lost. Safe for concurrent use.
type Config interface {
	Read8(a Addr, off uint16) uint8
	Read16(a Addr, off uint16) uint16
	Read32(a Addr, off uint16) uint32
	Write8(a Addr, off uint16, v uint8)
	Write16(a Addr, off uint16, v uint16)
	Write32(a Addr, off uint16, v uint32)
}

const (
	configLen         = 256  // conventional configuration space
	extendedConfigLen = 4096 // with PCI Express
)

// check panics where an access of width bytes is not one that Config allows.
func check(a Addr, off uint16, width uint16) {
	if off%width != 0 || off >= extendedConfigLen {
		panic(fmt.Sprintf("pci: %v: access of %d bytes at %#x", a, width, off))
	}
	if a.Device > 31 || a.Function > 7 {
		panic(fmt.Sprintf("pci: there is no function %v", a))
	}
}

// Mapper makes registers in physical memory reachable.
type Mapper interface {
	// Map returns the size bytes at phys, uncached.
	Map(phys uint64, size int) (mmio.Space, error)
}

// PortMapper is a Mapper that also reaches I/O ports.
type PortMapper interface {
	MapPorts(base uint16, size uint32) (mmio.Space, error)
}

// Class is the class code: base class, sub-class and programming interface, as
// 0xBBSSPP. PCI Code and ID Assignment 1.11, §1.
type Class uint32

// Base is the base class, 0x02 for network.
func (c Class) Base() uint8 { return uint8(c >> 16) }

// Sub is the sub-class.
func (c Class) Sub() uint8 { return uint8(c >> 8) }

// ProgIF is the programming interface.
func (c Class) ProgIF() uint8 { return uint8(c) }

// Is reports whether c has this base class and sub-class.
func (c Class) Is(base, sub uint8) bool { return c.Base() == base && c.Sub() == sub }

func (c Class) String() string { return fmt.Sprintf("%02x%02x%02x", c.Base(), c.Sub(), c.ProgIF()) }

// DeviceError is a device, or a part of one, that makes no sense.
type DeviceError struct {
	Addr    Addr
	BAR     int    // index, or NoBAR
	Value   uint64 // raw value of the register in question
	Problem string
}

// NoBAR says that a DeviceError is not about a BAR.
const NoBAR = -1

func (e *DeviceError) Error() string {
	if e.BAR == NoBAR {
		return fmt.Sprintf("pci: %v: %s", e.Addr, e.Problem)
	}
	return fmt.Sprintf("pci: %v: BAR %d: %#x: %s", e.Addr, e.BAR, e.Value, e.Problem)
}

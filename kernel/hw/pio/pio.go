// Package pio is port I/O: the x86 address space of 64 Ki ports beside memory
// (Intel SDM vol. 1, chapter 19), as a window of registers like any other.
//
// Who may use it: kernel/platform, which makes a Ports for each range that a
// driver needs (an I/O BAR, the PCI configuration ports, the ACPI registers);
// drivers see mmio.Space. The instructions work in ring 0 only: on a host a
// call faults. Tests of drivers use kernel/ktest/fakedev instead.
//
// Start reading at Ports.
package pio

import (
	"errors"
	"fmt"

	"osv/kernel/hw/mmio"
)

// portSpace is the number of ports.
const portSpace = 1 << 16

// ErrNoPorts says that this architecture has no I/O ports.
var ErrNoPorts = errors.New("pio: this architecture has no I/O ports")

// accessor does the port instructions. There is one value of it, instructions;
// tests inject others.
type accessor struct {
	in8   func(port uint16) uint8
	in16  func(port uint16) uint16
	in32  func(port uint16) uint32
	out8  func(port uint16, v uint8)
	out16 func(port uint16, v uint16)
	out32 func(port uint16, v uint32)
}

// Ports is an mmio.Space over the ports [base, base+size). The address of an
// access need not be aligned; accesses are ordered among themselves and after
// earlier stores, since in and out instructions serialise as stores to uncached
// memory do (SDM vol. 1, §19.6).
type Ports struct {
	base uint16
	size uint32
	a    *accessor
}

var _ mmio.Space = (*Ports)(nil)

// New returns the window of size ports at base. It returns an error where that
// is not inside the port space: base and size often come from a device.
func New(base uint16, size uint32) (*Ports, error) {
	if instructions == nil {
		return nil, ErrNoPorts
	}
	return newPorts(base, size, instructions)
}

func newPorts(base uint16, size uint32, a *accessor) (*Ports, error) {
	if size == 0 || uint64(base)+uint64(size) > portSpace {
		return nil, fmt.Errorf("pio: %#x ports at %#x are not inside the %#x that there are", size, base, portSpace)
	}
	return &Ports{base, size, a}, nil
}

// port is the port of an access of width bytes at o. Outside the window it
// panics, as mmio.Mem does: it is a bug of the driver.
func (p *Ports) port(o mmio.Off, width uint32) uint16 {
	if uint64(o)+uint64(width) > uint64(p.size) {
		panic(fmt.Sprintf("pio: access of %d bytes at %#x is outside the window of %#x ports at %#x", width, uint32(o), p.size, p.base))
	}
	return p.base + uint16(o)
}

// Base is the first port.
func (p *Ports) Base() uint16 { return p.base }

// Len is the number of ports.
func (p *Ports) Len() uint32 { return p.size }

// Load8 reads the port at o.
func (p *Ports) Load8(o mmio.Off) uint8 { return p.a.in8(p.port(o, 1)) }

// Load16 reads the two ports at o in one access.
func (p *Ports) Load16(o mmio.Off) uint16 { return p.a.in16(p.port(o, 2)) }

// Load32 reads the four ports at o in one access.
func (p *Ports) Load32(o mmio.Off) uint32 { return p.a.in32(p.port(o, 4)) }

// Store8 writes the port at o.
func (p *Ports) Store8(o mmio.Off, v uint8) { p.a.out8(p.port(o, 1), v) }

// Store16 writes the two ports at o in one access.
func (p *Ports) Store16(o mmio.Off, v uint16) { p.a.out16(p.port(o, 2), v) }

// Store32 writes the four ports at o in one access.
func (p *Ports) Store32(o mmio.Off, v uint32) { p.a.out32(p.port(o, 4), v) }

// Doorbell returns the port at o. It allocates; ringing does not. A 32-bit ring
// of a doorbell whose window ends after two bytes panics.
func (p *Ports) Doorbell(o mmio.Off) mmio.Doorbell {
	port := p.port(o, 2)
	out16, out32 := p.a.out16, p.a.out32
	wide := uint64(o)+4 <= uint64(p.size)
	return mmio.Funcs(
		func(v uint16) { out16(port, v) },
		func(v uint32) {
			if !wide {
				p.port(o, 4) // panics
			}
			out32(port, v)
		},
	)
}

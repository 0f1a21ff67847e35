package fakepci

import (
	"fmt"

	"osv/kernel/hw/mmio"
	"osv/kernel/hw/pci"
)

// ECAM is a pci.Mapper of the bus's configuration space in memory, PCI Express
// 5.0 §7.2.2: segment 0, bus 0 at Base.
type ECAM struct {
	Bus    *Bus
	Base   uint64
	Mapped int // how many mappings were made
}

// Map returns a window of configuration space.
func (e *ECAM) Map(phys uint64, size int) (mmio.Space, error) {
	if phys < e.Base || phys+uint64(size) > e.Base+256<<20 {
		return nil, fmt.Errorf("fakepci: no configuration space at %#x, %#x bytes", phys, size)
	}
	e.Mapped++
	return &ecamSpace{e.Bus, phys - e.Base, uint32(size)}, nil
}

type ecamSpace struct {
	bus   *Bus
	first uint64
	size  uint32
}

// at splits the address: bus 27-20, device 19-15, function 14-12, register 11-0.
func (s *ecamSpace) at(o mmio.Off, width uint32) (pci.Addr, uint16) {
	if uint64(o)+uint64(width) > uint64(s.size) {
		panic(fmt.Sprintf("fakepci: access at %#x of a window of %#x bytes", o, s.size))
	}
	x := s.first + uint64(o)
	return pci.Addr{Bus: uint8(x >> 20), Device: uint8(x >> 15 & 31), Function: uint8(x >> 12 & 7)}, uint16(x & 0xFFF)
}

func (s *ecamSpace) Load8(o mmio.Off) uint8          { return s.bus.Read8(s.at(o, 1)) }
func (s *ecamSpace) Load16(o mmio.Off) uint16        { return s.bus.Read16(s.at(o, 2)) }
func (s *ecamSpace) Load32(o mmio.Off) uint32        { return s.bus.Read32(s.at(o, 4)) }
func (s *ecamSpace) Store8(o mmio.Off, v uint8)      { a, r := s.at(o, 1); s.bus.Write8(a, r, v) }
func (s *ecamSpace) Store16(o mmio.Off, v uint16)    { a, r := s.at(o, 2); s.bus.Write16(a, r, v) }
func (s *ecamSpace) Store32(o mmio.Off, v uint32)    { a, r := s.at(o, 4); s.bus.Write32(a, r, v) }
func (s *ecamSpace) Len() uint32                     { return s.size }
func (s *ecamSpace) Doorbell(mmio.Off) mmio.Doorbell { panic("fakepci: no doorbell here") }

// Ports is the configuration mechanism of PCI 3.0 §3.2.2.3.2 as a window of the
// eight ports from 0xCF8 on. With Absent nothing answers.
type Ports struct {
	Bus    *Bus
	Absent bool
	addr   uint32
}

func (p *Ports) target(o mmio.Off) (pci.Addr, uint16, bool) {
	if o < 4 || p.Absent || p.addr>>31 == 0 {
		return pci.Addr{}, 0, false
	}
	return pci.Addr{Bus: uint8(p.addr >> 16), Device: uint8(p.addr >> 11 & 31), Function: uint8(p.addr >> 8 & 7)},
		uint16(p.addr&0xFC) + uint16(o-4), true
}

// Load8 reads the data port.
func (p *Ports) Load8(o mmio.Off) uint8 {
	if a, r, ok := p.target(o); ok {
		return p.Bus.Read8(a, r)
	}
	return 0xFF
}

// Load16 reads the data port.
func (p *Ports) Load16(o mmio.Off) uint16 {
	if a, r, ok := p.target(o); ok {
		return p.Bus.Read16(a, r)
	}
	return 0xFFFF
}

// Load32 reads the address or the data port.
func (p *Ports) Load32(o mmio.Off) uint32 {
	if o == 0 && !p.Absent {
		return p.addr
	}
	if a, r, ok := p.target(o); ok {
		return p.Bus.Read32(a, r)
	}
	return 0xFFFF_FFFF
}

// Store8 writes the data port.
func (p *Ports) Store8(o mmio.Off, v uint8) {
	if a, r, ok := p.target(o); ok {
		p.Bus.Write8(a, r, v)
	}
}

// Store16 writes the data port.
func (p *Ports) Store16(o mmio.Off, v uint16) {
	if a, r, ok := p.target(o); ok {
		p.Bus.Write16(a, r, v)
	}
}

// Store32 writes the address or the data port.
func (p *Ports) Store32(o mmio.Off, v uint32) {
	if o == 0 {
		p.addr = v &^ 3 &^ (0x7F << 24)
		return
	}
	if a, r, ok := p.target(o); ok {
		p.Bus.Write32(a, r, v)
	}
}

// Len is eight.
func (p *Ports) Len() uint32 { return 8 }

// Doorbell is not for these ports.
func (p *Ports) Doorbell(mmio.Off) mmio.Doorbell { panic("fakepci: no doorbell here") }

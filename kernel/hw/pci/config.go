package pci

import (
	"fmt"
	"sync"

	"osv/kernel/hw/mmio"
)

// Region is a window of memory-mapped configuration space (ECAM), PCI Express
// 5.0 §7.2.2. Base is where bus 0 of the segment would be, also where StartBus
// is not 0. An acpi.ECAM converts to it.
type Region struct {
	Base     uint64 // physical
	Segment  uint16
	StartBus uint8
	EndBus   uint8 // inclusive
}

const busBytes = 1 << 20 // 32 devices × 8 functions × 4096 bytes

// ECAM is configuration space in memory. Buses are mapped as they are first
// used: most of the 256 MiB of a segment is empty.
type ECAM struct {
	regions []Region
	m       Mapper

	mu    sync.Mutex // guards below
	buses map[busKey]mmio.Space
	err   error // first failure to map a bus
}

type busKey struct {
	segment uint16
	bus     uint8
}

var _ Config = (*ECAM)(nil)

// NewECAM returns the configuration space in regions.
func NewECAM(m Mapper, regions []Region) (*ECAM, error) {
	for _, r := range regions {
		if r.StartBus > r.EndBus || r.Base == 0 || r.Base%busBytes != 0 {
			return nil, fmt.Errorf("pci: ECAM of segment %d, buses %d to %d, at %#x", r.Segment, r.StartBus, r.EndBus, r.Base)
		}
	}
	return &ECAM{regions: regions, m: m, buses: map[busKey]mmio.Space{}}, nil
}

// Err is the first failure to map a bus, whose functions then do not exist.
func (e *ECAM) Err() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.err
}

// bus returns the registers of one bus, nil where there are none.
func (e *ECAM) bus(segment uint16, bus uint8) mmio.Space {
	key := busKey{segment, bus}
	e.mu.Lock()
	defer e.mu.Unlock()
	if s, ok := e.buses[key]; ok {
		return s
	}
	var s mmio.Space
	for _, r := range e.regions {
		if r.Segment != segment || bus < r.StartBus || bus > r.EndBus {
			continue
		}
		base := r.Base + uint64(bus)*busBytes
		got, err := e.m.Map(base, busBytes)
		if err == nil && got.Len() < busBytes {
			err = fmt.Errorf("only %#x bytes", got.Len())
		}
		if err == nil {
			s = got
		} else if e.err == nil {
			e.err = fmt.Errorf("pci: ECAM of segment %d bus %d at %#x: %w", segment, bus, base, err)
		}
		break
	}
	e.buses[key] = s
	return s
}

// at returns the registers that hold (a, off), and where.
func (e *ECAM) at(a Addr, off, width uint16) (mmio.Space, mmio.Off) {
	check(a, off, width)
	return e.bus(a.Segment, a.Bus), mmio.Off(a.Device)<<15 | mmio.Off(a.Function)<<12 | mmio.Off(off)
}

// Read8 reads one byte.
func (e *ECAM) Read8(a Addr, off uint16) uint8 {
	if s, o := e.at(a, off, 1); s != nil {
		return s.Load8(o)
	}
	return 0xFF
}

// Read16 reads two bytes.
func (e *ECAM) Read16(a Addr, off uint16) uint16 {
	if s, o := e.at(a, off, 2); s != nil {
		return s.Load16(o)
	}
	return 0xFFFF
}

// Read32 reads four bytes.
func (e *ECAM) Read32(a Addr, off uint16) uint32 {
	if s, o := e.at(a, off, 4); s != nil {
		return s.Load32(o)
	}
	return 0xFFFF_FFFF
}

// Write8 writes one byte.
func (e *ECAM) Write8(a Addr, off uint16, v uint8) {
	if s, o := e.at(a, off, 1); s != nil {
		s.Store8(o, v)
	}
}

// Write16 writes two bytes.
func (e *ECAM) Write16(a Addr, off uint16, v uint16) {
	if s, o := e.at(a, off, 2); s != nil {
		s.Store16(o, v)
	}
}

// Write32 writes four bytes.
func (e *ECAM) Write32(a Addr, off uint16, v uint32) {
	if s, o := e.at(a, off, 4); s != nil {
		s.Store32(o, v)
	}
}

// Configuration mechanism #1, PCI 3.0 §3.2.2.3.2: two 32-bit ports.
const (
	// ConfigPorts and ConfigPortsLen say which ports NewPortConfig takes.
	ConfigPorts    = 0xCF8
	ConfigPortsLen = 8

	regConfigAddress mmio.Off = 0 // RW only as 32 bits
	regConfigData    mmio.Off = 4 // RW

	configEnable = 1 << 31
)

// PortConfig is configuration space behind the ports 0xCF8 and 0xCFC. It
// reaches segment 0 and the first 256 bytes of each function.
type PortConfig struct {
	mu sync.Mutex // the two ports belong together
	s  mmio.Space
}

var _ Config = (*PortConfig)(nil)

// NewPortConfig returns the configuration space behind s, the eight ports from
// ConfigPorts on. It returns an error where nothing answers there.
func NewPortConfig(s mmio.Space) (*PortConfig, error) {
	if s.Len() < ConfigPortsLen {
		return nil, fmt.Errorf("pci: %d configuration ports, want %d", s.Len(), ConfigPortsLen)
	}
	// The address register keeps its enable bit; an empty bus returns all ones.
	old := s.Load32(regConfigAddress)
	s.Store32(regConfigAddress, configEnable)
	got := s.Load32(regConfigAddress)
	s.Store32(regConfigAddress, old)
	if got != configEnable {
		return nil, fmt.Errorf("pci: CONFIG_ADDRESS reads as %#x after a write of %#x", got, uint32(configEnable))
	}
	return &PortConfig{s: s}, nil
}

// sel points the data port at (a, off) and returns the offset to access there.
// Caller must hold mu.
func (p *PortConfig) sel(a Addr, off uint16) mmio.Off {
	p.s.Store32(regConfigAddress, configEnable|uint32(a.Bus)<<16|uint32(a.Device)<<11|uint32(a.Function)<<8|uint32(off)&^3)
	return regConfigData + mmio.Off(off&3)
}

// reaches reports whether the mechanism can address (a, off).
func (p *PortConfig) reaches(a Addr, off, width uint16) bool {
	check(a, off, width)
	return a.Segment == 0 && off < configLen
}

// Read8 reads one byte.
func (p *PortConfig) Read8(a Addr, off uint16) uint8 {
	if !p.reaches(a, off, 1) {
		return 0xFF
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.s.Load8(p.sel(a, off))
}

// Read16 reads two bytes.
func (p *PortConfig) Read16(a Addr, off uint16) uint16 {
	if !p.reaches(a, off, 2) {
		return 0xFFFF
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.s.Load16(p.sel(a, off))
}

// Read32 reads four bytes.
func (p *PortConfig) Read32(a Addr, off uint16) uint32 {
	if !p.reaches(a, off, 4) {
		return 0xFFFF_FFFF
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.s.Load32(p.sel(a, off))
}

// Write8 writes one byte.
func (p *PortConfig) Write8(a Addr, off uint16, v uint8) {
	if !p.reaches(a, off, 1) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.s.Store8(p.sel(a, off), v)
}

// Write16 writes two bytes.
func (p *PortConfig) Write16(a Addr, off uint16, v uint16) {
	if !p.reaches(a, off, 2) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.s.Store16(p.sel(a, off), v)
}

// Write32 writes four bytes.
func (p *PortConfig) Write32(a Addr, off uint16, v uint32) {
	if !p.reaches(a, off, 4) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.s.Store32(p.sel(a, off), v)
}

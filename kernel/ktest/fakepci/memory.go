package fakepci

import (
	"encoding/binary"
	"fmt"

	"osv/kernel/hw/mmio"
)

// Memory is physical memory behind BARs, and ports. It is a pci.Mapper and a
// pci.PortMapper: a mapping outside what was added is an error.
type Memory struct {
	regions []*RAM
	ports   []*RAM
	// Mapped is each mapping that was asked for, as "fe000000+1000" or "io c000+40".
	Mapped []string
}

// Add puts size bytes of zeroes at base.
func (m *Memory) Add(base uint64, size int) *RAM {
	r := &RAM{base: base, B: make([]byte, size)}
	m.regions = append(m.regions, r)
	return r
}

// AddPorts puts size ports at base.
func (m *Memory) AddPorts(base uint16, size int) *RAM {
	r := &RAM{base: uint64(base), B: make([]byte, size)}
	m.ports = append(m.ports, r)
	return r
}

// Map is pci.Mapper.
func (m *Memory) Map(phys uint64, size int) (mmio.Space, error) {
	m.Mapped = append(m.Mapped, fmt.Sprintf("%x+%x", phys, size))
	return find(m.regions, phys, size)
}

// MapPorts is pci.PortMapper.
func (m *Memory) MapPorts(base uint16, size uint32) (mmio.Space, error) {
	m.Mapped = append(m.Mapped, fmt.Sprintf("io %x+%x", base, size))
	return find(m.ports, uint64(base), int(size))
}

func find(regions []*RAM, base uint64, size int) (mmio.Space, error) {
	for _, r := range regions {
		if off := base - r.base; base >= r.base && off <= uint64(len(r.B)) && uint64(size) <= uint64(len(r.B))-off {
			return &RAM{base: base, B: r.B[off : off+uint64(size)]}, nil
		}
	}
	return nil, fmt.Errorf("fakepci: nothing at %#x, %#x bytes", base, size)
}

// RAM is an mmio.Space over bytes that keep what is written.
type RAM struct {
	base uint64
	B    []byte
}

var _ mmio.Space = (*RAM)(nil)

// Load8 is mmio.Space, as are the others.
func (r *RAM) Load8(o mmio.Off) uint8 { return r.B[o] }

// Load16 reads two bytes.
func (r *RAM) Load16(o mmio.Off) uint16 { return binary.LittleEndian.Uint16(r.B[o:]) }

// Load32 reads four bytes.
func (r *RAM) Load32(o mmio.Off) uint32 { return binary.LittleEndian.Uint32(r.B[o:]) }

// Store8 writes one byte.
func (r *RAM) Store8(o mmio.Off, v uint8) { r.B[o] = v }

// Store16 writes two bytes.
func (r *RAM) Store16(o mmio.Off, v uint16) { binary.LittleEndian.PutUint16(r.B[o:], v) }

// Store32 writes four bytes.
func (r *RAM) Store32(o mmio.Off, v uint32) { binary.LittleEndian.PutUint32(r.B[o:], v) }

// Len is the size in bytes.
func (r *RAM) Len() uint32 { return uint32(len(r.B)) }

// Doorbell writes to the bytes.
func (r *RAM) Doorbell(o mmio.Off) mmio.Doorbell {
	return mmio.Funcs(func(v uint16) { r.Store16(o, v) }, func(v uint32) { r.Store32(o, v) })
}

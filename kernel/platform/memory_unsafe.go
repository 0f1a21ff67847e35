package platform

import (
	"fmt"
	"unsafe"

	"osv/kernel/hw/dma"
	"osv/kernel/hw/gate"
	"osv/kernel/hw/mmio"
	"osv/kernel/platform/reclaim"
)

// dmaMemory gives drivers contiguous RAM; bus addresses are physical ones, since
// no IOMMU is used. What cannot be had is asked of caches and the Go heap once.
type dmaMemory struct{ balance *reclaim.Balance }

func (m dmaMemory) Alloc(size, align int) (dma.Region, error) {
	return m.alloc(gate.Frames, size, align)
}

// AllocRaw is Alloc without the zeroing.
func (m dmaMemory) AllocRaw(size, align int) (dma.Region, error) {
	return m.alloc(gate.FramesRaw, size, align)
}

func (m dmaMemory) alloc(frames func(n, align int) (uint64, []byte, error), size, align int) (dma.Region, error) {
	if size <= 0 || align <= 0 || align&(align-1) != 0 {
		return dma.Region{}, dma.ErrNoMemory{Size: size, Align: align}
	}
	pa, b, err := frames(size, align)
	if err != nil && m.balance.Need(size) {
		pa, b, err = frames(size, align)
	}
	if err != nil {
		return dma.Region{}, dma.ErrNoMemory{Size: size, Align: align}
	}
	return dma.Region{Bytes: b, Bus: dma.Addr(pa)}, nil
}

func (dmaMemory) Free(r dma.Region) { gate.FreeFrames(uint64(r.Bus), len(r.Bytes)) }

// physMemory lets the ACPI parsers read firmware tables.
type physMemory struct{}

func (physMemory) Bytes(pa uint64, n int) ([]byte, error) { return gate.Physical(pa, n) }

// deviceMapper maps device memory for PCI BARs, ECAM and MMIO slots.
type deviceMapper struct{}

func (deviceMapper) Map(pa uint64, n int) (mmio.Space, error) {
	if n <= 0 || uint64(n) > 1<<32-1 {
		return nil, fmt.Errorf("platform: device memory %#x+%#x: size out of range", pa, n)
	}
	p, err := gate.MapDevice(pa, n)
	if err != nil {
		return nil, err
	}
	return mmio.NewMem(p, uint32(n)), nil
}

// window maps [pa, pa+n) and returns the address too, for metal's use.
func (deviceMapper) window(pa uint64, n int) (mmio.Space, unsafe.Pointer, error) {
	p, err := gate.MapDevice(pa, n)
	if err != nil {
		return nil, nil, err
	}
	return mmio.NewMem(p, uint32(n)), p, nil
}

package virtio

import (
	"fmt"

	"osv/kernel/hw/dma"
	"osv/kernel/hw/mmio"
)

// window is the part [base, base+size) of a Space: the configuration behind the
// registers of the MMIO and the legacy PCI layout.
type window struct {
	s    mmio.Space
	base mmio.Off
	size uint32
}

func (w window) at(o mmio.Off, width uint32) mmio.Off {
	if uint64(o)+uint64(width) > uint64(w.size) {
		panic(fmt.Sprintf("virtio: access of %d bytes at %#x of %#x bytes of configuration", width, uint32(o), w.size))
	}
	return w.base + o
}

func (w window) Load8(o mmio.Off) uint8            { return w.s.Load8(w.at(o, 1)) }
func (w window) Load16(o mmio.Off) uint16          { return w.s.Load16(w.at(o, 2)) }
func (w window) Load32(o mmio.Off) uint32          { return w.s.Load32(w.at(o, 4)) }
func (w window) Store8(o mmio.Off, v uint8)        { w.s.Store8(w.at(o, 1), v) }
func (w window) Store16(o mmio.Off, v uint16)      { w.s.Store16(w.at(o, 2), v) }
func (w window) Store32(o mmio.Off, v uint32)      { w.s.Store32(w.at(o, 4), v) }
func (w window) Doorbell(o mmio.Off) mmio.Doorbell { return w.s.Doorbell(w.at(o, 2)) }
func (w window) Len() uint32                       { return w.size }

// legacyPFN is the page number of a legacy ring, §2.7.2.
func legacyPFN(m QueueMem) (uint32, error) {
	pfn := uint64(m.Desc) / legacyAlign
	if m.Desc%legacyAlign != 0 || pfn>>32 != 0 {
		return 0, fmt.Errorf("ring at %#x has no 32-bit page number", uint64(m.Desc))
	}
	avail, used, _ := ringOffsets(int(m.Size), true)
	if m.Driver != m.Desc+dma.Addr(avail) || m.Device != m.Desc+dma.Addr(used) {
		return 0, fmt.Errorf("ring of %d at %#x is not in the legacy layout", m.Size, uint64(m.Desc))
	}
	return uint32(pfn), nil
}

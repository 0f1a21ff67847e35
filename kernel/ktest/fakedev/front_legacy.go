package fakedev

import "osv/kernel/hw/mmio"

// LegacyPCI shows the device as the I/O ports of a legacy PCI function,
// §4.1.4.10. Queue sizes are fixed.
func (d *Device) LegacyPCI() mmio.Space {
	f := &legacyFront{d, 0x14}
	if d.MSIX {
		f.conf = 0x18
	}
	return &window{d, uint32(f.conf + len(d.Conf)), f.load, f.store}
}

type legacyFront struct {
	d    *Device
	conf int
}

func (f *legacyFront) load(o, width int) uint32 {
	d, q := f.d, f.d.queue()
	if o >= f.conf {
		return d.loadConf(o-f.conf, width)
	}
	switch [2]int{o, width} {
	case [2]int{0x00, 4}:
		return d.offered(0)
	case [2]int{0x08, 4}:
		return q.pfn
	case [2]int{0x0c, 2}:
		return uint32(q.Max)
	case [2]int{0x12, 1}:
		return d.loadStatus()
	case [2]int{0x13, 1}:
		return d.takeISR()
	case [2]int{0x14, 2}:
		return uint32(d.confVector)
	case [2]int{0x16, 2}:
		return uint32(q.Vector)
	}
	return badAccess("read", o, width)
}

func (f *legacyFront) store(o, width int, v uint32) {
	d, q := f.d, f.d.queue()
	if o >= f.conf {
		d.storeConf(o-f.conf, width, v)
		return
	}
	switch [2]int{o, width} {
	case [2]int{0x04, 4}:
		d.setFeatures(0, v)
	case [2]int{0x08, 4}:
		q.Size = q.Max
		q.enableLegacy(v, 4096, 4096)
	case [2]int{0x0e, 2}:
		d.queueSel = uint16(v)
	case [2]int{0x10, 2}:
		d.notify(v)
	case [2]int{0x12, 1}:
		d.storeStatus(v)
	case [2]int{0x14, 2}:
		d.confVector = d.vector(v)
	case [2]int{0x16, 2}:
		q.Vector = d.vector(v)
	default:
		badAccess("write", o, width)
	}
}

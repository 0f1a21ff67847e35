package fakedev

import (
	"osv/kernel/hw/dma"
	"osv/kernel/hw/mmio"
)

// PCIFront are the register windows of a modern PCI device, §4.1.4.
type PCIFront struct {
	Common, Notify, ISR, Config mmio.Space
	NotifyMultiplier            uint32
}

// PCI shows the device as a modern PCI function. The notify multiplier is 4, as
// with QEMU.
func (d *Device) PCI() PCIFront {
	const mult = 4
	f := PCIFront{NotifyMultiplier: mult}
	f.Common = &window{d, 0x38, d.loadCommon, d.storeCommon}
	f.Notify = &window{d, uint32(mult * max(len(d.Queues), 1)),
		func(o, w int) uint32 { return badAccess("read", o, w) },
		func(o, w int, v uint32) {
			if int(v)*mult != o {
				badAccess("doorbell", o, w)
			}
			d.notify(v)
		}}
	f.ISR = &window{d, 1, func(o, w int) uint32 { return d.takeISR() }, func(o, w int, _ uint32) { badAccess("write", o, w) }}
	if len(d.Conf) > 0 {
		f.Config = &window{d, uint32(len(d.Conf)), d.loadConf, d.storeConf}
	}
	return f
}

func (d *Device) loadCommon(o, width int) uint32 {
	q := d.queue()
	switch [2]int{o, width} {
	case [2]int{0x04, 4}:
		return d.offered(d.devSel)
	case [2]int{0x10, 2}:
		return uint32(d.confVector)
	case [2]int{0x12, 2}:
		return uint32(len(d.Queues))
	case [2]int{0x14, 1}:
		return d.loadStatus()
	case [2]int{0x15, 1}:
		return d.generation & 0xff
	case [2]int{0x18, 2}:
		if q.Size != 0 {
			return uint32(q.Size)
		}
		return uint32(q.Max)
	case [2]int{0x1a, 2}:
		return uint32(q.Vector)
	case [2]int{0x1c, 2}:
		if q.enabled {
			return 1
		}
		return 0
	case [2]int{0x1e, 2}:
		if d.NotifyOff != 0 {
			return uint32(d.NotifyOff)
		}
		return uint32(d.queueSel)
	}
	return badAccess("read", o, width)
}

func (d *Device) storeCommon(o, width int, v uint32) {
	q := d.queue()
	switch [2]int{o, width} {
	case [2]int{0x00, 4}:
		d.devSel = v
	case [2]int{0x08, 4}:
		d.drvSel = v
	case [2]int{0x0c, 4}:
		d.setFeatures(d.drvSel, v)
	case [2]int{0x10, 2}:
		d.confVector = d.vector(v)
	case [2]int{0x14, 1}:
		d.storeStatus(v)
	case [2]int{0x16, 2}:
		d.queueSel = uint16(v)
	case [2]int{0x18, 2}:
		if int(v) > q.Max || v&(v-1) != 0 {
			badAccess("queue size", o, width)
		}
		q.Size = int(v)
	case [2]int{0x1a, 2}:
		q.Vector = d.vector(v)
	case [2]int{0x1c, 2}:
		if v != 1 || q.enabled {
			badAccess("queue enable", o, width)
		}
		q.enable()
	case [2]int{0x20, 4}, [2]int{0x24, 4}:
		setHalf(&q.descAt, o, v)
	case [2]int{0x28, 4}, [2]int{0x2c, 4}:
		setHalf(&q.availAt, o, v)
	case [2]int{0x30, 4}, [2]int{0x34, 4}:
		setHalf(&q.used, o, v)
	default:
		badAccess("write", o, width)
	}
}

// setHalf writes one half of a 64-bit register that is aligned to 8 bytes.
func setHalf(a *dma.Addr, o int, v uint32) {
	if o%8 == 0 {
		*a = *a&^0xffffffff | dma.Addr(v)
	} else {
		*a = *a&0xffffffff | dma.Addr(v)<<32
	}
}

package fakedev

import "osv/kernel/hw/mmio"

// mmioSlot is the size of a virtio-mmio slot on QEMU's microvm.
const mmioSlot = 0x200

// MMIO shows the device as a virtio-mmio slot of the given version, §4.2: 2, or 1
// for legacy.
func (d *Device) MMIO(version int) mmio.Space {
	f := &mmioFront{d, version == 1}
	return &window{d, mmioSlot, f.load, f.store}
}

// EmptyMMIO is a slot without a device.
func EmptyMMIO() mmio.Space { return (&Device{}).MMIO(2) }

type mmioFront struct {
	d      *Device
	legacy bool
}

func (f *mmioFront) load(o, width int) uint32 {
	d, q := f.d, f.d.queue()
	if o >= 0x100 {
		if o-0x100+width > len(d.Conf) {
			return 0
		}
		return d.loadConf(o-0x100, width)
	}
	if width != 4 {
		badAccess("read", o, width)
	}
	switch {
	case o == 0x000:
		return 0x74726976
	case o == 0x004 && f.legacy:
		return 1
	case o == 0x004:
		return 2
	case o == 0x008:
		return uint32(d.ID)
	case o == 0x010:
		if f.legacy && d.devSel != 0 {
			return 0
		}
		return d.offered(d.devSel)
	case o == 0x034:
		return uint32(q.Max)
	case o == 0x040 && f.legacy:
		return q.pfn
	case o == 0x044 && !f.legacy:
		if q.enabled {
			return 1
		}
		return 0
	case o == 0x060:
		return d.isr.Load()
	case o == 0x070:
		return d.loadStatus()
	case o == 0x0fc && !f.legacy:
		return d.generation
	}
	return badAccess("read", o, width)
}

func (f *mmioFront) store(o, width int, v uint32) {
	d, q := f.d, f.d.queue()
	if o >= 0x100 {
		d.storeConf(o-0x100, width, v)
		return
	}
	// A doorbell comes through mmio.Func, which does not tell its width.
	if width != 4 && o != 0x050 {
		badAccess("write", o, width)
	}
	switch {
	case o == 0x014:
		d.devSel = v
	case o == 0x020:
		d.setFeatures(d.drvSel, v)
	case o == 0x024:
		d.drvSel = v
	case o == 0x028 && f.legacy:
		d.pageSize = int(v)
	case o == 0x030:
		d.queueSel = uint16(v)
	case o == 0x038:
		if int(v) > q.Max || v == 0 || v&(v-1) != 0 {
			badAccess("queue size", o, width)
		}
		q.Size = int(v)
	case o == 0x03c && f.legacy:
		q.align = int(v)
	case o == 0x040 && f.legacy:
		q.enableLegacy(v, d.pageSize, q.align)
	case o == 0x044 && !f.legacy:
		q.enable()
	case o == 0x050:
		d.notify(v)
	case o == 0x064:
		d.isr.And(^v)
	case o == 0x070:
		d.storeStatus(v)
	case (o == 0x080 || o == 0x084) && !f.legacy:
		setHalf(&q.descAt, o, v)
	case (o == 0x090 || o == 0x094) && !f.legacy:
		setHalf(&q.availAt, o, v)
	case (o == 0x0a0 || o == 0x0a4) && !f.legacy:
		setHalf(&q.used, o, v)
	default:
		badAccess("write", o, width)
	}
}

package fakepci

import (
	"encoding/binary"

	"osv/kernel/hw/pci"
)

// Configuration header, PCI 3.0 §6.1.
const (
	offCommand    = 0x04
	offStatus     = 0x06
	offHeaderType = 0x0E
	offBAR0       = 0x10
	offPrimary    = 0x18
	offSubVendor  = 0x2C
	offCapPointer = 0x34
	offIntLine    = 0x3C
	offFirstCap   = 0x40
	offFirstExt   = 0x100

	cmdIO         = 1 << 0
	cmdMemory     = 1 << 1
	statusCaps    = 1 << 4
	multiFunction = 0x80
)

// NewDevice returns a function with a device header and nothing else.
func NewDevice(vendor, device uint16, class pci.Class) *Function {
	f := &Function{nextCap: offFirstCap, lastPtr: offCapPointer}
	f.put16(0, vendor)
	f.put16(2, device)
	f.Put(0x08, 1, byte(class), byte(class>>8), byte(class>>16))
	f.PutWritable(offCommand, 0x47, 0x07)
	f.PutWritable(offIntLine, 0xFF)
	return f
}

// NewBridge returns a PCI-to-PCI bridge with these bus numbers and closed windows.
func NewBridge(primary, secondary, subordinate uint8) *Function {
	f := NewDevice(0x1B36, 0x0001, 0x060400)
	f.Put(offHeaderType, 1)
	f.Put(offPrimary, primary, secondary, subordinate)
	f.PutWritable(offPrimary, 0xFF, 0xFF, 0xFF)
	f.Put(0x1C, 0xF0, 0x00)             // I/O base above limit
	f.Put(0x20, 0xF0, 0xFF, 0x00, 0x00) // memory
	f.Put(0x24, 0xF0, 0xFF, 0x00, 0x00) // prefetchable memory
	return f
}

// Windows opens a bridge's windows: memory below 4 GiB, prefetchable memory of
// 64 bits, and ports; each first and last address, 0 and 0 for closed.
func (f *Function) Windows(mem, memLast, pref, prefLast uint64, io, ioLast uint16) *Function {
	if mem != 0 {
		f.put16(0x20, uint16(mem>>16)&0xFFF0)
		f.put16(0x22, uint16(memLast>>16)&0xFFF0)
	}
	if pref != 0 {
		f.put16(0x24, uint16(pref>>16)&0xFFF0|1)
		f.put16(0x26, uint16(prefLast>>16)&0xFFF0|1)
		f.put32(0x28, uint32(pref>>32))
		f.put32(0x2C, uint32(prefLast>>32))
	}
	if io != 0 {
		f.Put(0x1C, byte(io>>8)&0xF0|1, byte(ioLast>>8)&0xF0|1)
	}
	return f
}

func (f *Function) put16(off, v uint16) { binary.LittleEndian.PutUint16(f.cfg[off:], v) }

func (f *Function) put32(off uint16, v uint32) { binary.LittleEndian.PutUint32(f.cfg[off:], v) }

// Command sets the command register, as firmware leaves it.
func (f *Function) Command(v uint16) *Function {
	f.put16(offCommand, v)
	return f
}

// Subsystem sets the subsystem IDs.
func (f *Function) Subsystem(vendor, id uint16) *Function {
	f.put16(offSubVendor, vendor)
	f.put16(offSubVendor+2, id)
	return f
}

// INTx sets interrupt line and pin.
func (f *Function) INTx(line, pin uint8) *Function { return f.Put(offIntLine, line, pin) }

// RawBAR sets BAR register i to value, of which the bits in writable can be
// written: any absurdity there is.
func (f *Function) RawBAR(i int, value, writable uint32) *Function {
	off := uint16(offBAR0 + 4*i)
	f.put32(off, value)
	binary.LittleEndian.PutUint32(f.writable[off:], writable)
	return f
}

// Memory32 gives BAR i size bytes of memory at base, 0 for unassigned.
func (f *Function) Memory32(i int, base, size uint32) *Function {
	return f.RawBAR(i, base, -size&^0xF)
}

// Memory64 gives BARs i and i+1 size bytes of prefetchable memory at base.
func (f *Function) Memory64(i int, base, size uint64) *Function {
	f.RawBAR(i, uint32(base)|0xC, uint32(-size)&^0xF)
	return f.RawBAR(i+1, uint32(base>>32), uint32(-size>>32))
}

// IO gives BAR i size ports at base.
func (f *Function) IO(i int, base, size uint16) *Function {
	return f.RawBAR(i, uint32(base)|1, uint32(-size)&^3)
}

// Cap appends a capability whose bytes after ID and next pointer are body, and
// returns where it is.
func (f *Function) Cap(id uint8, body ...byte) uint16 {
	off := f.nextCap
	f.cfg[offStatus] |= statusCaps
	f.cfg[f.lastPtr] = byte(off)
	f.Put(off, id, 0)
	f.Put(off+2, body...)
	f.lastPtr = off + 1
	f.nextCap = (off + 2 + uint16(len(body)) + 3) &^ 3
	return off
}

// ExtCap appends an extended capability whose bytes after the header are body,
// and returns where it is.
func (f *Function) ExtCap(id uint16, version uint8, body ...byte) uint16 {
	off := uint16(offFirstExt)
	if f.lastExt != 0 {
		off = f.lastExt + 0x40
		f.put32(f.lastExt, f.Get32(f.lastExt)|uint32(off)<<20)
	}
	f.put32(off, uint32(id)|uint32(version)<<16)
	f.Put(off+4, body...)
	f.lastExt = off
	return off
}

// PCIe appends a PCI Express capability of a port type (§7.5.3.2).
func (f *Function) PCIe(portType uint8) uint16 {
	return f.Cap(pci.CapPCIe, append([]byte{2 | portType<<4, 0}, make([]byte, 56)...)...)
}

// MSI appends an MSI capability for 1<<logMax messages.
func (f *Function) MSI(logMax uint8, wide, maskable bool) uint16 {
	control := uint16(logMax) << 1
	n := 8
	if wide {
		control |= 1 << 7
		n += 4
	}
	if maskable {
		control |= 1 << 8
		n += 10
	}
	off := f.Cap(pci.CapMSI, make([]byte, n)...)
	f.put16(off+2, control)
	f.PutWritable(off+2, 0x71)
	for i := off + 4; i < off+2+uint16(n); i++ {
		f.writable[i] = 0xFF
	}
	return off
}

// MSIX appends an MSI-X capability of n entries.
func (f *Function) MSIX(n int, tableBAR int, tableOff uint32, pbaBAR int, pbaOff uint32) uint16 {
	off := f.Cap(pci.CapMSIX, make([]byte, 10)...)
	f.put16(off+2, uint16(n-1))
	f.put32(off+4, tableOff|uint32(tableBAR))
	f.put32(off+8, pbaOff|uint32(pbaBAR))
	f.PutWritable(off+2, 0x00, 0xC0)
	return off
}

package pci

import (
	"fmt"

	"osv/kernel/hw/mmio"
	"osv/kernel/hw/pci/msi"
)

// MSI-X capability, PCI 3.0 §6.8.2.3 to 6.8.2.5, offsets from its start.
const (
	regMSIXControl = 2 // RW
	regMSIXTable   = 4 // R  BAR in bits 2-0, offset in the others
	regMSIXPBA     = 8 // R  as above
	msixCapLen     = 12

	msixSizeMask     = 0x7FF // number of entries, less one
	msixFunctionMask = 1 << 14
	msixEnable       = 1 << 15
	msixBARMask      = 7
)

// MSI-X table entry, §6.8.2.6 to 6.8.2.9.
const (
	regEntryAddr     mmio.Off = 0x0 // RW
	regEntryAddrHigh mmio.Off = 0x4 // RW
	regEntryData     mmio.Off = 0x8 // RW
	regEntryControl  mmio.Off = 0xC // RW
	entryLen                  = 16

	entryMasked = 1 << 0
)

// MSIX is the MSI-X interrupts of a device that has the capability. Mask and
// unmask of different entries may run at the same time; the rest is for one
// goroutine.
type MSIX struct {
	d          *Device
	off        uint16
	n          int
	table, pba mmio.Space
}

// MSIX returns the device's MSI-X capability with its tables mapped, or
// ErrNoMSIX. The device decodes memory from then on.
func (d *Device) MSIX(m Mapper) (*MSIX, error) {
	c, ok := d.Cap(CapMSIX)
	if !ok {
		return nil, fmt.Errorf("%w: %v", ErrNoMSIX, d.Addr)
	}
	if c.Off+msixCapLen > configLen {
		return nil, d.errorf("MSI-X capability at %#x does not fit", c.Off)
	}
	x := &MSIX{d: d, off: c.Off, n: int(d.Read16(c.Off+regMSIXControl)&msixSizeMask) + 1}
	tableBAR, tableOff := msixPlace(d.Read32(c.Off + regMSIXTable))
	pbaBAR, pbaOff := msixPlace(d.Read32(c.Off + regMSIXPBA))
	tableLen, pbaLen := uint64(x.n)*entryLen, uint64(x.n+63)/64*8
	if tableBAR == pbaBAR && (Range{tableOff, tableLen}).overlaps(pbaOff, pbaLen) {
		return nil, d.barErrorf(tableBAR, "MSI-X table at %#x and pending bits at %#x overlap", tableOff, pbaOff)
	}
	var err error
	if x.table, err = d.msixMap("table", tableBAR, tableOff, tableLen, m); err != nil {
		return nil, err
	}
	if x.pba, err = d.msixMap("pending bits", pbaBAR, pbaOff, pbaLen, m); err != nil {
		return nil, err
	}
	return x, nil
}

// msixPlace splits a table register into BAR and offset.
func msixPlace(v uint32) (bar int, off uint64) { return int(v & msixBARMask), uint64(v &^ msixBARMask) }

func (d *Device) msixMap(what string, bar int, off, size uint64, m Mapper) (mmio.Space, error) {
	if bar < len(d.BARs) && d.BARs[bar].Kind == IO && d.BARs[bar].Present() {
		return nil, d.barErrorf(bar, "MSI-X %s in an I/O BAR", what)
	}
	s, err := d.MapRange(bar, off, size, m)
	if err != nil {
		return nil, fmt.Errorf("MSI-X %s: %w", what, err)
	}
	return s, nil
}

// Len is the number of entries, 1 to 2048.
func (x *MSIX) Len() int { return x.n }

// Enable has the device send msgs[i] as its message i, unmasked. Entries beyond
// msgs stay masked. It takes the place of MSI and the interrupt pin. The device
// still needs SetBusMaster in order to send.
//
// The table is written under the function mask, §6.8.3.5: a half-written entry
// must not be sent.
func (x *MSIX) Enable(msgs []msi.Message) error {
	d := x.d
	if len(msgs) == 0 || len(msgs) > x.n {
		return d.errorf("MSI-X: %d messages, the device has 1 to %d", len(msgs), x.n)
	}
	for i, m := range msgs {
		if m.Addr&3 != 0 {
			return d.errorf("MSI-X entry %d: address %#x is not a multiple of 4", i, m.Addr)
		}
	}
	if c, ok := d.Cap(CapMSI); ok {
		clear16(d, c.Off+regMSIControl, msiEnable)
	}
	d.SetINTx(false)
	x.setControl(0, msixEnable|msixFunctionMask)
	for i := range x.n {
		x.Mask(i)
	}
	for i, m := range msgs {
		x.write(i, m)
		if got := x.read(i); got != m {
			x.Disable()
			return d.errorf("MSI-X entry %d: holds address %#x, data %#x after a write of %#x, %#x", i, got.Addr, got.Data, m.Addr, m.Data)
		}
		x.Unmask(i)
	}
	x.setControl(msixFunctionMask, 0)
	return nil
}

// Set changes entry i, as when its interrupt moves to another CPU. What the
// device wants to send meanwhile is sent after.
func (x *MSIX) Set(i int, m msi.Message) {
	was := x.table.Load32(x.entry(i) + regEntryControl)
	x.Mask(i)
	x.write(i, m)
	x.table.Store32(x.entry(i)+regEntryControl, was)
}

// Disable stops all messages.
func (x *MSIX) Disable() { x.setControl(msixEnable, 0) }

// SetFunctionMask holds back all messages, or no longer.
func (x *MSIX) SetFunctionMask(masked bool) {
	if masked {
		x.setControl(0, msixFunctionMask)
	} else {
		x.setControl(msixFunctionMask, 0)
	}
}

// Mask holds back entry i: what the device wants to send becomes pending. It is
// in effect when Mask returns.
func (x *MSIX) Mask(i int) {
	at := x.entry(i) + regEntryControl
	x.table.Store32(at, x.table.Load32(at)|entryMasked)
	x.table.Load32(at) // §6.8.3.5: a read pushes the posted write
}

// Unmask lets entry i through; what is pending is sent.
func (x *MSIX) Unmask(i int) {
	at := x.entry(i) + regEntryControl
	x.table.Store32(at, x.table.Load32(at)&^entryMasked)
}

// Pending reports whether entry i wants to be sent and is held back.
func (x *MSIX) Pending(i int) bool {
	x.entry(i) // bounds
	return x.pba.Load32(mmio.Off(i/32*4))>>(i%32)&1 != 0
}

// entry is the offset of entry i.
func (x *MSIX) entry(i int) mmio.Off {
	if i < 0 || i >= x.n {
		panic(fmt.Sprintf("pci: %v: MSI-X entry %d of %d", x.d.Addr, i, x.n))
	}
	return mmio.Off(i * entryLen)
}

func (x *MSIX) write(i int, m msi.Message) {
	at := x.entry(i)
	x.table.Store32(at+regEntryAddr, uint32(m.Addr))
	x.table.Store32(at+regEntryAddrHigh, uint32(m.Addr>>32))
	x.table.Store32(at+regEntryData, m.Data)
}

func (x *MSIX) read(i int) msi.Message {
	at := x.entry(i)
	return msi.Message{
		Addr: uint64(x.table.Load32(at+regEntryAddrHigh))<<32 | uint64(x.table.Load32(at+regEntryAddr)),
		Data: x.table.Load32(at + regEntryData),
	}
}

func (x *MSIX) setControl(clear, set uint16) {
	at := x.off + regMSIXControl
	x.d.Write16(at, x.d.Read16(at)&^clear|set)
}

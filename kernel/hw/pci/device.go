package pci

import (
	"fmt"
	"sync"

	"osv/kernel/hw/mmio"
)

// Device is one function as Scan found it. It belongs to one driver.
type Device struct {
	Addr              Addr
	VendorID          uint16
	DeviceID          uint16
	Class             Class
	Revision          uint8
	SubsystemVendorID uint16 // 0 in a bridge
	SubsystemID       uint16 // 0 in a bridge

	BARs    [deviceBARs]BAR
	Caps    []Cap    // in list order
	ExtCaps []ExtCap // in list order; PCI Express with ECAM only

	// IntPin is the interrupt pin: 0 none, 1 to 4 for INTA to INTD. IntLine is
	// what firmware wrote beside it: on PCs the ISA IRQ that the pin is routed
	// to, 0xFF where it is not. Which I/O APIC input a pin has otherwise only
	// the _PRT in AML says, which nobody here can run.
	IntPin  uint8
	IntLine uint8

	Bridge *Bridge // nil: not a bridge

	cfg   Config
	cmdMu sync.Mutex // guards read-modify-write of the command register
	space *space     // addresses that its bus gets
}

// Bridge is the bus numbers of a PCI-to-PCI bridge.
type Bridge struct {
	Primary, Secondary, Subordinate uint8
}

func (d *Device) String() string {
	return fmt.Sprintf("%v %04x:%04x class %v", d.Addr, d.VendorID, d.DeviceID, d.Class)
}

// Read8 reads one byte of the function's configuration space. This and the
// others below have the rules of Config.
func (d *Device) Read8(off uint16) uint8 { return d.cfg.Read8(d.Addr, off) }

// Read16 reads two bytes.
func (d *Device) Read16(off uint16) uint16 { return d.cfg.Read16(d.Addr, off) }

// Read32 reads four bytes.
func (d *Device) Read32(off uint16) uint32 { return d.cfg.Read32(d.Addr, off) }

// Write8 writes one byte.
func (d *Device) Write8(off uint16, v uint8) { d.cfg.Write8(d.Addr, off, v) }

// Write16 writes two bytes.
func (d *Device) Write16(off uint16, v uint16) { d.cfg.Write16(d.Addr, off, v) }

// Write32 writes four bytes.
func (d *Device) Write32(off uint16, v uint32) { d.cfg.Write32(d.Addr, off, v) }

// errorf makes a DeviceError about the device.
func (d *Device) errorf(format string, args ...any) error {
	return &DeviceError{Addr: d.Addr, BAR: NoBAR, Problem: fmt.Sprintf(format, args...)}
}

// barErrorf makes a DeviceError about BAR i.
func (d *Device) barErrorf(i int, format string, args ...any) error {
	var value uint64
	if i >= 0 && i < len(d.BARs) {
		value = d.BARs[i].Base
	}
	return &DeviceError{d.Addr, i, value, fmt.Sprintf(format, args...)}
}

// setCommand clears and sets bits of the command register.
func (d *Device) setCommand(clear, set uint16) {
	d.cmdMu.Lock()
	defer d.cmdMu.Unlock()
	d.Write16(regCommand, d.Read16(regCommand)&^clear|set)
}

// SetBusMaster allows or forbids the device to read and write memory, and with
// it to send MSIs.
func (d *Device) SetBusMaster(on bool) { d.commandBit(cmdBusMaster, on) }

// SetINTx allows or forbids the device to drive its interrupt pin. MSI.Enable
// and MSIX.Enable forbid it.
func (d *Device) SetINTx(on bool) { d.commandBit(cmdINTxDisable, !on) }

func (d *Device) commandBit(bit uint16, on bool) {
	if on {
		d.setCommand(0, bit)
	} else {
		d.setCommand(bit, 0)
	}
}

// INTxPending reports whether the device wants its pin asserted, forbidden or
// not: on a shared pin, whether the interrupt is this device's.
func (d *Device) INTxPending() bool { return d.Read16(regStatus)&statusINTx != 0 }

// MapBAR makes all of BAR i reachable, and has the device decode it. I/O BARs
// need an m that is a PortMapper.
func (d *Device) MapBAR(i int, m Mapper) (mmio.Space, error) {
	if i < 0 || i >= len(d.BARs) || !d.BARs[i].Present() {
		return nil, d.barErrorf(i, "the device has no such BAR")
	}
	return d.MapRange(i, 0, d.BARs[i].Size, m)
}

// MapRange is MapBAR for size bytes at off in the BAR.
func (d *Device) MapRange(i int, off, size uint64, m Mapper) (mmio.Space, error) {
	b, err := d.decoded(i, off, size)
	if err != nil {
		return nil, err
	}
	var s mmio.Space
	if b.Kind == IO {
		pm, ok := m.(PortMapper)
		if !ok {
			return nil, d.barErrorf(i, "I/O ports cannot be reached here")
		}
		s, err = pm.MapPorts(uint16(b.Base+off), uint32(size))
	} else {
		s, err = m.Map(b.Base+off, int(size))
	}
	if err != nil {
		return nil, d.barErrorf(i, "mapping %#x bytes at %#x: %v", size, off, err)
	}
	return s, nil
}

// maxMap bounds one mapping: an mmio.Space counts in 32 bits.
const maxMap = 1 << 31

// decoded checks that BAR i has the size bytes at off, and turns the decoder on.
// Memory decoding is for all memory BARs at once: it stays off while one of them
// has no address, since that BAR would answer at 0. So with I/O.
func (d *Device) decoded(i int, off, size uint64) (BAR, error) {
	if i < 0 || i >= len(d.BARs) || !d.BARs[i].Present() {
		return BAR{}, d.barErrorf(i, "the device has no such BAR")
	}
	b := d.BARs[i]
	if size == 0 || size > maxMap || off > b.Size || size > b.Size-off {
		return BAR{}, d.barErrorf(i, "%#x bytes at %#x are not inside its %#x", size, off, b.Size)
	}
	for j, o := range d.BARs {
		if o.Present() && !o.Assigned() && (o.Kind == IO) == (b.Kind == IO) {
			return BAR{}, d.barErrorf(j, "%#x bytes of %v have no address, so BAR %d cannot be decoded", o.Size, o.Kind, i)
		}
	}
	if b.Kind == IO {
		d.setCommand(0, cmdIO)
	} else {
		d.setCommand(0, cmdMemory)
	}
	return b, nil
}

package pci

import (
	"errors"
	"fmt"
	"math/bits"

	"osv/kernel/hw/pci/msi"
)

// ErrNoMSI and ErrNoMSIX say that the device does not have the capability.
var (
	ErrNoMSI  = errors.New("pci: no MSI capability")
	ErrNoMSIX = errors.New("pci: no MSI-X capability")
)

// MSI capability, PCI 3.0 §6.8.1, offsets from its start.
const (
	regMSIControl   = 2  // RW
	regMSIAddr      = 4  // RW
	regMSIAddrHigh  = 8  // RW only with 64-bit addresses
	regMSIData32    = 8  // RW 16 bits, after a 32-bit address
	regMSIData64    = 12 // RW 16 bits, after a 64-bit address
	msiMaskFromData = 4

	msiEnable        = 1 << 0
	msiCapableShift  = 1 // log2 of the messages that the device wants
	msiEnabledShift  = 4 // log2 of those that it got
	msiCountMask     = 7
	msi64            = 1 << 7
	msiPerVectorMask = 1 << 8
)

// MSI is the message-signalled interrupts of a device that has the capability.
// One goroutine at a time.
type MSI struct {
	d        *Device
	off      uint16
	data     uint16 // offset of the data register
	wide     bool   // takes a 64-bit address
	maskable bool

	// Max is how many messages the device can send: 1, 2, 4, … 32.
	Max int
}

// MSI returns the device's MSI capability, or ErrNoMSI.
func (d *Device) MSI() (*MSI, error) {
	c, ok := d.Cap(CapMSI)
	if !ok {
		return nil, fmt.Errorf("%w: %v", ErrNoMSI, d.Addr)
	}
	control := d.Read16(c.Off + regMSIControl)
	m := &MSI{
		d: d, off: c.Off, data: c.Off + regMSIData32,
		wide:     control&msi64 != 0,
		maskable: control&msiPerVectorMask != 0,
	}
	if m.wide {
		m.data = c.Off + regMSIData64
	}
	end := m.data + 2
	if m.maskable {
		end = m.data + msiMaskFromData + 4
	}
	if end > configLen {
		return nil, d.errorf("MSI capability at %#x does not fit", c.Off)
	}
	log := control >> msiCapableShift & msiCountMask
	if log > 5 {
		return nil, d.errorf("MSI capability: %#x asks for 2^%d messages", control, log)
	}
	m.Max = 1 << log
	return m, nil
}

// Enable has the device send n messages, a power of two up to Max: message i is
// msg with i added to its data, whose low bits must be 0 for that. It takes the
// place of MSI-X and the interrupt pin.
func (m *MSI) Enable(msg msi.Message, n int) error {
	d := m.d
	if n < 1 || n > m.Max || n&(n-1) != 0 {
		return d.errorf("MSI: %d messages, want a power of two up to %d", n, m.Max)
	}
	if msg.Data > 0xFFFF || msg.Data&uint32(n-1) != 0 {
		return d.errorf("MSI: data %#x for %d messages, want 16 bits and a multiple of %d", msg.Data, n, n)
	}
	if msg.Addr&3 != 0 || msg.Addr>>32 != 0 && !m.wide {
		return d.errorf("MSI: address %#x, want a multiple of 4 of at most %d bits", msg.Addr, m.addrBits())
	}
	m.Disable()
	if c, ok := d.Cap(CapMSIX); ok {
		clear16(d, c.Off+regMSIXControl, msixEnable)
	}
	d.SetINTx(false)
	d.Write32(m.off+regMSIAddr, uint32(msg.Addr))
	if m.wide {
		d.Write32(m.off+regMSIAddrHigh, uint32(msg.Addr>>32))
	}
	d.Write16(m.data, uint16(msg.Data))
	if m.maskable {
		d.Write32(m.data+msiMaskFromData, 0)
	}
	log := uint16(bits.TrailingZeros(uint(n)))
	control := d.Read16(m.off+regMSIControl)&^(msiCountMask<<msiEnabledShift) | log<<msiEnabledShift
	d.Write16(m.off+regMSIControl, control|msiEnable)
	return nil
}

func (m *MSI) addrBits() int {
	if m.wide {
		return 64
	}
	return 32
}

// Disable stops the messages.
func (m *MSI) Disable() { clear16(m.d, m.off+regMSIControl, msiEnable) }

// Maskable reports whether single messages can be masked.
func (m *MSI) Maskable() bool { return m.maskable }

// SetMask masks (or unmasks) message i. It panics where that cannot be done.
func (m *MSI) SetMask(i int, masked bool) {
	if !m.maskable || i < 0 || i >= m.Max {
		panic(fmt.Sprintf("pci: %v: MSI message %d of %d, maskable %v", m.d.Addr, i, m.Max, m.maskable))
	}
	v := m.d.Read32(m.data+msiMaskFromData) &^ (1 << i)
	if masked {
		v |= 1 << i
	}
	m.d.Write32(m.data+msiMaskFromData, v)
}

// clear16 clears bits of a 16-bit register.
func clear16(d *Device, off, bits uint16) { d.Write16(off, d.Read16(off)&^bits) }

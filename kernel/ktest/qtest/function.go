package qtest

import (
	"osv/kernel/hw/mmio"
	"osv/kernel/irq"
)

// Function is a PCI function that is not virtio: identity, BARs (nil where there
// is none), and interrupt lines.
type Function struct {
	Vendor, Device uint16
	Class          uint32 // 24 bits: base class, sub-class, interface
	BARs           [6]mmio.Space
	Lines          []irq.Line
}

// Function is the first function 0 on bus 0 that is what is wanted, with its BARs
// placed, bus mastering on, and its interrupts: with vectors > 0 that many of
// MSI-X, or one of MSI where it has no MSI-X or vectors is MSIOnly; else its pin.
func (m *Machine) Function(vectors int, wanted func(vendor, device uint16, class uint32) bool) *Function {
	m.t.Helper()
	for slot := range 32 {
		for fn := range 8 {
			dev := slot<<3 | fn
			ids := m.conf(dev, 0)
			f := &Function{Vendor: uint16(ids), Device: uint16(ids >> 16), Class: m.conf(dev, 8) >> 8}
			if ids == 1<<32-1 || !wanted(f.Vendor, f.Device, f.Class) {
				continue
			}
			m.routePins()
			bars := m.placeBARs(dev)
			for i, b := range bars {
				if b.size > 0 {
					f.BARs[i] = b
				}
			}
			m.setConf(dev, 4, 7) // I/O, memory, bus master
			switch {
			case vectors == 0:
				f.Lines = []irq.Line{&m.pin}
			case vectors > 0 && m.capability(dev, 0x11) != 0:
				f.Lines = m.enableMSIX(dev, bars, vectors)
			default:
				f.Lines = m.enableMSI(dev)
			}
			return f
		}
	}
	m.t.Fatal("no such function on bus 0")
	return nil
}

// MSIOnly asks Function for the one message of MSI, although there is MSI-X.
const MSIOnly = -1

// capability is where dev has the capability id, 0 for nowhere.
func (m *Machine) capability(dev int, id uint32) uint16 {
	at := uint16(m.conf(dev, 0x34)) & 0xfc
	for at != 0 && m.conf(dev, at)&0xff != id {
		at = uint16(m.conf(dev, at)>>8) & 0xfc
	}
	return at
}

// enableMSI points the one message of PCI 3.0 §6.8.1 at a word of memory.
func (m *Machine) enableMSI(dev int) []irq.Line {
	at := m.capability(dev, 5)
	if at == 0 {
		m.t.Fatal("neither MSI-X nor MSI")
	}
	r, err := m.Alloc(4, 4)
	if err != nil {
		m.t.Fatal(err)
	}
	m.Free(r) // not the driver's: not counted
	control := m.conf(dev, at)
	data := at + 8
	if control&(1<<23) != 0 {
		m.setConf(dev, at+8, 0)
		data += 4
	}
	m.setConf(dev, at+4, uint32(r.Bus))
	m.setConf(dev, data, 1)
	m.setConf(dev, at, control&^(7<<20)|1<<16)
	l := newMSI(m.word(r))
	m.msi = append(m.msi, l)
	return []irq.Line{l}
}

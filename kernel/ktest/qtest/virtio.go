package qtest

import (
	"fmt"

	"osv/kernel/drivers/virtio"
	"osv/kernel/hw/mmio"
	"osv/kernel/irq"
)

// microvm's virtio-mmio slots, QEMU hw/i386/microvm.c. Their interrupts are seen
// only with the machine option ioapic2=off.
const (
	mmioBase  = 0xfeb00000
	mmioSlot  = 512
	mmioSlots = 8
)

// MMIO is the first virtio-mmio device of a microvm, and its interrupt line.
func (m *Machine) MMIO() (virtio.Transport, []irq.Line) {
	m.t.Helper()
	for i := range mmioSlots {
		s := space{m, mmioBase + uint64(i)*mmioSlot, mmioSlot, false}
		if t, err := virtio.NewMMIO(s); err == nil {
			return t, []irq.Line{&m.pin}
		}
	}
	m.t.Fatal("no virtio-mmio device")
	return nil, nil
}

// PCI configuration space, by mechanism #1 (PCI 3.0 §3.2.2.3.2). dev is the number
// of device and function, as in the bus address: device<<3 | function.
func (m *Machine) conf(dev int, off uint16) uint32 {
	m.do("outl 0xcf8 %#x", 1<<31|uint32(dev)<<8|uint32(off)&0xfc)
	return uint32(m.do("inl 0xcfc"))
}

func (m *Machine) setConf(dev int, off uint16, v uint32) {
	m.do("outl 0xcf8 %#x", 1<<31|uint32(dev)<<8|uint32(off)&0xfc)
	m.do("outl 0xcfc %#x", v)
}

// PCI is the first virtio function on bus 0, with its interrupt lines: with
// vectors > 0 that many of MSI-X, else its pin. legacy takes the interface of
// before 1.0 although there may be a modern one.
func (m *Machine) PCI(legacy bool, vectors int) (virtio.Transport, []irq.Line) {
	m.t.Helper()
	for dev := 0; dev < 32<<3; dev += 8 {
		ids := m.conf(dev, 0)
		id, _, ok := virtio.PCIDeviceID(uint16(ids), uint16(ids>>16), uint16(m.conf(dev, 0x2c)>>16))
		if !ok {
			continue
		}
		m.routePins()
		bars := m.placeBARs(dev)
		m.setConf(dev, 4, 7) // I/O, memory, bus master
		lines := []irq.Line{&m.pin}
		if vectors > 0 {
			lines = m.enableMSIX(dev, bars, vectors)
		}
		t, err := m.transport(dev, id, bars, legacy, vectors > 0)
		if err != nil {
			m.t.Fatal(err)
		}
		return t, lines
	}
	m.t.Fatal("no virtio function on bus 0")
	return nil, nil
}

func (m *Machine) transport(dev int, id virtio.DeviceID, bars [6]space, legacy, msix bool) (virtio.Transport, error) {
	if legacy {
		return virtio.NewLegacyPCI(id, bars[0], msix)
	}
	caps, err := virtio.FindPCICaps(func(off uint16) uint32 { return m.conf(dev, off) })
	if err != nil {
		return nil, err
	}
	if !caps.Modern() {
		return nil, fmt.Errorf("qtest: function %d has no modern interface: %+v", dev, caps)
	}
	window := func(c virtio.PCICap) mmio.Space {
		if c.Length == 0 {
			return nil
		}
		return space{m, bars[c.BAR].base + uint64(c.Offset), c.Length, bars[c.BAR].port}
	}
	return virtio.NewPCI(id, virtio.PCIWindows{Common: window(caps.Common), Notify: window(caps.Notify),
		NotifyMultiplier: caps.NotifyMultiplier, ISR: window(caps.ISR), Device: window(caps.Device)}, msix)
}

// routePins connects the PCI pins of a pc machine to IRQ 10 (PIIX3 PIRQRC, offset
// 0x60 of function 0 of device 1), which firmware would do. q35 needs nothing.
func (m *Machine) routePins() {
	if m.conf(1<<3, 0) == 0x70008086 {
		m.setConf(1<<3, 0x60, 0x0a0a0a0a)
	}
}

// placeBARs sizes each BAR and gives it an address.
func (m *Machine) placeBARs(dev int) (bars [6]space) {
	for i := 0; i < 6; i++ {
		off := uint16(0x10 + 4*i)
		m.setConf(dev, off, 0xffffffff)
		mask := m.conf(dev, off)
		switch {
		case mask == 0:
		case mask&1 != 0:
			size := -(mask &^ 3 & 0xffff) & 0xffff
			m.nextIO = (m.nextIO + size - 1) &^ (size - 1)
			m.setConf(dev, off, m.nextIO)
			bars[i] = space{m, uint64(m.nextIO), size, true}
			m.nextIO += size
		default:
			size := -(mask &^ 15)
			m.nextMem = (m.nextMem + size - 1) &^ (size - 1)
			m.setConf(dev, off, m.nextMem)
			bars[i] = space{m, uint64(m.nextMem), size, false}
			m.nextMem += size
			if mask&4 != 0 { // 64 bits
				m.setConf(dev, off+4, 0)
				i++
			}
		}
	}
	return bars
}

// enableMSIX points the first n table entries at words of memory.
func (m *Machine) enableMSIX(dev int, bars [6]space, n int) (lines []irq.Line) {
	at := m.capability(dev, 0x11)
	if at == 0 {
		m.t.Fatal("no MSI-X capability")
	}
	table := m.conf(dev, at+4)
	s, base := bars[table&7], mmio.Off(table&^7)
	for i := range n {
		r, err := m.Alloc(4, 4)
		if err != nil {
			m.t.Fatal(err)
		}
		m.Free(r) // not the driver's: not counted
		e := base + mmio.Off(16*i)
		s.Store32(e, uint32(r.Bus))
		s.Store32(e+4, 0)
		s.Store32(e+8, 1) // data
		s.Store32(e+12, 0)
		l := newMSI(m.word(r))
		m.msi = append(m.msi, l)
		lines = append(lines, l)
	}
	m.setConf(dev, at, m.conf(dev, at)|1<<31)
	return lines
}

package platform

import (
	"fmt"
	"unsafe"

	"osv/kernel/hw/acpi"
	"osv/kernel/hw/gate"
	"osv/kernel/hw/mmio"
	"osv/kernel/irq"
)

// ioapic is one I/O APIC (Intel 82093AA data sheet, §3). Its redirection entries
// are written by metal, which also masks pins (gate.RoutePin); here they are
// only composed.
type ioapic struct {
	window  unsafe.Pointer
	gsiBase uint32
	pins    uint32
}

const (
	ioapicBytes   = 0x20
	ioRegSel      = mmio.Off(0x00)
	ioWin         = mmio.Off(0x10)
	ioRegVersion  = 1
	ioMaxShift    = 16 // version register: index of the last entry
	redirLow      = 1 << 13
	redirLevel    = 1 << 15
	redirDestBits = 56

	msiBase      = 0xfee00000 // SDM vol. 3A §11.11.1
	msiDestShift = 12
)

// interrupts hands out lines and knows how each source reaches them.
type interrupts struct {
	ioapics   []ioapic
	overrides []acpi.InterruptOverride
	pins      map[uint32]bool // GSIs that are in use
}

func (s *System) prepareIRQs() error {
	s.irqs = &interrupts{pins: map[uint32]bool{}}
	if s.ACPI == nil {
		// The one place where a PC has had it since there are IOAPICs.
		return s.irqs.add(0xfec00000, 0)
	}
	s.irqs.overrides = s.ACPI.MADT.Overrides
	for _, io := range s.ACPI.MADT.IOAPICs {
		if err := s.irqs.add(uint64(io.Addr), io.GSIBase); err != nil {
			return err
		}
	}
	return nil
}

func (x *interrupts) add(pa uint64, gsiBase uint32) error {
	regs, p, err := deviceMapper{}.window(pa, ioapicBytes)
	if err != nil {
		return err
	}
	regs.Store32(ioRegSel, ioRegVersion)
	last := regs.Load32(ioWin) >> ioMaxShift & 0xff
	if last > 239 {
		log.Warnf("ioapic %#x: claims %d pins; not used", pa, last+1)
		return nil
	}
	x.ioapics = append(x.ioapics, ioapic{p, gsiBase, last + 1})
	return nil
}

// message makes line i of a device and the message that raises it. The first
// line of a device goes to processor 0, line i to processor i-1, so that queue
// pair k is served by processor k.
func (x *interrupts) message(i int) (irq.Line, irq.Message, error) {
	cpu := max(0, i-1) % gate.CPUs()
	apic := gate.APICID(cpu)
	if apic > 0xff {
		return nil, irq.Message{}, fmt.Errorf("cpu %d has APIC ID %d; messages reach 255 without interrupt remapping", cpu, apic)
	}
	l, err := newLine(cpu)
	if err != nil {
		return nil, irq.Message{}, err
	}
	return l, irq.Message{Addr: msiBase | uint64(apic)<<msiDestShift, Data: uint32(l.vector)}, nil
}

// isa makes the line of an ISA interrupt, which PCI pins are routed to by the
// firmware; a PCI pin is level-triggered, active as the MADT says.
func (x *interrupts) isa(n uint32) (irq.Line, error) {
	for _, o := range x.overrides {
		if uint32(o.IRQ) == n {
			return x.gsi(o.GSI, o.Trigger == acpi.Edge, o.Polarity == acpi.ActiveLow)
		}
	}
	return x.gsi(n, false, false)
}

// gsi makes the line of a global system interrupt. Two devices on one pin would
// each have to quiet the other's; the second is refused.
func (x *interrupts) gsi(n uint32, edge, low bool) (irq.Line, error) {
	if x.pins[n] {
		return nil, fmt.Errorf("interrupt %d is used by another device", n)
	}
	for _, io := range x.ioapics {
		if n < io.gsiBase || n-io.gsiBase >= io.pins {
			continue
		}
		l, err := newLine(0)
		if err != nil {
			return nil, err
		}
		entry := uint64(l.vector) | uint64(gate.APICID(0))<<redirDestBits
		if !edge {
			entry |= redirLevel
		}
		if low {
			entry |= redirLow
		}
		x.pins[n] = true
		return l, gate.RoutePin(l.vector, io.window, int(n-io.gsiBase), entry)
	}
	return nil, fmt.Errorf("interrupt %d belongs to no I/O APIC", n)
}

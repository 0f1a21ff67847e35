package platform

import (
	"fmt"
	"unsafe"

	"osv/kernel/hw/acpi"
	"osv/kernel/hw/gate"
	"osv/kernel/hw/intc"
	"osv/kernel/irq"
)

// interrupts hands out lines and knows how each source reaches them.
type interrupts struct {
	ctl     *intc.Controller
	windows map[*intc.IOAPIC]unsafe.Pointer
	pins    map[uint32]bool // GSIs that are in use
	owners  [256]string     // of vectors; see nameLines
}

// lockedRegisters is an I/O APIC reached through metal, whose interrupt handlers
// use the same index register.
type lockedRegisters struct{ window unsafe.Pointer }

func (r lockedRegisters) Read(reg uint8) uint32     { return gate.IOAPICRead(r.window, reg) }
func (r lockedRegisters) Write(reg uint8, v uint32) { gate.IOAPICWrite(r.window, reg, v) }

const (
	ioapicBytes  = 0x20
	ioapicLegacy = 0xfec00000 // where a PC without firmware tables has it
)

func (s *System) prepareIRQs() error {
	x := &interrupts{windows: map[*intc.IOAPIC]unsafe.Pointer{}, pins: map[uint32]bool{}}
	s.irqs = x
	found := []acpi.IOAPIC{{Addr: ioapicLegacy}}
	var overrides []acpi.InterruptOverride
	if s.ACPI != nil {
		found, overrides = s.ACPI.MADT.IOAPICs, s.ACPI.MADT.Overrides
	}
	var chips []*intc.IOAPIC
	for _, f := range found {
		_, p, err := deviceMapper{}.window(uint64(f.Addr), ioapicBytes)
		if err != nil {
			return err
		}
		chip, err := intc.NewIOAPIC(lockedRegisters{p}, f.GSIBase)
		if err != nil {
			log.Warnf("%v", err)
			continue
		}
		x.windows[chip] = p
		chips = append(chips, chip)
	}
	ctl, err := intc.NewController(chips, overrides)
	x.ctl = ctl
	return err
}

// message makes line i of a device and the message that raises it. The first
// line of a device goes to processor 0, line i to processor i-1, so that queue
// pair k is served by processor k.
func (x *interrupts) message(i int) (irq.Line, irq.Message, error) {
	cpu := max(0, i-1) % gate.CPUs()
	l, err := newLine(cpu)
	if err != nil {
		return nil, irq.Message{}, err
	}
	m, err := intc.Message(gate.APICID(cpu), l.vector)
	return l, m, err
}

// pci makes the line of a PCI pin that firmware routed to an ISA interrupt.
func (x *interrupts) pci(intLine uint8) (irq.Line, error) {
	gsi, p, t, err := x.ctl.ResolvePCI(intLine)
	if err != nil {
		return nil, err
	}
	return x.gsi(gsi, p, t)
}

// sci makes the line of the FADT's system control interrupt.
func (x *interrupts) sci(n uint16) (irq.Line, error) {
	gsi, p, t := x.ctl.ResolveSCI(n)
	return x.gsi(gsi, p, t)
}

// gsi makes the line of a global system interrupt. Two devices on one pin would
// each have to quiet the other's; the second is refused.
func (x *interrupts) gsi(n uint32, p acpi.Polarity, t acpi.Trigger) (irq.Line, error) {
	if x.pins[n] {
		return nil, fmt.Errorf("interrupt %d is used by another device", n)
	}
	chip, pin, err := x.ctl.Pin(n)
	if err != nil {
		return nil, err
	}
	l, err := newLine(0)
	if err != nil {
		return nil, err
	}
	if err := x.ctl.Route(n, intc.Route{Vector: l.vector, APICID: gate.APICID(0), Polarity: p, Trigger: t}); err != nil {
		return nil, err
	}
	x.pins[n] = true
	if t == acpi.Level {
		return l, gate.LevelVector(l.vector, x.windows[chip], pin) // Wait unmasks
	}
	x.ctl.Unmask(n)
	return l, nil
}

package platform

import (
	"fmt"
	"unsafe"

	"osv/kernel/hw/acpi"
	"osv/kernel/hw/gate"
	"osv/kernel/hw/intc"
	"osv/kernel/hw/pci"
	"osv/kernel/irq"
)

// interrupts hands out lines and knows how each source reaches them.
type interrupts struct {
	ctl     *intc.Controller
	windows map[*intc.IOAPIC]unsafe.Pointer
	pins    map[uint32]*usedPin // by GSI
	crowd   map[uint32]int      // devices that may want the GSI
	owners  [256]string         // of vectors; see nameLines
}

// usedPin is a GSI that has a line.
type usedPin struct {
	p      acpi.Polarity
	t      acpi.Trigger
	source *line
	shared *irq.Shared // nil: one device has it alone
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
	x := &interrupts{windows: map[*intc.IOAPIC]unsafe.Pointer{}, pins: map[uint32]*usedPin{}, crowd: map[uint32]int{}}
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

// expect notes which pins several functions may want: those share them from the
// first on. A pin that one function has alone is waited on without a goroutine between.
func (x *interrupts) expect(devices []*pci.Device, fadt *acpi.FADT) {
	if fadt != nil {
		n, _, _ := x.ctl.ResolveSCI(fadt.SCI)
		x.crowd[n]++
	}
	for _, d := range devices {
		if n, _, _, err := x.ctl.ResolvePCI(d.IntLine); err == nil && d.IntPin != 0 {
			x.crowd[n]++
		}
	}
}

// sharedLine is a share of a pin; its source is what nameLines names.
type sharedLine struct {
	irq.Line
	source *line
}

// gsi makes the line of a global system interrupt. Several devices share one that is
// level-triggered.
func (x *interrupts) gsi(n uint32, p acpi.Polarity, t acpi.Trigger) (irq.Line, error) {
	u := x.pins[n]
	if u == nil {
		l, err := x.source(n, p, t)
		if err != nil {
			return nil, err
		}
		u = &usedPin{p: p, t: t, source: l}
		x.pins[n] = u
		if t != acpi.Level || x.crowd[n] < 2 {
			return l, nil
		}
		u.shared = irq.Share(l)
	}
	if u.shared == nil || u.p != p || u.t != t {
		return nil, fmt.Errorf("interrupt %d is used by another device", n)
	}
	l, err := u.shared.Line()
	if err != nil {
		return nil, err
	}
	return sharedLine{l, u.source}, nil
}

// source routes a global system interrupt to a vector of its own.
func (x *interrupts) source(n uint32, p acpi.Polarity, t acpi.Trigger) (*line, error) {
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
	if t == acpi.Level {
		return l, gate.LevelVector(l.vector, x.windows[chip], pin) // Wait unmasks
	}
	x.ctl.Unmask(n)
	return l, nil
}

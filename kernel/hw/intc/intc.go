// Package intc routes device interrupts to CPUs: through I/O APIC inputs, and as
// messages that PCI devices send by themselves.
//
// Spec: Intel 82093AA I/O APIC datasheet (290566-001, May 1996) §3; Intel SDM
// vol. 3A §11.11 (message-signalled interrupts); ACPI 6.5 §5.2.12.5 (interrupt
// source overrides). Not covered: interrupt remapping, without which an
// interrupt reaches APIC IDs up to 254 only; logical destinations; the 8259s,
// which metal masks; the local APIC, which is metal's as well.
//
// Who may use it: kernel/platform and kernel/irq. It gives out no vectors and
// knows no devices.
//
// An I/O APIC is reached through two registers, an index and a window, so every
// access must hold one lock. Window has it for those who come through this
// package. Code that masks pins in an interrupt handler needs its own
// implementation of Registers with the handler's lock, and no other door.
//
// Start reading at Controller, then ioapic.go.
package intc

import (
	"fmt"
	"strings"

	"osv/kernel/hw/acpi"
	"osv/kernel/hw/mmio"
)

// Mapper makes registers in physical memory reachable.
type Mapper interface {
	// Map returns the size bytes at phys, uncached.
	Map(phys uint64, size int) (mmio.Space, error)
}

// Controller is all I/O APICs of the machine, addressed by global system
// interrupt (GSI). Safe for concurrent use.
type Controller struct {
	ioapics   []*IOAPIC
	overrides []acpi.InterruptOverride
}

// New maps the I/O APICs that the MADT lists and masks all their inputs.
func New(m Mapper, madt *acpi.MADT) (*Controller, error) {
	var ioapics []*IOAPIC
	for _, d := range madt.IOAPICs {
		s, err := m.Map(uint64(d.Addr), windowLen)
		if err != nil {
			return nil, fmt.Errorf("intc: I/O APIC %d at %#x: %w", d.ID, d.Addr, err)
		}
		w, err := NewWindow(s)
		if err != nil {
			return nil, fmt.Errorf("intc: I/O APIC %d at %#x: %w", d.ID, d.Addr, err)
		}
		io, err := NewIOAPIC(w, d.GSIBase)
		if err != nil {
			return nil, fmt.Errorf("intc: I/O APIC %d at %#x: %w", d.ID, d.Addr, err)
		}
		ioapics = append(ioapics, io)
	}
	return NewController(ioapics, madt.Overrides)
}

// NewController is New over I/O APICs that the caller made.
func NewController(ioapics []*IOAPIC, overrides []acpi.InterruptOverride) (*Controller, error) {
	for i, a := range ioapics {
		for _, b := range ioapics[:i] {
			if a.first() <= b.last() && b.first() <= a.last() {
				return nil, fmt.Errorf("intc: I/O APICs for GSIs %v and %v overlap", b, a)
			}
		}
	}
	return &Controller{ioapics, overrides}, nil
}

// Pin returns the I/O APIC that serves gsi, and which of its inputs that is.
func (c *Controller) Pin(gsi uint32) (*IOAPIC, int, error) {
	for _, io := range c.ioapics {
		if gsi >= io.first() && gsi <= io.last() {
			return io, int(gsi - io.first()), nil
		}
	}
	ranges := make([]string, len(c.ioapics))
	for i, io := range c.ioapics {
		ranges[i] = io.String()
	}
	return nil, 0, fmt.Errorf("intc: GSI %d: no I/O APIC serves it, there are [%s]", gsi, strings.Join(ranges, " "))
}

// Route has gsi raise an interrupt as r says, once it is unmasked. It is masked
// when Route returns.
func (c *Controller) Route(gsi uint32, r Route) error {
	io, pin, err := c.Pin(gsi)
	if err != nil {
		return err
	}
	if err := io.Route(pin, r); err != nil {
		return fmt.Errorf("intc: GSI %d: %w", gsi, err)
	}
	return nil
}

// Mask holds gsi back. It is in effect when Mask returns. A GSI that no I/O APIC
// serves is masked by nature.
func (c *Controller) Mask(gsi uint32) { c.setMask(gsi, true) }

// Unmask lets gsi through, as routed last.
func (c *Controller) Unmask(gsi uint32) { c.setMask(gsi, false) }

func (c *Controller) setMask(gsi uint32, masked bool) {
	for _, io := range c.ioapics {
		if gsi >= io.first() && gsi <= io.last() {
			io.SetMask(int(gsi-io.first()), masked)
			return
		}
	}
}

// ResolveISA returns where ISA interrupt irq arrives, and how. Without an
// override in the MADT that is the GSI of the same number, edge-triggered and
// active high.
func (c *Controller) ResolveISA(irq uint8) (gsi uint32, p acpi.Polarity, t acpi.Trigger) {
	return c.resolve(irq, acpi.ActiveHigh, acpi.Edge)
}

// ResolvePCI returns where the interrupt pin of a PCI device arrives that
// firmware routed to ISA interrupt line (pci.Device.IntLine), and how. PCI is
// level-triggered and active low where no override says otherwise. It is an error
// where firmware did not route the pin.
func (c *Controller) ResolvePCI(line uint8) (gsi uint32, p acpi.Polarity, t acpi.Trigger, err error) {
	if line == 0 || line > 15 {
		return 0, 0, 0, fmt.Errorf("intc: PCI interrupt line %d: firmware did not route the pin", line)
	}
	gsi, p, t = c.resolve(line, acpi.ActiveLow, acpi.Level)
	return gsi, p, t, nil
}

// ResolveSCI is ResolveISA for the FADT's SCI: ACPI 6.5 §5.2.9 has it
// level-triggered and active low where no override says otherwise.
func (c *Controller) ResolveSCI(sci uint16) (gsi uint32, p acpi.Polarity, t acpi.Trigger) {
	if sci > 0xFF {
		return uint32(sci), acpi.ActiveLow, acpi.Level
	}
	return c.resolve(uint8(sci), acpi.ActiveLow, acpi.Level)
}

// resolve applies the override of irq. p and t stand where it has the bus's own,
// and where there is none.
func (c *Controller) resolve(irq uint8, p acpi.Polarity, t acpi.Trigger) (uint32, acpi.Polarity, acpi.Trigger) {
	for _, o := range c.overrides {
		if o.IRQ != irq {
			continue
		}
		if o.Polarity != acpi.BusPolarity {
			p = o.Polarity
		}
		if o.Trigger != acpi.BusTrigger {
			t = o.Trigger
		}
		return o.GSI, p, t
	}
	return uint32(irq), p, t
}

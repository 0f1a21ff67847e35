package platform

import (
	"sync/atomic"

	"osv/kernel/hw/gate"
	"osv/kernel/irq"
)

// line is an interrupt vector as drivers see it: an irq.Line that is also a
// Waker. Masking at the source is the owner's business (MSI-X entry) or metal's
// (IOAPIC pin).
type line struct {
	vector uint8
	closed atomic.Bool
}

func newLine(cpu int) (*line, error) {
	v, err := gate.AllocVector(cpu)
	if err != nil {
		return nil, err
	}
	return &line{vector: v}, nil
}

func (l *line) Wait() error {
	if l.closed.Load() {
		return irq.ErrClosed
	}
	if err := gate.WaitVector(l.vector); err != nil {
		return err
	}
	if l.closed.Load() {
		return irq.ErrClosed
	}
	return nil
}

// Wake makes the waiter return as if the source had fired.
func (l *line) Wake() { gate.RaiseVector(l.vector) }

// Close wakes the waiter with ErrClosed. The vector is not used again: a device
// that still raises it must not reach another driver.
func (l *line) Close() error {
	l.closed.Store(true)
	gate.RaiseVector(l.vector)
	return nil
}

// nameLines says whose lines these are. It is called while devices are attached.
func (x *interrupts) nameLines(lines []irq.Line, owner string) {
	for _, l := range lines {
		switch l := l.(type) {
		case *line:
			x.owners[l.vector] = owner
		case sharedLine:
			if o := &x.owners[l.source.vector]; *o == "" {
				*o = owner
			} else {
				*o += "," + owner
			}
		}
	}
}

// InterruptOwner is the name of the disk or network card that raises a vector, of the
// first disk where a controller has several, of all devices where they share a pin; ""
// where it has no name.
func (s *System) InterruptOwner(vector uint8) string { return s.irqs.owners[vector] }

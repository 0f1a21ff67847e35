// Package irq brings device interrupts to goroutines.
//
// A driver sees only Line: one interrupt source, waited for by one goroutine.
// Source hides whether it is an MSI-X vector of its own or a shared
// level-triggered pin. kernel/platform makes them; drivers take them as
// parameters.
//
// May not: know any device. Start reading at Line.
package irq

import (
	"errors"

	"osv/kernel/hw/pci/msi"
)

// ErrClosed is returned by Wait after Close.
var ErrClosed = errors.New("irq: line closed")

// Line is one interrupt source as one goroutine sees it.
type Line interface {
	// Wait blocks until the source has fired at least once since the previous
	// Wait returned; firings in between are merged. For a level-triggered pin it
	// first unmasks the pin, so the caller has quieted its device by then.
	// It returns ErrClosed once the line is closed.
	Wait() error
	// Close wakes the waiter with ErrClosed and masks the source.
	Close() error
}

// Serve calls work each time that l has fired, until l is closed; then ended. It is
// the whole of a goroutine that serves one line.
func Serve(l Line, work, ended func()) {
	for l.Wait() == nil {
		work()
	}
	ended()
}

// Waker is a Line whose waiter other goroutines can wake: Wake makes the current
// Wait, or the next one, return nil as if the source had fired. It never blocks.
type Waker interface{ Wake() }

// Message is what a device must write, and where, to raise a message-signalled
// interrupt (Intel SDM vol. 3, §11.11.1). The type is declared below hw/pci and
// hw/intc, which may not import this package.
type Message = msi.Message

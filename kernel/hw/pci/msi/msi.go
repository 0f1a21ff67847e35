// Package msi holds the one type that interrupt controllers, PCI and irq share:
// what a message-signalled interrupt is. It is a leaf and stays one.
package msi

// Message is what a device must write, and where, to raise a message-signalled
// interrupt. kernel/hw/intc composes it for a CPU and vector.
type Message struct {
	Addr uint64 // physical
	Data uint32
}

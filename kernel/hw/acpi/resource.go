package acpi

import (
	"errors"
	"fmt"
)

// Interrupt is an interrupt that a resource template names.
type Interrupt struct {
	GSI      uint32
	Trigger  Trigger
	Polarity Polarity
	Shared   bool
}

func (i Interrupt) String() string { return fmt.Sprintf("GSI %d %v %v", i.GSI, i.Trigger, i.Polarity) }

// WindowKind is what a Window is a range of.
type WindowKind uint8

// The numbers are the resource types of §6.4.3.5.
const (
	WindowMemory WindowKind = 0
	WindowIO     WindowKind = 1
	WindowBus    WindowKind = 2
)

func (k WindowKind) String() string {
	return [...]string{"memory", "I/O", "bus", "reserved"}[min(k, 3)]
}

// Window is a range of addresses: of a device, or passed on by a bridge.
type Window struct {
	Kind         WindowKind
	Base, Size   uint64
	Prefetchable bool
}

func (w Window) String() string {
	return fmt.Sprintf("%v %#x-%#x", w.Kind, w.Base, w.Base+w.Size-1)
}

// resources is a decoded resource template.
type resources struct {
	fixed      []Window // Memory32Fixed and I/O ports: what the device itself uses
	windows    []Window // address space descriptors
	interrupts []Interrupt
}

// Resource data types, §6.4.2 and §6.4.3. A small item has bit 7 clear, its type
// in bits 6-3 and its length in bits 2-0.
const (
	resIRQ     = 0x04 // small
	resIOPort  = 0x08 // small
	resEnd     = 0x0F // small
	resMem32   = 0x85 // large: 32-bit memory range
	resFixed32 = 0x86
	resDWord   = 0x87
	resWord    = 0x88
	resExtIRQ  = 0x89
	resQWord   = 0x8A
)

// parseResources decodes a resource template. Items of a kind not known here
// are skipped.
func parseResources(b []byte) (resources, error) {
	var r resources
	for i := 0; i < len(b); {
		at := i
		kind, n := b[i]>>3, int(b[i]&7)
		if b[i]&0x80 != 0 {
			if i+3 > len(b) {
				return r, fmt.Errorf("resource at %#x: cut short", at)
			}
			kind, n = b[i], int(le16(b, i+1))
			i += 2
		}
		i++
		if n > len(b)-i {
			return r, fmt.Errorf("resource at %#x: %d bytes long, %d remain", at, n, len(b)-i)
		}
		if kind == resEnd {
			return r, nil
		}
		if err := r.item(kind, b[i:i+n]); err != nil {
			return r, fmt.Errorf("resource at %#x: %w", at, err)
		}
		i += n
	}
	return r, errors.New("resource template has no end tag")
}

func (r *resources) item(kind byte, b []byte) error {
	least := map[byte]int{
		resIRQ: 2, resIOPort: 7, resMem32: 17, resFixed32: 9,
		resDWord: 23, resWord: 13, resExtIRQ: 2, resQWord: 43,
	}[kind]
	if len(b) < least {
		return fmt.Errorf("type %#x is %d bytes long, want %d", kind, len(b), least)
	}
	switch kind {
	case resIRQ:
		r.irq(b)
	case resIOPort:
		return r.add(&r.fixed, Window{Kind: WindowIO, Base: uint64(le16(b, 1)), Size: uint64(b[6])})
	case resMem32:
		return r.add(&r.fixed, Window{Base: uint64(le32(b, 1)), Size: uint64(le32(b, 13))})
	case resFixed32:
		return r.add(&r.fixed, Window{Base: uint64(le32(b, 1)), Size: uint64(le32(b, 5))})
	case resExtIRQ:
		return r.extIRQ(b)
	case resWord:
		return r.space(b, uint64(le16(b, 5)), uint64(le16(b, 9)), uint64(le16(b, 11)))
	case resDWord:
		return r.space(b, uint64(le32(b, 7)), uint64(le32(b, 15)), uint64(le32(b, 19)))
	case resQWord:
		return r.space(b, le64(b, 11), le64(b, 27), le64(b, 35))
	}
	return nil
}

// space adds an address space descriptor, §6.4.3.5: b starts at the resource
// type. Translated ranges do not occur on PCs.
func (r *resources) space(b []byte, base, translation, size uint64) error {
	w := Window{Kind: WindowKind(b[0]), Base: base, Size: size}
	if w.Kind > WindowBus {
		return nil // vendor defined
	}
	if size == 0 {
		return nil // a window that this machine does not use
	}
	if translation != 0 {
		return fmt.Errorf("%v: translated by %#x", w, translation)
	}
	// Memory flags, §6.4.3.5.5: caching in bits 2-1, 3 is prefetchable.
	w.Prefetchable = w.Kind == WindowMemory && b[2]>>1&3 == 3
	return r.add(&r.windows, w)
}

func (r *resources) add(to *[]Window, w Window) error {
	if w.Size == 0 {
		return fmt.Errorf("%v range at %#x has size 0", w.Kind, w.Base)
	}
	if w.Base+w.Size-1 < w.Base {
		return fmt.Errorf("%v range at %#x: %#x bytes reach beyond the address space", w.Kind, w.Base, w.Size)
	}
	*to = append(*to, w)
	return nil
}

// irq decodes an IRQ descriptor, §6.4.2.1.
func (r *resources) irq(b []byte) {
	in := Interrupt{Trigger: Edge, Polarity: ActiveHigh} // the meaning of no flags
	if len(b) > 2 {
		if b[2]&1 == 0 {
			in.Trigger = Level
		}
		if b[2]&8 != 0 {
			in.Polarity = ActiveLow
		}
		in.Shared = b[2]&16 != 0
	}
	for irq := range uint32(16) {
		if le16(b, 0)>>irq&1 != 0 {
			in.GSI = irq
			r.interrupts = append(r.interrupts, in)
		}
	}
}

// extIRQ decodes an extended interrupt descriptor, §6.4.3.6.
func (r *resources) extIRQ(b []byte) error {
	in := Interrupt{Trigger: Level, Polarity: ActiveHigh, Shared: b[0]&8 != 0}
	if b[0]&2 != 0 {
		in.Trigger = Edge
	}
	if b[0]&4 != 0 {
		in.Polarity = ActiveLow
	}
	n := int(b[1])
	if 2+4*n > len(b) {
		return fmt.Errorf("%d interrupts in %d bytes", n, len(b))
	}
	for k := range n {
		in.GSI = le32(b, 2+4*k)
		r.interrupts = append(r.interrupts, in)
	}
	return nil
}

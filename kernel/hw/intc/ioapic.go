package intc

import (
	"errors"
	"fmt"
	"sync"

	"osv/kernel/hw/acpi"
	"osv/kernel/hw/mmio"
)

// Memory-mapped registers, 82093AA §3.1.
const (
	regIOREGSEL mmio.Off = 0x00 // RW index of the register that IOWIN shows
	regIOWIN    mmio.Off = 0x10 // RW
	windowLen            = 0x20
)

// Registers behind the window, 82093AA §3.2.
const (
	regIOAPICVER = 0x01 // R  version in bits 7-0, number of the last entry in 23-16
	regIOREDTBL  = 0x10 // RW two per entry, lower half first
	maxEntries   = (0x100 - regIOREDTBL) / 2
)

// Redirection table entry, lower half, 82093AA §3.2.4. The upper half is the
// destination in bits 31-24. Delivery mode 0 (fixed) and destination mode 0
// (physical APIC ID) are all that is used here.
const (
	entryActiveLow = 1 << 13
	entryLevel     = 1 << 15
	entryMasked    = 1 << 16

	entryDestShift = 24
)

// Registers is the register file of one I/O APIC. Safe for concurrent use.
type Registers interface {
	Read(reg uint8) uint32
	Write(reg uint8, v uint32)
}

// Window is Registers behind IOREGSEL and IOWIN.
type Window struct {
	mu sync.Mutex // the two belong together
	s  mmio.Space
}

// NewWindow returns the register file behind s.
func NewWindow(s mmio.Space) (*Window, error) {
	if s.Len() < uint32(regIOWIN)+4 {
		return nil, fmt.Errorf("%d bytes of registers, want %d", s.Len(), uint32(regIOWIN)+4)
	}
	return &Window{s: s}, nil
}

// Read reads register reg.
func (w *Window) Read(reg uint8) uint32 {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.s.Store32(regIOREGSEL, uint32(reg))
	return w.s.Load32(regIOWIN)
}

// Write writes register reg.
func (w *Window) Write(reg uint8, v uint32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.s.Store32(regIOREGSEL, uint32(reg))
	w.s.Store32(regIOWIN, v)
}

// IOAPIC is one I/O APIC. Safe for concurrent use.
type IOAPIC struct {
	mu      sync.Mutex // guards read-modify-write of entries; before Window.mu
	r       Registers
	gsiBase uint32
	n       int
	version uint8
}

// NewIOAPIC takes over the I/O APIC behind r, whose inputs are the GSIs from
// gsiBase on, and masks them all.
func NewIOAPIC(r Registers, gsiBase uint32) (*IOAPIC, error) {
	v := r.Read(regIOAPICVER)
	if v == 0xFFFF_FFFF || v == 0 {
		return nil, fmt.Errorf("version register reads as %#x: nothing is there", v)
	}
	io := &IOAPIC{r: r, gsiBase: gsiBase, n: int(v>>16&0xFF) + 1, version: uint8(v)}
	if io.n > maxEntries {
		return nil, fmt.Errorf("version register %#x: %d entries, at most %d can be addressed", v, io.n, maxEntries)
	}
	if uint64(gsiBase)+uint64(io.n) > 1<<32 {
		return nil, fmt.Errorf("%d inputs from GSI %d on", io.n, gsiBase)
	}
	for pin := range io.n {
		r.Write(low(pin), entryMasked)
		r.Write(high(pin), 0)
	}
	return io, nil
}

// low and high are the registers of entry pin.
func low(pin int) uint8  { return uint8(regIOREDTBL + 2*pin) }
func high(pin int) uint8 { return uint8(regIOREDTBL + 2*pin + 1) }

func (io *IOAPIC) first() uint32 { return io.gsiBase }
func (io *IOAPIC) last() uint32  { return io.gsiBase + uint32(io.n-1) }

func (io *IOAPIC) String() string { return fmt.Sprintf("%d-%d", io.first(), io.last()) }

// Len is the number of inputs.
func (io *IOAPIC) Len() int { return io.n }

// Version is 0x11 for the 82093AA, 0x20 where there is an EOI register.
func (io *IOAPIC) Version() uint8 { return io.version }

// Route says what an input raises, and where.
type Route struct {
	Vector uint8 // 0x10 and up
	// APICID is the CPU. The entry has 8 bits for it, all ones being broadcast:
	// CPUs with x2APIC IDs from 255 on are out of reach.
	APICID   uint32
	Polarity acpi.Polarity // ActiveHigh or ActiveLow
	Trigger  acpi.Trigger  // Edge or Level
}

// encode is the two halves of the entry, masked.
func (r Route) encode() (lo, hi uint32, err error) {
	if err := checkTarget(r.APICID, r.Vector); err != nil {
		return 0, 0, err
	}
	lo = uint32(r.Vector) | entryMasked
	switch r.Polarity {
	case acpi.ActiveHigh:
	case acpi.ActiveLow:
		lo |= entryActiveLow
	default:
		return 0, 0, errors.New("the polarity is not resolved")
	}
	switch r.Trigger {
	case acpi.Edge:
	case acpi.Level:
		lo |= entryLevel
	default:
		return 0, 0, errors.New("the trigger mode is not resolved")
	}
	return lo, r.APICID << entryDestShift, nil
}

// checkTarget refuses what neither an entry nor a message can say. Vectors below
// 16 are reserved (SDM vol. 3A §11.5.2): the local APIC takes them as errors.
func checkTarget(apicID uint32, vector uint8) error {
	if apicID >= 0xFF {
		return fmt.Errorf("APIC ID %d: only IDs below 255 are within reach without interrupt remapping", apicID)
	}
	if vector < 16 {
		return fmt.Errorf("vector %#x is reserved", vector)
	}
	return nil
}

// Route programs input pin, and leaves it masked.
func (io *IOAPIC) Route(pin int, r Route) error {
	io.check(pin)
	lo, hi, err := r.encode()
	if err != nil {
		return err
	}
	io.mu.Lock()
	defer io.mu.Unlock()
	// Masked first: between the halves the entry is half old, half new.
	io.r.Write(low(pin), io.r.Read(low(pin))|entryMasked)
	io.r.Write(high(pin), hi)
	io.r.Write(low(pin), lo)
	return nil
}

// SetMask holds input pin back, or lets it through. It is in effect when SetMask
// returns.
func (io *IOAPIC) SetMask(pin int, masked bool) {
	io.check(pin)
	io.mu.Lock()
	defer io.mu.Unlock()
	v := io.r.Read(low(pin)) &^ entryMasked
	if masked {
		v |= entryMasked
	}
	io.r.Write(low(pin), v)
	io.r.Read(low(pin)) // pushes the posted write
}

// check panics where pin is not an input: a bug of the caller.
func (io *IOAPIC) check(pin int) {
	if pin < 0 || pin >= io.n {
		panic(fmt.Sprintf("intc: I/O APIC input %d of %d", pin, io.n))
	}
}

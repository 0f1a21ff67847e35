package pci

import "fmt"

// BARKind is what a base address register addresses.
type BARKind uint8

// The kinds of BAR, PCI 3.0 §6.2.5.1.
const (
	Memory32 BARKind = iota
	Memory64         // takes two registers
	IO
)

func (k BARKind) String() string {
	return [...]string{"32-bit memory", "64-bit memory", "I/O"}[min(k, 2)]
}

// BAR is one register window of a device. The zero value is a BAR that the
// device does not have.
type BAR struct {
	Kind         BARKind
	Prefetchable bool
	Base         uint64 // physical address or port; 0: not assigned
	Size         uint64 // bytes, a power of two; 0: no such BAR
}

// Present reports whether the device has this BAR.
func (b BAR) Present() bool { return b.Size != 0 }

// Assigned reports whether it has an address.
func (b BAR) Assigned() bool { return b.Base != 0 }

func (b BAR) String() string {
	if !b.Present() {
		return "none"
	}
	pref := ""
	if b.Prefetchable {
		pref = " prefetchable"
	}
	if !b.Assigned() {
		return fmt.Sprintf("%v%s, %#x bytes, not assigned", b.Kind, pref, b.Size)
	}
	return fmt.Sprintf("%v%s %#x-%#x", b.Kind, pref, b.Base, b.Base+b.Size-1)
}

// Range is a range of physical addresses.
type Range struct{ Base, Size uint64 }

// overlaps reports whether r and the size bytes at base share a byte.
func (r Range) overlaps(base, size uint64) bool {
	return base-r.Base < r.Size || r.Base-base < size // one starts inside the other
}

// Base address register bits, §6.2.5.1 figures 6-5 and 6-6.
const (
	barIO           = 1 << 0
	barIOMask       = 3
	barMemoryMask   = 0xF
	barTypeShift    = 1
	barType32       = 0
	barType64       = 2
	barPrefetchable = 1 << 3

	portSpace = 1 << 16
)

// rawBAR is what the registers of one BAR hold, and what they read as after a
// write of all ones. hi is of the next register, for 64-bit BARs.
type rawBAR struct {
	lo, loOnes uint32
	hi, hiOnes uint32
}

// value is what the error messages show.
func (r rawBAR) value(wide bool) uint64 {
	if wide {
		return uint64(r.hi)<<32 | uint64(r.lo)
	}
	return uint64(r.lo)
}

// wide reports whether the register says that it is the lower half of two.
func wide(lo uint32) bool { return lo&barIO == 0 && lo>>barTypeShift&3 == barType64 }

// decode makes a BAR of its registers. physBits is how wide physical addresses
// are. A BAR that no device can sensibly have is an error.
func (r rawBAR) decode(physBits int) (BAR, error) {
	if r.lo == 0 && r.loOnes == 0 {
		return BAR{}, nil
	}
	var b BAR
	var ones, space uint64 // address bits that can be written; end of the address space
	low := uint32(barMemoryMask)
	switch {
	case r.loOnes&barIO != 0:
		low = barIOMask
		b.Kind, b.Base, ones, space = IO, uint64(r.lo&^low), uint64(r.loOnes&^low), portSpace
		// §6.2.5.1: a device may leave the upper 16 bits hardwired to 0.
		if ones != 0 && ones>>16 == 0 {
			ones |= 0xFFFF_0000
		}
		ones |= 0xFFFF_FFFF << 32
	case r.loOnes>>barTypeShift&3 == barType32:
		b.Kind, b.Base, ones, space = Memory32, uint64(r.lo&^low), uint64(r.loOnes&^low), 1<<32
		ones |= 0xFFFF_FFFF << 32
	case r.loOnes>>barTypeShift&3 == barType64:
		b.Kind, space = Memory64, 1<<physBits
		b.Base = uint64(r.hi)<<32 | uint64(r.lo&^low)
		ones = uint64(r.hiOnes)<<32 | uint64(r.loOnes&^low)
	default:
		return BAR{}, fmt.Errorf("reserved type %d", r.loOnes>>barTypeShift&3)
	}
	b.Prefetchable = b.Kind != IO && r.loOnes&barPrefetchable != 0
	if r.lo&low != r.loOnes&low {
		return BAR{}, fmt.Errorf("its read-only bits change from %#x to %#x", r.lo&low, r.loOnes&low)
	}
	if ones&0xFFFF_FFFF == 0 && (b.Kind != Memory64 || ones == 0) {
		return BAR{}, fmt.Errorf("size 0: no address bit can be written")
	}
	b.Size = -ones // the lowest writable bit
	if b.Size&(b.Size-1) != 0 {
		return BAR{}, fmt.Errorf("writable address bits %#x have gaps", ones&(space-1))
	}
	if b.Size > space {
		return BAR{}, fmt.Errorf("size %#x is larger than the address space of %#x", b.Size, space)
	}
	if b.Base&(b.Size-1) != 0 {
		return BAR{}, fmt.Errorf("base is not a multiple of the size %#x", b.Size)
	}
	if b.Base > space-b.Size {
		return BAR{}, fmt.Errorf("%#x bytes reach beyond the address space of %#x", b.Size, space)
	}
	return b, nil
}

// readBARs sizes the BARs of d and checks them. On error the registers are as
// firmware left them, but a device decodes nothing and is no bus master. A
// bridge goes on passing on: devices behind it must not pay for its own BARs.
//
// §6.2.5.1 implementation note: decoding is off while a BAR holds all ones, or
// the device would answer for addresses that are not its own.
func (s *scanner) readBARs(d *Device, slots int) error {
	command := d.Read16(regCommand)
	d.Write16(regCommand, command&^(cmdIO|cmdMemory))
	for i := 0; i < slots; i++ {
		reg := uint16(regBAR0 + 4*i)
		var raw rawBAR
		raw.lo, raw.loOnes = d.sizeRegister(reg)
		is64 := wide(raw.loOnes)
		fail := func(format string, args ...any) error {
			if d.Bridge != nil {
				d.Write16(regCommand, command)
			} else {
				d.Write16(regCommand, command&^(cmdIO|cmdMemory|cmdBusMaster))
			}
			return &DeviceError{d.Addr, i, raw.value(is64), fmt.Sprintf(format, args...)}
		}
		if is64 {
			if i+1 == slots {
				return fail("64-bit BAR in the last slot")
			}
			raw.hi, raw.hiOnes = d.sizeRegister(reg + 4)
		}
		b, err := raw.decode(s.physBits)
		if err != nil {
			return fail("%v", err)
		}
		if b.Kind != IO && b.Assigned() {
			for _, r := range s.ram {
				if r.overlaps(b.Base, b.Size) {
					return fail("%#x bytes overlap RAM at %#x-%#x", b.Size, r.Base, r.Base+r.Size-1)
				}
			}
		}
		d.BARs[i] = b
		if is64 {
			i++
		}
	}
	d.Write16(regCommand, command)
	return nil
}

// sizeRegister returns what the register holds and what it reads as after a
// write of all ones, and puts back what it held.
func (d *Device) sizeRegister(reg uint16) (held, ones uint32) {
	held = d.Read32(reg)
	d.Write32(reg, 0xFFFF_FFFF)
	ones = d.Read32(reg)
	d.Write32(reg, held)
	return held, ones
}

// setBAR gives BAR i the address base, decoding being off meanwhile. It returns
// an error where the device does not take it.
func (d *Device) setBAR(i int, base uint64) error {
	b := &d.BARs[i]
	reg := uint16(regBAR0 + 4*i)
	command := d.Read16(regCommand)
	d.Write16(regCommand, command&^(cmdIO|cmdMemory))
	defer d.Write16(regCommand, command)
	low := uint32(barMemoryMask)
	if b.Kind == IO {
		low = barIOMask
	}
	d.Write32(reg, uint32(base))
	got := uint64(d.Read32(reg) &^ low)
	if b.Kind == Memory64 {
		d.Write32(reg+4, uint32(base>>32))
		got |= uint64(d.Read32(reg+4)) << 32
	}
	if got != base {
		return &DeviceError{d.Addr, i, got, fmt.Sprintf("does not take the address %#x", base)}
	}
	b.Base = base
	return nil
}

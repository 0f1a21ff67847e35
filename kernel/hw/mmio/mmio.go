// Package mmio is the typed door to device registers.
//
// A driver takes a Space (one register window: a PCI BAR, a capability inside
// one, a virtio-mmio slot, or a range of I/O ports) and names registers by Off,
// in the spec's own table order. Control paths go through the interface; a
// dynamic call is nothing next to the exit to the hypervisor that each access
// costs. Hot paths take the raw address once (Doorbell) and store through it.
//
// Who may use it: drivers and kernel/hw. It may not know any device.
// Start reading at Space. Tests use kernel/ktest/fakedev, which plays a device.
package mmio

// Off is the byte offset of a register inside a Space.
type Off uint32

// Space is a window of device registers. Accesses are little-endian, exactly as
// wide as the name says, and ordered among themselves. An access outside the
// window panics: it is a bug of the driver, not of the device.
type Space interface {
	Load8(Off) uint8
	Load16(Off) uint16
	Load32(Off) uint32
	Store8(Off, uint8)
	Store16(Off, uint16)
	Store32(Off, uint32)
	// Len is the size of the window in bytes.
	Len() uint32
	// Doorbell returns the register at off for use on a hot path.
	Doorbell(Off) Doorbell
}

// Doorbell is one register that a hot path writes: a memory word where the
// window is memory, a function where it is not (I/O ports, fakes).
type Doorbell struct {
	w16 *uint16
	w32 *uint32
	f16 func(uint16) // nil: f serves both widths
	f   func(uint32)
}

// Memory16 and Memory32 make a doorbell of a mapped 16- or 32-bit register.
func Memory16(p *uint16) Doorbell { return Doorbell{w16: p} }

// Memory32 makes a doorbell of a mapped 32-bit register.
func Memory32(p *uint32) Doorbell { return Doorbell{w32: p} }

// Func makes a doorbell of a function, for windows that are not memory.
func Func(f func(uint32)) Doorbell { return Doorbell{f: f} }

// Funcs makes a doorbell of one function per width, for windows where an access
// of the other width is not the same: I/O ports.
func Funcs(f16 func(uint16), f32 func(uint32)) Doorbell { return Doorbell{f16: f16, f: f32} }

// Ring16 stores v as a 16-bit write. All earlier stores of this CPU to memory
// are visible to the device before it sees the write: x86 keeps stores in
// order, and stores to uncached memory are not reordered with earlier ones.
func (d Doorbell) Ring16(v uint16) {
	if d.w16 != nil {
		*d.w16 = v
		return
	}
	if d.f16 != nil {
		d.f16(v)
		return
	}
	d.f(uint32(v))
}

// Ring32 stores v as a 32-bit write, ordered as Ring16.
func (d Doorbell) Ring32(v uint32) {
	if d.w32 != nil {
		*d.w32 = v // not sync/atomic, whose stores read as well
		return
	}
	d.f(v)
}

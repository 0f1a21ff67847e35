// Package fakepci plays PCI on a plain host: configuration space with functions
// and bridges that a test scripts or that were captured from a machine, and the
// memory behind their BARs.
//
// Spec: PCI Local Bus 3.0 §6, read anew from the device's side: nothing here is
// shared with kernel/hw/pci but the types of its interfaces.
//
// A function keeps only what is writable in it, as hardware does, so BAR sizing
// works by the same bits. It can misbehave: absurd BARs (RawBAR), capability
// lists that loop (Function.Put), bridges that lead back (Bridge), a function
// that goes away (GoneAfter). What a driver must not do is noted in
// Bus.Violations.
//
// Who may use it: tests only. Start reading at Bus.
package fakepci

import (
	"encoding/binary"
	"fmt"

	"osv/kernel/hw/pci"
)

// ConfigLen is the size of a function's configuration space in bytes.
const ConfigLen = 4096

// Bus is a pci.Config over scripted functions. It does not lock: one goroutine.
type Bus struct {
	functions map[pci.Addr]*Function

	// Writes is every write, as "0000:00:01.0 W16 004 0007".
	Writes []string
	// Violations is what a real machine would not have forgiven: a BAR written
	// while its decoder was on, an access to a bus that no bridge leads to.
	Violations []string
}

var _ pci.Config = (*Bus)(nil)

// New returns a machine without functions.
func New() *Bus { return &Bus{functions: map[pci.Addr]*Function{}} }

// Add puts f at a, and returns f. Where f has a sibling at another function
// number, function 0 becomes multi-function.
func (b *Bus) Add(a pci.Addr, f *Function) *Function {
	b.functions[a] = f
	zero := a
	zero.Function = 0
	if f0 := b.functions[zero]; f0 != nil {
		for fn := uint8(1); fn < 8; fn++ {
			zero.Function = fn
			if b.functions[zero] != nil {
				f0.cfg[offHeaderType] |= multiFunction
			}
		}
	}
	return f
}

// At returns the function at a, or nil.
func (b *Bus) At(a pci.Addr) *Function { return b.functions[a] }

func (b *Bus) read(a pci.Addr, off, width uint16) uint32 {
	f := b.functions[a]
	if f == nil || f.gone() {
		return 0xFFFF_FFFF >> (32 - 8*width)
	}
	if f.OnRead != nil {
		f.OnRead(off)
	}
	var v [4]byte
	copy(v[:], f.cfg[off:off+width])
	return binary.LittleEndian.Uint32(v[:])
}

func (b *Bus) write(a pci.Addr, off, width uint16, v uint32) {
	b.Writes = append(b.Writes, fmt.Sprintf("%v W%d %03x %0*x", a, 8*width, off, 2*width, v))
	f := b.functions[a]
	if f == nil || f.gone() {
		return
	}
	if kind := f.decodes(off); kind != "" {
		b.Violations = append(b.Violations, fmt.Sprintf("%v: BAR at %#x written while %s is decoded", a, off, kind))
	}
	f.store(off, width, v)
	if f.OnWrite != nil {
		f.OnWrite(off, v)
	}
}

// Read8 is pci.Config.
func (b *Bus) Read8(a pci.Addr, off uint16) uint8 { return uint8(b.read(a, off, 1)) }

// Read16 is pci.Config.
func (b *Bus) Read16(a pci.Addr, off uint16) uint16 { return uint16(b.read(a, off, 2)) }

// Read32 is pci.Config.
func (b *Bus) Read32(a pci.Addr, off uint16) uint32 { return b.read(a, off, 4) }

// Write8 is pci.Config.
func (b *Bus) Write8(a pci.Addr, off uint16, v uint8) { b.write(a, off, 1, uint32(v)) }

// Write16 is pci.Config.
func (b *Bus) Write16(a pci.Addr, off uint16, v uint16) { b.write(a, off, 2, uint32(v)) }

// Write32 is pci.Config.
func (b *Bus) Write32(a pci.Addr, off uint16, v uint32) { b.write(a, off, 4, v) }

// Function is the configuration space of one function.
type Function struct {
	cfg      [ConfigLen]byte
	writable [ConfigLen]byte // bits that a write changes
	nextCap  uint16          // where the next capability goes
	lastPtr  uint16          // the list's last pointer
	lastExt  uint16          // the extended list's last header, 0: none

	// GoneAfter, where above 0, is after how many accesses the function is no
	// longer there, as after a surprise removal.
	GoneAfter int
	accesses  int

	// OnWrite, where not nil, runs after each write; OnRead before each read.
	OnWrite func(off uint16, v uint32)
	OnRead  func(off uint16)
}

func (f *Function) gone() bool {
	f.accesses++
	return f.GoneAfter > 0 && f.accesses > f.GoneAfter
}

func (f *Function) store(off, width uint16, v uint32) {
	for i := range width {
		m := f.writable[off+i]
		f.cfg[off+i] = f.cfg[off+i]&^m | byte(v>>(8*i))&m
	}
}

// decodes returns what the function decodes at the moment, where off is a BAR
// of that kind, else "".
func (f *Function) decodes(off uint16) string {
	if off < offBAR0 || off >= offBAR0+uint16(4*f.bars()) {
		return ""
	}
	command := f.cfg[offCommand]
	if f.cfg[off&^3]&1 != 0 {
		if command&cmdIO != 0 {
			return "I/O"
		}
	} else if command&cmdMemory != 0 {
		return "memory"
	}
	return ""
}

func (f *Function) bars() int {
	if f.cfg[offHeaderType]&^multiFunction == 1 {
		return 2
	}
	return 6
}

// Get32 is what the function holds at off.
func (f *Function) Get32(off uint16) uint32 { return binary.LittleEndian.Uint32(f.cfg[off:]) }

// Get16 is what the function holds at off.
func (f *Function) Get16(off uint16) uint16 { return binary.LittleEndian.Uint16(f.cfg[off:]) }

// Put changes the bytes at off, writable or not.
func (f *Function) Put(off uint16, b ...byte) *Function {
	copy(f.cfg[off:], b)
	return f
}

// PutWritable says which bits from off on a write changes.
func (f *Function) PutWritable(off uint16, mask ...byte) *Function {
	copy(f.writable[off:], mask)
	return f
}

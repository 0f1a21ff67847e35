// Package dma hands out memory that devices read and write: physically
// contiguous, outside the Go heap, never moved and never seen by the collector.
//
// Who may use it: drivers and kernel/pkt, through an Allocator that
// kernel/platform gives them. Start reading at Region.
//
// Ownership: whoever called Alloc owns the Region and frees it, once, and only
// after the device can no longer reach it (queue disabled or device reset).
package dma

import "fmt"

// Addr is a bus address: what a device puts on the bus to reach a byte of a
// Region. Without an IOMMU it is the physical address.
type Addr uint64

// Region is one piece of device-visible memory. Bytes is the CPU's view of it,
// zeroed when allocated; Bus is the device's.
type Region struct {
	Bytes []byte
	Bus   Addr
}

// Slice returns the part [off, off+n) of r. It panics where that is not inside r.
func (r Region) Slice(off, n int) Region {
	return Region{Bytes: r.Bytes[off : off+n : off+n], Bus: r.Bus + Addr(off)}
}

// Allocator gives device-visible memory.
type Allocator interface {
	// Alloc returns size zeroed bytes whose bus address is a multiple of align
	// (a power of two). It returns an ErrNoMemory where there is none.
	Alloc(size, align int) (Region, error)
	// Free gives a Region back. The caller has made sure that no device holds it.
	Free(Region)
}

// RawAllocator is an Allocator that can leave memory as it is.
type RawAllocator interface {
	Allocator
	// AllocRaw is Alloc with anything in the bytes.
	AllocRaw(size, align int) (Region, error)
}

// AllocRaw allocates memory that its user writes before anybody reads it: without
// zeroing, where m can.
func AllocRaw(m Allocator, size, align int) (Region, error) {
	if raw, ok := m.(RawAllocator); ok {
		return raw.AllocRaw(size, align)
	}
	return m.Alloc(size, align)
}

// ErrNoMemory says which request could not be met.
type ErrNoMemory struct{ Size, Align int }

func (e ErrNoMemory) Error() string {
	return fmt.Sprintf("dma: no contiguous memory for %d bytes aligned to %d", e.Size, e.Align)
}

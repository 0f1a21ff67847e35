package vhost

import (
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// memory is the guest's memory as this process maps it.
type memory struct {
	regions []mapping
}

type mapping struct {
	region
	whole []byte // the mapping, from the start of the file
	data  []byte // the region in it
}

// mapMemory maps all regions, or none. It does not take over the descriptors.
func mapMemory(rs []region, fds []int) (*memory, error) {
	if len(rs) != len(fds) {
		return nil, fmt.Errorf("%d regions with %d file descriptors", len(rs), len(fds))
	}
	m := &memory{}
	for i, r := range rs {
		const tooMuch = 1 << 44
		if r.size == 0 || r.size > tooMuch || r.offset > tooMuch || r.guest+r.size < r.guest || r.user+r.size < r.user {
			m.unmap()
			return nil, fmt.Errorf("region %d: guest address %#x, size %#x, offset %#x", i, r.guest, r.size, r.offset)
		}
		var st unix.Stat_t
		if err := unix.Fstat(fds[i], &st); err != nil {
			m.unmap()
			return nil, fmt.Errorf("region %d: %w", i, err)
		}
		if uint64(st.Size) < r.offset+r.size { // touching what is beyond would be a SIGBUS
			m.unmap()
			return nil, fmt.Errorf("region %d: ends at %#x of a file of %#x bytes", i, r.offset+r.size, st.Size)
		}
		// The offset need not be a multiple of a huge page, so map from the start.
		whole, err := unix.Mmap(fds[i], 0, int(r.offset+r.size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			m.unmap()
			return nil, fmt.Errorf("region %d: map %#x bytes: %w", i, r.offset+r.size, err)
		}
		m.regions = append(m.regions, mapping{r, whole, whole[r.offset:]})
	}
	return m, nil
}

func (m *memory) unmap() {
	if m == nil {
		return
	}
	for _, r := range m.regions {
		unix.Munmap(r.whole) //nolint:errcheck // our own mapping
	}
	m.regions = nil
}

// guest is the n bytes at a guest physical address; ok is false where they are
// not all in one region.
func (m *memory) guest(addr, n uint64) (b []byte, ok bool) {
	for i := range m.regions {
		r := &m.regions[i]
		if off := addr - r.region.guest; addr >= r.region.guest && off <= r.size && n <= r.size-off {
			return r.data[off : off+n : off+n], true
		}
	}
	return nil, false
}

// user is the n bytes at an address of QEMU's.
func (m *memory) user(addr, n uint64) (b []byte, ok bool) {
	for i := range m.regions {
		r := &m.regions[i]
		if off := addr - r.region.user; addr >= r.region.user && off <= r.size && n <= r.size-off {
			return r.data[off : off+n : off+n], true
		}
	}
	return nil, false
}

var errRing = errors.New("ring outside guest memory or not aligned")

// load16 reads a 16-bit field that the other side writes, with acquire order. The
// aligned word around it is read: there is no 16-bit atomic in Go.
func load16(b []byte, off int) uint16 {
	_ = b[off+1]
	p := uintptr(unsafe.Pointer(&b[off]))
	shift := (p & 2) * 8
	base := (*uint32)(unsafe.Add(unsafe.Pointer(&b[off]), -int(p&2)))
	return uint16(atomic.LoadUint32(base) >> shift)
}

// store32 writes a 4-byte aligned word with sequentially consistent order: all
// stores before it are seen before it, and loads after it come after it.
func store32(b []byte, off int, v uint32) {
	_ = b[off+3]
	atomic.StoreUint32((*uint32)(unsafe.Pointer(&b[off])), v)
}

// fence orders everything before it against everything after it.
func fence(word *uint32) { atomic.AddUint32(word, 1) }

// aligned reports whether b begins at a multiple of n.
func aligned(b []byte, n uintptr) bool {
	return len(b) > 0 && uintptr(unsafe.Pointer(&b[0]))%n == 0
}

package fakedev

import (
	"sync"

	"osv/kernel/hw/dma"
)

// Mem is a dma.Allocator with a bus address space of its own, low enough for
// legacy devices (32-bit page numbers) and different from virtual addresses, so
// that a driver that mixes the two up is found out. Pages between regions stay
// unused. The zero value is ready.
type Mem struct {
	host dma.Host

	mu   sync.Mutex
	next dma.Addr // guarded by mu, as all below
	live []block
	last int // index of the block found last
}

type block struct {
	host dma.Region
	bus  dma.Addr
}

const memBase dma.Addr = 16 << 20

// Alloc is dma.Allocator's.
func (m *Mem) Alloc(size, align int) (dma.Region, error) {
	r, err := m.host.Alloc(size, align)
	if err != nil {
		return r, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	a := dma.Addr(max(align, 4096))
	bus := (max(m.next, memBase) + 4096 + a - 1) &^ (a - 1)
	m.next = bus + dma.Addr(size)
	m.live = append(m.live, block{r, bus})
	return dma.Region{Bytes: r.Bytes, Bus: bus}, nil
}

// Free is dma.Allocator's. It panics on a region that is not live.
func (m *Mem) Free(r dma.Region) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, b := range m.live {
		if b.bus == r.Bus {
			m.live = append(m.live[:i], m.live[i+1:]...)
			m.last = 0
			m.host.Free(b.host)
			return
		}
	}
	panic("fakedev: Free of a region that is not live")
}

// Live is the number of regions not yet freed.
func (m *Mem) Live() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.live)
}

// BytesAt returns the n bytes at bus address a, false where they are not inside
// one live region.
func (m *Mem) BytesAt(a dma.Addr, n int) ([]byte, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.last < len(m.live) {
		if b, ok := m.live[m.last].at(a, n); ok {
			return b, true
		}
	}
	for i, l := range m.live {
		if b, ok := l.at(a, n); ok {
			m.last = i
			return b, true
		}
	}
	return nil, false
}

func (b block) at(a dma.Addr, n int) ([]byte, bool) {
	off := uint64(a - b.bus)
	if a < b.bus || n < 0 || off+uint64(n) > uint64(len(b.host.Bytes)) {
		return nil, false
	}
	return b.host.Bytes[off : off+uint64(n) : off+uint64(n)], true
}

// Region is the content of the i-th live region.
func (m *Mem) Region(i int) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.live[i].host.Bytes
}

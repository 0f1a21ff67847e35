package pkt

import (
	"fmt"
	"sync/atomic"

	"osv/kernel/hw/dma"
)

// Headroom is the room that Get leaves in front of a packet: a virtio-net
// header (12), Ethernet with a VLAN tag (18), IPv6 (40) and the largest TCP
// header (60), rounded up so that an Ethernet payload is 16-byte aligned.
const Headroom = 144

// Pool is a fixed number of equal buffers. It never grows: running out is a
// counted drop for the caller, not an allocation. Any CPU may Get and Put.
type Pool struct {
	free atomic.Uint64 // tag<<32 | index+1 of the top; the tag defeats ABA
	bufs []Buf
	mem  dma.Region
	size int

	inUse atomic.Int64
	empty atomic.Uint64 // Gets that found nothing
}

// NewPool makes n buffers of size bytes each from mem.
func NewPool(mem dma.Allocator, n, size int) (*Pool, error) {
	if n <= 0 || n >= 1<<31 || size <= Headroom {
		return nil, fmt.Errorf("pkt: pool of %d buffers of %d bytes: need at least 1 of more than %d", n, size, Headroom)
	}
	r, err := mem.Alloc(n*size, 4096)
	if err != nil {
		return nil, fmt.Errorf("pkt: pool of %d buffers of %d bytes: %w", n, size, err)
	}
	p := &Pool{bufs: make([]Buf, n), mem: r, size: size}
	for i := range p.bufs {
		b := &p.bufs[i]
		b.Mem, b.pool, b.idx = r.Slice(i*size, size), p, uint32(i)
		b.next = uint32(i) + 2 // the next buffer, as index+1
	}
	p.bufs[n-1].next = 0
	p.free.Store(1)
	return p, nil
}

// Get returns an empty packet with Headroom bytes of room, or nil when all are
// in use.
func (p *Pool) Get() *Buf {
	for {
		top := p.free.Load()
		i := uint32(top)
		if i == 0 {
			p.empty.Add(1)
			return nil
		}
		b := &p.bufs[i-1]
		// b.next may be stale if another CPU took b meanwhile; the tag then
		// makes the swap fail.
		if p.free.CompareAndSwap(top, (top>>32+1)<<32|uint64(atomic.LoadUint32(&b.next))) {
			p.inUse.Add(1)
			b.Reset(Headroom)
			return b
		}
	}
}

func (p *Pool) put(b *Buf) {
	p.inUse.Add(-1)
	for {
		top := p.free.Load()
		atomic.StoreUint32(&b.next, uint32(top))
		if p.free.CompareAndSwap(top, (top>>32+1)<<32|uint64(b.idx+1)) {
			return
		}
	}
}

// BufSize is the size of each buffer in bytes, Cap their number.
func (p *Pool) BufSize() int { return p.size }

// Cap is the number of buffers.
func (p *Pool) Cap() int { return len(p.bufs) }

// InUse is the number of buffers that are out; Empty counts Gets that found none.
func (p *Pool) InUse() int { return int(p.inUse.Load()) }

// Empty is the number of times that Get found no free buffer.
func (p *Pool) Empty() uint64 { return p.empty.Load() }

// Close frees the pool's memory. All buffers must be back.
func (p *Pool) Close(mem dma.Allocator) error {
	if n := p.inUse.Load(); n != 0 {
		return fmt.Errorf("pkt: pool closed with %d buffers in use", n)
	}
	p.free.Store(0)
	mem.Free(p.mem)
	return nil
}

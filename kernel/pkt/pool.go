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

	sharing bool  // its buffers are shared, or shares: Put has to look closer
	shares  *Pool // where Share takes the Bufs from that it returns; nil where it may not
}

// NewPool makes n buffers of size bytes each from mem.
func NewPool(mem dma.Allocator, n, size int) (*Pool, error) {
	if n <= 0 || n >= 1<<31 || size <= Headroom {
		return nil, fmt.Errorf("pkt: pool of %d buffers of %d bytes: need at least 1 of more than %d", n, size, Headroom)
	}
	r, err := dma.AllocRaw(mem, n*size, 4096)
	if err != nil {
		return nil, fmt.Errorf("pkt: pool of %d buffers of %d bytes: %w", n, size, err)
	}
	p := &Pool{bufs: make([]Buf, n), mem: r, size: size}
	for i := range p.bufs {
		b := &p.bufs[i]
		b.Mem = r.Slice(i*size, size)
	}
	p.link()
	return p, nil
}

// link makes the free list of all buffers.
func (p *Pool) link() {
	for i := range p.bufs {
		b := &p.bufs[i]
		b.pool, b.idx = p, uint32(i)
		b.next = uint32(i) + 2 // the next buffer, as index+1
	}
	p.bufs[len(p.bufs)-1].next = 0
	p.free.Store(1)
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

// GetBatch fills dst with empty packets, as Get makes them, and returns how many
// it found: one exchange of the list's head for all of them.
func (p *Pool) GetBatch(dst []*Buf) int {
	if len(dst) == 0 {
		return 0
	}
	for {
		top := p.free.Load()
		i, n := uint32(top), 0
		// The walk may see links of buffers that other CPUs took meanwhile; they
		// are valid indices all the same, and the tag then makes the swap fail.
		for i != 0 && n < len(dst) {
			b := &p.bufs[i-1]
			dst[n] = b
			n++
			i = atomic.LoadUint32(&b.next)
		}
		if n == 0 {
			p.empty.Add(1)
			return 0
		}
		if p.free.CompareAndSwap(top, (top>>32+1)<<32|uint64(i)) {
			p.inUse.Add(int64(n))
			for _, b := range dst[:n] {
				b.Reset(Headroom)
			}
			return n
		}
	}
}

// PutBatch ends all packets in bufs, each with its chain; runs of one pool cost
// one exchange of the list's head.
func PutBatch(bufs []*Buf) {
	for len(bufs) > 0 {
		p := bufs[0].pool
		if p.sharing {
			bufs[0].Put()
			bufs = bufs[1:]
			continue
		}
		first, last, taken := bufs[0], bufs[0], 0
		for _, b := range bufs {
			if b.pool != p || b.Next != nil {
				break
			}
			if taken > 0 {
				last.linkTo(b)
				last = b
			}
			taken++
		}
		if taken == 0 { // a chain
			bufs[0].Put()
			bufs = bufs[1:]
			continue
		}
		p.putChain(first, last, taken)
		bufs = bufs[taken:]
	}
}

// putChain puts n buffers back that are linked from first to last by next.
func (p *Pool) putChain(first, last *Buf, n int) {
	p.inUse.Add(-int64(n))
	for {
		top := p.free.Load()
		atomic.StoreUint32(&last.next, uint32(top))
		if p.free.CompareAndSwap(top, (top>>32+1)<<32|uint64(first.idx+1)) {
			return
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
	if p.shares != nil {
		p.shares.free.Store(0)
	}
	p.free.Store(0)
	mem.Free(p.mem)
	return nil
}

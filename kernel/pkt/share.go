package pkt

import (
	"fmt"
	"sync/atomic"

	"osv/kernel/hw/dma"
)

// NewSharedPool is NewPool for buffers of which parts can be sent while they stay
// where they are; up to shares parts at a time.
func NewSharedPool(mem dma.Allocator, n, size, shares int) (*Pool, error) {
	if shares <= 0 || shares >= 1<<31 {
		return nil, fmt.Errorf("pkt: pool of %d buffers with %d shares: need at least 1", n, shares)
	}
	p, err := NewPool(mem, n, size)
	if err != nil {
		return nil, err
	}
	s := &Pool{bufs: make([]Buf, shares), sharing: true}
	s.link()
	p.shares, p.sharing = s, true
	return p, nil
}

// Share returns a packet of the n bytes at offset off of b's memory: the same
// bytes, with no room around them, for the device to read. b's pool gets b back
// when b and all its shares have been Put. Nobody may write to bytes that are
// shared. It returns nil where no more shares can be out, or b's pool is not made
// for them.
//
// Only b's owner may call it; shares may be Put by anyone.
func (b *Buf) Share(off, n int) *Buf {
	if b.pool.shares == nil {
		return nil
	}
	mem := b.Mem.Slice(off, n)
	s := b.pool.shares.Get()
	if s == nil {
		return nil
	}
	s.Mem = mem
	s.Head, s.Tail, s.of = 0, n, b
	atomic.AddInt32(&b.refs, 1)
	return s
}

// leave ends what a share has of its buffer.
func (b *Buf) leave() {
	o := b.of
	b.of, b.Mem = nil, dma.Region{}
	o.release()
}

// release is for each holder of a buffer that has shares. refs is one less than
// the holders there are: the last one finds 0, or makes it -1 where two let go at
// once.
func (b *Buf) release() {
	if atomic.LoadInt32(&b.refs) != 0 {
		if atomic.AddInt32(&b.refs, -1) >= 0 {
			return
		}
		atomic.StoreInt32(&b.refs, 0)
	}
	b.pool.put(b)
}

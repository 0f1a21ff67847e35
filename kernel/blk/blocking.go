package blk

import (
	"fmt"
	"io"

	"osv/kernel/hw/dma"
)

// Target is what Blocking makes its calls of: the rest of a Disk.
type Target interface {
	Submit(*Request)
	Size() int64
	Err() error
}

// Blocking is the blocking part of a Disk, for a driver to embed. Its memory is
// a fixed number of bounce buffers.
type Blocking struct {
	target  Target
	limits  *Limits
	mem     dma.Allocator
	bounces chan *bounce
	at      dma.Region
}

// bounce is a piece of device memory with the Request that uses it, for callers
// whose data is in ordinary memory.
type bounce struct {
	mem  dma.Region
	req  Request
	one  [1]dma.Region // req.Mem
	done chan struct{}
	part []byte // the caller's bytes
	skip int    // bytes of mem before part, for reads that start inside a block
}

// Bounces says how many bounce buffers there are; the zero value is sound.
type Bounces struct {
	N    int // 0: 16
	Size int // bytes of each, a power of two of at least 4096; 0: 64 KiB
}

// Check fills in what is 0 and refuses what makes no sense.
func (b *Bounces) Check() error {
	if b.N <= 0 {
		b.N = 16
	}
	if b.Size == 0 {
		b.Size = 64 << 10
	}
	if b.Size < 4096 || b.Size&(b.Size-1) != 0 {
		return fmt.Errorf("bounce buffers of %d bytes: need a power of two of at least 4096", b.Size)
	}
	return nil
}

// NewBlocking makes the blocking calls of t, whose limits do not change any more.
func NewBlocking(t Target, limits *Limits, mem dma.Allocator, c Bounces) (*Blocking, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	size := max(c.Size, limits.BlockSize)
	at, err := mem.Alloc(c.N*size, max(4096, limits.MemAlign))
	if err != nil {
		return nil, fmt.Errorf("bounce buffers: %w", err)
	}
	k := &Blocking{target: t, limits: limits, mem: mem, at: at, bounces: make(chan *bounce, c.N)}
	for i := range c.N {
		b := &bounce{mem: at.Slice(i*size, size), done: make(chan struct{}, 1)}
		b.req.Done = func(*Request) { b.done <- struct{}{} }
		k.bounces <- b
	}
	return k, nil
}

// Free gives the memory back. It waits for blocking calls to leave, which they do
// at once where all requests have ended. The device no longer reaches the memory,
// and Err is set: later calls fail with it. Nil is allowed.
func (k *Blocking) Free() {
	if k == nil {
		return
	}
	for range cap(k.bounces) {
		<-k.bounces
	}
	close(k.bounces)
	k.mem.Free(k.at)
}

// window is how many bounce buffers one blocking call uses at a time.
const window = 8

// BlockSize is Disk's.
func (k *Blocking) BlockSize() int { return k.limits.BlockSize }

// ReadOnly is Disk's.
func (k *Blocking) ReadOnly() bool { return k.limits.ReadOnly }

// ReadAt is Disk's.
func (k *Blocking) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, &Error{Driver: k.limits.Driver, Op: OpRead, Why: ErrRange, Detail: fmt.Sprintf("offset %d", off)}
	}
	size := k.target.Size()
	if off >= size && len(p) > 0 {
		return 0, io.EOF
	}
	want := p[:min(int64(len(p)), max(size-off, 0))]
	n, err := k.transfer(OpRead, want, off)
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

// WriteAt is Disk's.
func (k *Blocking) WriteAt(p []byte, off int64) (int, error) {
	bs, size := int64(k.limits.BlockSize), k.target.Size()
	e := &Error{Driver: k.limits.Driver, Op: OpWrite, Sector: uint64(max(off, 0)) / SectorSize, Count: uint64(len(p)) / SectorSize}
	switch {
	case k.limits.ReadOnly:
		e.Why = ErrReadOnly
	case off < 0 || int64(len(p)) > size || off > size-int64(len(p)):
		e.Why, e.Detail = ErrRange, fmt.Sprintf("offset %d of %d bytes", off, size)
	case off%bs != 0 || int64(len(p))%bs != 0:
		e.Why, e.Detail = ErrAlign, fmt.Sprintf("%d bytes at offset %d, blocks of %d", len(p), off, bs)
	default:
		return k.transfer(OpWrite, p, off)
	}
	return 0, e
}

// transfer moves p through bounce buffers, several at a time. It returns how many
// bytes were moved before the first error.
func (k *Blocking) transfer(op Op, p []byte, off int64) (n int, err error) {
	var fly [window]*bounce // a ring of those under way, oldest at first
	first, count := 0, 0
	for (len(p) > 0 && err == nil) || count > 0 {
		if len(p) > 0 && err == nil && count < window {
			if b := k.take(count == 0); b != nil {
				m := b.start(k, op, p, off)
				p, off = p[m:], off+int64(m)
				fly[(first+count)%window] = b
				count++
				continue
			}
		}
		if count == 0 {
			return n, k.target.Err()
		}
		b := fly[first]
		first, count = (first+1)%window, count-1
		<-b.done
		switch {
		case err != nil: // of an earlier part
		case b.req.Err != nil:
			err = b.req.Err
		default:
			if op == OpRead {
				copy(b.part, b.mem.Bytes[b.skip:])
			}
			n += len(b.part)
		}
		b.part = nil
		k.bounces <- b
	}
	return n, err
}

// take returns a free bounce buffer, nil where there is none; where wait is set,
// only after Free.
func (k *Blocking) take(wait bool) *bounce {
	if wait {
		return <-k.bounces
	}
	select {
	case b := <-k.bounces:
		return b
	default:
		return nil
	}
}

// start submits the transfer of as much of p as b holds, and returns how much.
func (b *bounce) start(k *Blocking, op Op, p []byte, off int64) int {
	bs := int64(k.limits.BlockSize)
	b.skip = int(off % bs)
	n := min(len(p), len(b.mem.Bytes)-b.skip)
	b.part = p[:n]
	whole := int((int64(b.skip+n) + bs - 1) / bs * bs)
	if op == OpWrite {
		copy(b.mem.Bytes, b.part)
	}
	b.one[0] = b.mem.Slice(0, whole)
	b.req.Op, b.req.Sector, b.req.Mem = op, uint64(off-int64(b.skip))/SectorSize, b.one[:]
	k.target.Submit(&b.req)
	return n
}

// Do submits a request and waits for it.
func (k *Blocking) Do(r *Request) error { return Do(k.target.Submit, r) }

// Do hands r, which moves no data or has device memory, to submit, and waits for
// its end.
func Do(submit func(*Request), r *Request) error {
	done := make(chan struct{})
	r.Done = func(*Request) { close(done) }
	submit(r)
	<-done
	return r.Err
}

// Flush is Disk's. Where the device has no volatile cache, there is nothing to do.
func (k *Blocking) Flush() error {
	if !k.limits.WriteCache {
		return k.target.Err()
	}
	return k.Do(&Request{Op: OpFlush})
}

// Discard is Disk's.
func (k *Blocking) Discard(off, n int64) error { return k.rangeOp(OpDiscard, off, n) }

// WriteZeroes is Disk's.
func (k *Blocking) WriteZeroes(off, n int64) error { return k.rangeOp(OpWriteZeroes, off, n) }

func (k *Blocking) rangeOp(op Op, off, n int64) error {
	if off < 0 || n < 0 || off%SectorSize != 0 || n%SectorSize != 0 {
		return &Error{Driver: k.limits.Driver, Op: op, Sector: uint64(max(off, 0)) / SectorSize, Count: uint64(max(n, 0)) / SectorSize,
			Why: ErrAlign, Detail: fmt.Sprintf("%d bytes at offset %d", n, off)}
	}
	if n == 0 {
		return k.target.Err()
	}
	return k.Do(&Request{Op: op, Sector: uint64(off) / SectorSize, Sectors: uint64(n) / SectorSize})
}

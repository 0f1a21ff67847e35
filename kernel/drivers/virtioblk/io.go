package virtioblk

import (
	"bytes"
	"fmt"
	"io"

	"osv/kernel/drivers/virtio"
	"osv/kernel/hw/dma"
)

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

func (d *Device) makeBounces() error {
	n, size := d.cfg.Bounces, max(d.cfg.BounceSize, int(d.conf.blockSize))
	mem, err := d.mem.Alloc(n*size, 4096)
	if err != nil {
		return fmt.Errorf("%s: bounce buffers: %w", driverName, err)
	}
	d.bounceAt = mem
	d.bounces = make(chan *bounce, n)
	for i := range n {
		b := &bounce{mem: mem.Slice(i*size, size), done: make(chan struct{}, 1)}
		b.req.Done = func(*Request) { b.done <- struct{}{} }
		d.bounces <- b
	}
	return nil
}

// freeBounces takes all bounce buffers back, waiting for blocking calls to leave,
// which they do at once since their requests have ended.
func (d *Device) freeBounces() {
	if d.bounces == nil {
		return
	}
	for range d.cfg.Bounces {
		<-d.bounces
	}
	close(d.bounces)
	d.mem.Free(d.bounceAt)
}

// window is how many bounce buffers one blocking call uses at a time.
const window = 8

// ReadAt fills p from byte offset off of the device; any offset and length will
// do. It returns io.EOF where p reaches beyond the end.
func (d *Device) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, &Error{Op: OpRead, Why: ErrRange, Detail: fmt.Sprintf("offset %d", off)}
	}
	size := d.Size()
	if off >= size && len(p) > 0 {
		return 0, io.EOF
	}
	want := p[:min(int64(len(p)), max(size-off, 0))]
	n, err := d.transfer(OpRead, want, off)
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

// WriteAt writes p at byte offset off; both off and the length are multiples of
// BlockSize. It returns how much was written before the first error.
func (d *Device) WriteAt(p []byte, off int64) (int, error) {
	bs := int64(d.conf.blockSize)
	e := &Error{Op: OpWrite, Sector: uint64(max(off, 0)) / SectorSize, Count: uint64(len(p)) / SectorSize}
	switch {
	case d.ReadOnly():
		e.Why = ErrReadOnly
	case off < 0 || int64(len(p)) > d.Size() || off > d.Size()-int64(len(p)):
		e.Why, e.Detail = ErrRange, fmt.Sprintf("offset %d of %d bytes", off, d.Size())
	case off%bs != 0 || int64(len(p))%bs != 0:
		e.Why, e.Detail = ErrAlign, fmt.Sprintf("%d bytes at offset %d, blocks of %d", len(p), off, bs)
	default:
		return d.transfer(OpWrite, p, off)
	}
	return 0, e
}

// transfer moves p through bounce buffers, several at a time. It returns how many
// bytes were moved before the first error.
func (d *Device) transfer(op Op, p []byte, off int64) (n int, err error) {
	var fly [window]*bounce // a ring of those under way, oldest at first
	first, count := 0, 0
	for (len(p) > 0 && err == nil) || count > 0 {
		if len(p) > 0 && err == nil && count < window {
			if b := d.takeBounce(count == 0); b != nil {
				k := b.start(d, op, p, off)
				p, off = p[k:], off+int64(k)
				fly[(first+count)%window] = b
				count++
				continue
			}
		}
		if count == 0 {
			return n, virtio.ErrClosed
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
		d.bounces <- b
	}
	return n, err
}

// takeBounce returns a free bounce buffer, nil where there is none; where wait is
// set, only after Close.
func (d *Device) takeBounce(wait bool) *bounce {
	if wait {
		return <-d.bounces
	}
	select {
	case b := <-d.bounces:
		return b
	default:
		return nil
	}
}

// start submits the transfer of as much of p as b holds, and returns how much.
func (b *bounce) start(d *Device, op Op, p []byte, off int64) int {
	bs := int64(d.conf.blockSize)
	b.skip = int(off % bs)
	n := min(len(p), len(b.mem.Bytes)-b.skip)
	b.part = p[:n]
	whole := int((int64(b.skip+n) + bs - 1) / bs * bs)
	if op == OpWrite {
		copy(b.mem.Bytes, b.part)
	}
	b.one[0] = b.mem.Slice(0, whole)
	b.req.Op, b.req.Sector, b.req.Mem = op, uint64(off-int64(b.skip))/SectorSize, b.one[:]
	d.Submit(&b.req)
	return n
}

// do runs a request that moves no data and waits for it.
func (d *Device) do(r *Request) error {
	done := make(chan struct{})
	r.Done = func(*Request) { close(done) }
	d.Submit(r)
	<-done
	return r.Err
}

// Flush returns when all writes that had completed are on the medium. Where the
// device has no volatile cache (§5.2.6.2: it does not offer FLUSH) they are.
func (d *Device) Flush() error {
	if !d.dev.Features.Has(featFlush) {
		return d.Err()
	}
	return d.do(&Request{Op: OpFlush})
}

// Discard tells the device that n bytes at off are not needed; what is read from
// there is anything from then on.
func (d *Device) Discard(off, n int64) error { return d.rangeOp(OpDiscard, off, n) }

// WriteZeroes makes n bytes at off zero without sending them.
func (d *Device) WriteZeroes(off, n int64) error { return d.rangeOp(OpWriteZeroes, off, n) }

func (d *Device) rangeOp(op Op, off, n int64) error {
	if off < 0 || n < 0 || off%SectorSize != 0 || n%SectorSize != 0 {
		return &Error{Op: op, Sector: uint64(max(off, 0)) / SectorSize, Count: uint64(max(n, 0)) / SectorSize,
			Why: ErrAlign, Detail: fmt.Sprintf("%d bytes at offset %d", n, off)}
	}
	if n == 0 {
		return d.Err()
	}
	return d.do(&Request{Op: op, Sector: uint64(off) / SectorSize, Sectors: uint64(n) / SectorSize})
}

// ID is the device's serial number, up to 20 bytes, §5.2.6.
func (d *Device) ID() (string, error) {
	id := make([]byte, idLen)
	if err := d.do(&Request{Op: opGetID, Mem: []dma.Region{{Bytes: id}}}); err != nil {
		return "", err
	}
	if i := bytes.IndexByte(id, 0); i >= 0 {
		id = id[:i]
	}
	return string(id), nil
}

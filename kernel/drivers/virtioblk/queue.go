package virtioblk

import (
	"encoding/binary"
	"fmt"
	"sync"

	"osv/kernel/blk"
	"osv/kernel/drivers/virtio"
	"osv/kernel/hw/dma"
)

// Each request under way has a slot with a control block in device memory,
// §5.2.6: the header that the device reads, room for the range of a discard or
// the answer to get-id, and the status byte that the device writes.
const (
	ctlHeader = 0  // type, reserved (32 bits each), sector (64 bits)
	ctlData   = 16 // range: sector (64 bits), sectors, flags (32 bits each); or 20 bytes of ID
	ctlStatus = 48
	ctlBytes  = 64

	headerLen = 16
	rangeLen  = 16
	idLen     = 20 // VIRTIO_BLK_ID_BYTES
)

// Status values, §5.2.6.
const (
	statusOK      = 0
	statusIOErr   = 1
	statusUnsupp  = 2
	statusPending = 0xff // ours: the device has not written it
)

const rangeUnmap = 1 // flag of a write-zeroes range

// queue is one request queue.
type queue struct {
	d  *Device
	mu sync.Mutex // guards all below

	vq      *virtio.Queue
	ctl     dma.Region
	slots   []slot   // by slot number, which is also the control block's
	free    []uint16 // free slot numbers
	byHead  []uint16 // slot number by chain head
	waiting blk.List // requests with parts not yet posted
	maxSegs int      // data segments of a part
	segs    []virtio.Seg
	pieces  []blk.Seg // of the part being posted
	frozen  bool
}

// slot is one device request under way.
type slot struct {
	req    *Request
	at     uint64 // sector
	count  uint64 // sectors
	length uint32 // bytes the device writes, without the status
}

func newQueue(d *Device, i int, vector uint16) (*queue, error) {
	q := &queue{d: d}
	segs := d.cfg.MaxSegs
	if uint32(segs) > d.conf.segMax {
		segs = int(d.conf.segMax)
	}
	var err error
	q.vq, err = d.dev.Queue(i, virtio.QueueOptions{MaxSize: d.cfg.Ring, MaxSegs: segs + 2, Vector: vector})
	if err != nil {
		return nil, err
	}
	n := q.vq.Size()
	q.maxSegs = min(segs, n-2)
	if q.maxSegs < 1 {
		return nil, d.dev.Errorf("queue %d: %d descriptors hold no request", i, n)
	}
	if q.ctl, err = d.mem.Alloc(n*ctlBytes, ctlBytes); err != nil {
		return nil, fmt.Errorf("%s: queue %d: %w", driverName, i, err)
	}
	q.slots = make([]slot, n)
	q.byHead = make([]uint16, n)
	q.free = make([]uint16, n)
	for j := range q.free {
		q.free[j] = uint16(n - 1 - j)
	}
	q.segs = make([]virtio.Seg, 0, q.maxSegs+2)
	q.pieces = make([]blk.Seg, 0, q.maxSegs)
	return q, nil
}

// Submit starts r and returns at once; Done is called when it ended, by another
// goroutine, or by this one where r is not even begun because of an error.
func (d *Device) Submit(r *Request) {
	if err := d.Err(); err != nil {
		d.limits.Refuse(r, err)
		return
	}
	if d.limits.Begin(r, d.capacity.Load()) {
		d.enqueue(r)
	}
}

// enqueue gives r to a queue.
func (d *Device) enqueue(r *Request) {
	q := d.queues[0]
	if n := len(d.queues); n > 1 {
		q = d.queues[int(d.next.Add(1))%n]
	}
	q.mu.Lock()
	if q.frozen {
		q.mu.Unlock()
		d.limits.Refuse(r, d.Err())
		return
	}
	q.waiting.Push(r)
	q.post()
	q.mu.Unlock()
}

// post posts parts of waiting requests, first come first served, until the ring
// is full. Caller must hold mu.
func (q *queue) post() {
	for r := q.waiting.Head(); r != nil; r = q.waiting.Head() {
		for r.More {
			if !q.postPart(r) {
				q.vq.Publish()
				return
			}
		}
		q.waiting.Pop()
	}
	q.vq.Publish()
}

// postPart posts the next part of r, as large as the device's limits allow. It
// reports false where the ring has no room. Caller must hold mu.
func (q *queue) postPart(r *Request) bool {
	if len(q.free) == 0 {
		return false
	}
	n := q.free[len(q.free)-1]
	ctl := q.ctl.Slice(int(n)*ctlBytes, ctlBytes)
	cur := r.Cursor
	sector := cur.Sector()
	at := sector
	segs := append(q.segs[:0], virtio.Seg{Addr: ctl.Bus + ctlHeader, Len: headerLen})
	out := 1 // readable segments
	var count uint64
	var length uint32
	switch r.Op {
	case OpRead, OpWrite:
		pieces, bytes := cur.Gather(q.pieces[:0], r.Mem, &q.d.shape)
		for _, p := range pieces {
			segs = append(segs, virtio.Seg{Addr: p.Addr, Len: p.Len})
		}
		count = uint64(bytes) / SectorSize
		if r.Op == OpWrite {
			out = len(segs)
		} else {
			length = uint32(bytes)
		}
	case OpDiscard, OpWriteZeroes:
		limit, flags := q.d.limits.MaxDiscard, uint32(0)
		if r.Op == OpWriteZeroes {
			limit = q.d.limits.MaxWriteZeroes
			if q.d.conf.writeZeroesUnmaps {
				flags = rangeUnmap
			}
		}
		_, count = cur.Range(limit)
		b := ctl.Bytes[ctlData:]
		binary.LittleEndian.PutUint64(b, at)
		binary.LittleEndian.PutUint32(b[8:], uint32(count))
		binary.LittleEndian.PutUint32(b[12:], flags)
		segs = append(segs, virtio.Seg{Addr: ctl.Bus + ctlData, Len: rangeLen})
		out = 2
		sector = 0 // §5.2.6.1: the ranges tell
	case opGetID:
		segs = append(segs, virtio.Seg{Addr: ctl.Bus + ctlData, Len: idLen})
	}
	segs = append(segs, virtio.Seg{Addr: ctl.Bus + ctlStatus, Len: 1})
	head, ok := q.vq.Post(segs, out)
	if !ok {
		return false
	}
	// The device looks only after Publish.
	binary.LittleEndian.PutUint32(ctl.Bytes[ctlHeader:], uint32(typeOf(r.Op)))
	binary.LittleEndian.PutUint32(ctl.Bytes[ctlHeader+4:], 0)
	binary.LittleEndian.PutUint64(ctl.Bytes[ctlHeader+8:], sector)
	ctl.Bytes[ctlStatus] = statusPending
	q.free = q.free[:len(q.free)-1]
	q.byHead[head] = n
	q.slots[n] = slot{r, at, count, length}
	r.Cursor = cur
	r.More = cur.Left() > 0
	r.Parts++
	return true
}

// interrupt takes all completions and asks for the next interrupt.
func (q *queue) interrupt() {
	var done blk.List
	q.mu.Lock()
	if !q.frozen {
		q.vq.Disarm()
		for {
			q.reap(&done)
			if q.vq.Err() != nil {
				break
			}
			q.post()
			if q.vq.Arm() {
				break
			}
		}
	}
	err := q.vq.Err()
	q.mu.Unlock()
	done.Finish()
	if err != nil {
		q.d.stop(err)
	}
}

// reap ends the parts that the device has used. Caller must hold mu.
func (q *queue) reap(done *blk.List) {
	for {
		head, n, ok := q.vq.Reap()
		if !ok {
			return
		}
		i := q.byHead[head]
		s := &q.slots[i]
		ctl := q.ctl.Slice(int(i)*ctlBytes, ctlBytes)
		r := s.req
		if err := q.judge(s, ctl.Bytes[ctlStatus], n); err != nil {
			r.Fail(err)
			// The rest of a request that failed is of no use.
			if r.More {
				r.More = false
				q.unqueue(r)
			}
		} else if r.Op == opGetID {
			copy(r.Mem[0].Bytes, ctl.Bytes[ctlData:ctlData+idLen])
		}
		s.req = nil
		q.free = append(q.free, i)
		if r.Parts--; r.Parts == 0 && !r.More {
			done.Push(r)
		}
	}
}

// unqueue drops r from the waiting list; it is the first, since only the first
// has parts under way.
func (q *queue) unqueue(r *Request) {
	if q.waiting.Head() == r {
		q.waiting.Pop()
	}
}

// judge says what became of a part, by its status and the length that the device
// says it wrote.
func (q *queue) judge(s *slot, status byte, n uint32) error {
	short := n < s.length && !q.d.dev.Transport.Legacy() // legacy lengths mean little, §2.7.8.1
	if status == statusOK && !short {
		return nil
	}
	e := &Error{Driver: driverName, Op: s.req.Op, Sector: s.at, Count: s.count, Why: ErrProtocol}
	switch {
	case status == statusIOErr:
		e.Why = ErrIO
	case status == statusUnsupp:
		e.Why = ErrUnsupported
	case status == statusPending:
		e.Detail = "the status was not written"
	case status != statusOK:
		e.Detail = fmt.Sprintf("status %#x", status)
	default:
		e.Detail = fmt.Sprintf("%d of %d bytes were written", n, s.length)
	}
	return e
}

// freeze keeps everybody from the ring.
func (q *queue) freeze() {
	q.mu.Lock()
	q.frozen = true
	q.mu.Unlock()
}

// abort ends all requests with the reason, after freeze and the device's reset.
func (q *queue) abort(reason error) {
	var done blk.List
	q.mu.Lock()
	for i := range q.slots {
		s := &q.slots[i]
		if r := s.req; r != nil {
			s.req = nil
			r.Fail(&Error{Driver: driverName, Op: r.Op, Sector: s.at, Count: s.count, Why: reason})
			if r.Parts--; r.Parts == 0 && !r.More {
				done.Push(r)
			}
		}
	}
	q.waiting.Abort(driverName, reason, &done)
	q.mu.Unlock()
	done.Finish()
}

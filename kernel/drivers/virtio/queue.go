package virtio

import (
	"fmt"
	"math/bits"
	"sync/atomic"

	"osv/kernel/hw/dma"
)

// Seg is one piece of memory of a request.
type Seg struct {
	Addr dma.Addr
	Len  uint32
}

// Queue is a split virtqueue, §2.7. One goroutine at a time uses it; Fired and
// Err may be called by any.
//
// The way of a buffer: Post writes its descriptors and puts the chain's head
// into the available ring; Publish makes all heads since the last call visible
// at once and rings the doorbell at most once; Reap takes heads back out of the
// used ring. The head is the caller's key for what it has posted: no two
// outstanding chains have the same, and it is below Size. For many chains of one
// descriptor at a time, as a network card has them, see batch.go.
type Queue struct {
	ring
	mask      uint16
	eventIdx  bool
	ignoreLen bool // legacy devices garble the length of chains they only read, §2.7.8.1
	cutLen    bool
	notify    Notify
	index     uint16

	freeHead  uint16
	nfree     uint16
	availIdx  uint16 // next available slot, not yet visible
	published uint16 // idx as the device sees it
	lastUsed  uint16 // next used slot to take
	seen      uint16 // used idx at the last look
	inFlight  uint16 // chains outstanding, published or not
	flags     uint16 // available ring flags

	slots []slot

	indirect  []descriptor // one table of maxSegs per head; nil without
	tables    dma.Region
	maxSegs   int
	rings     dma.Region
	armedAt   atomic.Uint32 // lastUsed at the last Arm, for Fired
	broken    atomic.Pointer[ErrDevice]
	driver    string
	doorbells atomic.Uint64
}

// slot is the driver's own record of one descriptor: what the device is told is
// never read back from shared memory.
type slot struct {
	// link is the next descriptor of the chain or of the free list, and in the
	// upper half the number of descriptors of the chain that starts here, 0 where
	// none does: one word, so that taking and giving back is one store.
	link uint32
	room uint32 // bytes the device may write into the chain
}

func (s *slot) next() uint16  { return uint16(s.link) }
func (s *slot) count() uint16 { return uint16(s.link >> 16) }

// single is the link of a chain of one descriptor.
const single = 1 << 16

// QueueOptions shape one queue.
type QueueOptions struct {
	MaxSize int    // use at most this many descriptors, a power of two; 0: as many as the device offers, to 1024
	MaxSegs int    // segments of the longest Post; above 1 it makes indirect tables, if agreed on
	Vector  uint16 // MSI-X table index for used buffers, or NoVector
	// CutLen is for device types whose devices are known to count more than they
	// wrote: what Reap returns is cut to what the chain takes, and breaks nothing.
	CutLen bool
}

const (
	defaultQueueSize = 1024
	maxQueueSize     = 32768 // §2.7
)

// Queue sets up queue i (step 7 of §3.1.1); call it before Start.
func (d *Device) Queue(i int, o QueueOptions) (*Queue, error) {
	t := d.Transport
	q := &Queue{index: uint16(i), driver: d.name, ignoreLen: t.Legacy(), eventIdx: d.Features.Has(FeatureEventIdx), cutLen: o.CutLen}
	n, err := t.QueueMax(q.index)
	if err != nil {
		return nil, fmt.Errorf("%s: queue %d: %w", d.name, i, err)
	}
	if n, err = q.fitSize(n, o.MaxSize, t.QueueSizeFixed()); err != nil {
		return nil, err
	}
	_, _, size := ringOffsets(n, t.Legacy())
	if q.rings, err = d.mem.Alloc(size, legacyAlign); err != nil {
		return nil, fmt.Errorf("%s: queue %d: %w", d.name, i, err)
	}
	d.queues = append(d.queues, q)
	q.ring = newRing(q.rings, n, t.Legacy())
	q.mask = uint16(n - 1)
	q.slots = make([]slot, n)
	for j := range q.slots {
		q.slots[j].link = uint32(uint16(j + 1))
	}
	q.nfree = uint16(n)
	if q.eventIdx { // interrupts are off until Arm
		*q.usedEvent = 0xffff
	} else {
		q.flags = availNoInterrupt
		*q.availHead = availNoInterrupt
	}
	if o.MaxSegs > 1 && d.Features.Has(FeatureIndirectDesc) {
		q.maxSegs = o.MaxSegs
		if q.tables, err = d.mem.Alloc(n*q.maxSegs*descBytes, descBytes); err != nil {
			return nil, fmt.Errorf("%s: queue %d: indirect tables: %w", d.name, i, err)
		}
		q.indirect = descTable(q.tables, n*q.maxSegs)
	}
	avail, used, _ := ringOffsets(n, t.Legacy())
	q.notify, err = t.EnableQueue(q.index, QueueMem{
		Size:   uint16(n),
		Desc:   q.rings.Bus,
		Driver: q.rings.Bus + dma.Addr(avail),
		Device: q.rings.Bus + dma.Addr(used),
	}, o.Vector)
	if err != nil {
		return nil, fmt.Errorf("%s: queue %d: %w", d.name, i, err)
	}
	return q, nil
}

// fitSize chooses the queue size: a power of two of at most offered and want.
func (q *Queue) fitSize(offered, want int, fixed bool) (int, error) {
	if want <= 0 {
		want = defaultQueueSize
	}
	if fixed {
		if offered < 2 || offered > maxQueueSize || offered&(offered-1) != 0 {
			return 0, q.errorf("device offers %d descriptors", offered)
		}
		return offered, nil
	}
	n := min(offered, want, maxQueueSize)
	if n < 2 { // a queue of one has no aligned word for used_event, and no device has one
		return 0, q.errorf("device offers %d descriptors", offered)
	}
	return 1 << (bits.Len(uint(n)) - 1), nil
}

func (q *Queue) free(mem dma.Allocator) {
	mem.Free(q.rings)
	if q.indirect != nil {
		mem.Free(q.tables)
	}
}

// Size is the number of descriptors.
func (q *Queue) Size() int { return len(q.slots) }

// Free is the number of descriptors that a Post may use now.
func (q *Queue) Free() int { return int(q.nfree) }

// InFlight is the number of chains posted and not yet reaped.
func (q *Queue) InFlight() int { return int(q.inFlight) }

// Doorbells is the number of notifications sent to the device.
func (q *Queue) Doorbells() uint64 { return q.doorbells.Load() }

// Err says how the device broke the queue, nil where it is sound. A broken queue
// takes and gives nothing more; only a reset of the device mends it.
func (q *Queue) Err() error {
	if e := q.broken.Load(); e != nil {
		return e
	}
	return nil
}

// Break marks the queue broken, for drivers that find the device lying at their
// own level. The first reason stays.
func (q *Queue) Break(format string, a ...any) {
	q.broken.CompareAndSwap(nil, q.errorf(format, a...))
	q.nfree, q.seen = 0, q.lastUsed // Post and Reap need no further check
}

func (q *Queue) errorf(format string, a ...any) *ErrDevice {
	return &ErrDevice{Driver: q.driver, Queue: int(q.index), Msg: fmt.Sprintf(format, a...)}
}

// PostRead offers one piece of memory that the device reads, PostWrite one that
// it writes. They report false where the ring is full or broken.
func (q *Queue) PostRead(a dma.Addr, n uint32) (head uint16, ok bool) {
	return q.post1(a, uint64(n), 0)
}

// PostWrite offers one piece of memory that the device writes.
func (q *Queue) PostWrite(a dma.Addr, n uint32) (head uint16, ok bool) {
	return q.post1(a, uint64(n)|descWrite<<32, n)
}

func (q *Queue) post1(a dma.Addr, meta uint64, room uint32) (uint16, bool) {
	if q.nfree == 0 {
		return 0, false
	}
	h := q.freeHead & q.mask
	s := &q.slots[h]
	q.freeHead = s.next()
	q.nfree--
	s.link, s.room = single, room
	q.desc[h] = descriptor{uint64(a), meta}
	q.offer(h)
	return h, true
}

// Post offers a chain: segs[:out] the device reads, segs[out:] it writes. It
// reports false where the ring lacks the descriptors or is broken. A chain that
// fits an indirect table takes one descriptor, else one for each segment.
func (q *Queue) Post(segs []Seg, out int) (head uint16, ok bool) {
	if len(segs) == 0 || out > len(segs) {
		panic("virtio: Post of an empty chain")
	}
	var room uint32
	for _, s := range segs[out:] {
		room += s.Len
	}
	if len(segs) > 1 && len(segs) <= q.maxSegs {
		return q.postIndirect(segs, out, room)
	}
	n := uint16(len(segs))
	if len(segs) > int(q.nfree) {
		return 0, false
	}
	h := q.freeHead & q.mask
	at := h
	for i, s := range segs {
		sl := &q.slots[at]
		meta := uint64(s.Len)
		if i >= out {
			meta |= descWrite << 32
		}
		if i+1 < len(segs) {
			meta |= descNext<<32 | uint64(sl.next())<<48
		} else {
			q.freeHead = sl.next()
		}
		q.desc[at] = descriptor{uint64(s.Addr), meta}
		at = sl.next() & q.mask
	}
	q.nfree -= n
	q.slots[h].link, q.slots[h].room = uint32(n)<<16|uint32(q.slots[h].next()), room
	q.offer(h)
	return h, true
}

// postIndirect is §2.7.5.3: the chain lies in a table of its own.
func (q *Queue) postIndirect(segs []Seg, out int, room uint32) (uint16, bool) {
	off := int(q.freeHead&q.mask) * q.maxSegs
	a := q.tables.Bus + dma.Addr(off*descBytes)
	h, ok := q.post1(a, uint64(len(segs)*descBytes)|descIndirect<<32, room)
	if !ok {
		return 0, false
	}
	// The device looks only after Publish.
	table := q.indirect[off : off+len(segs)]
	for i, s := range segs {
		meta := uint64(s.Len)
		if i >= out {
			meta |= descWrite << 32
		}
		if i+1 < len(segs) {
			meta |= descNext<<32 | uint64(i+1)<<48
		}
		table[i] = descriptor{uint64(s.Addr), meta}
	}
	return h, true
}

func (q *Queue) offer(h uint16) {
	q.avail[q.availIdx&q.mask] = h
	q.availIdx++
	q.inFlight++
}

// Publish makes all posted chains visible to the device and notifies it if it
// asked for that (§2.7.13). It reports whether it rang the doorbell.
func (q *Queue) Publish() bool {
	old, idx := q.published, q.availIdx
	if old == idx {
		return false
	}
	q.published = idx
	// Release for the descriptors and ring slots above; it pairs with the
	// device's load of idx. Then the full barrier that §2.7.13.4.1 wants before the
	// device's wish is read.
	atomic.StoreUint32(q.availHead, uint32(q.flags)|uint32(idx)<<16)
	dma.Barrier()
	if q.eventIdx {
		if !needEvent(uint16(atomic.LoadUint32(q.availEvent)), idx, old) {
			return false
		}
	} else if atomic.LoadUint32(q.usedHead)&usedNoNotify != 0 {
		return false
	}
	q.ringBell()
	return true
}

func (q *Queue) ringBell() {
	q.doorbells.Add(1)
	if q.notify.Wide {
		q.notify.Bell.Ring32(uint32(q.index))
	} else {
		q.notify.Bell.Ring16(q.index)
	}
}

// needEvent is §2.7.10: did idx, going from old to now, pass event?
func needEvent(event, now, old uint16) bool { return now-event-1 < now-old }

// Reap takes one used chain back: its head, and how many bytes the device says
// it wrote, which is at most what it was given to write. It reports false where
// there is none or the queue is broken.
func (q *Queue) Reap() (head uint16, n uint32, ok bool) {
	if q.lastUsed == q.seen && !q.look() {
		return 0, 0, false
	}
	// One read of each field: the device may change them behind our back.
	e := &q.used[q.lastUsed&q.mask]
	id, n := e.id, e.len
	if id >= uint32(len(q.slots)) || q.slots[id].count() == 0 {
		q.badID(id)
		return 0, 0, false
	}
	s := &q.slots[id]
	if n > s.room {
		if !q.cutLen && (s.room != 0 || !q.ignoreLen) {
			q.badLen(id, n, s.room)
			return 0, 0, false
		}
		n = s.room
	}
	head = uint16(id)
	tail := s
	count := s.count()
	for range count - 1 {
		tail = &q.slots[tail.next()&q.mask]
	}
	q.nfree += count
	s.link = uint32(s.next())
	tail.link = uint32(q.freeHead)
	q.freeHead = head
	q.lastUsed++
	q.inFlight--
	return head, n, true
}

// look reads the used index and reports whether there is anything to take.
func (q *Queue) look() bool {
	idx := uint16(atomic.LoadUint32(q.usedHead) >> 16) // acquire: the elements up to idx are there
	n := idx - q.lastUsed
	if n == 0 || q.broken.Load() != nil {
		return false
	}
	if n > q.inFlight {
		q.Break("used index went from %d to %d with %d buffers outstanding", q.lastUsed, idx, q.inFlight)
		return false
	}
	q.seen = idx
	return true
}

// Out of line: a broken queue is no hot path.

//go:noinline
func (q *Queue) badID(id uint32) {
	if id >= uint32(len(q.slots)) {
		q.Break("used ring slot %d names descriptor %d of %d", q.lastUsed&q.mask, id, len(q.slots))
	} else {
		q.Break("used ring slot %d names descriptor %d, which is not outstanding", q.lastUsed&q.mask, id)
	}
}

//go:noinline
func (q *Queue) badLen(id, n, room uint32) {
	q.Break("descriptor %d: device says it wrote %d bytes into %d", id, n, room)
}

// Pending reports whether Reap would find something.
func (q *Queue) Pending() bool {
	return uint16(atomic.LoadUint32(q.usedHead)>>16) != q.lastUsed && q.broken.Load() == nil
}

// Arm asks for an interrupt at the next used chain and reports true; it reports
// false where one is there already, so that the caller must not wait.
func (q *Queue) Arm() bool { return q.ArmAfter(1) }

// ArmAfter is Arm for the n-th used chain from now (1 is the next), as far as the
// device knows the event index; without it, for the next.
func (q *Queue) ArmAfter(n int) bool {
	q.armedAt.Store(uint32(q.lastUsed))
	if q.eventIdx {
		atomic.StoreUint32(q.usedEvent, uint32(q.lastUsed+uint16(n-1)))
	} else if q.flags != 0 {
		q.flags = 0
		atomic.StoreUint32(q.availHead, uint32(q.published)<<16)
	}
	// Either the device sees the wish, or its index is seen here (§2.7.7.1).
	dma.Barrier()
	return uint16(atomic.LoadUint32(q.usedHead)>>16)-q.lastUsed < uint16(n)
}

// Disarm says that interrupts are not wanted. With the event index there is
// nothing to do: the device stays quiet once it has passed the event, but for
// one stray interrupt in 65,536 chains.
func (q *Queue) Disarm() {
	if !q.eventIdx && q.flags == 0 {
		q.flags = availNoInterrupt
		atomic.StoreUint32(q.availHead, availNoInterrupt|uint32(q.published)<<16)
	}
}

// Fired reports whether the device has used anything since the last Arm. Any
// goroutine may ask: an interrupt that several queues share does.
func (q *Queue) Fired() bool {
	return uint16(atomic.LoadUint32(q.usedHead)>>16) != uint16(q.armedAt.Load())
}

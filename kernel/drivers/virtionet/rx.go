package virtionet

// Packet path, receive, step 1 of 5.
// From: the used ring.  To: net/demux/demux.go, by way of RxBatch.
// May not: allocate, block, take a lock, look past the virtio header.

import (
	"encoding/binary"
	"runtime"
	"sync/atomic"
	"time"

	"osv/kernel/drivers/virtio"
	"osv/kernel/hw/dma"
	"osv/kernel/pkt"
)

// rxFrameOff is where a frame starts in its buffer: the IP header behind 14 bytes
// of Ethernet then starts a cache line, and there is room for a virtio header in
// front, also when the buffer goes out again as a reply.
const rxFrameOff = 64 - etherLen

const rxBatch = 64 // buffers taken from the pool at once

// rxRetry is how long RxWait sleeps where the pool and so the whole ring is empty
// and no interrupt can come.
const rxRetry = time.Millisecond

// rxQueue is one receive queue. Its goroutine owns all but the counters.
type rxQueue struct {
	d        *Device
	vq       *virtio.Queue
	pool     *pkt.Pool
	gate     atomic.Uint32 // gateOpen, gateBusy or gateShut
	index    uint16        // pair number
	hdrLen   int
	off      int // offset of the virtio header in a buffer
	bufLen   int // bytes posted of each buffer, header included
	split    bool
	mrg, lro bool
	refillAt int // free descriptors at which to refill

	posted []*pkt.Buf // by chain head

	// A frame whose further buffers are still to come.
	first, last *pkt.Buf
	missing     int

	tmp   [rxBatch]*pkt.Buf
	retry *time.Timer

	frames, bytes, noBuf, errors, irqs atomic.Uint64
}

const (
	gateOpen = iota
	gateBusy
	gateShut
)

func (r *rxQueue) init(d *Device, i int, vector uint16) error {
	vq, err := d.dev.Queue(2*i, virtio.QueueOptions{MaxSize: d.cfg.RxRing, Vector: vector})
	if err != nil {
		return err
	}
	f := d.dev.Features
	r.d, r.vq, r.index = d, vq, uint16(i)
	r.pool = d.cfg.RxPools[i%len(d.cfg.RxPools)]
	r.mrg, r.lro = f.Has(featMrgRxbuf), f&(featGuestTSO4|featGuestTSO6) != 0
	r.hdrLen = hdrLen(f)
	// Without ANY_LAYOUT the header must be a descriptor of its own, §5.1.6.1.
	r.split = !r.mrg && !anyLayout(f)
	r.off = rxFrameOff - r.hdrLen
	r.bufLen = r.pool.BufSize() - r.off
	if need := r.hdrLen + etherLen + minMTU; r.bufLen < need {
		return d.dev.Errorf("queue %d: buffers of %d bytes hold no frame", 2*i, r.pool.BufSize())
	}
	r.posted = make([]*pkt.Buf, vq.Size())
	r.refillAt = max(min(vq.Size()/4, rxBatch), r.descs())
	return nil
}

func hdrLen(f virtio.Features) int {
	if f&(virtio.FeatureVersion1|featMrgRxbuf) != 0 {
		return hdrBytes
	}
	return hdrBytesLegacy
}

func anyLayout(f virtio.Features) bool {
	return f&(virtio.FeatureVersion1|virtio.FeatureAnyLayout) != 0
}

// descs is the number of descriptors for one buffer.
func (r *rxQueue) descs() int {
	if r.split {
		return 2
	}
	return 1
}

func (r *rxQueue) enter() bool { return r.gate.CompareAndSwap(gateOpen, gateBusy) }
func (r *rxQueue) leave()      { r.gate.Store(gateOpen) }

// shut waits for the queue's goroutine to leave and keeps it out.
func (r *rxQueue) shut() {
	for !r.gate.CompareAndSwap(gateOpen, gateShut) {
		runtime.Gosched()
	}
}

// RxBatch is pkt.Link's.
func (d *Device) RxBatch(q int, dst []*pkt.Buf) int {
	r := &d.rx[q]
	if !r.enter() {
		return 0
	}
	n := r.receive(dst)
	if r.vq.Free() >= r.refillAt {
		r.refill()
	}
	r.leave()
	if r.vq.Err() != nil {
		r.errors.Add(1)
		d.fail(r.vq.Err())
	}
	return n
}

func (r *rxQueue) receive(dst []*pkt.Buf) (n int) {
	var bytes, bad uint64
	for n < len(dst) {
		head, used, ok := r.vq.Reap()
		if !ok {
			break
		}
		b := r.posted[head]
		r.posted[head] = nil
		b.Tail = r.off + int(used)
		if r.missing > 0 {
			b.Head = r.off
			r.last.Next, r.last = b, b
			r.missing--
		} else if !r.start(b, int(used)) {
			b.Put()
			bad++
			continue
		}
		if r.missing > 0 {
			continue
		}
		b, r.first, r.last = r.first, nil, nil
		total := b.Len()
		if b.Next != nil {
			total = b.TotalLen()
		}
		h := b.Mem.Bytes[r.off : r.off+hdrBytesLegacy]
		if total < etherLen || !takeHdr(b, h, total) || b.GSO != pkt.GSONone && !r.lro {
			b.Put()
			bad++
			continue
		}
		dst[n] = b
		n++
		bytes += uint64(total)
	}
	if n > 0 {
		r.frames.Add(uint64(n))
		r.bytes.Add(bytes)
	}
	if bad > 0 {
		r.errors.Add(bad)
	}
	return n
}

// start takes the first buffer of a frame, with used bytes in it, and learns how
// many more there are. It reports false where the buffer is to be dropped.
func (r *rxQueue) start(b *pkt.Buf, used int) bool {
	if used < r.hdrLen {
		return false
	}
	b.Head = r.off + r.hdrLen
	if r.mrg {
		// §5.1.6.4: at least 1. Read once: the device could still change it.
		num := int(binary.LittleEndian.Uint16(b.Mem.Bytes[r.off+hdrNumBuffers:]))
		if num != 1 {
			if num == 0 {
				return false
			}
			if num > r.vq.Size() {
				// What follows cannot be told apart into frames any more.
				r.vq.Break("frame in %d buffers of a ring of %d", num, r.vq.Size())
				return false
			}
			r.missing = num - 1
		}
	}
	r.first, r.last = b, b
	return true
}

// refill posts buffers until the ring is full or the pool is empty, and publishes
// them at once.
func (r *rxQueue) refill() {
	for {
		want := min(r.vq.Free()/r.descs(), len(r.tmp))
		got := r.pool.GetBatch(r.tmp[:want])
		for _, b := range r.tmp[:got] {
			b.Queue = r.index
			head, ok := r.post(b)
			if !ok { // cannot be: want fits
				b.Put()
				continue
			}
			r.posted[head] = b
		}
		if got < want {
			r.noBuf.Add(uint64(want - got))
		}
		if got < len(r.tmp) {
			break
		}
	}
	r.vq.Publish()
}

func (r *rxQueue) post(b *pkt.Buf) (uint16, bool) {
	a := b.Mem.Bus + dma.Addr(r.off)
	if !r.split {
		return r.vq.PostWrite(a, uint32(r.bufLen))
	}
	segs := [2]virtio.Seg{{Addr: a, Len: uint32(r.hdrLen)}, {Addr: a + dma.Addr(r.hdrLen), Len: uint32(r.bufLen - r.hdrLen)}}
	return r.vq.Post(segs[:], 0)
}

// release puts all buffers of the ring back, once the device cannot reach them.
func (r *rxQueue) release() {
	if r.retry != nil {
		r.retry.Stop()
	}
	for i, b := range r.posted {
		if b != nil {
			b.Put()
			r.posted[i] = nil
		}
	}
	if r.first != nil {
		r.first.Put()
		r.first, r.last, r.missing = nil, nil, 0
	}
}

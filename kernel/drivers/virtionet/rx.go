package virtionet

// Packet path, receive, step 1 of 5.
// From: the used ring.  To: net/demux/demux.go, by way of RxBatch.
// May not: allocate, block, take a lock, look past the virtio header.

import (
	"encoding/binary"
	"sync/atomic"
	"time"

	"osv/kernel/drivers/nic"
	"osv/kernel/drivers/virtio"
	"osv/kernel/hw/dma"
	"osv/kernel/pkt"
)

// rxFrameOff is where a frame starts in its buffer: the IP header behind 14 bytes
// of Ethernet then starts a cache line, and there is room for a virtio header in
// front, also when the buffer goes out again as a reply.
const rxFrameOff = 64 - etherLen

const rxBatch = 64 // buffers taken from the pool at once

// rxRetry is how long RxWait sleeps where the pool is empty, and the ring too, or so
// nearly that no interrupt can come.
const rxRetry = time.Millisecond

// rxQueue is one receive queue. Its goroutine owns all but the counters.
type rxQueue struct {
	d        *Device
	vq       *virtio.Queue
	pool     *pkt.Pool
	gate     nic.Gate
	index    uint16 // pair number
	hdrLen   int
	off      int // offset of the virtio header in a buffer
	bufLen   int // bytes posted of each buffer, header included
	split    bool
	mrg      bool
	ecn      bool
	merged   [4]bool // by pkt.GSO: which merged segments the device may hand up
	refillAt int     // free descriptors at which to refill
	least    int     // buffers that the device may wait for

	posted []*pkt.Buf // by chain head

	// A frame whose further buffers are still to come.
	first, last *pkt.Buf
	missing     int
	size        int  // bytes so far, headers of both kinds included
	gap         bool // one of its buffers but the last was not full

	tmp    [rxBatch]*pkt.Buf
	used   [rxBatch]virtio.Used
	pieces [rxBatch]virtio.Piece
	retry  *time.Timer

	frames, bytes, noBuf, errors, irqs atomic.Uint64
}

func (r *rxQueue) init(d *Device, i int, vector uint16) error {
	vq, err := d.dev.Queue(2*i, virtio.QueueOptions{MaxSize: d.cfg.RxRing, Vector: vector})
	if err != nil {
		return err
	}
	f := d.dev.Features
	r.d, r.vq, r.index = d, vq, uint16(i)
	r.pool = d.cfg.RxPools[i%len(d.cfg.RxPools)]
	r.mrg, r.ecn = f.Has(featMrgRxbuf), f.Has(featGuestECN)
	r.merged[pkt.GSOTCPv4], r.merged[pkt.GSOTCPv6] = f.Has(featGuestTSO4), f.Has(featGuestTSO6)
	r.hdrLen = hdrLen(f)
	// Without ANY_LAYOUT the header must be a descriptor of its own, §5.1.6.1.
	r.split = !r.mrg && !anyLayout(f)
	r.off = rxFrameOff - r.hdrLen
	r.bufLen = bufLen(r.pool, r.hdrLen)
	if need := r.hdrLen + etherLen + minMTU; r.bufLen < need {
		return d.dev.Errorf("queue %d: buffers of %d bytes hold no frame", 2*i, r.pool.BufSize())
	}
	r.posted = make([]*pkt.Buf, vq.Size())
	r.refillAt = max(refillAt(vq.Size()), r.descs())
	r.least = 1
	if r.merged[pkt.GSOTCPv4] || r.merged[pkt.GSOTCPv6] {
		r.least = buffersFor(maxFrame, r.bufLen, r.hdrLen)
	}
	return nil
}

// bufLen is how many bytes of each buffer of p are posted.
func bufLen(p *pkt.Pool, hdrLen int) int { return p.BufSize() - (rxFrameOff - hdrLen) }

// refillAt is how many free descriptors a ring of size has when it is refilled.
func refillAt(size int) int { return min(size/4, rxBatch) }

// buffersFor is how many buffers a frame of n bytes and its header take.
func buffersFor(n, bufLen, hdrLen int) int { return (n + hdrLen + bufLen - 1) / bufLen }

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

// RxBatch is pkt.Link's.
func (d *Device) RxBatch(q int, dst []*pkt.Buf) int {
	r := &d.rx[q]
	if !r.gate.Enter() {
		return 0
	}
	n := r.receive(dst)
	if r.vq.Free() >= r.refillAt {
		r.refill()
	}
	r.gate.Leave()
	if r.vq.Err() != nil {
		r.errors.Add(1)
		d.fail(r.vq.Err())
	}
	return n
}

func (r *rxQueue) receive(dst []*pkt.Buf) (n int) {
	var bytes, bad int
	for n < len(dst) {
		used := r.used[:min(len(dst)-n, len(r.used))]
		got := r.vq.ReapBatch(used)
		for i, u := range used[:got] {
			b := r.posted[u.Head]
			r.posted[u.Head] = nil
			if r.missing > 1 { // in the middle of a frame
				r.more(b, int(u.Len))
				continue
			}
			total, ok := int(u.Len)-hdrBytes, r.mrg && r.missing == 0
			// Read once: the device could still change it.
			h := pkt.At[[hdrBytes]byte](b, r.off)
			w, x := binary.LittleEndian.Uint64(h[:]), binary.LittleEndian.Uint32(h[8:])
			if total < etherLen || x>>16 != 1 {
				ok = false
			}
			switch uint16(w) { // flags and gso_type
			case flagNeedsCsum:
				start, off := uint16(w>>48), uint16(x)
				b.Flags, b.CsumStart, b.CsumOffset = pkt.CsumPartial, start, off
				if int(start)+int(off)+2 > total {
					ok = false
				}
			case flagDataValid:
				b.Flags = pkt.CsumValid
			case 0:
			default:
				ok = false
			}
			if ok {
				// The usual frame: all of it in this one of the mergeable buffers,
				// and no segmentation.
				b.Head = r.off + hdrBytes
				b.Tail = b.Head + total
			} else {
				if b, total, ok = r.part(b, int(u.Len)); !ok {
					bad++
					if r.vq.Err() != nil {
						r.discard(used[i+1 : got])
						break
					}
				}
				if b == nil {
					continue
				}
			}
			dst[n] = b
			n++
			bytes += total
		}
		if got < len(used) && (got == 0 || r.missing == 0) {
			break
		}
	}
	if n > 0 {
		r.frames.Add(uint64(n))
		r.bytes.Add(uint64(bytes))
	}
	if bad > 0 {
		r.errors.Add(uint64(bad))
	}
	return n
}

// more takes a further buffer of a frame, with used bytes in it.
func (r *rxQueue) more(b *pkt.Buf, used int) {
	b.Head, b.Tail = r.off, r.off+used
	r.last.Next, r.last = b, b
	r.size += used
	r.missing--
	if used != r.bufLen && r.missing > 0 {
		r.gap = true
	}
}

// part takes a buffer of any frame. It returns the frame where that is complete
// now, and false where something was dropped.
func (r *rxQueue) part(b *pkt.Buf, used int) (frame *pkt.Buf, total int, ok bool) {
	b.Flags = 0
	if r.missing > 0 {
		if r.more(b, used); used == 0 {
			r.gap = true
		}
	} else if !r.start(b, used) {
		b.Put()
		return nil, 0, false
	}
	if r.missing > 0 {
		return nil, 0, true
	}
	b, r.first, r.last = r.first, nil, nil
	total = r.size - r.hdrLen
	h := b.Mem.Bytes[r.off : r.off+hdrBytesLegacy]
	if r.gap || total < etherLen || total > maxFrame || !r.takeHdr(b, h, total) {
		b.Put()
		return nil, 0, false
	}
	return b, total, true
}

// discard puts back buffers whose place in a frame is not known any more.
func (r *rxQueue) discard(used []virtio.Used) {
	for _, u := range used {
		r.posted[u.Head].Put()
		r.posted[u.Head] = nil
	}
}

// start takes the first buffer of a frame, with used bytes in it, and learns how
// many more there are. It reports false where the buffer is to be dropped.
func (r *rxQueue) start(b *pkt.Buf, used int) bool {
	if used < r.hdrLen {
		return false
	}
	b.Head, b.Tail, r.size, r.gap = r.off+r.hdrLen, r.off+used, used, false
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
			// §5.1.6.4.1: all buffers of a frame but the last are full.
			r.gap = used != r.bufLen
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
		r.post(r.tmp[:got])
		if got < want {
			r.noBuf.Add(uint64(want - got))
		}
		if got < len(r.tmp) {
			break
		}
	}
	r.vq.Publish()
}

// post gives empty buffers to the ring, which has descriptors for them.
func (r *rxQueue) post(bufs []*pkt.Buf) {
	if r.split {
		r.postSplit(bufs)
		return
	}
	off, n, pieces := dma.Addr(r.off), uint32(r.bufLen), r.pieces[:len(bufs)]
	for i, b := range bufs {
		b.Queue = r.index
		pieces[i].Addr, pieces[i].Len = b.Mem.Bus+off, n
	}
	took := r.vq.PostWrites(pieces)
	for i, b := range bufs[:took] {
		r.posted[pieces[i].Head] = b
	}
	pkt.PutBatch(bufs[took:]) // none
}

// postSplit is post for a header in a descriptor of its own.
func (r *rxQueue) postSplit(bufs []*pkt.Buf) {
	for _, b := range bufs {
		b.Queue = r.index
		a := b.Mem.Bus + dma.Addr(r.off)
		segs := [2]virtio.Seg{{Addr: a, Len: uint32(r.hdrLen)}, {Addr: a + dma.Addr(r.hdrLen), Len: uint32(r.bufLen - r.hdrLen)}}
		head, ok := r.vq.Post(segs[:], 0)
		if !ok { // cannot be
			b.Put()
			continue
		}
		r.posted[head] = b
	}
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

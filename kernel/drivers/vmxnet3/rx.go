package vmxnet3

// Packet path, receive, step 1 of 5.
// From: the completion ring.  To: net/demux/demux.go, by way of RxBatch.
// May not: allocate, block, take a lock.

import (
	"sync/atomic"
	"time"

	"osv/kernel/drivers/nic"
	"osv/kernel/hw/dma"
	"osv/kernel/hw/mmio"
	"osv/kernel/pkt"
)

// rxFrameOff is where a frame starts in its buffer: the IP header behind 14 bytes
// of Ethernet then starts a cache line, and there is headroom for a reply.
const rxFrameOff = 64 - etherLen

// RxBufBytes is the size of pool buffers that n bytes of frame fit in; a longer
// frame takes several.
func RxBufBytes(n int) int { return (rxFrameOff + n + 63) &^ 63 }

const (
	rxBatch = 64 // buffers taken from the pool at once
	rxRetry = time.Millisecond
)

// rxRing is one of the two rings of a queue: of head buffers, in which a frame
// starts, or of body buffers, in which it goes on.
type rxRing struct {
	region dma.Region
	descs  []desc
	bufs   []*pkt.Buf
	prod   mmio.Doorbell
	kind   uint64 // of its descriptors
	head   uint32 // next that the device completes
	next   uint32 // next to post
	posted uint32
	gen    uint64 // of the lap that next is in: 0 or rxdGen
}

// free is the number of buffers to post; one stays unused, so that a full ring
// differs from an empty one.
func (g *rxRing) free() uint32 { return uint32(len(g.descs)) - 1 - g.posted }

// rxQueue is one receive queue. Its goroutine owns all but the counters.
type rxQueue struct {
	d     *Device
	index int
	gate  nic.Gate
	wait  nic.Waiter
	pool  *pkt.Pool
	desc  dma.Region // queue descriptor
	ring  [2]rxRing

	region dma.Region // completion ring
	comps  []desc
	at     uint32
	gen    uint64 // of the lap that at is in: 0 or compGen

	bufLen  uint32
	plain   uint32 // bytes of the longest frame of one segment
	max     uint32 // and of any
	maxBufs int    // its buffers
	csum    bool
	lro     bool // the device may merge segments

	// A frame whose end is still to come.
	first, last *pkt.Buf
	size        uint32
	mid, bad    bool
	segs, mss   uint16 // what the device says of merged segments, 0: nothing

	tmp   [rxBatch]*pkt.Buf
	retry *time.Timer

	frames, bytes, noBuf, errors, irqs, doorbells atomic.Uint64
}

func (r *rxQueue) init(d *Device, i int) error {
	r.d, r.index, r.pool = d, i, d.cfg.RxPools[i%len(d.cfg.RxPools)]
	r.bufLen = uint32(min(max(r.pool.BufSize()-rxFrameOff, 0), rxMaxBytes))
	if r.bufLen < 128 { // the least of a head buffer
		return d.errorf("buffers of %d bytes hold no frame", r.pool.BufSize())
	}
	r.plain = uint32(d.cfg.MTU + etherLen + 4)
	r.csum = !d.cfg.NoOffload
	heads := d.cfg.RxRing
	bodies := r.sizeFrames(heads, d.cfg.LRO && r.csum)
	if r.maxBufs-1 > bodies/2 {
		return d.errorf("a frame of %d bytes takes %d buffers of %d", r.max, r.maxBufs, r.bufLen)
	}
	for k, n := range []int{heads, bodies} {
		g := &r.ring[k]
		var err error
		if g.region, err = d.mem.Alloc(n*descBytes, ringAlign); err != nil {
			return err
		}
		g.descs, g.bufs = descs(g.region), make([]*pkt.Buf, n)
		g.prod = d.pt.Doorbell([]mmio.Off{regRXPROD, regRXPROD2}[k] + mmio.Off(i*regStride))
		g.kind = uint64(r.bufLen)
		if k == 1 {
			g.kind |= rxdBody
		}
	}
	var err error
	if r.region, err = d.mem.Alloc((heads+bodies)*descBytes, ringAlign); err != nil {
		return err
	}
	r.comps = descs(r.region)
	r.begin()
	return nil
}

// begin sets all indices for empty rings.
func (r *rxQueue) begin() {
	for k := range r.ring {
		g := &r.ring[k]
		g.head, g.next, g.posted, g.gen = 0, 0, 0, rxdGen
		clear(g.descs)
	}
	r.at, r.gen = 0, compGen
	clear(r.comps)
}

// describe writes the queue descriptor.
func (r *rxQueue) describe(desc dma.Region) {
	r.desc = desc
	q := desc.Bytes
	le.PutUint64(q[qdRing:], uint64(r.ring[0].region.Bus))
	le.PutUint64(q[qdRing2:], uint64(r.ring[1].region.Bus))
	le.PutUint64(q[qdComp:], uint64(r.region.Bus))
	le.PutUint64(q[qdDriverData:], uint64(r.region.Bus))
	le.PutUint32(q[qdRingSize:], uint32(len(r.ring[0].descs)))
	le.PutUint32(q[qdRing2Size:], uint32(len(r.ring[1].descs)))
	le.PutUint32(q[qdCompSize:], uint32(len(r.comps)))
	q[qdIntr] = byte(r.d.rxIntr(r.index))
}

// restart readies the rings for a device that was reset: what was in them goes
// back to the pool. Caller holds the gate.
func (r *rxQueue) restart() {
	r.drain()
	r.begin()
}

// RxBatch is pkt.Link's.
func (d *Device) RxBatch(q int, dst []*pkt.Buf) int {
	r := &d.rx[q]
	if !r.gate.Enter() {
		return 0
	}
	n := r.receive(dst)
	if g := &r.ring[0]; g.free() >= min(uint32(len(g.descs))/4, rxBatch) || r.ring[1].free() >= uint32(len(r.ring[1].descs))/4 {
		r.refill()
	}
	r.gate.Leave()
	return n
}

// ready reports whether RxBatch would find something.
func (r *rxQueue) ready() bool { return atomic.LoadUint64(&r.comps[r.at].word)&compGen == r.gen }

func (r *rxQueue) receive(dst []*pkt.Buf) (n int) {
	var total int
	for n < len(dst) && r.d.Err() == nil {
		// The word with the generation is written last: the other belongs to it.
		w := atomic.LoadUint64(&r.comps[r.at].word)
		if w&compGen != r.gen {
			break
		}
		c := atomic.LoadUint64(&r.comps[r.at].addr)
		if r.at++; r.at == uint32(len(r.comps)) {
			r.at, r.gen = 0, r.gen^compGen
		}
		b := r.take(c, w)
		if b == nil {
			continue
		}
		if b = r.part(b, c, w); b == nil {
			continue
		}
		b.Flags = 0
		if r.csum && c&rcdNoCsum == 0 && w&rcdTUC != 0 && w&(rcdTCP|rcdUDP) != 0 && w&rcdFrag == 0 &&
			(w&rcdV6 != 0 || w&(rcdV4|rcdIPC) == rcdV4|rcdIPC) {
			b.Flags = pkt.CsumValid
		}
		if b.GSO = pkt.GSONone; r.segs > 1 || r.size > r.plain {
			if !r.merged(b, w) {
				b.Put()
				continue
			}
		}
		total += int(r.size)
		dst[n] = b
		n++
	}
	if n > 0 {
		r.frames.Add(uint64(n))
		r.bytes.Add(uint64(total))
	}
	return n
}

// take is the buffer that a completion speaks of. A device may pass over buffers;
// those go back. Nil ends the device's use: its place in the rings is not known
// any more.
func (r *rxQueue) take(c, w uint64) *pkt.Buf {
	queue, i, nq := int(c>>rcdQueue&rcdQueues), uint32(c&rcdIndex), len(r.d.rx)
	// QEMU leaves it 0.
	if t := w >> rcdType & rcdTypes; t != rcdTypeRx && t != 0 && (t != rcdTypeLRO || !r.lro) {
		r.broken("a completion of type %d", t)
		return nil
	}
	if queue != r.index && queue != r.index+nq {
		r.broken("a completion for ring %d of %d", queue, 2*nq)
		return nil
	}
	g := &r.ring[queue/nq]
	for r.posted(g, i) {
		b := g.bufs[g.head]
		g.bufs[g.head] = nil
		found := g.head == i
		if g.head++; g.head == uint32(len(g.descs)) {
			g.head = 0
		}
		g.posted--
		if found {
			return b
		}
		b.Put()
	}
	r.broken("a completion of descriptor %d of ring %d, which is not posted", i, queue/nq)
	return nil
}

// posted reports whether descriptor i is the device's.
func (r *rxQueue) posted(g *rxRing, i uint32) bool {
	n := uint32(len(g.descs))
	return i < n && (i+n-g.head)%n < g.posted
}

// broken ends the device's use.
func (r *rxQueue) broken(format string, a ...any) {
	r.errors.Add(1)
	r.d.fail(r.d.errorf("receive queue %d: "+format, append([]any{r.index}, a...)...))
}

// part takes a buffer of a frame, and returns the frame where that is complete
// and sound.
func (r *rxQueue) part(b *pkt.Buf, c, w uint64) *pkt.Buf {
	size, end := uint32(w&rcdLen), c&rcdEOP != 0
	start := c&rcdSOP != 0
	if start == r.mid {
		r.wrong("a frame that starts: %v, in the middle of one: %v", start, r.mid)
		r.dropFirst()
		if !start { // an end without a frame
			b.Put()
			return nil
		}
		r.mid = false
	}
	if !r.mid {
		r.mid, r.size, r.bad, r.segs, r.mss = true, 0, false, 0, 0
	}
	if w>>rcdType&rcdTypes == rcdTypeLRO {
		r.segs, r.mss = uint16(c>>rcdSegs&0xFF), uint16(w>>rcdMSS)
	}
	switch {
	case r.bad:
	case size > r.bufLen:
		r.wrong("a completion of %d bytes in a buffer of %d", size, r.bufLen)
	case r.size+size > r.max:
		r.wrong("a frame of %d bytes and more, want at most %d", r.size+size, r.max)
	case w&rcdErr != 0:
		r.wrong("a damaged frame")
	case end && r.size+size < etherLen:
		r.wrong("a frame of %d bytes", r.size+size)
	}
	r.mid = !end
	if r.bad { // only the frame's end is of interest
		b.Put()
		r.dropFirst()
		return nil
	}
	b.Head, b.Tail, b.Queue = rxFrameOff, rxFrameOff+int(size), uint16(r.index)
	r.size += size
	switch {
	case r.first == nil:
		r.first, r.last = b, b
	case size == 0:
		b.Put()
	default:
		r.last.Next, r.last = b, b
	}
	if !end {
		return nil
	}
	f := r.first
	r.first, r.last = nil, nil
	return f
}

func (r *rxQueue) dropFirst() {
	if r.first != nil {
		r.first.Put()
		r.first, r.last = nil, nil
	}
}

// wrong has the frame dropped, and notes why.
func (r *rxQueue) wrong(format string, a ...any) {
	r.bad = true
	r.errors.Add(1)
	r.d.faultf("receive queue %d: "+format, append([]any{r.index}, a...)...)
}

// refill posts buffers until both rings are full or the pool is empty, and tells
// the device where it wants to know.
func (r *rxQueue) refill() {
	for k := range r.ring {
		g := &r.ring[k]
		start := g.next
		for {
			want := min(g.free(), uint32(len(r.tmp)))
			got := r.pool.GetBatch(r.tmp[:want])
			for _, b := range r.tmp[:got] {
				e := &g.descs[g.next]
				e.addr = uint64(b.Mem.Bus) + rxFrameOff
				atomic.StoreUint64(&e.word, g.kind|g.gen)
				g.bufs[g.next] = b
				if g.next++; g.next == uint32(len(g.descs)) {
					g.next, g.gen = 0, g.gen^rxdGen
				}
			}
			g.posted += uint32(got)
			if uint32(got) < want {
				r.noBuf.Add(uint64(want) - uint64(got))
			}
			if got < len(r.tmp) {
				break
			}
		}
		if g.next != start && word32(r.desc, qdUpdateRxProd)&0xFF != 0 {
			r.doorbells.Add(1)
			g.prod.Ring32(g.next)
		}
	}
}

// ringAll tells the device of all that is posted, after activation.
func (r *rxQueue) ringAll() {
	for k := range r.ring {
		r.doorbells.Add(1)
		r.ring[k].prod.Ring32(r.ring[k].next)
	}
}

// refillIfStarved tries to fill rings that got low when the pool was empty. Where
// the device may have too few buffers for the frame it has, no interrupt can come,
// so a timer wakes the goroutine to try again.
func (r *rxQueue) refillIfStarved() {
	if r.ring[0].posted > 0 && r.ring[1].posted >= uint32(r.maxBufs-1) {
		return
	}
	r.refill()
	if r.ring[0].posted > 0 && r.ring[1].posted >= uint32(r.maxBufs-1) {
		return
	}
	if r.retry == nil {
		r.retry = time.AfterFunc(rxRetry, func() { r.d.RxWake(r.index) })
	} else {
		r.retry.Reset(rxRetry)
	}
}

// drain puts all buffers of the rings back, once the device cannot reach them.
func (r *rxQueue) drain() {
	for k := range r.ring {
		for i, b := range r.ring[k].bufs {
			if b != nil {
				b.Put()
				r.ring[k].bufs[i] = nil
			}
		}
	}
	r.dropFirst()
	r.mid = false
}

func (r *rxQueue) release() {
	if r.retry != nil {
		r.retry.Stop()
	}
	r.drain()
	for _, g := range []*dma.Region{&r.ring[0].region, &r.ring[1].region, &r.region} {
		if g.Bytes != nil {
			r.d.mem.Free(*g)
			*g = dma.Region{}
		}
	}
}

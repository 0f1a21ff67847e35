package e1000

// Packet path, transmit, last step.
// From: net's output, by way of TxBatch.  To: the transmit ring.
// May not: allocate, block, take a lock but its own.

import (
	"sync"
	"sync/atomic"
	"time"

	"osv/kernel/hw/dma"
	"osv/kernel/hw/mmio"
	"osv/kernel/pkt"
)

// txReportEvery is how many descriptors at most go without a report from the
// device that they are done: each report is a write of the device's.
const txReportEvery = 32

// txReap is how many frames are given back at once.
const txReap = 64

// txQueue is the transmit ring. A slot is a descriptor's index.
type txQueue struct {
	mu     sync.Mutex // guards all below to the blank line, but d
	d      *Device
	pool   *pkt.Pool
	region dma.Region
	ring   []desc
	bufs   []*pkt.Buf // by descriptor: the frame whose last one it is
	report []bool     // by descriptor: the device reports it
	tail   mmio.Doorbell
	next   uint32  // next slot to fill
	done   uint32  // oldest slot that is not given back
	used   uint32  // slots from done to next
	quiet  uint32  // slots since the last with a report
	ctx    context // in force in the device
	hasCtx bool
	closed bool
	stuck  bool // done has not moved since the watch looked
	timer  *time.Timer
	watch  bool // timer runs
	freed  [txReap]*pkt.Buf

	frames, bytes, full, errors, doorbells uint64

	wanted atomic.Bool // the device is to interrupt; written with mu held
}

func (t *txQueue) init(d *Device) error {
	t.d, t.pool = d, d.cfg.TxPool
	var err error
	if t.region, err = d.mem.Alloc(d.cfg.TxRing*descBytes, 4096); err != nil {
		return err
	}
	t.ring = descs(t.region)
	t.bufs, t.report = make([]*pkt.Buf, len(t.ring)), make([]bool, len(t.ring))
	t.tail = d.regs.Doorbell(regTDT)
	return nil
}

// maxPieces is what a frame may have, so that the ring holds it with its context
// and each piece in two descriptors, and 64 KiB of payload in buffers of 2 KiB.
func (t *txQueue) maxPieces() int { return min(40, (len(t.ring)-2)/2) }

// program tells the device of the ring, SDM §14.5, transmit being off.
func (t *txQueue) program() {
	w := t.d.regs.Store32
	w(regTDBAL, uint32(t.region.Bus))
	w(regTDBAH, uint32(t.region.Bus>>32))
	w(regTDLEN, uint32(len(t.region.Bytes)))
	w(regTDH, 0)
	w(regTDT, 0)
}

// restart readies the ring for a device that was reset. Caller holds mu.
func (t *txQueue) restart() {
	t.reap()
	t.errors += t.drain()
	t.next, t.done, t.used, t.quiet, t.hasCtx, t.stuck = 0, 0, 0, 0, false, false
	t.wanted.Store(false)
	clear(t.report)
	clear(t.ring)
}

// TxBuf is pkt.Link's.
func (d *Device) TxBuf(int) *pkt.Buf {
	t := &d.tx
	if b := t.pool.Get(); b != nil {
		return b
	}
	// The missing buffers may all be in a ring that is not even half full, where
	// TxBatch would not look for them.
	t.mu.Lock()
	if !t.closed {
		t.reap()
	}
	t.mu.Unlock()
	return t.pool.Get()
}

// TxBatch is pkt.Link's. A frame has at most Caps().TxScatter pieces and asks only
// for what Caps offers; another is taken, dropped, and counted in TxErrors.
func (d *Device) TxBatch(_ int, frames []*pkt.Buf) int {
	t := &d.tx
	t.mu.Lock()
	n := t.send(frames)
	t.mu.Unlock()
	return n
}

func (t *txQueue) send(frames []*pkt.Buf) int {
	if t.closed {
		return 0
	}
	// Sent buffers are taken back in bulk: what the device writes is its cache
	// line, and looking at it for each batch costs more than the wait.
	if f := t.free(); f < uint32(len(frames)) || f < uint32(len(t.ring))/2 {
		t.reap()
	}
	start, n := t.next, 0
	for n < len(frames) && t.put(frames[n]) {
		n++
	}
	if t.next != start {
		// The last of a batch is always reported, so that all are given back.
		last := t.slot(t.next, -1)
		if !t.report[last] {
			t.ring[last].word |= txRS
			t.report[last], t.quiet = true, 0
		}
		t.doorbells++
		t.tail.Ring32(t.next)
		t.startWatch()
	}
	if n < len(frames) {
		t.full++
		t.askForRoom()
	}
	return n
}

func (t *txQueue) free() uint32 { return uint32(len(t.ring)) - 1 - t.used }

// slot is i moved by one or minus one.
func (t *txQueue) slot(i uint32, by int) uint32 {
	switch {
	case by > 0 && i == uint32(len(t.ring))-1:
		return 0
	case by < 0 && i == 0:
		return uint32(len(t.ring)) - 1
	}
	return uint32(int(i) + by)
}

// put writes the descriptors of a frame, or drops it where the device does not do
// what it asks. It reports false where the ring lacks the descriptors.
func (t *txQueue) put(b *pkt.Buf) bool {
	o := offload{cmd: txDTYPData | txIFCS | txDEXT}
	if b.Flags&pkt.CsumPartial != 0 || b.GSO != pkt.GSONone {
		if !o.plan(b, &t.d.caps) {
			t.drop(b)
			return true
		}
	}
	need, total := uint32(0), 0
	if o.pops&txTXSM != 0 && !(t.hasCtx && t.ctx == o.ctx) {
		need = 1
	}
	pieces := 0
	for p := b; p != nil; p = p.Next {
		n := p.Len()
		total += n
		need += uint32(n+txMaxLen-1) / txMaxLen
		pieces++
	}
	if total < etherLen || pieces > t.d.caps.TxScatter || !o.TSO && total > t.maxFrame() || need > uint32(len(t.ring))-1 {
		t.drop(b)
		return true
	}
	if need > t.free() {
		return false
	}
	if o.TSO {
		o.rewrite(b)
	}
	if o.pops&txTXSM != 0 && !(t.hasCtx && t.ctx == o.ctx) {
		t.add(desc{o.ctx.lo, o.ctx.hi})
		t.ctx, t.hasCtx = o.ctx, true
	}
	for p := b; p != nil; p = p.Next {
		a, n := uint64(p.Bus()), p.Len()
		for n > 0 {
			k := min(n, txMaxLen)
			t.add(desc{a, uint64(k) | o.cmd | o.pops})
			a += uint64(k)
			n -= k
		}
	}
	last := t.slot(t.next, -1)
	t.bufs[last] = b
	t.ring[last].word |= txEOP
	if t.quiet >= txReportEvery {
		t.ring[last].word |= txRS
		t.report[last], t.quiet = true, 0
	}
	t.frames++
	t.bytes += uint64(total)
	return true
}

func (t *txQueue) maxFrame() int { return t.d.cfg.MTU + etherLen + 4 }

// add fills the next slot, which the device does not look at before the doorbell.
func (t *txQueue) add(e desc) {
	t.ring[t.next] = e
	t.report[t.next] = false
	t.next = t.slot(t.next, 1)
	t.used++
	t.quiet++
}

func (t *txQueue) drop(b *pkt.Buf) {
	t.errors++
	b.Put()
}

// reap takes back all frames that the device has reported: each report also
// stands for the descriptors before it.
func (t *txQueue) reap() {
	n := 0
	for t.used > 0 {
		// Find the next reported descriptor.
		i, k := t.done, uint32(1)
		for !t.report[i] {
			i = t.slot(i, 1)
			k++
		}
		if atomic.LoadUint64(&t.ring[i].word)&txDD == 0 {
			break
		}
		for ; k > 0; k-- {
			if b := t.bufs[t.done]; b != nil {
				t.bufs[t.done] = nil
				t.freed[n] = b
				if n++; n == len(t.freed) {
					pkt.PutBatch(t.freed[:n])
					n = 0
				}
			}
			t.done = t.slot(t.done, 1)
			t.used--
		}
		t.stuck = false
	}
	pkt.PutBatch(t.freed[:n])
}

// askForRoom arms the interrupt for the next report.
func (t *txQueue) askForRoom() {
	if t.wanted.Load() || t.used == 0 {
		return
	}
	t.wanted.Store(true)
	t.d.regs.Store32(regIMS, t.d.txCauses())
	// What was reported before that may not interrupt.
	before := t.used
	if t.reap(); t.used < before {
		t.d.wait.Wake()
	}
}

// idle is called by a receiver that goes to sleep: it takes back what was sent.
// It does not wait for a sender that is at work.
func (t *txQueue) idle() {
	if !t.mu.TryLock() {
		return
	}
	if !t.closed {
		t.reap()
	}
	t.mu.Unlock()
}

// woken is called when the interrupt came: a sender's wish is met.
func (t *txQueue) woken() {
	if !t.wanted.Load() {
		return
	}
	t.mu.Lock()
	if t.wanted.Load() && !t.closed {
		t.reap()
		t.wanted.Store(false)
		t.d.regs.Store32(regIMC, t.d.txCauses())
	}
	t.mu.Unlock()
}

func (t *txQueue) shut() {
	t.mu.Lock()
	t.closed = true
	if t.timer != nil {
		t.timer.Stop()
	}
	t.mu.Unlock()
}

// drain puts all frames of the ring back, once the device cannot reach them, and
// returns how many there were.
func (t *txQueue) drain() (n uint64) {
	for i, b := range t.bufs {
		if b != nil {
			b.Put()
			t.bufs[i] = nil
			n++
		}
	}
	return n
}

func (t *txQueue) release() {
	t.drain()
	if t.region.Bytes != nil {
		t.d.mem.Free(t.region)
		t.region, t.ring, t.used = dma.Region{}, nil, 0
	}
}

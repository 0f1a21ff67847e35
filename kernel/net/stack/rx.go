package stack

import (
	"encoding/binary"
	"runtime"

	"osv/kernel/net/demux"
	"osv/kernel/net/ip"
	"osv/kernel/net/netchan"
	"osv/kernel/net/wire"
	"osv/kernel/pkt"
)

// Packet path, receive, between steps 1 and 3 of 5: the loop that drives them.
// From: a driver's RxBatch.  To: demux/demux.go, netchan/netchan.go, or a handler.
// May not: allocate, block other than in RxWait, take a lock.

// rxLoop is the receive loop of one queue. Its goroutine is the only user of
// all its fields but slow, inject and stop.
type rxLoop struct {
	ifc   *Interface
	q     int
	mac   uint64 // of ifc, as the upper 48 bits of a frame's first 8, read little-endian; 1 on loopback, which is never equal
	batch []*pkt.Buf
	ctx   RxContext

	// A run of packets for one channel, pushed together.
	pend    []*pkt.Buf
	runSink *Sink
	woken   []*netchan.Chan // channels pushed to in this batch

	slow  *netchan.Chan // to runSlow
	slowN int           // pushed in this batch
	// behind runs beside slow: the sink each frame was on its way to, or nil. It
	// is twice as long as slow, so that an entry outlives the Pop of its frame.
	behind         []*Sink
	pushed, popped uint64        // frames ever pushed to and popped from slow
	inject         *netchan.Chan // from runSlow: whole datagrams for handlers
	stop           chan struct{}

	fast    uint64 // counted here, added to the interface's once per batch
	slowed  uint64
	reasons [demux.NumReasons]uint32
	counted bool // reasons has something
}

func newRxLoop(ifc *Interface, q int) *rxLoop {
	n := ifc.stack.cfg.Batch
	l := &rxLoop{
		ifc: ifc, q: q, mac: 1,
		batch:  make([]*pkt.Buf, n),
		pend:   make([]*pkt.Buf, 0, n),
		woken:  make([]*netchan.Chan, 0, n),
		slow:   netchan.New(ifc.stack.cfg.SlowPath),
		inject: netchan.New(64),
		stop:   make(chan struct{}),
	}
	if !ifc.loopback {
		var b [8]byte
		copy(b[2:], ifc.mac[:])
		l.mac = binary.LittleEndian.Uint64(b[:])
	}
	l.behind = make([]*Sink, 2*l.slow.Cap())
	l.ctx.loop, l.ctx.ifc, l.ctx.txq = l, ifc, ifc.txQueue(q)
	l.ctx.tx = make([]*pkt.Buf, 0, n)
	l.ctx.ends = make([]Ender, 0, n)
	return l
}

// run is the loop: take a batch, deliver it, and when there is none look again
// a few times before sleeping. How often adapts: doubling each time it paid,
// halving each time it did not.
func (l *rxLoop) run() {
	spinMax := l.ifc.stack.cfg.Spin
	spin, idle := 1, 0
	found := 0 // frames since it slept
	for {
		if n := l.pass(); n > 0 {
			found += n
			if idle > 0 {
				spin = min(spin*2, spinMax)
			}
			idle = 0
			continue
		}
		if idle < spin && spinMax > 0 || len(l.ctx.tx) > 0 && idle < maxTxRetry {
			// The first look again is free; letting others run costs as much as a
			// few requests.
			if idle++; idle > 1 || len(l.ctx.tx) > 0 {
				runtime.Gosched()
			}
			continue
		}
		l.ctx.dropTx()
		spin, idle = max(spin/2, 1), 0
		l.ifc.count.woke(found)
		found = 0
		if l.ifc.link.RxWait(l.q) != nil {
			return
		}
	}
}

// maxTxRetry is how often the loop offers replies to a full transmit ring,
// letting others run in between, before it drops them.
const maxTxRetry = 1000

// pass handles one batch and returns its size.
func (l *rxLoop) pass() int {
	n := l.ifc.link.RxBatch(l.q, l.batch)
	if k := l.inject.Len(); k > 0 && n < len(l.batch) {
		n += l.inject.Pop(l.batch[n:])
	}
	if n == 0 {
		if len(l.ctx.tx) > 0 {
			l.ctx.flushTx()
		}
		return 0
	}
	l.ctx.now = l.ifc.stack.clock.Now()
	if a := l.ifc.addrs.Load(); a != l.ctx.addrs {
		l.ctx.addrs, l.ctx.good = a, 0
	}
	l.ctx.mtu = l.ifc.MTU()
	for _, b := range l.batch[:n] {
		l.one(b)
	}
	l.endRun()
	if len(l.ctx.ends) > 0 {
		l.endBatch()
	}
	l.ctx.flushTx()
	yield := len(l.woken) > 0 || l.slowN > 0
	for _, c := range l.woken {
		c.Wake()
	}
	l.woken = l.woken[:0]
	if l.slowN > 0 {
		l.slow.Wake()
		l.slowN = 0
	}
	l.flushCounts()
	if yield && !l.ifc.stack.cfg.Manual {
		// The readers were made runnable on this P: with one vCPU they would
		// otherwise wait until this loop sleeps.
		runtime.Gosched()
	}
	return n
}

// endBatch tells the handlers that asked for it. Where two loops share a transmit
// queue, only the first holds it back.
func (l *rxLoop) endBatch() {
	var p *plug
	if l.q < len(l.ifc.plugs) {
		p = &l.ifc.plugs[l.q]
		p.put()
	}
	for i, e := range l.ctx.ends {
		e.EndBatch(&l.ctx)
		l.ctx.ends[i] = nil
	}
	l.ctx.ends = l.ctx.ends[:0]
	if p != nil {
		p.pull(&l.ctx)
	}
}

func (l *rxLoop) flushCounts() {
	c := &l.ifc.count
	if l.fast > 0 {
		c.fast.Add(l.fast)
		l.fast = 0
	}
	if l.slowed > 0 {
		c.slow.Add(l.slowed)
		l.slowed = 0
	}
	if !l.counted {
		return
	}
	l.counted = false
	for r := range l.reasons {
		if n := l.reasons[r]; n > 0 {
			c.reason[r].Add(uint64(n))
			l.reasons[r] = 0
		}
	}
}

func (l *rxLoop) count(r demux.Reason) {
	l.reasons[r]++
	l.counted = true
}

func (l *rxLoop) drop(b *pkt.Buf, r demux.Reason) {
	l.count(r)
	b.Put()
}

// toSlow hands b to the slow path. Whoever delivers it there counts sink down.
func (l *rxLoop) toSlow(b *pkt.Buf, r demux.Reason, sink *Sink) {
	l.count(r)
	if sink != nil {
		sink.behind.Add(1)
	}
	l.behind[l.pushed%uint64(len(l.behind))] = sink
	if l.slow.Push1(b) != netchan.OK {
		if sink != nil {
			sink.behind.Add(-1)
		}
		l.drop(b, demux.SlowFull)
		return
	}
	l.pushed++
	l.slowN++
	l.slowed++
}

// one delivers one frame.
func (l *rxLoop) one(b *pkt.Buf) {
	if !l.usual(b) {
		l.any(b)
	}
}

// usual delivers a frame of the usual shape (demux.Usual) to our first address.
// It reports false for any other, having done nothing.
func (l *rxLoop) usual(b *pkt.Buf) bool {
	h := pkt.At[[demux.UsualLen]byte](b, b.Head)
	if h == nil || b.Next != nil || binary.LittleEndian.Uint64(h[:])<<16 != l.mac {
		return false
	}
	c := &l.ctx
	m := &c.meta
	if !demux.Usual(m, h, b.Tail-b.Head) || uint64(m.Dst4) != c.addrs.first4 {
		return false
	}
	b.L3, b.L4 = demux.UsualL3, demux.UsualL4
	b.Tail = b.Head + m.End // without padding of the link
	sink := l.ifc.stack.table.Lookup4(m)
	if sink == nil || sink.Datagram == nil || m.SrcPort == 0 || b.Flags&(pkt.CsumValid|pkt.CsumPartial) == 0 {
		l.deliver(b, sink) // looks closer
		return true
	}
	if m.Src4 != c.good {
		if !c.addrs.source4(m.Src4) {
			l.deliver(b, sink)
			return true
		}
		c.good = m.Src4
	}
	l.fast++
	c.cur = b
	sink.Datagram(c, b, b.Mem.Bytes[b.Head+m.Payload:b.Head+m.DataEnd])
	if c.cur != nil {
		c.cur = nil
		b.Put()
	}
	return true
}

// any delivers a frame of whatever shape.
func (l *rxLoop) any(b *pkt.Buf) {
	f := b.Bytes()
	total := len(f)
	if b.Next != nil {
		total = b.TotalLen()
	}
	m := &l.ctx.meta
	demux.Parse(m, f, total)
	if m.Class == demux.Drop {
		l.drop(b, m.Reason)
		return
	}
	if !l.ifc.loopback && wire.MAC(f[:6]) != l.ifc.mac {
		if f[0]&1 == 0 {
			l.drop(b, demux.OtherMAC)
			return
		}
		if m.Reason == demux.None {
			m.Reason = demux.IsMulticast
		}
		l.toSlow(b, m.Reason, nil)
		return
	}
	if m.Class == demux.Slow {
		l.toSlow(b, m.Reason, nil)
		return
	}
	if !m.V6 {
		if !l.ifc.local4(l.ctx.addrs, m.Dst4) {
			l.toSlow(b, demux.IsOther, nil)
			return
		}
	} else if !l.ifc.local6(l.ctx.addrs, m.Dst(f).Addr()) {
		l.toSlow(b, demux.IsOther, nil)
		return
	}
	b.L3, b.L4 = uint16(m.L3), uint16(m.L4)
	if total != m.End {
		ip.Cut(b, m.End)
		f = b.Bytes()
	}
	sink, _ := l.ifc.stack.table.Lookup(m, f)
	l.deliver(b, sink)
}

// deliver gives a frame to the sink of its tuple, nil where there is none.
func (l *rxLoop) deliver(b *pkt.Buf, sink *Sink) {
	switch {
	case sink == nil:
		l.toSlow(b, demux.NoFlow, nil)
	case sink.Datagram != nil:
		l.datagram(b, b.Bytes(), sink)
	case sink.Segment != nil:
		l.fast++
		l.ctx.frame = b.Bytes()
		sink.Segment(&l.ctx, b)
	case sink.Chan != nil:
		if sink != l.runSink {
			l.endRun()
			l.runSink = sink
		}
		b.RxTime = l.ctx.now
		l.pend = append(l.pend, b)
	case sink.group != nil:
		l.deliver(b, sink.group.pick(&l.ctx.meta, b.Bytes()))
	default:
		l.toSlow(b, demux.NoFlow, sink)
	}
}

// endRun pushes the packets gathered for one sink's channel.
func (l *rxLoop) endRun() {
	k := l.runSink
	if k == nil {
		return
	}
	l.runSink = nil
	rest, why := l.pend, netchan.Full
	l.pend = l.pend[:0]
	if k.behind.Load() == 0 {
		var n int
		n, why = k.Chan.Push(rest)
		l.fast += uint64(n)
		if n > 0 {
			l.woken = append(l.woken, k.Chan)
		}
		rest = rest[n:]
	}
	if len(rest) == 0 {
		return
	}
	reason := demux.ChanFull
	switch why {
	case netchan.Busy:
		reason = demux.ChanBusy
	case netchan.Closed:
		reason = demux.Late
	}
	for _, b := range rest {
		switch {
		case why == netchan.Closed:
			l.toSlow(b, reason, nil) // to be looked up again
		case k.Lossy && why == netchan.Full:
			k.drops.Add(1)
			l.drop(b, demux.SocketFull)
		default:
			l.toSlow(b, reason, k)
		}
	}
}

// runSlow is the goroutine that reads the slow path's channel.
func (l *rxLoop) runSlow() {
	for {
		if l.passSlow() > 0 {
			continue
		}
		select {
		case <-l.stop:
			return
		default:
		}
		l.slow.Wait()
	}
}

// passSlow handles a few frames of the slow path and returns how many.
func (l *rxLoop) passSlow() int {
	var bufs [16]*pkt.Buf
	n := l.slow.Pop(bufs[:])
	for _, b := range bufs[:n] {
		sink := l.behind[l.popped%uint64(len(l.behind))]
		l.popped++
		l.ifc.slowInput(l, b, sink)
		if sink != nil {
			sink.behind.Add(-1)
		}
	}
	return n
}

func (l *rxLoop) stopSlow() {
	close(l.stop)
	l.slow.Kick()
}

// drain puts back what the loops left behind. Both have stopped.
func (l *rxLoop) drain() {
	l.slow.Close()
	l.inject.Close()
	l.ctx.dropTx()
}

// Poll runs every receive loop and slow path of a Manual stack until there is
// nothing left to do, and returns the number of frames handled. One goroutine
// at a time may call it.
func (s *Stack) Poll() int {
	total := 0
	for {
		n := 0
		for _, ifc := range s.Interfaces() {
			for _, l := range ifc.loops {
				n += l.pass() + l.passSlow()
			}
		}
		if n == 0 {
			return total
		}
		total += n
	}
}

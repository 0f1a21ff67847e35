package tcp

// Packet path, transmit, step 2 of 4.
// From: the user's octets in sendBuf.  To: Output.TxSegment, then net/stack.
// May not: allocate, block, take a lock.

import (
	"osv/kernel/net/seq"
	"osv/kernel/net/wire"
	"osv/kernel/pkt"
)

// stallWait is when to try again after Output had no buffer, ns.
const stallWait = 1e6

// lowerHeaders is what a frame may carry in front of the IP header, and how far
// options may grow, for the bound on frames that the link cuts: bytes.
const lowerHeaders = 18 + ip6Header + wire.TCPMaxHeader

// Flush sends what may be sent now, and an ACK if one is due. Call it after a
// batch of Input, Send and Recv.
func (c *Conn) Flush(now int64) {
	c.now = now
	c.stallAt = 0
	c.charge()
	if c.state.hasSendQueue() {
		c.sendQueued()
	}
	if c.ackNow && c.state != StateClosed {
		c.sendAck()
	}
}

// sendQueued sends lost ranges, then new octets, as the windows allow.
func (c *Conn) sendQueued() {
	if c.lostBytes > 0 && !c.sendLost() {
		return
	}
	if c.snd.len > 0 || c.finQueued {
		if c.cfg.noQuick || !c.quickSend() {
			c.sendNew()
		}
	}
}

// sendLost sends ranges again that are taken for lost, first ones first (RFC
// 6675 §5, NextSeg rule 1). False says that the window is full.
func (c *Conn) sendLost() bool {
	for i := 0; i < c.sent.n && c.lostBytes > 0; i++ {
		e := c.sent.at(i)
		if e.flags&sentLost == 0 {
			continue
		}
		room := c.cc.cwnd - c.pipe()
		if c.rec.force {
			room = max(room, c.cc.mss)
		}
		n := e.len()
		if room < min(n, c.cc.mss) {
			return false
		}
		if n > room {
			n = room - room%c.cc.mss
		}
		if n = min(n, c.maxFrame()); n < e.len() {
			c.sent.split(i, e.start.Add(n))
		}
		if !c.retransmit(i) {
			return false
		}
		c.rec.force = false
	}
	return true
}

// retransmit sends the range i again. It is cut to what one frame takes.
func (c *Conn) retransmit(i int) bool {
	e := c.sent.at(i)
	n, ok := c.transmit(e.start, e.len())
	if !ok {
		return false
	}
	if n < e.len() {
		c.sent.split(i, e.start.Add(n))
		e = c.sent.at(i)
	}
	if e.flags&sentLost != 0 {
		c.lostBytes -= n
	}
	e.flags = e.flags&^sentLost | sentRetx
	c.txOrder++
	e.at, e.order = c.now, c.txOrder
	c.count.Retransmits++
	c.rec.prrOut += n
	c.rec.undoRetx += n
	if !c.rec.retxSent {
		c.rec.retxSent, c.rec.retxStamp = true, c.tsClock(c.now)
	}
	return true
}

// maxFrame is the most octets in one call of transmit: one segment, or as many
// whole ones as the link cuts by itself.
func (c *Conn) maxFrame() int {
	if c.path.GSOMax > lowerHeaders+2*c.cc.mss {
		n := c.path.GSOMax - lowerHeaders
		return n - n%c.cc.mss
	}
	return c.cc.mss
}

// sendNew sends octets not sent before, and the FIN.
func (c *Conn) sendNew() {
	for c.sent.n < maxSent {
		avail := c.dataEnd().Sub(c.sndNxt)
		if avail < 0 {
			return // the FIN is out
		}
		if avail == 0 {
			if c.finQueued {
				c.emit(0, true)
			}
			return
		}
		if c.flight() == 0 {
			c.afterIdle()
		}
		n := c.sendable(avail)
		ok := n > 0 && c.emit(n, c.finQueued && n == avail)
		c.push = false
		if !ok {
			return
		}
	}
}

// afterIdle restarts from the initial window when nothing was sent for longer
// than a timeout (RFC 5681 §4.1).
func (c *Conn) afterIdle() {
	if c.lastSndAt == 0 {
		return
	}
	d := c.now - c.lastSndAt
	c.lastSndAt = c.now
	c.cc.idle(d)
	if d > c.rtt.rto {
		c.cc.cwnd = min(c.cc.cwnd, initialCwnd(c.cfg, c.cc.mss))
	}
}

// sendable is how many of the avail octets that wait may be sent in one frame:
// the window of the peer, the congestion window, the Nagle algorithm and the
// avoidance of silly windows (RFC 9293 §3.8.6.2.1) all have their say.
func (c *Conn) sendable(avail int) int {
	mss := c.cc.mss
	n := min(avail, c.sndUna.Add(c.sndWnd).Sub(c.sndNxt))
	room := c.cc.cwnd - c.pipe()
	if n <= 0 {
		c.wantProbe()
		return 0
	}
	if room < min(n, mss) && c.flight() > 0 {
		c.limited, c.limitedTo = true, c.sndNxt
		return 0
	}
	k := min(n, max(room, min(n, mss)), c.maxFrame())
	// The last segment that the windows allow for now is pushed as the last of all
	// is (§3.9.1.2): a peer that delays its ACK would stop us for that long.
	c.push = min(n, room)-k < mss
	if k >= mss {
		if part := k % mss; part > 0 && !(k == avail && c.mayCutShort(avail)) {
			k -= part
		}
		return k
	}
	// Less than a segment.
	switch {
	case k == avail && c.mayCutShort(avail):
		return k
	case k < avail && k >= c.sndMaxWnd/2: // (3) of §3.8.6.2.1
		return k
	}
	if k < avail {
		c.wantProbe()
	}
	return 0
}

// mayCutShort reports that the last octets that wait, n of them, may go in a
// segment that is not full. The Nagle algorithm (RFC 9293 §3.7.4) in the form
// that looks only at whether another such segment is out: a full one does not
// wait for the ACK of its successors that the peer delays.
func (c *Conn) mayCutShort(n int) bool {
	if c.opt.Cork {
		return c.finQueued || c.sndUrgent
	}
	return c.opt.NoDelay || c.finQueued || c.sndUrgent || !c.sndUna.Less(c.sndSmall)
}

// emit sends n new octets, with the FIN if fin is set.
func (c *Conn) emit(n int, fin bool) bool {
	want := n
	if fin {
		want++
	}
	start := c.sndNxt
	k, ok := c.transmit(start, want)
	if !ok {
		return false
	}
	end := start.Add(k)
	if c.flight() == 0 {
		c.progressAt = c.now
	}
	if k%c.cc.mss != 0 {
		c.sndSmall = end
	}
	c.record(start, end)
	c.sndNxt = end
	c.sndMax = seq.Max(c.sndMax, end)
	c.rec.prrOut += k
	c.lastSndAt = c.now
	// The window counts as used when it is full, in slow start when it is half
	// full: it may double then.
	if p := c.pipe(); p+c.cc.mss > c.cc.cwnd || c.cc.slowStart() && 2*p > c.cc.cwnd {
		c.limited, c.limitedTo = true, end
	}
	c.armAfterSend()
	return true
}

// sendOneNew sends one segment of new octets whatever the congestion window is
// (RFC 8985 §7.3).
func (c *Conn) sendOneNew() bool {
	avail := c.dataEnd().Sub(c.sndNxt)
	n := min(avail, c.cc.mss, c.sndUna.Add(c.sndWnd).Sub(c.sndNxt))
	return n > 0 && c.sent.n < maxSent && c.emit(n, c.finQueued && n == avail)
}

// record notes that [start, end) was sent now for the first time.
func (c *Conn) record(start, end seq.Num) {
	if n := c.sent.n; n > 0 {
		l := c.sent.at(n - 1)
		if l.end == start && l.at == c.now && l.order == c.txOrder && l.flags == 0 && end.Sub(l.start) <= mergeSent {
			l.end = end
			return
		}
	}
	c.txOrder++
	c.sent.push(sentSeg{start: start, end: end, at: c.now, order: c.txOrder})
}

// transmit sends up to n sequence numbers from start on, a SYN or FIN where they
// are its, and returns how many it sent: fewer than n where they do not fit one
// frame. False says that Output had no buffer.
func (c *Conn) transmit(start seq.Num, n int) (int, bool) {
	if start == c.iss && c.sndBase == c.iss.Add(1) {
		return 1, c.sendSYN()
	}
	b := c.txBuf()
	if b == nil {
		return 0, false
	}
	var o wire.TCPOptions
	c.dataOptions(&o)
	optLen := o.Len()
	mss := c.mss - optLen

	octets := n
	end := c.dataEnd()
	fin := c.finQueued && start.Add(n) == end.Add(1)
	if fin {
		octets--
	}
	// The buffers at hand may be too small for what was asked, and SACK blocks
	// may leave less room in each segment.
	off := start.Sub(c.sndBase)
	attached := false
	if n > c.cc.mss && c.path.GSOMax > 0 && octets > mss {
		k := min(octets, c.attachable(off))
		if k < octets {
			k -= k % mss
		}
		if attached = k > mss && c.attach(b, off, k); attached {
			fin = fin && k == octets
			octets = k
		}
	}
	room := b.Tailroom() + (max(c.path.Pieces, 1)-1)*len(b.Mem.Bytes)
	if n <= c.cc.mss || c.path.GSOMax == 0 {
		room = min(room, mss)
	}
	if octets > room && !attached {
		if octets = room; octets > mss {
			octets -= octets % mss
		}
		fin = false
	}
	if octets > 0 && !attached && !c.fill(b, off, octets) {
		return 0, false
	}
	if octets > mss {
		b.GSO, b.GSOSize = pkt.GSOTCPv4, uint16(mss)
		c.count.SegsOut += uint64((octets - 1) / mss) // finish counts one
		if !c.tuple.Local.Addr().Is4() {
			b.GSO = pkt.GSOTCPv6
		}
	}
	f := wire.TCPFields{Seq: uint32(start), Flags: wire.TCPAck}
	n = octets
	if fin {
		f.Flags |= wire.TCPFin
		n++
	}
	if octets > 0 && (start.Add(octets) == end || c.push) {
		f.Flags |= wire.TCPPsh
	}
	c.urgentField(&f, start)
	c.finish(b, &f, &o, optLen)
	return n, true
}

// fill puts octets of the send buffer, from off on, into b and further pieces.
func (c *Conn) fill(b *pkt.Buf, off, n int) bool {
	t := b
	for {
		k := min(n, t.Tailroom())
		c.snd.read(t.Append(k), off)
		off += k
		if n -= k; n == 0 {
			return true
		}
		if t.Next = c.txBuf(); t.Next == nil {
			b.Put()
			return false
		}
		t = t.Next
		t.Reset(0)
	}
}

// txBuf is a buffer from Output; where it has none, c tries again later.
func (c *Conn) txBuf() *pkt.Buf {
	b := c.out.TxBuf(c)
	if b == nil {
		c.stallAt = c.now + stallWait
	}
	return b
}

// dataOptions are the options of a segment that is not a SYN.
func (c *Conn) dataOptions(o *wire.TCPOptions) {
	if c.tsOK {
		o.Have = wire.TCPOptTimestamp
		o.TSVal, o.TSEcr = c.tsClock(c.now), c.tsRecent
	}
	if c.sackOK && (c.sackNum > 0 || c.dsack.start != c.dsack.end) {
		c.sackBlocks(o)
	}
}

// finish puts the header in front of the payload in b and sends it. It carries
// an ACK of all that has come in.
func (c *Conn) finish(b *pkt.Buf, f *wire.TCPFields, o *wire.TCPOptions, optLen int) {
	f.SrcPort, f.DstPort = c.tuple.Local.Port(), c.tuple.Remote.Port()
	if f.Flags&wire.TCPAck != 0 {
		f.Ack = uint32(c.rcvNxt)
		c.lastAckSent = c.rcvNxt
		c.ackNow, c.delackAt = false, 0
		c.dsack = oooRange{}
	}
	f.Window = c.windowField(f.Flags&wire.TCPSyn != 0)
	h := b.Prepend(wire.TCPMinHeader + optLen)
	o.Put(h[wire.TCPMinHeader:])
	wire.TCP(h).Put(f, len(h))
	c.count.SegsOut++
	c.out.TxSegment(c, b)
}

// sendAck sends a segment without payload: <SEQ=SND.NXT><ACK=RCV.NXT><CTL=ACK>.
func (c *Conn) sendAck() { c.sendControl(c.sndNxt, wire.TCPAck) }

func (c *Conn) sendControl(s seq.Num, flags wire.TCPFlags) bool {
	b := c.txBuf()
	if b == nil {
		return false
	}
	var o wire.TCPOptions
	c.dataOptions(&o)
	f := wire.TCPFields{Seq: uint32(s), Flags: flags}
	c.urgentField(&f, s)
	c.finish(b, &f, &o, o.Len())
	return true
}

// windowProbe sends one octet beyond a window of size zero. It is not noted as
// sent: if the peer takes it, its ACK moves SND.NXT.
func (c *Conn) windowProbe() {
	b := c.txBuf()
	if b == nil {
		return
	}
	c.snd.read(b.Append(1), c.sndNxt.Sub(c.sndBase))
	var o wire.TCPOptions
	c.dataOptions(&o)
	f := wire.TCPFields{Seq: uint32(c.sndNxt), Flags: wire.TCPAck | wire.TCPPsh}
	c.urgentField(&f, c.sndNxt)
	c.finish(b, &f, &o, o.Len())
	c.sndMax = seq.Max(c.sndMax, c.sndNxt.Add(1))
}

// sendReset answers s, which no connection may have sent, with a RST (RFC 9293
// §3.5.2, the first group).
func (c *Conn) sendReset(s *Segment) {
	if s.has(wire.TCPRst) {
		return
	}
	f := wire.TCPFields{Flags: wire.TCPRst}
	if s.has(wire.TCPAck) {
		f.Seq = uint32(s.Ack)
	} else {
		f.Flags |= wire.TCPAck
		f.Ack = uint32(s.Seq.Add(s.seqLen()))
	}
	b := c.out.TxBuf(c)
	if b == nil {
		return // the peer will ask again
	}
	f.SrcPort, f.DstPort = c.tuple.Local.Port(), c.tuple.Remote.Port()
	wire.TCP(b.Prepend(wire.TCPMinHeader)).Put(&f, wire.TCPMinHeader)
	c.out.TxSegment(c, b)
}

// sendAbort sends the RST of an ABORT or a failure (RFC 9293 §3.10.5).
func (c *Conn) sendAbort() {
	b := c.out.TxBuf(c)
	if b == nil {
		return
	}
	f := wire.TCPFields{
		SrcPort: c.tuple.Local.Port(), DstPort: c.tuple.Remote.Port(),
		Seq: uint32(c.sndNxt), Ack: uint32(c.rcvNxt), Flags: wire.TCPRst | wire.TCPAck,
	}
	wire.TCP(b.Prepend(wire.TCPMinHeader)).Put(&f, wire.TCPMinHeader)
	c.out.TxSegment(c, b)
}

package stack

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"net/netip"

	"osv/kernel/net/demux"
	"osv/kernel/net/ip"
	"osv/kernel/net/wire"
	"osv/kernel/pkt"
)

var be = binary.BigEndian

// UDPHandler takes one UDP datagram in the receive loop: run to completion.
//
// payload is the datagram's data, in the frame itself, and the front of ctx.Room;
// its capacity is what the buffer has. b is the whole frame; it
// stays the loop's, which puts it back when the handler returns, unless the
// handler passed it to ctx.ReplyInPlace or took it with ctx.Take. Destination
// address and port are those of the bind, the source is a valid unicast address
// of another host (or this one, over loopback), the checksum is right.
//
// The handler must not block, and on the hot path not allocate; while it runs,
// no packet of its queue moves. It may run on several receive queues at once:
// ctx.Queue tells which.
type UDPHandler func(ctx *RxContext, b *pkt.Buf, payload []byte)

// RxContext is what a handler sees of the receive loop: who sent the packet at
// hand, and the batch of replies that goes out with one doorbell when the batch
// of requests is done. It is valid during the call only.
type RxContext struct {
	loop  *rxLoop
	ifc   *Interface
	txq   int
	mtu   int // as now and addrs, of the time this batch was taken
	now   int64
	addrs *addrSet
	good  uint32 // an IPv4 sender that was found good with addrs, 0 for none
	meta  demux.Meta
	frame []byte   // bytes of the frame at hand; of a datagram of IPv4 perhaps those of an earlier one
	cur   *pkt.Buf // the frame, while it is the loop's
	tx    []*pkt.Buf
	ends  []Ender
}

// Ender is told when the batch in which it was named is delivered.
type Ender interface{ EndBatch(ctx *RxContext) }

// HandleUDP makes h the receiver of UDP datagrams to local, in the receive
// loops: of one address, of any IPv4 address (0.0.0.0), of any IPv6 address (::),
// or of any address (the zero Addr).
// The returned function ends that; h may still be running when it returns.
func (s *Stack) HandleUDP(local netip.AddrPort, h UDPHandler) (remove func(), err error) {
	if a := local.Addr(); a.IsValid() && !a.IsUnspecified() && !s.IsLocal(a) {
		return nil, fmt.Errorf("stack: handle UDP %v: not an address of this host", local)
	}
	k := &Sink{Datagram: h}
	if err := s.table.Bind(wire.ProtoUDP, local, k); err != nil {
		return nil, fmt.Errorf("stack: handle UDP: %w", err)
	}
	return func() { s.table.Unbind(wire.ProtoUDP, local.Port(), k) }, nil
}

// Source is the sender's address and port.
func (c *RxContext) Source() netip.AddrPort { return c.meta.Src(c.frame) }

// Local is the destination address and port.
func (c *RxContext) Local() netip.AddrPort { return c.meta.Dst(c.frame) }

// Queue is the receive queue: a small number, from 0.
func (c *RxContext) Queue() int { return c.loop.q }

// Interface is where the packet came in.
func (c *RxContext) Interface() *Interface { return c.ifc }

// Now is the stack's clock in ns when this batch was taken.
func (c *RxContext) Now() int64 { return c.now }

// datagram calls a UDP handler.
func (l *rxLoop) datagram(b *pkt.Buf, f []byte, k *Sink) {
	c := &l.ctx
	m := &c.meta
	if b.Next != nil {
		l.toSlow(b, demux.IsFragment, nil) // comes back in one piece by inject
		return
	}
	if !l.sourceOK(m, f) {
		l.drop(b, demux.BadSource)
		return
	}
	if b.Flags&(pkt.CsumValid|pkt.CsumPartial) == 0 && !udpSumOK(m, f, b) {
		l.drop(b, demux.BadSum)
		return
	}
	l.fast++
	c.frame, c.cur = f, b
	k.Datagram(c, b, f[m.Payload:m.DataEnd])
	if c.cur != nil {
		c.cur = nil
		b.Put()
	}
}

// sourceOK reports whether an answer to the sender would go to one other host.
func (l *rxLoop) sourceOK(m *demux.Meta, f []byte) bool {
	if m.SrcPort == 0 {
		return false
	}
	if m.V6 {
		a := m.Src(f).Addr()
		return !a.IsMulticast() && !a.IsUnspecified() && (l.ifc.loopback || !a.IsLoopback() && !l.ctx.addrs.has6(a))
	}
	if l.ifc.loopback {
		return m.Src4-1 < 0xe0000000-1
	}
	return l.ctx.addrs.source4(m.Src4)
}

// udpSumOK verifies a UDP checksum. Over IPv4 a sender may leave it out.
func udpSumOK(m *demux.Meta, f []byte, b *pkt.Buf) bool {
	if be.Uint16(f[m.L4+6:]) == 0 {
		return !m.V6
	}
	return transportSumOK(m, f, b)
}

// transportSumOK verifies the checksum of a UDP or TCP packet.
func transportSumOK(m *demux.Meta, f []byte, b *pkt.Buf) bool {
	n := m.DataEnd - m.L4
	var acc uint32
	if m.V6 {
		acc = wire.PseudoSum6(f[m.L3+8:], f[m.L3+24:], m.Proto, n)
	} else {
		acc = wire.PseudoSum4(m.Src4, m.Dst4, m.Proto, n)
	}
	if b.Next == nil {
		acc = wire.Sum(acc, f[m.L4:m.DataEnd])
	} else {
		acc = ip.SumChain(acc, b, m.L4, n)
	}
	return wire.Fold(acc) == 0xffff
}

// MaxReply is the most payload that one reply may have: what the MTU leaves.
func (c *RxContext) MaxReply() int {
	if c.meta.V6 {
		return c.mtu - wire.IPv6Len - wire.UDPLen
	}
	return c.mtu - wire.IPv4MinLen - wire.UDPLen
}

// Room is where a reply in place is built: it starts at the request's payload,
// which it overwrites, and is as long as a reply may be.
func (c *RxContext) Room() []byte {
	b := c.cur
	start := b.Head + c.meta.Payload
	return b.Mem.Bytes[start:min(start+c.MaxReply(), len(b.Mem.Bytes))]
}

// ReplyInPlace turns the request b into a reply to its sender with the first n
// bytes of Room as payload, and adds it to the batch. b is no longer the
// handler's or the loop's. It reports false, and leaves b as it was, where n is
// more than Room has.
func (c *RxContext) ReplyInPlace(b *pkt.Buf, n int) bool {
	m := &c.meta
	if b != c.cur || uint(n) > uint(min(c.MaxReply(), len(b.Mem.Bytes)-b.Head-m.Payload)) {
		return false
	}
	c.cur = nil
	b.Tail = b.Head + m.Payload + n
	if m.L4 == demux.UsualL4 && c.ifc.caps.TxCsum {
		c.replyUsual(b, wire.UDPLen+n)
		c.add(b)
		return true
	}
	f := b.Mem.Bytes[b.Head:b.Tail]
	// The frame came to this station's own address, so that is the new source.
	*(*[6]byte)(f) = [6]byte(f[6:12])
	*(*[6]byte)(f[6:]) = c.ifc.mac
	b.Flags, b.GSO, b.GSOSize, b.HdrLen = 0, pkt.GSONone, 0, 0
	u := f[m.L4:]
	_ = u[wire.UDPLen-1]
	// Swapped ports, length, checksum 0.
	be.PutUint64(u, uint64(m.DstPort)<<48|uint64(m.SrcPort)<<32|uint64(wire.UDPLen+n)<<16)
	var acc uint32
	if m.V6 {
		h := f[m.L3 : m.L3+wire.IPv6Len]
		wire.IPv6(h).SetPayloadLen(wire.UDPLen + n)
		h[7] = defaultTTL
		s, d := [16]byte(h[8:24]), [16]byte(h[24:40])
		copy(h[8:24], d[:])
		copy(h[24:40], s[:])
		acc = wire.PseudoSum6(d[:], s[:], wire.ProtoUDP, wire.UDPLen+n)
	} else {
		swap4(f[m.L3:m.L3+wire.IPv4MinLen], m, wire.UDPLen+n)
		acc = wire.PseudoSum4(m.Dst4, m.Src4, wire.ProtoUDP, wire.UDPLen+n)
	}
	if c.ifc.caps.TxCsum {
		be.PutUint16(u[6:], wire.Fold(acc))
		b.Flags, b.CsumStart, b.CsumOffset = pkt.CsumPartial, uint16(m.L4), 6
	} else {
		be.PutUint16(u[6:], wire.UDPChecksum(wire.Sum(acc, u[:wire.UDPLen+n])))
	}
	c.add(b)
	return true
}

// replyUsual turns the headers of a usual datagram around, for a device that
// finishes the checksum: the addresses change places (the frame came to this
// station's own), as the ports do; n is the length of UDP header and payload.
// One's complement sums do not depend on byte order (RFC 1071 §2 (B)), so they are
// made of the words as they lie in memory.
func (c *RxContext) replyUsual(b *pkt.Buf, n int) {
	h := pkt.At[[demux.UsualL4 + wire.UDPLen]byte](b, b.Head)
	le := binary.LittleEndian
	dst, src := le.Uint64(h[0:]), le.Uint32(h[8:]) // and the first two bytes of the source
	le.PutUint64(h[0:], dst>>48|uint64(src)<<16|dst<<48)
	le.PutUint32(h[8:], uint32(dst>>16))

	// TTL, protocol, checksum, source; destination. The checksum is brought up to
	// date (RFC 1624 §3, equation 3), for which the swap makes no difference.
	ip := h[demux.UsualL3:]
	const ttlProto = defaultTTL | uint32(wire.ProtoUDP)<<8
	total := bits.ReverseBytes16(uint16(wire.IPv4MinLen + n))
	w1, to := le.Uint64(ip[8:]), le.Uint32(ip[16:])
	sum := uint32(^uint16(w1>>16)) + uint32(^le.Uint16(ip[2:])) + uint32(total) + uint32(^uint16(w1)) + ttlProto
	le.PutUint16(ip[2:], total)
	le.PutUint64(ip[8:], uint64(ttlProto)|uint64(^wire.Fold(sum))<<16|uint64(to)<<32)
	le.PutUint32(ip[16:], uint32(w1>>32))

	length := bits.ReverseBytes16(uint16(n))
	sum = uint32(w1>>32)&0xffff + uint32(w1>>48) + to&0xffff + to>>16 + uint32(wire.ProtoUDP)<<8 + uint32(length)
	le.PutUint64(h[demux.UsualL4:], uint64(bits.RotateLeft32(le.Uint32(h[demux.UsualL4:]), 16))|uint64(length)<<32|uint64(wire.Fold(sum))<<48)
	b.Flags, b.GSO, b.GSOSize, b.HdrLen, b.CsumStart, b.CsumOffset = pkt.CsumPartial, pkt.GSONone, 0, 0, demux.UsualL4, 6
}

// swap4 turns an IPv4 header without options around: addresses, length of
// payload, time to live; and brings the checksum up to date (RFC 1624), for
// which the swap makes no difference.
func swap4(h []byte, m *demux.Meta, payload int) {
	_ = h[19]
	acc := uint32(^be.Uint16(h[10:]))
	acc += uint32(^be.Uint16(h[2:])) + uint32(wire.IPv4MinLen+payload)
	be.PutUint16(h[2:], uint16(wire.IPv4MinLen+payload))
	acc += uint32(^be.Uint16(h[8:])) + defaultTTL<<8 + uint32(h[9])
	h[8] = defaultTTL
	be.PutUint16(h[10:], ^wire.Fold(acc))
	be.PutUint64(h[12:], uint64(m.Dst4)<<32|uint64(m.Src4))
}

// Take makes the frame the handler's own.
func (c *RxContext) Take() *pkt.Buf {
	b := c.cur
	c.cur = nil
	return b
}

// Alloc returns an empty buffer for Reply, to which the handler appends up to
// MaxReply bytes of payload; nil where none is free.
func (c *RxContext) Alloc() *pkt.Buf {
	b := c.ifc.link.TxBuf(c.txq)
	if b == nil {
		c.loop.count(demux.NoBuf)
	}
	return b
}

// Reply sends the payload in b, and any pieces chained to it, to the sender of
// the datagram at hand, and owns b. It is for answers of more than one datagram.
// It may be used before, but not after, ReplyInPlace for the same request. It
// reports false, having put b back, where the payload does not fit the MTU.
func (c *RxContext) Reply(b *pkt.Buf) bool {
	m, n := &c.meta, b.TotalLen()
	if n > c.MaxReply() || c.cur == nil {
		b.Put()
		return false
	}
	f := c.cur.Bytes()
	u := b.Prepend(wire.UDPLen)
	wire.PutUDP(u, m.DstPort, m.SrcPort, wire.UDPLen+n, 0)
	var acc uint32
	if m.V6 {
		h := f[m.L3 : m.L3+wire.IPv6Len]
		acc = wire.PseudoSum6(h[24:], h[8:], wire.ProtoUDP, wire.UDPLen+n)
		c.ifc.finishSum(b, acc, 6)
		wire.PutIPv6(b.Prepend(wire.IPv6Len), 0, 0, wire.UDPLen+n, wire.ProtoUDP, defaultTTL, m.Dst(f).Addr(), m.Src(f).Addr())
		b.CsumStart += wire.IPv6Len
	} else {
		acc = wire.PseudoSum4(m.Dst4, m.Src4, wire.ProtoUDP, wire.UDPLen+n)
		c.ifc.finishSum(b, acc, 6)
		wire.PutIPv4(b.Prepend(wire.IPv4MinLen), &wire.IPv4Fields{TotalLen: wire.IPv4MinLen + wire.UDPLen + n, DF: true, TTL: defaultTTL, Proto: wire.ProtoUDP, Src: m.Dst4, Dst: m.Src4})
		b.CsumStart += wire.IPv4MinLen
	}
	e := b.Prepend(wire.EthLen)
	*(*[6]byte)(e) = [6]byte(f[6:12])
	*(*[6]byte)(e[6:]) = c.ifc.mac
	t := wire.EtherIPv4
	if m.V6 {
		t = wire.EtherIPv6
	}
	be.PutUint16(e[12:], uint16(t))
	b.CsumStart += wire.EthLen
	c.add(b)
	return true
}

// finishSum leaves the transport checksum to the device, or computes it. b
// starts at the transport header, whose checksum field, at off, is 0; acc is the
// pseudo header's sum.
func (ifc *Interface) finishSum(b *pkt.Buf, acc uint32, off int) {
	if ifc.caps.TxCsum {
		be.PutUint16(b.Bytes()[off:], wire.Fold(acc))
		b.Flags |= pkt.CsumPartial
		b.CsumStart, b.CsumOffset = 0, uint16(off)
		return
	}
	b.CsumStart = 0
	sum := wire.UDPChecksum(ip.SumChain(acc, b, 0, b.TotalLen()))
	be.PutUint16(b.Bytes()[off:], sum)
}

// AtEnd has e told, in the receive loop, once this batch is delivered and before
// its output is sent: for a handler that answers many packets at once. It may be
// told more than once per batch, but not for each of a run of packets.
func (c *RxContext) AtEnd(e Ender) {
	if n := len(c.ends); n > 0 && c.ends[n-1] == e {
		return
	}
	c.ends = append(c.ends, e)
}

// add puts a frame into the batch that goes out when this pass ends.
func (c *RxContext) add(b *pkt.Buf) {
	if n := len(c.tx); n < cap(c.tx) {
		c.tx = c.tx[:n+1]
		c.tx[n] = b
		return
	}
	c.addFull(b)
}

// addFull is add to a batch that is full.
func (c *RxContext) addFull(b *pkt.Buf) {
	if c.flushTx(); len(c.tx) == cap(c.tx) {
		c.loop.drop(b, demux.TxFull)
		return
	}
	c.tx = append(c.tx, b)
}

// flushTx sends the batch. What the ring does not take stays for the next pass.
func (c *RxContext) flushTx() {
	if len(c.tx) == 0 {
		return
	}
	n := c.ifc.link.TxBatch(c.txq, c.tx)
	if n == len(c.tx) {
		c.tx = c.tx[:0]
		return
	}
	c.tx = c.tx[:copy(c.tx, c.tx[n:])]
}

// dropTx gives up on frames that the ring never took.
func (c *RxContext) dropTx() {
	for _, b := range c.tx {
		c.loop.drop(b, demux.TxFull)
	}
	c.tx = c.tx[:0]
	c.loop.flushCounts()
}

// ChecksumOK verifies the UDP or TCP checksum of a packet with L3 and L4 set,
// unless its flags say that it is as good as verified. For the readers of
// channels.
func ChecksumOK(b *pkt.Buf) bool {
	if b.Flags&(pkt.CsumValid|pkt.CsumPartial) != 0 {
		return true
	}
	f := b.Bytes()
	m := demux.Meta{L3: int(b.L3), L4: int(b.L4), End: b.TotalLen()}
	if h := f[m.L3:]; h[0]>>4 == 6 {
		m.V6 = true
	} else {
		m.Src4, m.Dst4 = be.Uint32(h[12:]), be.Uint32(h[16:])
	}
	m.DataEnd = m.End
	if m.Proto = protoOf(f, &m); m.Proto == wire.ProtoUDP {
		m.DataEnd = m.L4 + int(be.Uint16(f[m.L4+4:]))
		return udpSumOK(&m, f, b)
	}
	return transportSumOK(&m, f, b)
}

func protoOf(f []byte, m *demux.Meta) wire.Proto {
	if !m.V6 {
		return f[m.L3+9]
	}
	return wire.IPv6(f[m.L3:]).Walk().Proto
}

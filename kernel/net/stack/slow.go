package stack

import (
	"runtime"

	"osv/kernel/net/demux"
	"osv/kernel/net/ip"
	"osv/kernel/net/netchan"
	"osv/kernel/net/wire"
	"osv/kernel/pkt"
)

// The slow path: everything that is not a whole unicast UDP or TCP packet of a
// known flow, in a goroutine of its own per receive queue. It may allocate and
// lock; when it cannot keep up, its channel overflows and the fast path goes on.

// slowInput takes in one frame. sink is not nil for a frame that its flow's
// channel had no room for; all else is looked at from the beginning.
func (ifc *Interface) slowInput(l *rxLoop, b *pkt.Buf, sink *Sink) {
	var m demux.Meta
	f := b.Bytes()
	total := b.TotalLen()
	demux.Parse(&m, f, total)
	if m.Class == demux.Drop { // the loop has seen to it; for frames from elsewhere
		ifc.dropSlow(b, m.Reason)
		return
	}
	if m.Reason == demux.IsARP {
		ifc.arpInput(b, m.L3)
		return
	}
	if total != m.End {
		ip.Cut(b, m.End)
	}
	b.L3, b.L4 = uint16(m.L3), uint16(m.L4)
	if sink != nil {
		ifc.deliver(l, b, &m, sink, true)
		return
	}
	group := !ifc.loopback && f[0]&1 != 0
	if m.V6 {
		ifc.input6(l, b, &m, group)
	} else {
		ifc.input4(l, b, &m, group)
	}
}

func (ifc *Interface) dropSlow(b *pkt.Buf, r demux.Reason) {
	ifc.count.drop(r)
	b.Put()
}

// input4 takes in an IPv4 packet whose header is sound. group says that the
// frame came to a group of stations.
func (ifc *Interface) input4(l *rxLoop, b *pkt.Buf, m *demux.Meta, group bool) {
	set := ifc.addrs.Load()
	h := b.Bytes()[m.L3:]
	local := ifc.local4(set, m.Dst4)
	multicast := m.Dst4>>28 == 0xe
	toAll := m.Dst4 == 0xffffffff || set.isBroadcast(m.Dst4)
	// RFC 1122 §3.2.1.3: what may not be a source.
	src := m.Src4
	if src >= 0xe0000000 || !ifc.loopback && (src>>24 == 127 || m.Dst4>>24 == 127 || set.has4(src) || set.isBroadcast(src)) || src == 0 && !toAll {
		ifc.dropSlow(b, demux.BadSource)
		return
	}
	if group && local { // RFC 1122 §3.3.6
		ifc.dropSlow(b, demux.NotLocal)
		return
	}
	if !local && !multicast && !toAll {
		if ifc.dhcpInput(b, m) { // the address that we do not have yet
			return
		}
		ifc.dropSlow(b, demux.NotLocal)
		return
	}
	if m.L4-m.L3 > wire.IPv4MinLen {
		if ok, sourceRoute := wire.IPv4OptionsOK(h[wire.IPv4MinLen : m.L4-m.L3]); !ok || sourceRoute {
			ifc.dropSlow(b, demux.BadIP)
			return
		}
	}
	if frag := be.Uint16(h[6:]); frag&0x3fff != 0 {
		if b = ifc.reassemble4(b, m, frag); b == nil {
			return
		}
	}
	switch m.Proto {
	case wire.ProtoICMP:
		ifc.icmpInput(b, m, local)
	case wire.ProtoUDP, wire.ProtoTCP:
		ifc.transportInput(l, b, m, local)
	default:
		if t := ifc.stack.transport(m.Proto); t != nil {
			t.Segment(ifc, b, m, nil)
			return
		}
		if local {
			ifc.sendUnreachable(b, m, wire.ICMPProtoUnreachable, 0)
		}
		ifc.dropSlow(b, demux.NoSink)
	}
}

// reassemble4 takes in a fragment. It returns the whole packet, with m and its
// header brought up to date, or nil.
func (ifc *Interface) reassemble4(b *pkt.Buf, m *demux.Meta, frag uint16) *pkt.Buf {
	h := b.Bytes()[m.L3:]
	whole, n := ifc.stack.reasm.Add(ip.Fragment{
		Key:    ip.Key{Src: wire.Addr4(m.Src4), Dst: wire.Addr4(m.Dst4), ID: uint32(be.Uint16(h[4:])), Proto: m.Proto},
		Offset: int(frag&0x1fff) * 8, More: frag&0x2000 != 0,
		Len: m.End - m.L4, Head: m.L4, Buf: b,
	})
	if whole == nil {
		return nil
	}
	// The first fragment's headers, which may differ in length.
	m.L3, m.L4 = int(whole.L3), int(whole.L4)
	m.End = m.L4 + n
	h = whole.Bytes()[m.L3:]
	if m.End-m.L3 > wire.IPv4MaxLen {
		ifc.dropSlow(whole, demux.Reassembly)
		return nil
	}
	be.PutUint16(h[2:], uint16(m.End-m.L3))
	be.PutUint16(h[6:], 0)
	wire.IPv4(h).SetChecksum()
	// The device can have verified no checksum over several fragments.
	whole.Flags &^= pkt.CsumValid | pkt.CsumPartial
	return whole
}

// transportInput takes in a whole UDP or TCP packet.
func (ifc *Interface) transportInput(l *rxLoop, b *pkt.Buf, m *demux.Meta, local bool) {
	f := b.Bytes()
	demux.ParseTransport(m, f)
	b.L3, b.L4 = uint16(m.L3), uint16(m.L4)
	if m.Class == demux.Drop {
		ifc.dropSlow(b, m.Reason)
		return
	}
	var sink *Sink
	if local {
		sink, _ = ifc.stack.table.Lookup(m, f)
	} else if m.Class == demux.UDP {
		sink = ifc.stack.table.LookupPort(wire.ProtoUDP, m.Dst(f))
	} else { // TCP to a group: RFC 9293 §3.9.2.3
		ifc.dropSlow(b, demux.NotLocal)
		return
	}
	ifc.deliver(l, b, m, sink, local)
}

// deliver hands a packet to its sink, or to the transport where that has no
// channel or handler.
func (ifc *Interface) deliver(l *rxLoop, b *pkt.Buf, m *demux.Meta, sink *Sink, local bool) {
	if m.Class == demux.UDP {
		ifc.deliverUDP(l, b, m, sink, local)
		return
	}
	if t := ifc.stack.transport(m.Proto); t != nil {
		t.Segment(ifc, b, m, sink)
		return
	}
	ifc.dropSlow(b, demux.NoSink)
}

func (ifc *Interface) deliverUDP(l *rxLoop, b *pkt.Buf, m *demux.Meta, sink *Sink, local bool) {
	if b.Flags&(pkt.CsumValid|pkt.CsumPartial) == 0 {
		if !udpSumOK(m, b.Bytes(), b) {
			ifc.dropSlow(b, demux.BadSum)
			return
		}
		b.Flags |= pkt.CsumValid
	}
	if ifc.dhcpInput(b, m) {
		return
	}
	if sink != nil && sink.group != nil {
		sink = sink.group.pick(m, b.Bytes())
	}
	switch {
	case sink == nil:
	case sink.Chan != nil:
		b.RxTime = ifc.stack.clock.Now()
		for range 100 {
			switch sink.Chan.Push1(b) {
			case netchan.OK:
				sink.Chan.Wake()
				return
			case netchan.Full:
				sink.drops.Add(1)
				ifc.dropSlow(b, demux.SocketFull)
				return
			case netchan.Busy: // the receive loop is at it
				runtime.Gosched()
				continue
			case netchan.Closed:
			}
			break
		}
		if !sink.Chan.Closed() {
			sink.drops.Add(1)
			ifc.dropSlow(b, demux.ChanBusy)
			return
		}
	case sink.Datagram != nil && local:
		ifc.injectUDP(l, b, m)
		return
	default:
		if t := ifc.stack.transport(wire.ProtoUDP); t != nil {
			t.Segment(ifc, b, m, sink)
			return
		}
	}
	if local {
		ifc.sendUnreachable(b, m, wire.ICMPPortUnreachable, wire.ICMPv6PortUnreachable)
	}
	ifc.dropSlow(b, demux.NoSink)
}

// injectUDP hands a datagram that was in pieces, or had options, to its handler
// by way of the receive loop: in one piece and behind a plain header.
func (ifc *Interface) injectUDP(l *rxLoop, b *pkt.Buf, m *demux.Meta) {
	n := m.DataEnd - m.L4
	nb := ifc.txBuf(l.ctx.txq)
	if nb == nil || nb.Tailroom() < n {
		if nb != nil {
			nb.Put()
			ifc.count.drop(demux.NoBuf)
		}
		b.Put()
		return
	}
	f := b.Bytes()
	dst := nb.Append(n)
	off := m.L4
	for p := b; p != nil && len(dst) > 0; p = p.Next {
		dst = dst[copy(dst, p.Bytes()[off:]):]
		off = 0
	}
	t := wire.EtherIPv4
	if m.V6 {
		t = wire.EtherIPv6
		wire.PutIPv6(nb.Prepend(wire.IPv6Len), 0, 0, n, wire.ProtoUDP, f[m.L3+7], m.Src(f).Addr(), m.Dst(f).Addr())
	} else {
		wire.PutIPv4(nb.Prepend(wire.IPv4MinLen), &wire.IPv4Fields{TotalLen: wire.IPv4MinLen + n, TTL: f[m.L3+8], Proto: wire.ProtoUDP, Src: m.Src4, Dst: m.Dst4})
	}
	e := wire.Eth(nb.Prepend(wire.EthLen))
	copy(e[:12], f[:12])
	e.SetType(t)
	nb.Flags = pkt.CsumValid
	b.Put()
	if l.inject.Push1(nb) != netchan.OK {
		ifc.dropSlow(nb, demux.SlowFull)
		return
	}
	ifc.link.RxWake(l.q)
}

// reassemblyExpired tells the sender of a packet whose fragments did not all
// come in time (RFC 792, RFC 4443 §3.3). b is the first of them.
func (s *Stack) reassemblyExpired(b *pkt.Buf) {
	defer b.Put()
	f := b.Bytes()
	m := demux.Meta{L3: int(b.L3), L4: int(b.L4), End: b.TotalLen()}
	if f[m.L3]>>4 == 6 {
		m.V6, m.Proto = true, wire.ProtoFragment
	} else {
		m.Proto, m.Src4, m.Dst4 = f[m.L3+9], be.Uint32(f[m.L3+12:]), be.Uint32(f[m.L3+16:])
	}
	s.sendError(b, &m, icmpMessage{type4: wire.ICMPTimeExceeded, code4: wire.ICMPReassemblyExceeded, type6: wire.ICMPv6TimeExceeded, code6: 1})
}

package stack

import (
	"net/netip"
	"syscall"

	"osv/kernel/net/demux"
	"osv/kernel/net/ip"
	"osv/kernel/net/wire"
	"osv/kernel/pkt"
)

var (
	allNodes   = netip.MustParseAddr("ff02::1")
	ifaceNodes = netip.MustParseAddr("ff01::1")
	allRouters = netip.MustParseAddr("ff02::2")
	mldRouters = netip.MustParseAddr("ff02::16") // RFC 3810 §5.2.14
)

// input6 takes in an IPv6 packet whose fixed header is sound.
func (ifc *Interface) input6(l *rxLoop, b *pkt.Buf, m *demux.Meta, group bool) {
	f := b.Bytes()
	src, dst := m.Src(f).Addr(), m.Dst(f).Addr()
	local := ifc.local6(ifc.addrs.Load(), dst)
	if src.IsMulticast() || !ifc.loopback && (src.IsLoopback() || dst.IsLoopback() || ifc.hasAddr(src)) {
		ifc.dropSlow(b, demux.BadSource)
		return
	}
	if group && local {
		ifc.dropSlow(b, demux.NotLocal)
		return
	}
	// What is sent to a group that we are not in is for others; an address that
	// is being checked is in no use yet but for that (RFC 4862 §5.4.5).
	if !local && !(dst.IsMulticast() && ifc.nd.member(dst)) {
		ifc.dropSlow(b, demux.NotLocal)
		return
	}
	x := wire.IPv6(f[m.L3:min(m.End, len(f))]).Walk()
	off := uint32(x.Off)
	problem := func(code uint8, pointer uint32, evenGroup bool) {
		if local || evenGroup {
			ifc.stack.sendError(b, m, icmpMessage{type6: wire.ICMPv6ParamProblem, code6: code, rest: pointer})
		}
	}
	switch x.Status {
	case wire.ExtOK:
	case wire.ExtBadOptionICMP, wire.ExtBadOptionICMPUnicast:
		problem(wire.ICMPv6UnknownOption, off, x.Status == wire.ExtBadOptionICMP)
		ifc.dropSlow(b, demux.BadIP)
		return
	case wire.ExtBadRouting:
		problem(wire.ICMPv6ErroneousHeader, off, false)
		ifc.dropSlow(b, demux.BadIP)
		return
	case wire.ExtBadOrder:
		problem(wire.ICMPv6UnknownNext, off, false)
		ifc.dropSlow(b, demux.BadIP)
		return
	default:
		ifc.dropSlow(b, demux.BadIP)
		return
	}
	m.Proto, m.L4 = x.Proto, m.L3+x.Off
	b.L3, b.L4 = uint16(m.L3), uint16(m.L4)
	if x.Frag > 0 && be.Uint16(f[m.L3+x.Frag+2:])&^6 != 0 {
		if whole := ifc.reassemble6(b, m, x.Frag); whole != nil {
			ifc.input6(l, whole, m, group)
		}
		return
	}
	switch m.Proto {
	case wire.ProtoICMPv6:
		ifc.icmp6Input(b, m, local)
	case wire.ProtoUDP, wire.ProtoTCP:
		ifc.transportInput(l, b, m, local)
	case wire.ProtoNoNext:
		b.Put()
	default:
		if t := ifc.stack.transport(m.Proto); t != nil {
			t.Segment(ifc, b, m, nil)
			return
		}
		problem(wire.ICMPv6UnknownNext, uint32(x.PrevOff), false)
		ifc.dropSlow(b, demux.NoSink)
	}
}

// reassemble6 takes in a fragment whose fragment header is at frag. The whole
// packet comes back with that header in place, as an atomic fragment (RFC 6946).
func (ifc *Interface) reassemble6(b *pkt.Buf, m *demux.Meta, frag int) *pkt.Buf {
	f := b.Bytes()
	fh := wire.IPv6Frag(f[m.L3+frag:])
	if fh.More() && (m.End-m.L4)%8 != 0 {
		// RFC 8200 §4.5: a length that cannot be tells its sender so.
		ifc.stack.sendError(b, m, icmpMessage{type6: wire.ICMPv6ParamProblem, code6: wire.ICMPv6ErroneousHeader, rest: 4})
		ifc.dropSlow(b, demux.Reassembly)
		return nil
	}
	if m.L4-m.L3-wire.IPv6Len+fh.Offset()+m.End-m.L4 > 65535 {
		ifc.stack.sendError(b, m, icmpMessage{type6: wire.ICMPv6ParamProblem, code6: wire.ICMPv6ErroneousHeader, rest: uint32(frag + 2)})
		ifc.dropSlow(b, demux.Reassembly)
		return nil
	}
	whole, n := ifc.stack.reasm.Add(ip.Fragment{
		Key:    ip.Key{Src: m.Src(f).Addr(), Dst: m.Dst(f).Addr(), ID: fh.ID()},
		Offset: fh.Offset(), More: fh.More(), Len: m.End - m.L4, Head: m.L4, Buf: b,
	})
	if whole == nil {
		return nil
	}
	f = whole.Bytes()
	m.L3, m.L4 = int(whole.L3), int(whole.L4)
	m.End = m.L4 + n
	if m.End-m.L3-wire.IPv6Len > 65535 {
		ifc.dropSlow(whole, demux.Reassembly)
		return nil
	}
	wire.IPv6(f[m.L3:]).SetPayloadLen(m.End - m.L3 - wire.IPv6Len)
	h := f[m.L4-wire.IPv6FragLen:]
	wire.PutIPv6Frag(h, h[0], 0, false, be.Uint32(h[4:]))
	whole.Flags &^= pkt.CsumValid | pkt.CsumPartial
	return whole
}

// icmp6Input takes in an ICMPv6 message.
func (ifc *Interface) icmp6Input(b *pkt.Buf, m *demux.Meta, local bool) {
	f := b.Bytes()
	n := m.End - m.L4
	if n < wire.ICMPLen || len(f) < m.L4+wire.ICMPLen {
		ifc.dropSlow(b, demux.BadTransport)
		return
	}
	if b.Flags&(pkt.CsumValid|pkt.CsumPartial) == 0 && wire.Fold(ip.SumChain(wire.PseudoSum6(f[m.L3+8:], f[m.L3+24:], wire.ProtoICMPv6, n), b, m.L4, n)) != 0xffff {
		ifc.dropSlow(b, demux.BadSum)
		return
	}
	msg := wire.ICMP(f[m.L4:min(m.End, len(f))])
	switch t := msg.Type(); t {
	case wire.ICMPv6Echo:
		if !local {
			ifc.dropSlow(b, demux.IsMulticast)
			return
		}
		ifc.echo(b, m, wire.ICMPv6EchoReply)
		return
	case wire.ICMPv6Unreachable, wire.ICMPv6TooBig, wire.ICMPv6TimeExceeded, wire.ICMPv6ParamProblem:
		if local {
			ifc.icmpError6(msg, m.Src(f).Addr())
		}
	case wire.ICMPv6RouterAdv, wire.ICMPv6NeighborSol, wire.ICMPv6NeighborAdv, wire.ICMPv6MLDQuery:
		// RFC 4861 §7.1: sent on this very link, in one piece.
		if t != wire.ICMPv6MLDQuery && (f[m.L3+7] != 255 || msg.Code() != 0) || b.Next != nil || ifc.noIPv6Input() {
			ifc.dropSlow(b, demux.BadIP)
			return
		}
		ifc.nd.input(msg, m.Src(f).Addr(), m.Dst(f).Addr())
	default:
		if t := ifc.stack.transport(wire.ProtoICMPv6); t != nil {
			t.Segment(ifc, b, m, nil)
			return
		}
	}
	b.Put()
}

// noIPv6Input reports an interface on which neighbour discovery has no place.
func (ifc *Interface) noIPv6Input() bool { return ifc.loopback }

// icmpError6 takes in an error about a packet of ours.
func (ifc *Interface) icmpError6(msg wire.ICMP, from netip.Addr) {
	q := msg.Body()
	if len(q) < wire.IPv6Len || q[0]>>4 != 6 {
		return
	}
	h := wire.IPv6(q) // cut short, as a rule: PayloadLen reaches beyond
	x := h.Walk()
	if x.Status != wire.ExtOK || len(q) < x.Off+8 || x.Frag > 0 && wire.IPv6Frag(q[x.Frag:]).Offset() != 0 {
		return
	}
	e := &ICMPError{From: from, Len: wire.IPv6Len + h.PayloadLen(), Transport: q[x.Off:]}
	e.Kind, e.Err = SoftError, syscall.EHOSTUNREACH
	switch msg.Type() {
	case wire.ICMPv6TooBig:
		e.Kind, e.Err, e.MTU = TooBig, syscall.EMSGSIZE, int(min(msg.MTU6(), 65535))
	case wire.ICMPv6ParamProblem:
		e.Err = syscall.EPROTO
		if msg.Code() == wire.ICMPv6UnknownNext {
			e.Kind, e.Err = HardError, syscall.ENOPROTOOPT
		}
	case wire.ICMPv6Unreachable:
		switch msg.Code() {
		case wire.ICMPv6NoRoute:
			e.Err = syscall.ENETUNREACH
		case wire.ICMPv6Admin, 5, 6:
			e.Kind, e.Err = HardError, errAdmin
		case wire.ICMPv6PortUnreachable:
			e.Kind, e.Err = HardError, syscall.ECONNREFUSED
		}
	}
	ifc.stack.icmpError(e, x.Proto, h.Src(), h.Dst())
}

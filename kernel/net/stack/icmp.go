package stack

import (
	"errors"
	"net/netip"
	"syscall"

	"osv/kernel/net/demux"
	"osv/kernel/net/ip"
	"osv/kernel/net/wire"
	"osv/kernel/pkt"
)

// ICMP (RFC 792, RFC 1122 §3.2.2) and what it shares with ICMPv6 (RFC 4443).

// ErrorKind sorts ICMP errors by what a transport does about them.
type ErrorKind uint8

const (
	SoftError ErrorKind = iota // may pass: net or host unreachable, time exceeded
	HardError                  // protocol or port unreachable, administratively prohibited
	TooBig                     // needs a smaller packet: see MTU
)

// ICMPError is an ICMP error about a packet that this host sent.
type ICMPError struct {
	Kind  ErrorKind
	Tuple demux.Tuple // of the packet; ports are 0 where the protocol has none
	MTU   int         // of TooBig, in bytes; 0 where the router does not say
	Len   int         // of the quoted packet, by its own header
	// Transport is the quoted start of the transport header, at least 8 bytes. It
	// is valid during the call only.
	Transport []byte
	From      netip.Addr // who says so
	Err       error      // what an application is told
}

// errAdmin stands beside the errors of package syscall, which are the words that
// users of sockets know.
var errAdmin = errors.New("communication administratively prohibited")

// icmpInput takes in an ICMP message. local says that it came to one of our
// unicast addresses.
func (ifc *Interface) icmpInput(b *pkt.Buf, m *demux.Meta, local bool) {
	f := b.Bytes()
	n := m.End - m.L4
	if n < wire.ICMPLen || len(f) < m.L4+wire.ICMPLen {
		ifc.dropSlow(b, demux.BadTransport)
		return
	}
	if b.Flags&(pkt.CsumValid|pkt.CsumPartial) == 0 && wire.Fold(ip.SumChain(0, b, m.L4, n)) != 0xffff {
		ifc.dropSlow(b, demux.BadSum)
		return
	}
	msg := wire.ICMP(f[m.L4:min(m.End, len(f))])
	switch msg.Type() {
	case wire.ICMPEcho:
		if !local { // to a group: RFC 1122 §3.2.2.6 lets us ignore it
			ifc.dropSlow(b, demux.IsMulticast)
			return
		}
		ifc.echo(b, m, wire.ICMPEchoReply)
		return
	case wire.ICMPUnreachable, wire.ICMPTimeExceeded, wire.ICMPParamProblem:
		if local {
			ifc.icmpError4(msg, wire.Addr4(m.Src4))
		}
	default:
		if t := ifc.stack.transport(wire.ProtoICMP); t != nil {
			t.Segment(ifc, b, m, nil)
			return
		}
	}
	b.Put()
}

// echo answers an echo request, of either version, and owns b.
func (ifc *Interface) echo(b *pkt.Buf, m *demux.Meta, reply wire.ICMPType) {
	f := b.Bytes()
	msg := f[m.L4:]
	// Type and code are the first word; the checksum covers them.
	old := be.Uint16(msg)
	msg[0], msg[1] = uint8(reply), 0
	be.PutUint16(msg[2:], wire.UpdateChecksum(be.Uint16(msg[2:]), old, be.Uint16(msg)))
	src, dst := m.Dst(f).Addr(), m.Src(f).Addr()
	if b.Flags&pkt.CsumPartial != 0 {
		// From the loopback interface, or from a host's own: nobody has computed it.
		be.PutUint16(msg[2:], 0)
		var acc uint32
		if m.V6 {
			acc = wire.PseudoSum6(f[m.L3+24:], f[m.L3+8:], wire.ProtoICMPv6, m.End-m.L4)
		}
		be.PutUint16(msg[2:], ^wire.Fold(ip.SumChain(acc, b, m.L4, m.End-m.L4)))
	}
	p := wire.ProtoICMP
	if m.V6 {
		p = wire.ProtoICMPv6
	}
	r, err := ifc.stack.routeOn(ifc.scope(dst), src, dst)
	if err != nil {
		ifc.dropSlow(b, demux.NoRoute)
		return
	}
	b.Flags, b.GSO = 0, pkt.GSONone
	b.Trim(m.L4)
	r.SendOne(p, -1, b)
}

// scope is the interface where a has its meaning: this one for a link-local
// address or a group, nil (any) for others.
func (ifc *Interface) scope(a netip.Addr) *Interface {
	if a.Is6() && (a.IsLinkLocalUnicast() || a.IsMulticast()) {
		return ifc
	}
	return nil
}

// icmpError4 takes in an error about a packet of ours.
func (ifc *Interface) icmpError4(msg wire.ICMP, from netip.Addr) {
	q := msg.Body()
	if len(q) < wire.IPv4MinLen || q[0]>>4 != 4 {
		return
	}
	h := wire.IPv4(q)
	hl := h.HeaderLen()
	if hl < wire.IPv4MinLen || len(q) < hl+8 || h.FragOffset() != 0 {
		return
	}
	e := &ICMPError{From: from, Len: h.TotalLen(), Transport: q[hl:]}
	e.Kind, e.Err = SoftError, syscall.EHOSTUNREACH
	switch {
	case msg.Type() == wire.ICMPTimeExceeded:
	case msg.Type() == wire.ICMPParamProblem:
		e.Err = syscall.EPROTO
	case msg.Code() == wire.ICMPPortUnreachable:
		e.Kind, e.Err = HardError, syscall.ECONNREFUSED
	case msg.Code() == wire.ICMPProtoUnreachable:
		e.Kind, e.Err = HardError, syscall.ENOPROTOOPT
	case msg.Code() == wire.ICMPFragNeeded:
		e.Kind, e.Err, e.MTU = TooBig, syscall.EMSGSIZE, msg.NextMTU()
	case msg.Code() == 9, msg.Code() == 10, msg.Code() == wire.ICMPAdminProhibited:
		e.Kind, e.Err = HardError, errAdmin
	case msg.Code() == wire.ICMPNetUnreachable:
		e.Err = syscall.ENETUNREACH
	}
	ifc.stack.icmpError(e, h.Proto(), h.Src(), h.Dst())
}

// icmpError tells the sender of the quoted packet.
func (s *Stack) icmpError(e *ICMPError, p wire.Proto, src, dst netip.Addr) {
	if !s.IsLocal(src) {
		return
	}
	e.Tuple = demux.Tuple{Proto: p, Local: netip.AddrPortFrom(src, 0), Remote: netip.AddrPortFrom(dst, 0)}
	var sink *Sink
	if p == wire.ProtoUDP || p == wire.ProtoTCP {
		e.Tuple.Local = netip.AddrPortFrom(src, be.Uint16(e.Transport))
		e.Tuple.Remote = netip.AddrPortFrom(dst, be.Uint16(e.Transport[2:]))
		if sink = s.table.LookupTuple(e.Tuple); sink == nil && p == wire.ProtoUDP {
			sink = s.table.LookupPort(p, e.Tuple.Local)
		}
		if sink == nil {
			return // about a flow that is no more, or never was
		}
	}
	if p == wire.ProtoUDP && e.Kind == TooBig {
		s.UpdatePMTU(dst, e.MTU, e.Len)
	}
	if sink != nil && sink.OnError != nil {
		sink.OnError(e)
		return
	}
	if t := s.transport(p); t != nil {
		t.ICMP(e, sink)
	}
}

// unresolved tells the sender of a packet whose next hop did not answer, as a
// router would with host unreachable (RFC 1122 §3.3.1.1, RFC 4861 §7.2.2).
func (ifc *Interface) unresolved(_ netip.Addr, b *pkt.Buf) {
	defer b.Put()
	ifc.count.drop(demux.Unresolved)
	f := b.Bytes()
	e := &ICMPError{Kind: SoftError, Err: syscall.EHOSTUNREACH}
	if h, ok := wire.ParseIPv4(f[wire.EthLen:]); ok && len(h.Payload()) >= 8 && h.FragOffset() == 0 {
		e.From, e.Len, e.Transport = h.Src(), len(h), h.Payload()
		ifc.stack.icmpError(e, h.Proto(), h.Src(), h.Dst())
	} else if h, ok := wire.ParseIPv6(f[wire.EthLen:]); ok && len(h.Payload()) >= 8 {
		e.From, e.Len, e.Transport = h.Src(), len(h), h.Payload()
		ifc.stack.icmpError(e, h.NextHeader(), h.Src(), h.Dst())
	}
}

// icmpMessage is an error to send, in both versions.
type icmpMessage struct {
	type4 wire.ICMPType
	code4 uint8
	type6 wire.ICMPType
	code6 uint8
	rest  uint32 // second word of the header: pointer or MTU
}

// sendUnreachable tells the sender of b that nobody wants it.
func (ifc *Interface) sendUnreachable(b *pkt.Buf, m *demux.Meta, code4, code6 uint8) {
	ifc.stack.sendError(b, m, icmpMessage{type4: wire.ICMPUnreachable, code4: code4, type6: wire.ICMPv6Unreachable, code6: code6})
}

// sendError sends an ICMP error about b, which stays the caller's, unless RFC
// 1122 §3.2.2 or RFC 4443 §2.4 (e) forbid it: never about an ICMP error, about a
// packet to or from a group, or about a fragment other than the first. The
// caller has made sure of the destination.
func (s *Stack) sendError(b *pkt.Buf, m *demux.Meta, e icmpMessage) {
	f := b.Bytes()
	src := m.Src(f).Addr()
	if src.IsUnspecified() || src.IsMulticast() || src == broadcast4 || m.Proto == wire.ProtoICMP && !m.V6 && isICMPError(f[m.L4:]) {
		return
	}
	p, t, c, maxLen := wire.ProtoICMP, e.type4, e.code4, 576-wire.IPv4MinLen-wire.ICMPLen // RFC 1812 §4.3.2.3
	if m.V6 {
		p, t, c, maxLen = wire.ProtoICMPv6, e.type6, e.code6, wire.IPv6MinMTU-wire.IPv6Len-wire.ICMPLen
	}
	if !s.limiter.Allow() {
		return
	}
	dst := m.Dst(f).Addr()
	if !s.IsLocal(dst) {
		dst = netip.Addr{} // a group: any address of ours
	}
	var scope *Interface
	if src.Is6() && src.IsLinkLocalUnicast() {
		if scope = s.ifaceFor(dst); scope == nil {
			return
		}
	}
	r, err := s.routeOn(scope, dst, src)
	if err != nil {
		return
	}
	o := r.Alloc()
	if o == nil {
		return
	}
	n := min(maxLen, len(f)-m.L3, m.End-m.L3)
	out := wire.ICMP(o.Append(wire.ICMPLen + n))
	wire.PutICMP(out, t, c, e.rest)
	copy(out[wire.ICMPLen:], f[m.L3:m.L3+n])
	if m.V6 {
		a, z := r.Local().As16(), r.Remote().As16()
		out.SetChecksum6(a[:], z[:])
	} else {
		out.SetChecksum()
	}
	r.SendOne(p, -1, o)
}

// isICMPError reports whether an ICMP message is an error, or cut too short to
// say that it is not.
func isICMPError(msg []byte) bool {
	if len(msg) < 1 {
		return true
	}
	switch wire.ICMPType(msg[0]) {
	case wire.ICMPEcho, wire.ICMPEchoReply, 13, 14, 15, 16, 17, 18: // timestamp, information, address mask
		return false
	}
	return true
}

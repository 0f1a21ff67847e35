package tcp

// What a packet script sends, and what it says that we must have sent.

import (
	"fmt"
	"net/netip"
	"strings"

	"osv/kernel/net/seq"
	"osv/kernel/net/wire"
	"osv/kernel/pkt"
)

type sentPacket struct {
	h       wire.TCP
	o       wire.TCPOptions
	payload int
	gso     int
}

func (s *script) TxSegment(c *Conn, b *pkt.Buf) {
	data := flatten(b)
	p := sentPacket{h: wire.TCP(data), payload: len(wire.TCP(data).Payload()), gso: int(b.GSOSize)}
	p.o.Parse(p.h.Options())
	s.out = append(s.out, p)
	s.lastTS = p.o.TSVal
	if p.h.Flags()&wire.TCPSyn != 0 && !s.issSet {
		s.iss, s.issSet, s.tsOff = seq.Num(p.h.Seq()), true, c.tsOff
	}
	b.Put()
}

func (s *script) inject(args []string, flush bool) {
	seg := s.segment(args)
	c := s.conn()
	switch {
	case c == nil && s.l != nil:
		s.l.Input(s.now, &s.tuple, seg)
		return
	case c == nil:
		Refuse(&s.cfg, new(Conn), s.now, &s.tuple, s.path, seg)
		seg.Drop()
		return
	case c.state == StateClosed && s.l != nil && s.c == nil:
		s.l.Input(s.now, &s.tuple, seg)
		return
	}
	c.Input(s.now, seg)
	if flush {
		c.Flush(s.now)
	}
}

// segment makes what the peer sends; it goes through the parser.
func (s *script) segment(args []string) *Segment {
	f := wire.TCPFields{SrcPort: s.tuple.Remote.Port(), DstPort: s.tuple.Local.Port(), Window: 65535, Flags: s.flags(args[0])}
	var o wire.TCPOptions
	n := 0
	for _, a := range args[1:] {
		key, val, _ := strings.Cut(a, "=")
		switch key {
		case "from":
			f.SrcPort = uint16(s.num(val))
			s.tuple.Remote = netip.AddrPortFrom(s.tuple.Remote.Addr(), f.SrcPort)
		case "seq":
			f.Seq = uint32(s.num(val))
		case "ack":
			f.Ack = uint32(s.iss.Add(s.num(val)))
		case "win":
			f.Window = uint16(s.num(val))
		case "len":
			n = s.num(val)
		case "urg":
			f.Urgent = uint16(s.num(val))
			f.Flags |= wire.TCPUrg
		case "mss":
			o.Have |= wire.TCPOptMSS
			o.MSS = uint16(s.num(val))
		case "ws":
			o.Have |= wire.TCPOptWScale
			o.WScale = uint8(s.num(val))
		case "sackok":
			o.Have |= wire.TCPOptSACKOK
		case "ts":
			v, e, _ := strings.Cut(val, ",")
			o.Have |= wire.TCPOptTimestamp
			o.TSVal = uint32(s.num(v))
			if e == "last" {
				o.TSEcr = s.lastTS
			} else {
				o.TSEcr = s.ts(s.num(e))
			}
		case "sack":
			o.Have |= wire.TCPOptSACK
			for _, b := range strings.Split(val, ",") {
				l, r, _ := strings.Cut(b, "-")
				o.SACK[o.NSACK] = wire.TCPSACKBlock{Left: uint32(s.iss.Add(s.num(l))), Right: uint32(s.iss.Add(s.num(r)))}
				o.NSACK++
			}
		default:
			s.fail("field %q", a)
		}
	}
	b := s.pool.Get()
	b.Append(n)
	h := b.Prepend(wire.TCPMinHeader + o.Len())
	o.Put(h[wire.TCPMinHeader:])
	wire.TCP(h).Put(&f, len(h))
	var seg Segment
	if !seg.Parse(b) {
		s.fail("does not parse")
	}
	return &seg
}

// ts turns a time since the start into a timestamp of ours.
func (s *script) ts(ms int) uint32 { return uint32(s.start/1e6) + uint32(ms) + s.tsOff }

func (s *script) flags(v string) wire.TCPFlags {
	var f wire.TCPFlags
	for _, r := range v {
		i := strings.IndexRune("FSRP.UEW", r)
		if i < 0 {
			s.fail("flags %q", v)
		}
		f |= 1 << i
	}
	return f
}

func (s *script) pop() sentPacket {
	s.t.Helper()
	if len(s.out) == 0 {
		s.fail("nothing was sent")
	}
	p := s.out[0]
	s.out = s.out[1:]
	return p
}

func (s *script) show(p sentPacket) string {
	v := fmt.Sprintf("%v seq=%d", p.h.Flags(), seq.Num(p.h.Seq()).Sub(s.iss))
	if p.h.Flags()&wire.TCPAck != 0 {
		v += fmt.Sprintf(" ack=%d", p.h.Ack())
	}
	v += fmt.Sprintf(" win=%d len=%d", p.h.Window(), p.payload)
	if p.o.Have&wire.TCPOptTimestamp != 0 {
		v += fmt.Sprintf(" ts=%d,%d", int32(p.o.TSVal-s.ts(0)), p.o.TSEcr)
	}
	for i, b := range p.o.SACK[:p.o.NSACK] {
		v += fmt.Sprintf("%s%d-%d", []string{" sack=", ",", ",", ","}[i], b.Left, b.Right)
	}
	if p.gso > 0 {
		v += fmt.Sprintf(" gso=%d", p.gso)
	}
	return v
}

func (s *script) expect(args []string) {
	p := s.pop()
	got := s.show(p)
	differ := func(what string, have any) {
		s.fail("%s is %v, want %s, in %s", what, have, strings.Join(args, " "), got)
	}
	flags, want := p.h.Flags(), s.flags(args[0])
	if flags|wire.TCPPsh != want|wire.TCPPsh || want&wire.TCPPsh != 0 && flags&wire.TCPPsh == 0 {
		differ("flags", flags)
	}
	length := 0
	for _, a := range args[1:] {
		key, val, _ := strings.Cut(a, "=")
		var have int
		switch key {
		case "seq":
			have = seq.Num(p.h.Seq()).Sub(s.iss)
		case "ack":
			have = int(p.h.Ack())
		case "win":
			have = int(p.h.Window())
		case "len":
			length = s.num(val)
			continue
		case "urg":
			have = int(p.h.Urgent())
		case "mss":
			have = int(p.o.MSS)
		case "ws":
			have = int(p.o.WScale)
			if p.o.Have&wire.TCPOptWScale == 0 {
				have = -1
			}
		case "gso":
			have = p.gso
		case "sackok", "nosackok":
			if (p.o.Have&wire.TCPOptSACKOK != 0) != (key == "sackok") {
				differ(key, p.o.Have)
			}
			continue
		case "nots":
			if p.o.Have&wire.TCPOptTimestamp != 0 {
				differ(key, p.o.Have)
			}
			continue
		case "ts":
			have := fmt.Sprintf("%d,%d", int32(p.o.TSVal-s.ts(0)), p.o.TSEcr)
			if p.o.Have&wire.TCPOptTimestamp == 0 || have != val {
				differ("ts", have)
			}
			continue
		case "sack", "nosack":
			have := ""
			for _, b := range p.o.SACK[:p.o.NSACK] {
				have += fmt.Sprintf(",%d-%d", b.Left, b.Right)
			}
			if strings.TrimPrefix(have, ",") != val {
				differ("sack", have)
			}
			continue
		default:
			s.fail("field %q", a)
		}
		if have != s.num(val) {
			differ(key, have)
		}
	}
	if p.payload != length {
		differ("len", p.payload)
	}
}

func (s *script) cmdNone() {
	if len(s.out) > 0 {
		s.fail("was sent: %s", s.show(s.out[0]))
	}
}

func (s *script) cmdBurst(args []string) {
	n, length, at := s.num(args[0]), 0, -1
	for _, a := range args[1:] {
		key, val, _ := strings.Cut(a, "=")
		switch key {
		case "len":
			length = s.num(val)
		case "seq":
			at = s.num(val)
		}
	}
	for range n {
		p := s.pop()
		have := seq.Num(p.h.Seq()).Sub(s.iss)
		if at < 0 {
			at = have
		}
		if have != at || p.payload != length || p.h.Flags()&^wire.TCPPsh != wire.TCPAck {
			s.fail("want seq=%d len=%d, sent %s", at, length, s.show(p))
		}
		at += length
	}
}

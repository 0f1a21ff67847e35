package tcp

// The peer that a script plays for Linux, on a TAP device.

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"osv/kernel/net/seq"
	"osv/kernel/net/wire"
	"osv/kernel/pkt"
)

var peerMAC = [6]byte{2, 0x77, 0, 0, 0, 2}

// receive gathers what Linux sends.
func (s *linuxScript) receive() {
	defer close(s.done)
	bufs := make([]*pkt.Buf, 16)
	for {
		n := s.link.RxBatch(0, bufs)
		if n == 0 {
			if s.link.RxWait(0) != nil {
				return
			}
		}
		for _, b := range bufs[:n] {
			f := bytes.Clone(b.Bytes())
			b.Put()
			if len(f) < wire.EthLen+wire.IPv4MinLen || f[12] != 8 || f[13] != 0 {
				continue
			}
			ip, ok := wire.ParseIPv4(f[wire.EthLen:])
			if !ok || ip.Proto() != wire.ProtoTCP || ip.Dst() != peerAddr {
				continue
			}
			if h, ok := wire.ParseTCP(ip[ip.HeaderLen():ip.TotalLen()]); ok {
				s.frames <- h
			}
		}
	}
}

// quiet looks whether anything is sent.
func (s *linuxScript) quiet() {
	select {
	case h := <-s.frames:
		panic(fmt.Errorf("was sent: %s", s.show(h)))
	case <-time.After(15 * time.Millisecond):
	}
}

func (s *linuxScript) next(wait time.Duration) wire.TCP {
	select {
	case h := <-s.frames:
		if h.Flags()&wire.TCPSyn != 0 && !s.issSet {
			s.iss, s.issSet = seq.Num(h.Seq()), true
		}
		var o wire.TCPOptions
		o.Parse(h.Options())
		s.lastTS = o.TSVal
		return h
	case <-time.After(wait):
		panic(errors.New("nothing was sent"))
	}
}

func (s *linuxScript) send(args []string) {
	f := wire.TCPFields{SrcPort: s.remote, DstPort: 80, Window: 65535}
	for _, r := range args[0] {
		f.Flags |= 1 << strings.IndexRune("FSRP.UEW", r)
	}
	var o wire.TCPOptions
	n := 0
	for _, a := range args[1:] {
		key, val, _ := strings.Cut(a, "=")
		switch key {
		case "seq":
			f.Seq = uint32(atoi(val))
		case "ack":
			f.Ack = uint32(s.iss.Add(atoi(val)))
		case "win":
			f.Window = uint16(atoi(val))
		case "len":
			n = atoi(val)
		case "mss":
			o.Have |= wire.TCPOptMSS
			o.MSS = uint16(atoi(val))
		case "ws":
			o.Have |= wire.TCPOptWScale
			o.WScale = uint8(atoi(val))
		case "sackok":
			o.Have |= wire.TCPOptSACKOK
		case "ts":
			v, _, _ := strings.Cut(val, ",")
			o.Have |= wire.TCPOptTimestamp
			o.TSVal, o.TSEcr = uint32(atoi(v)), s.lastTS
		case "sack":
			o.Have |= wire.TCPOptSACK
			for _, b := range strings.Split(val, ",") {
				l, r, _ := strings.Cut(b, "-")
				o.SACK[o.NSACK] = wire.TCPSACKBlock{Left: uint32(s.iss.Add(atoi(l))), Right: uint32(s.iss.Add(atoi(r)))}
				o.NSACK++
			}
		default:
			leaveOut("needs %s", key)
		}
	}
	tcpLen := wire.TCPMinHeader + o.Len() + n
	b := s.link.TxBuf(0)
	p := b.Append(wire.EthLen + wire.IPv4MinLen + tcpLen)
	clear(p)
	copy(p[6:], peerMAC[:])
	copy(p, linuxMAC())
	p[12], p[13] = 8, 0
	wire.PutIPv4(p[wire.EthLen:], &wire.IPv4Fields{TotalLen: wire.IPv4MinLen + tcpLen, DF: true, TTL: 64, Proto: wire.ProtoTCP,
		Src: wire.U32(peerAddr), Dst: wire.U32(linuxAddr)})
	h := wire.TCP(p[wire.EthLen+wire.IPv4MinLen:])
	h.Put(&f, wire.TCPMinHeader+o.Len())
	o.Put(h[wire.TCPMinHeader:])
	h.SetChecksum(^wire.Fold(wire.Sum(wire.PseudoSum4(wire.U32(peerAddr), wire.U32(linuxAddr), wire.ProtoTCP, tcpLen), h)))
	if s.link.TxBatch(0, []*pkt.Buf{b}) != 1 {
		panic(errors.New("TAP takes nothing"))
	}
	// Linux has dealt with a frame when the write returns, but for softirqs that
	// were put off.
	time.Sleep(500 * time.Microsecond)
}

func linuxMAC() []byte {
	i, err := net.InterfaceByName("scr0")
	must(err)
	return i.HardwareAddr
}

func (s *linuxScript) show(h wire.TCP) string {
	var o wire.TCPOptions
	o.Parse(h.Options())
	v := fmt.Sprintf("%v seq=%d", h.Flags(), seq.Num(h.Seq()).Sub(s.iss))
	if h.Flags()&wire.TCPAck != 0 {
		v += fmt.Sprintf(" ack=%d", h.Ack())
	}
	v += fmt.Sprintf(" win=%d len=%d", h.Window(), len(h.Payload()))
	for _, b := range o.SACK[:o.NSACK] {
		v += fmt.Sprintf(" sack=%d-%d", b.Left, b.Right)
	}
	return v
}

func (s *linuxScript) expect(args []string) {
	h := s.next(250 * time.Millisecond)
	var o wire.TCPOptions
	o.Parse(h.Options())
	differ := func(what string) {
		panic(fmt.Errorf("%s differs: sent %s", what, s.show(h)))
	}
	var want wire.TCPFlags
	for _, r := range args[0] {
		want |= 1 << strings.IndexRune("FSRP.UEW", r)
	}
	if h.Flags()|wire.TCPPsh != want|wire.TCPPsh {
		differ("flags")
	}
	length := 0
	for _, a := range args[1:] {
		key, val, _ := strings.Cut(a, "=")
		switch key {
		case "seq":
			if seq.Num(h.Seq()).Sub(s.iss) != atoi(val) {
				differ(key)
			}
		case "ack":
			if int(h.Ack()) != atoi(val) {
				differ(key)
			}
		case "len":
			length = atoi(val)
		case "mss":
			if int(o.MSS) != atoi(val) {
				differ(key)
			}
		case "sack", "nosack":
			have := ""
			for _, b := range o.SACK[:o.NSACK] {
				have += fmt.Sprintf(",%d-%d", b.Left, b.Right)
			}
			if strings.TrimPrefix(have, ",") != val {
				differ(key)
			}
		case "sackok", "nosackok":
			if (o.Have&wire.TCPOptSACKOK != 0) != (key == "sackok") {
				differ(key)
			}
		case "ts", "nots":
			if (o.Have&wire.TCPOptTimestamp != 0) != (key == "ts") {
				differ(key)
			}
		case "win":
			if (h.Window() == 0) != (atoi(val) == 0) {
				differ(key)
			}
		}
	}
	if len(h.Payload()) != length {
		differ("len")
	}
}

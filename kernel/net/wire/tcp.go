package wire

import "encoding/binary"

// TCP: RFC 9293 §3.1 (header), §3.2 (options), RFC 7323 §2.2 and §3.2 (window
// scale, timestamps), RFC 2018 §2 and §3 (SACK).

// TCPFlags are the control bits of a TCP header, in their order on the wire.
type TCPFlags uint8

// The control bits.
const (
	TCPFin TCPFlags = 1 << iota
	TCPSyn
	TCPRst
	TCPPsh
	TCPAck
	TCPUrg
	TCPEce
	TCPCwr
)

// Has reports whether all bits of m are set.
func (f TCPFlags) Has(m TCPFlags) bool { return f&m == m }

// String names the set bits by one letter each, "S." for SYN with ACK, as
// tcpdump does; "-" where none is set.
func (f TCPFlags) String() string {
	const letters = "FSRP.UEW"
	var b [8]byte
	n := 0
	for i := range 8 {
		if f>>i&1 != 0 {
			b[n] = letters[i]
			n++
		}
	}
	if n == 0 {
		return "-"
	}
	return string(b[:n])
}

// Sizes of a TCP header and of its options area, in bytes.
const (
	TCPMinHeader  = 20
	TCPMaxHeader  = 60
	TCPMaxOptions = TCPMaxHeader - TCPMinHeader
)

// TCP is the view of a TCP header, with its options and what follows it.
type TCP []byte

// ParseTCP reports whether b begins with a whole header: the fixed part, and a
// data offset that covers it and lies inside b.
func ParseTCP(b []byte) (TCP, bool) {
	t := TCP(b)
	return t, len(t) >= TCPMinHeader && t.HeaderLen() >= TCPMinHeader && t.HeaderLen() <= len(t)
}

// SrcPort is the source port.
func (t TCP) SrcPort() uint16 { return binary.BigEndian.Uint16(t[0:]) }

// DstPort is the destination port.
func (t TCP) DstPort() uint16 { return binary.BigEndian.Uint16(t[2:]) }

// Seq is SEG.SEQ.
func (t TCP) Seq() uint32 { return binary.BigEndian.Uint32(t[4:]) }

// Ack is SEG.ACK, meaningful where TCPAck is set.
func (t TCP) Ack() uint32 { return binary.BigEndian.Uint32(t[8:]) }

// HeaderLen is the data offset in bytes, as it stands: 0 to 60.
func (t TCP) HeaderLen() int { return int(t[12]>>4) * 4 }

// Flags are the control bits.
func (t TCP) Flags() TCPFlags { return TCPFlags(t[13]) }

// Window is the window field, not scaled.
func (t TCP) Window() uint16 { return binary.BigEndian.Uint16(t[14:]) }

// Checksum is the checksum field.
func (t TCP) Checksum() uint16 { return binary.BigEndian.Uint16(t[16:]) }

// Urgent is the urgent pointer, meaningful where TCPUrg is set.
func (t TCP) Urgent() uint16 { return binary.BigEndian.Uint16(t[18:]) }

// Options is the options area, Payload what follows the header.
func (t TCP) Options() []byte { return t[TCPMinHeader:t.HeaderLen()] }
func (t TCP) Payload() []byte { return t[t.HeaderLen():] }

// SetChecksum writes the checksum field.
func (t TCP) SetChecksum(c uint16) { binary.BigEndian.PutUint16(t[16:], c) }

// TCPFields are the values of a header to be written.
type TCPFields struct {
	SrcPort, DstPort uint16
	Seq, Ack         uint32
	Flags            TCPFlags
	Window           uint16
	Urgent           uint16
}

// Put writes f and a data offset of headerLen bytes (a multiple of 4) into t.
// The checksum field becomes 0; the options area is left as it is.
func (t TCP) Put(f *TCPFields, headerLen int) {
	_ = t[19]
	binary.BigEndian.PutUint16(t[0:], f.SrcPort)
	binary.BigEndian.PutUint16(t[2:], f.DstPort)
	binary.BigEndian.PutUint32(t[4:], f.Seq)
	binary.BigEndian.PutUint32(t[8:], f.Ack)
	t[12] = byte(headerLen/4) << 4
	t[13] = byte(f.Flags)
	binary.BigEndian.PutUint16(t[14:], f.Window)
	t[16], t[17] = 0, 0
	binary.BigEndian.PutUint16(t[18:], f.Urgent)
}

// Option kinds.
const (
	tcpOptEnd       = 0
	tcpOptNop       = 1
	tcpOptMSS       = 2
	tcpOptWScale    = 3
	tcpOptSACKOK    = 4
	tcpOptSACK      = 5
	tcpOptTimestamp = 8
)

// TCPMaxWScale is the largest shift count that may be used; larger ones are
// taken as this (RFC 7323 §2.3).
const TCPMaxWScale = 14

// TCPMaxSACK is the most SACK blocks that fit an options area.
const TCPMaxSACK = 4

// TCPOpt says which options a segment carried.
type TCPOpt uint8

// The options that ParseTCPOptions knows.
const (
	TCPOptMSS TCPOpt = 1 << iota
	TCPOptWScale
	TCPOptSACKOK
	TCPOptTimestamp
	TCPOptSACK
)

// TCPSACKBlock is one block of a SACK option: the octets [Left, Right).
type TCPSACKBlock struct{ Left, Right uint32 }

// TCPOptions are the options of one segment. A field is meaningful only where
// its bit is set in Have.
type TCPOptions struct {
	Have         TCPOpt
	WScale       uint8 // at most TCPMaxWScale
	NSACK        uint8 // blocks in use
	MSS          uint16
	TSVal, TSEcr uint32
	SACK         [TCPMaxSACK]TCPSACKBlock
}

// tcpTimestampWord is NOP, NOP, kind 8, length 10: the layout that RFC 7323
// Appendix A recommends and that nearly every data segment has.
const tcpTimestampWord = tcpOptNop<<24 | tcpOptNop<<16 | tcpOptTimestamp<<8 | 10

// TCPTimestampLen is the size of an options area with the timestamps alone, in
// the layout that RFC 7323 Appendix A recommends.
const TCPTimestampLen = 12

// ParseTimestamp is Parse for an area of that layout. It reports false for any
// other, and leaves o as it was.
func (o *TCPOptions) ParseTimestamp(b *[TCPTimestampLen]byte) bool {
	if binary.BigEndian.Uint32(b[:]) != tcpTimestampWord {
		return false
	}
	o.Have, o.NSACK = TCPOptTimestamp, 0
	o.TSVal = binary.BigEndian.Uint32(b[4:])
	o.TSEcr = binary.BigEndian.Uint32(b[8:])
	return true
}

// Parse reads an options area. Unknown options are skipped. An option of a
// known kind with a wrong length is ignored; a length that is 0, 1 or leads out
// of the area ends the reading, and Parse reports false: the options before it
// stand. It allocates nothing and reads nothing outside b.
func (o *TCPOptions) Parse(b []byte) bool {
	o.Have, o.NSACK = 0, 0
	if len(b) >= TCPTimestampLen && o.ParseTimestamp((*[TCPTimestampLen]byte)(b)) {
		b = b[TCPTimestampLen:]
	}
	for len(b) > 0 {
		switch b[0] {
		case tcpOptEnd:
			return true
		case tcpOptNop:
			b = b[1:]
			continue
		}
		if len(b) < 2 || b[1] < 2 || int(b[1]) > len(b) {
			return false
		}
		n := int(b[1])
		o.parseOne(b[0], b[2:n])
		b = b[n:]
	}
	return true
}

func (o *TCPOptions) parseOne(kind byte, v []byte) {
	switch {
	case kind == tcpOptMSS && len(v) == 2:
		o.Have |= TCPOptMSS
		o.MSS = binary.BigEndian.Uint16(v)
	case kind == tcpOptWScale && len(v) == 1:
		o.Have |= TCPOptWScale
		o.WScale = min(v[0], TCPMaxWScale)
	case kind == tcpOptSACKOK && len(v) == 0:
		o.Have |= TCPOptSACKOK
	case kind == tcpOptTimestamp && len(v) == 8:
		o.Have |= TCPOptTimestamp
		o.TSVal = binary.BigEndian.Uint32(v)
		o.TSEcr = binary.BigEndian.Uint32(v[4:])
	case kind == tcpOptSACK && len(v) >= 8 && len(v)%8 == 0:
		o.Have |= TCPOptSACK
		o.NSACK = 0
		for ; len(v) >= 8 && o.NSACK < TCPMaxSACK; v = v[8:] {
			o.SACK[o.NSACK] = TCPSACKBlock{binary.BigEndian.Uint32(v), binary.BigEndian.Uint32(v[4:])}
			o.NSACK++
		}
	}
}

// Len is the size of the options of o on the wire, in bytes: a multiple of 4.
// SACK blocks that would not fit are left out.
func (o *TCPOptions) Len() int {
	if o.Have == TCPOptTimestamp {
		return TCPTimestampLen
	}
	n := 0
	if o.Have&TCPOptMSS != 0 {
		n += 4
	}
	if o.Have&TCPOptTimestamp != 0 {
		n += 12 // the NOPs hold SACK-permitted on a SYN
	} else if o.Have&TCPOptSACKOK != 0 {
		n += 4
	}
	if o.Have&TCPOptWScale != 0 {
		n += 4
	}
	if k := o.sackFit(n); k > 0 {
		n += 4 + 8*k
	}
	return n
}

// sackFit is how many SACK blocks go in after n bytes of other options.
func (o *TCPOptions) sackFit(n int) int {
	if o.Have&TCPOptSACK == 0 {
		return 0
	}
	return max(0, min(int(o.NSACK), (TCPMaxOptions-n-4)/8))
}

// Put writes the options of o into b, which holds Len bytes.
func (o *TCPOptions) Put(b []byte) {
	if o.Have == TCPOptTimestamp { // nearly every segment that is not a SYN
		_ = b[11]
		binary.BigEndian.PutUint32(b[0:], tcpTimestampWord)
		binary.BigEndian.PutUint32(b[4:], o.TSVal)
		binary.BigEndian.PutUint32(b[8:], o.TSEcr)
		return
	}
	n := 0
	if o.Have&TCPOptMSS != 0 {
		b[n], b[n+1] = tcpOptMSS, 4
		binary.BigEndian.PutUint16(b[n+2:], o.MSS)
		n += 4
	}
	if o.Have&TCPOptTimestamp != 0 {
		if o.Have&TCPOptSACKOK != 0 {
			b[n], b[n+1], b[n+2], b[n+3] = tcpOptSACKOK, 2, tcpOptTimestamp, 10
		} else {
			binary.BigEndian.PutUint32(b[n:], tcpTimestampWord)
		}
		binary.BigEndian.PutUint32(b[n+4:], o.TSVal)
		binary.BigEndian.PutUint32(b[n+8:], o.TSEcr)
		n += 12
	} else if o.Have&TCPOptSACKOK != 0 {
		b[n], b[n+1], b[n+2], b[n+3] = tcpOptNop, tcpOptNop, tcpOptSACKOK, 2
		n += 4
	}
	if o.Have&TCPOptWScale != 0 {
		b[n], b[n+1], b[n+2], b[n+3] = tcpOptNop, tcpOptWScale, 3, o.WScale
		n += 4
	}
	k := o.sackFit(n)
	if k == 0 {
		return
	}
	b[n], b[n+1], b[n+2], b[n+3] = tcpOptNop, tcpOptNop, tcpOptSACK, byte(2+8*k)
	n += 4
	for _, s := range o.SACK[:k] {
		binary.BigEndian.PutUint32(b[n:], s.Left)
		binary.BigEndian.PutUint32(b[n+4:], s.Right)
		n += 8
	}
}

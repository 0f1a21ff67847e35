package fakevmxnet3

// send puts a frame on the wire, as its first descriptor says.
func (c *Card) send(q int, f []byte, w uint64) {
	hlen, val := int(w>>32&0x3FF), int(w>>18&0x3FFF)
	switch w >> 42 & 3 {
	case 0:
		c.Sent[q] = append(c.Sent[q], f)
	case 2:
		if hlen >= len(f) || val+2 > len(f) {
			c.violate("checksum from %d stored at %d of %d bytes", hlen, val, len(f))
			return
		}
		finish(f, hlen, val)
		c.Sent[q] = append(c.Sent[q], f)
	case 3:
		c.segment(q, f, hlen, val)
	default:
		c.violate("offload mode %d", w>>42&3)
	}
}

// segment cuts a TCP frame with hlen bytes of headers into segments of mss.
func (c *Card) segment(q int, f []byte, hlen, mss int) {
	l3 := 14
	if f[12] == 0x81 && f[13] == 0 {
		l3 += 4
	}
	v4 := f[l3]>>4 == 4
	l4 := l3 + 40
	if v4 {
		l4 = l3 + int(f[l3]&15)*4
	}
	if mss == 0 || hlen >= len(f) || hlen != l4+int(f[l4+12]>>4)*4 {
		c.violate("segmentation of %d bytes: header %d, MSS %d", len(f), hlen, mss)
		return
	}
	if v4 && be.Uint16(f[l3+10:]) != 0 {
		c.violate("segmentation: the IP checksum is not 0")
	}
	for i, off := 0, hlen; off < len(f); i, off = i+1, off+mss {
		end := min(off+mss, len(f))
		s := append(append([]byte(nil), f[:hlen]...), f[off:end]...)
		if v4 {
			be.PutUint16(s[l3+2:], uint16(len(s)-l3))
			be.PutUint16(s[l3+4:], be.Uint16(f[l3+4:])+uint16(i))
			finish(s[:l4], l3, l3+10)
		} else {
			be.PutUint16(s[l3+4:], uint16(len(s)-l4))
		}
		be.PutUint32(s[l4+4:], be.Uint32(f[l4+4:])+uint32(off-hlen))
		if end < len(f) {
			s[l4+13] &^= 1 | 8 // FIN, PSH
		}
		be.PutUint16(s[l4+16:], fold(uint32(be.Uint16(s[l4+16:]))+uint32(len(s)-l4))) // the seed lacks the length
		finish(s, l4, l4+16)
		c.Sent[q] = append(c.Sent[q], s)
	}
}

// finish sums from start to the end and stores at.
func finish(f []byte, start, at int) {
	var s uint32
	for i := start; i < len(f); i += 2 {
		s += uint32(f[i]) << 8
		if i+1 < len(f) {
			s += uint32(f[i+1])
		}
	}
	be.PutUint16(f[at:], ^fold(s))
}

func fold(s uint32) uint16 {
	for s > 0xFFFF {
		s = s>>16 + s&0xFFFF
	}
	return uint16(s)
}

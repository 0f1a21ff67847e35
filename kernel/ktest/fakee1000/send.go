package fakee1000

import (
	"encoding/binary"

	"osv/kernel/hw/mmio"
)

func mmioOff(v uint32) mmio.Off { return mmio.Off(v) }

var be = binary.BigEndian

// send puts the gathered frame on the wire, as its first descriptor says.
func (c *Card) send() {
	f := c.frame
	c.frame = nil
	c.Asked++
	pops := c.cmd >> 40 & 0xFF
	if c.cmd&(1<<26) == 0 { // no segmentation
		if pops&2 != 0 {
			c.finish(f, c.ctx[0]>>32)
		}
		c.out(f)
		return
	}
	hdr, mss, payload := int(c.ctx[1]>>40&0xFF), int(c.ctx[1]>>48), int(c.ctx[1]&0xFFFFF)
	l3, l4 := int(c.ctx[0]&0xFF), int(c.ctx[0]>>32&0xFF)
	v4 := c.ctx[1]&(1<<25) != 0
	if hdr == 0 || mss == 0 || hdr+payload != len(f) || c.ctx[1]&(1<<26) == 0 {
		c.violate("segmentation of %d bytes: header %d, MSS %d, payload %d", len(f), hdr, mss, payload)
		return
	}
	if v4 && (be.Uint16(f[l3+2:]) != 0 || be.Uint16(f[l3+10:]) != 0) {
		c.violate("segmentation: IP length or checksum is not 0")
	}
	for i, off := 0, hdr; off < len(f); i, off = i+1, off+mss {
		end := min(off+mss, len(f))
		s := append(append([]byte(nil), f[:hdr]...), f[off:end]...)
		if v4 {
			be.PutUint16(s[l3+2:], uint16(len(s)-l3))
			be.PutUint16(s[l3+4:], be.Uint16(f[l3+4:])+uint16(i))
		} else {
			be.PutUint16(s[l3+4:], uint16(len(s)-l3-40))
		}
		be.PutUint32(s[l4+4:], be.Uint32(f[l4+4:])+uint32(off-hdr))
		if end < len(f) {
			s[l4+13] &^= 1 | 8 // FIN, PSH
		}
		// The seed lacks the length.
		at := int(c.ctx[0] >> 40 & 0xFF)
		be.PutUint16(s[at:], fold(uint32(be.Uint16(s[at:]))+uint32(len(s)-l4)))
		c.finish(s, c.ctx[0]>>32)
		if pops&1 != 0 {
			c.finish(s, c.ctx[0])
		}
		c.out(s)
	}
}

// finish sums from CSS to CSE (0: the end) and stores at CSO.
func (c *Card) finish(f []byte, w uint64) {
	css, cso, cse := int(w&0xFF), int(w>>8&0xFF), int(w>>16&0xFFFF)
	if cse == 0 || cse >= len(f) {
		cse = len(f) - 1
	}
	if cso+2 > len(f) || css > cse {
		c.violate("checksum from %d to %d stored at %d of %d bytes", css, cse, cso, len(f))
		return
	}
	var s uint32
	for i := css; i <= cse; i += 2 {
		s += uint32(f[i]) << 8
		if i < cse {
			s += uint32(f[i+1])
		}
	}
	be.PutUint16(f[cso:], ^fold(s))
}

func fold(s uint32) uint16 {
	for s > 0xFFFF {
		s = s>>16 + s&0xFFFF
	}
	return uint16(s)
}

func (c *Card) out(f []byte) {
	if len(f) < 60 { // TCTL.PSP
		f = append(f, make([]byte, 60-len(f))...)
	}
	c.Sent = append(c.Sent, f)
}

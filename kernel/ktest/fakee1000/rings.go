package fakee1000

import "encoding/binary"

var le = binary.LittleEndian

// ring is a descriptor ring's registers, from the low half of its address on.
func (c *Card) ring(base uint32) (at uint64, n, head, tail uint32) {
	r := func(o uint32) uint32 { return c.regs[mmioOff(base+o)] }
	return uint64(r(0)) | uint64(r(4))<<32, r(8) / 16, r(0x10), r(0x18)
}

// stepRx moves waiting frames into posted descriptors, SDM §3.2.
func (c *Card) stepRx() (moved int) {
	for len(c.backlog) > 0 && c.regs[rctl]&2 != 0 && c.linkUp {
		f := c.backlog[0]
		if c.part == 0 && !c.accepts(f) {
			c.backlog = c.backlog[1:]
			c.dropped++
			continue
		}
		if !c.receive(f) {
			c.raise(rxo)
			return moved
		}
		c.backlog, c.part = c.backlog[1:], 0
		moved++
	}
	if moved > 0 {
		if c.MSIX {
			c.raise(rxq0)
		} else {
			c.raise(rxt0)
		}
	}
	return moved
}

// accepts applies size and address filters, SDM §13.5.
func (c *Card) accepts(f []byte) bool {
	r := c.regs[rctl]
	if len(f) > 1518 && r&(1<<5) == 0 || len(f) < 6 {
		return false
	}
	switch {
	case [6]byte(f) == [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}:
		return r&(1<<15|1<<4) != 0
	case f[0]&1 != 0:
		h := uint32(f[4])>>4 | uint32(f[5])<<4
		return r&(1<<4) != 0 || c.regs[mmioOff(mta+h>>5*4)]>>(h&31)&1 != 0
	case r&(1<<3) != 0:
		return true
	}
	var m [8]byte
	le.PutUint32(m[:], c.regs[ral])
	le.PutUint32(m[4:], c.regs[rah])
	return c.regs[rah]>>31 == 1 && [6]byte(m[:]) == [6]byte(f)
}

// bufLen is the size that RCTL says, SDM §13.4.22.
func (c *Card) bufLen() int {
	r := c.regs[rctl]
	n := 2048 >> (r >> 16 & 3)
	if r&(1<<25) != 0 {
		n *= 16
	}
	return n
}

// receive writes f, or what is left of it, into descriptors. It reports false
// where they ran out: the card keeps the rest in its packet buffer.
func (c *Card) receive(f []byte) bool {
	at, n, head, tail := c.ring(rdbal)
	if n == 0 {
		return false
	}
	size := c.bufLen()
	for {
		if head == tail {
			return false
		}
		d := c.bytes(at+uint64(head)*16, 16)
		k := min(size, len(f)-c.part)
		copy(c.bytes(le.Uint64(d), k), f[c.part:c.part+k])
		c.part += k
		wb := Writeback{Len: uint16(k), Status: 1}
		if c.part == len(f) {
			wb.Status |= 2
			c.checked(f, &wb)
		}
		end := wb.Status&2 != 0
		if c.OnWriteback != nil {
			c.OnWriteback(&wb)
		}
		if c.Ext && c.regs[rfctl]&(1<<15) != 0 {
			le.PutUint64(d, 0xDEADBEEF)
			store64(d[8:], uint64(wb.Status)|uint64(wb.Errors)<<24|uint64(wb.Len)<<32)
		} else {
			store64(d[8:], uint64(wb.Len)|uint64(wb.Status)<<32|uint64(wb.Errors)<<40)
		}
		head = (head + 1) % n
		c.regs[rdh] = head
		if end {
			return true
		}
	}
}

// checked says what the card found of the frame's checksums: it looks at TCP and
// UDP in IPv4, if it is to.
func (c *Card) checked(f []byte, wb *Writeback) {
	if c.regs[rxcsum]&(1<<9) == 0 || len(f) < 34 || f[12] != 8 || f[13] != 0 || f[23] != 6 && f[23] != 17 {
		wb.Status |= 4 // IXSM
		return
	}
	wb.Status |= 1<<5 | 1<<6
	if c.BadSums != nil && c.BadSums(f) {
		wb.Errors |= 1 << 5
	}
}

// stepTx takes what the driver sent, SDM §3.3.
func (c *Card) stepTx() (moved int) {
	if c.HoldTx || c.regs[tctl]&2 == 0 {
		return 0
	}
	at, n, head, tail := c.ring(tdbal)
	reported := false
	for n != 0 && head != tail {
		d := c.bytes(at+uint64(head)*16, 16)
		a, w := le.Uint64(d), le.Uint64(d[8:])
		switch {
		case w&(1<<29) == 0:
			c.violate("legacy transmit descriptor %#x", w)
		case w>>20&15 == 0: // context
			c.ctx = [2]uint64{a, w}
		case w>>20&15 == 1:
			k := int(w & 0xFFFFF)
			if k == 0 || k > 16288 {
				c.violate("transmit descriptor of %d bytes", k)
			}
			if len(c.frame) == 0 {
				c.cmd = w
			}
			c.frame = append(c.frame, c.bytes(a, k)...)
			if w&(1<<24) != 0 { // EOP
				moved++
				c.send()
			}
		default:
			c.violate("transmit descriptor of type %d", w>>20&15)
		}
		if w&(1<<27) != 0 && !c.NoReport { // RS
			le.PutUint32(d[12:], uint32(w>>32)|1)
			reported = true
		}
		head = (head + 1) % n
		c.regs[tdh] = head
	}
	if reported {
		if c.MSIX {
			c.raise(txq0)
		} else {
			c.raise(txdw)
		}
	}
	return moved
}

package fakevmxnet3

import "osv/kernel/hw/mmio"

// PT is BAR 0.
func (c *Card) PT() mmio.Space { return window{c, false} }

// VD is BAR 1.
func (c *Card) VD() mmio.Space { return window{c, true} }

type window struct {
	c  *Card
	vd bool
}

func (w window) Len() uint32 { return 4096 }

func (w window) narrow() { panic("fakevmxnet3: registers are 32 bits wide") }

func (w window) Load8(mmio.Off) uint8     { w.narrow(); return 0 }
func (w window) Load16(mmio.Off) uint16   { w.narrow(); return 0 }
func (w window) Store8(mmio.Off, uint8)   { w.narrow() }
func (w window) Store16(mmio.Off, uint16) { w.narrow() }

func (w window) Doorbell(o mmio.Off) mmio.Doorbell {
	return mmio.Func(func(v uint32) { w.Store32(o, v) })
}

func (w window) Load32(o mmio.Off) uint32 {
	c := w.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.Gone || !w.vd {
		return 0xFFFFFFFF
	}
	switch o {
	case 0x00:
		if c.Revisions != 0 {
			return c.Revisions
		}
		return 1
	case 0x08:
		if c.UPTVersions != 0 {
			return c.UPTVersions
		}
		return 1
	case 0x20:
		return c.answer
	case 0x28:
		return le.Uint32(c.Addr[:])
	case 0x30:
		return uint32(le.Uint16(c.Addr[4:]))
	case 0x38:
		up := c.pinUp
		c.pinUp = false
		if up {
			return 1
		}
		return 0
	}
	return c.vd[o/8&7]
}

func (w window) Store32(o mmio.Off, v uint32) {
	c := w.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.Gone {
		return
	}
	if w.vd {
		switch o {
		case 0x20:
			c.Commands = append(c.Commands, v)
			c.answer = c.command(v)
		case 0x40:
			if c.shared != nil {
				store32(c.shared[696:], load32(c.shared[696:])&^v)
			}
		default:
			if o == 0 && v&max(c.Revisions, 1) == 0 {
				c.violate("revision %#x of %#x is chosen", v, max(c.Revisions, 1))
			}
			c.vd[o/8&7] = v
		}
		return
	}
	q := int(o & 0x1FF / 8)
	switch {
	case o < 8*25:
		c.masked[o/8] = v != 0
		if v == 0 && c.pending[o/8] && c.shared != nil {
			c.interrupt(int(o / 8))
		}
	case o >= 0x600 && o < 0x640:
		if c.shared == nil {
			c.violate("TXPROD written while not active")
			return
		}
		if c.Live {
			c.stepTx(q)
		}
	case o >= 0x800 && o < 0xC00:
		if c.shared != nil && c.Live {
			c.step()
		}
	default:
		c.violate("BAR 0: write of %#x", uint32(o))
	}
}

// command answers a command.
func (c *Card) command(v uint32) uint32 {
	switch v {
	case 0xCAFE0000:
		return c.activate()
	case 0xCAFE0001:
		c.shared = nil
	case 0xCAFE0002:
		if c.shared != nil && c.resets > 0 {
			c.violate("reset while active")
		}
		c.resets++
		c.shared, c.queues = nil, nil
		clear(c.pending[:])
	case 0xCAFE0003, 0xCAFE0004, 0xCAFE0005:
		if c.shared == nil {
			c.violate("command %#x while not active", v)
		}
	case 0xF00D0000:
	case 0xF00D0002:
		if c.linkUp {
			return 10000<<16 | 1
		}
	case 0xF00D0008:
		if c.ActiveMask {
			return 1 << 2
		}
	default:
		c.violate("unknown command %#x", v)
	}
	return 0
}

// activate checks the shared area as a device would, and starts from empty rings.
func (c *Card) activate() uint32 {
	if c.ActivateFail != 0 {
		return c.ActivateFail
	}
	s := c.bytes(uint64(c.vd[2])|uint64(c.vd[3])<<32, 720)
	if le.Uint32(s) != 0xBABEFEE1 {
		return 1
	}
	ntx, nrx := int(s[62]), int(s[63])
	limit := c.MaxQueues
	if limit == 0 {
		limit = 8
	}
	if ntx < 1 || nrx < 1 || ntx > limit || nrx > limit {
		return 2
	}
	if n := le.Uint32(s[52:]); int(n) != 256*(ntx+nrx) {
		return 3
	}
	if m := le.Uint32(s[56:]); m < 60 || m > 9000 {
		return 4
	}
	if c.MSIX && int(s[81]) > len(c.Lines) || !c.MSIX && s[81] != 1 || s[82] >= s[81] {
		return 5
	}
	q := c.bytes(le.Uint64(s[40:]), 256*(ntx+nrx))
	for i := range ntx + nrx {
		d := q[i*256:]
		sizes := []uint32{le.Uint32(d[56:]), le.Uint32(d[64:])}
		bases := []uint64{le.Uint64(d[16:]), le.Uint64(d[32:])}
		if i >= ntx {
			sizes, bases = append(sizes, le.Uint32(d[60:])), append(bases, le.Uint64(d[24:]))
		}
		for k := range sizes {
			if sizes[k] == 0 || sizes[k]%32 != 0 || sizes[k] > 8192 || bases[k]%512 != 0 || d[72] >= s[81] {
				return 6
			}
		}
		if i >= ntx && c.UpdateRxProd {
			d[0] = 1
		}
	}
	if nrx > 1 && (le.Uint64(s[24:])&2 == 0 || le.Uint32(s[652:]) != 176) {
		return 7
	}
	c.shared, c.queues, c.ntx, c.nrx = s, q, ntx, nrx
	for i := range c.tx {
		c.tx[i] = txState{gen: 1, cgen: 1}
		c.rx[i] = rxState{gen: [2]uint32{1, 1}, cgen: 1}
	}
	return 0
}

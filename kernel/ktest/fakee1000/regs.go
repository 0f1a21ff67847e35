package fakee1000

import "osv/kernel/hw/mmio"

// Regs is BAR 0.
func (c *Card) Regs() mmio.Space { return window{c} }

type window struct{ c *Card }

func (w window) Len() uint32 { return windowLen }

func (w window) narrow(o mmio.Off) { panic("fakee1000: registers are 32 bits wide") }

func (w window) Load8(o mmio.Off) uint8       { w.narrow(o); return 0 }
func (w window) Load16(o mmio.Off) uint16     { w.narrow(o); return 0 }
func (w window) Store8(o mmio.Off, _ uint8)   { w.narrow(o) }
func (w window) Store16(o mmio.Off, _ uint16) { w.narrow(o) }

func (w window) Doorbell(o mmio.Off) mmio.Doorbell {
	return mmio.Func(func(v uint32) { w.Store32(o, v) })
}

func (w window) Load32(o mmio.Off) uint32 {
	c := w.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.Gone {
		return 0xFFFFFFFF
	}
	switch o {
	case status:
		v := uint32(0x80080)
		if c.linkUp && c.regs[ctrl]&0x40 != 0 {
			v |= 3
		}
		if c.Ext && c.regs[ctrl]&4 != 0 && !c.MasterSticks {
			v &^= 1 << 19
		}
		if !c.Ext {
			v &^= 1 << 19
		}
		return v
	case eecd:
		if c.AutoReadHang {
			return c.regs[eecd] &^ (1 << 9)
		}
	case icr:
		v := c.regs[icr]
		if !c.MSIX {
			c.regs[icr] = 0
			if c.regs[ctrlExt]&(1<<27) != 0 && v&(1<<31) != 0 {
				c.regs[ims] &^= c.regs[iam]
			}
		}
		return v
	case imc:
		return 0
	}
	return c.regs[o]
}

func (w window) Store32(o mmio.Off, v uint32) {
	c := w.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.Gone {
		return
	}
	switch o {
	case ctrl:
		if v&(1<<26) != 0 {
			c.resets++
			if c.Ext && c.regs[ctrl]&4 == 0 {
				c.violate("reset without GIO Master Disable")
			}
			c.powerOn()
			if c.ResetSticks {
				c.regs[ctrl] |= 1 << 26
			}
			return
		}
	case status:
		return
	case eerd:
		c.readNVM(v)
		return
	case mdic:
		c.accessPHY(v)
		return
	case icr:
		c.regs[icr] &^= v
		return
	case ics:
		c.raise(v)
		return
	case ims:
		c.regs[ims] |= v
		c.interrupt()
		return
	case imc:
		c.regs[ims] &^= v
		return
	case rdh, rdbal, rdbah, rdlen:
		if c.regs[rctl]&2 != 0 {
			c.violate("register %#x written while receive is on", uint32(o))
		}
	case tdh, tdbal, tdbah, tdlen:
		if c.regs[tctl]&2 != 0 {
			c.violate("register %#x written while transmit is on", uint32(o))
		}
	case rdt, tdt:
		if v >= c.regs[o-0x10]/16 && v != 0 {
			c.violate("tail %#x set to %d of %d", uint32(o), v, c.regs[o-0x10]/16)
			return
		}
		c.regs[o] = v
		if c.Live {
			c.step()
		}
	}
	c.regs[o] = v
}

// readNVM answers EERD at once.
func (c *Card) readNVM(v uint32) {
	word, done := int(v>>8&0xFF), uint32(1<<4)
	if c.Ext {
		word, done = int(v>>2&0x3FFF), 1<<1
	}
	if v&1 == 0 || c.NoNVM {
		c.regs[eerd] = v &^ done
		return
	}
	m := c.mac()
	words := [0x40]uint16{uint16(m[0]) | uint16(m[1])<<8, uint16(m[2]) | uint16(m[3])<<8, uint16(m[4]) | uint16(m[5])<<8,
		3: 0x0B46, 10: 0x640A}
	sum := uint16(0xBABA)
	for _, w := range words {
		sum -= w
	}
	if words[0x3F] = sum; c.BadNVMSum {
		words[0x3F]++
	}
	var data uint16
	if word < len(words) {
		data = words[word]
	}
	c.regs[eerd] = v&0xFFFF | done | uint32(data)<<16
}

func (c *Card) accessPHY(v uint32) {
	if c.PHYSilent {
		c.regs[mdic] = v &^ (1 << 28)
		return
	}
	r := v >> 16 & 31
	switch {
	case v>>21&31 != 1 || c.PHYError:
		v |= 1 << 30
	case v>>26&3 == 1:
		c.phy[r] = uint16(v)
	default:
		v = v&^0xFFFF | uint32(c.phy[r])
	}
	c.regs[mdic] = v | 1<<28
}

// PHY is PHY register r.
func (c *Card) PHY(r int) uint16 { return locked(c, func() uint16 { return c.phy[r] }) }

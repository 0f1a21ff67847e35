package fakeahci

import (
	"encoding/binary"
	"math/bits"
)

// issue takes commands whose bits of CI go to 1.
func (h *HBA) issue(p *Port, v uint32) {
	if v&p.ci != 0 {
		h.violate("port %d: slots %#x issued twice", p.n, v&p.ci)
	}
	p.ci |= v
	for m := v; m != 0; m &= m - 1 {
		slot := bits.TrailingZeros32(m)
		c, ok := h.fetch(p, slot)
		if !ok {
			h.violate("port %d: slot %d: no command", p.n, slot)
			continue
		}
		if !h.NoLog {
			h.log = append(h.log, c)
		}
		if c.Queued() {
			if p.sact>>slot&1 == 0 || int(c.Count>>3) != slot {
				h.violate("%v: tag or SACT", c)
			}
			p.ci &^= 1 << slot // accepted
			if p.running > 0 && p.ci != 0 {
				h.violate("%v: beside a command that is not queued", c)
			}
		} else if p.sact != 0 && !p.halted || p.ci&^(1<<slot) != 0 {
			h.violate("%v: beside queued commands (SACT %#x, CI %#x)", c, p.sact, p.ci)
		}
		p.running++
		if h.Manual && c.Command != 0xec && c.Command != 0x2f {
			p.waiting = append(p.waiting, c)
			continue
		}
		h.run(p, c)
	}
}

func (h *HBA) fetch(p *Port, slot int) (c Cmd, ok bool) {
	head, ok := h.bytes(p.clb+uint64(slot)*32, 32)
	if !ok {
		return c, false
	}
	table := binary.LittleEndian.Uint64(head[8:])
	f, ok := h.bytes(table, 128)
	if !ok || table%128 != 0 || head[0]&31 != 5 || f[0] != 0x27 || f[1] != 0x80 {
		return c, false
	}
	return Cmd{Port: p.n, Slot: slot, Command: f[2], Features: uint16(f[3]) | uint16(f[11])<<8,
		LBA:    uint64(f[4]) | uint64(f[5])<<8 | uint64(f[6])<<16 | uint64(f[8])<<24 | uint64(f[9])<<32 | uint64(f[10])<<40,
		Device: f[7], Count: uint16(f[12]) | uint16(f[13])<<8}, true
}

// Step completes one waiting command and reports whether there was one.
func (h *HBA) Step() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range h.Ports {
		if len(p.waiting) == 0 {
			continue
		}
		i := 0
		if h.Pick != nil {
			i = h.Pick(len(p.waiting))
		}
		c := p.waiting[i]
		p.waiting = append(p.waiting[:i], p.waiting[i+1:]...)
		h.run(p, c)
		return true
	}
	return false
}

// Waiting is how many commands of port 0 wait for Step.
func (h *HBA) Waiting() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.Ports[0].waiting)
}

func (h *HBA) run(p *Port, c Cmd) {
	if p.halted && c.Command != 0x2f {
		return // after an error, a device waits for the log or a reset
	}
	v := Do
	if h.Judge != nil {
		v = h.Judge(c)
	}
	if v == Do && !h.NoLog && !h.carryOut(p, c) {
		v = Fail
	}
	switch v {
	case Drop:
		return
	case CRC:
		p.serr |= 1 << 10
		h.raise(p, 1<<27)
		return
	case Fail:
		p.tfd = 0x4041 // UNC; DRDY, ERR
		if c.Queued() {
			p.ncqTag, p.halted = c.Slot, true
			h.raise(p, 1<<30|1<<3)
			return
		}
		if p.EarlyCI {
			p.ci &^= 1 << c.Slot
		}
		p.running--
		h.raise(p, 1<<30|1<<0)
		return
	}
	p.running--
	p.tfd = 0x50
	if c.Queued() {
		p.sact &^= 1 << c.Slot
		h.raise(p, 1<<3)
		return
	}
	p.ci &^= 1 << c.Slot
	h.raise(p, 1<<0)
}

// memory is what the physical regions of a command name.
func (h *HBA) memory(p *Port, c Cmd) (mem [][]byte, n int, write, ok bool) {
	head, _ := h.bytes(p.clb+uint64(c.Slot)*32, 32)
	table := binary.LittleEndian.Uint64(head[8:])
	prds := int(binary.LittleEndian.Uint16(head[2:]))
	for i := range prds {
		e, ok := h.bytes(table+0x80+uint64(i)*16, 16)
		if !ok {
			h.violate("%v: PRD %d is not in memory", c, i)
			return nil, 0, false, false
		}
		a, k := binary.LittleEndian.Uint64(e), int(binary.LittleEndian.Uint32(e[12:])&(1<<22-1))+1
		b, ok := h.bytes(a, k)
		if !ok || a&1 != 0 || k&1 != 0 || h.CAP>>31 == 0 && a>>32 != 0 {
			h.violate("%v: PRD %d names %#x+%d", c, i, a, k)
			return nil, 0, false, false
		}
		mem = append(mem, b)
		n += k
	}
	return mem, n, head[0]&(1<<6) != 0, true
}

func (h *HBA) moved(p *Port, c Cmd, n int) {
	head, _ := h.bytes(p.clb+uint64(c.Slot)*32, 32)
	if p.ShortReads {
		n /= 2
	}
	binary.LittleEndian.PutUint32(head[4:], uint32(n))
}

// carryOut does what a command says; false is an error of the device.
func (h *HBA) carryOut(p *Port, c Cmd) bool {
	if p.Disk == nil {
		return false
	}
	mem, n, write, ok := h.memory(p, c)
	if !ok {
		return false
	}
	var from []byte
	switch c.Command {
	case 0xec:
		from = p.Identify[:]
	case 0x2f:
		if from = p.log(c); from == nil {
			return false
		}
	case 0xe7, 0xea:
		return true
	case 0x06:
		return h.trim(p, c, mem, n)
	case 0x25, 0x35, 0x60, 0x61, 0xc8, 0xca:
		return h.transfer(p, c, mem, n, write)
	default:
		return false
	}
	if write || n != len(from) {
		h.violate("%v: %d bytes, write %v", c, n, write)
		return false
	}
	for _, m := range mem {
		from = from[copy(m, from):]
	}
	h.moved(p, c, n)
	return true
}

func (p *Port) log(c Cmd) []byte {
	if p.NoLog || c.LBA != 0x10 || c.Count != 1 {
		return nil
	}
	b := make([]byte, 512)
	b[0] = 0x80 // no queued command failed
	if p.ncqTag >= 0 {
		b[0], b[2], b[3] = byte(p.ncqTag), 0x41, 0x40
	}
	var sum uint8
	for _, x := range b {
		sum += x
	}
	if b[511] = -sum; p.BadLog {
		b[511]++
	}
	p.ncqTag, p.halted = -1, false
	return b
}

func (p *Port) shift() int {
	if binary.LittleEndian.Uint16(p.Identify[212:])&(1<<12) == 0 {
		return 9
	}
	return bits.TrailingZeros16(binary.LittleEndian.Uint16(p.Identify[234:])) + 1
}

func (h *HBA) trim(p *Port, c Cmd, mem [][]byte, n int) bool {
	if c.Features != 1 || n != 512*int(c.Count) {
		h.violate("%v: %d bytes", c, n)
		return false
	}
	for _, m := range mem {
		for ; len(m) >= 8; m = m[8:] {
			e := binary.LittleEndian.Uint64(m)
			at, k := e&(1<<48-1)<<p.shift(), e>>48<<p.shift()
			if k > uint64(len(p.Disk)) || at > uint64(len(p.Disk))-k {
				return false
			}
			for i := range p.Disk[at : at+k] {
				p.Disk[at+uint64(i)] = 0xdd
			}
		}
	}
	return true
}

func (h *HBA) transfer(p *Port, c Cmd, mem [][]byte, n int, write bool) bool {
	lba := c.LBA
	if c.Command == 0xc8 || c.Command == 0xca {
		lba = lba&(1<<24-1) | uint64(c.Device&15)<<24
	}
	size := c.Sectors() << p.shift()
	at := lba << p.shift()
	wantWrite := c.Command == 0x35 || c.Command == 0x61 || c.Command == 0xca
	if n != size || write != wantWrite || c.Device&0x40 == 0 {
		h.violate("%v: %d bytes of memory for %d, write %v, device %#x", c, n, size, write, c.Device)
		return false
	}
	if at > uint64(len(p.Disk)) || uint64(size) > uint64(len(p.Disk))-at {
		return false
	}
	for _, m := range mem {
		if write {
			at += uint64(copy(p.Disk[at:], m))
		} else {
			at += uint64(copy(m, p.Disk[at:]))
		}
	}
	h.moved(p, c, n)
	return true
}

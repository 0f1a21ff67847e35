package fakescsi

import (
	"bytes"
	"encoding/binary"
)

// do is the commands of a disk. Caller must hold mu.
func (b *Bus) do(u *Unit, c Cmd) Reply {
	switch c.CDB[0] {
	case 0x00: // TEST UNIT READY
		return Reply{}
	case 0x12: // INQUIRY
		if c.CDB[1]&1 == 0 {
			return Reply{In: u.Inquiry}
		}
		if c.CDB[2] == 0 && u.VPD[0] == nil {
			list := []byte{0}
			for n := byte(1); n != 0; n++ {
				if u.VPD[n] != nil {
					list = append(list, n)
				}
			}
			return Reply{In: append([]byte{0, 0, 0, byte(len(list))}, list...)}
		}
		if p := u.VPD[c.CDB[2]]; p != nil {
			return Reply{In: p}
		}
		return Check(5, 0x2400)
	case 0x1a: // MODE SENSE (6)
		if u.Mode == nil {
			return Check(5, 0x2400)
		}
		return Reply{In: u.Mode}
	case 0x1b: // START STOP UNIT
		return Reply{}
	case 0x25: // READ CAPACITY (10)
		in := make([]byte, 8)
		binary.BigEndian.PutUint32(in, uint32(min(u.blocks()-1, 1<<32-1)))
		binary.BigEndian.PutUint32(in[4:], uint32(u.Block))
		return Reply{In: in}
	case 0x9e: // READ CAPACITY (16)
		if u.Short || c.CDB[1]&0x1f != 0x10 {
			return Check(5, 0x2000)
		}
		in := make([]byte, 32)
		binary.BigEndian.PutUint64(in, u.blocks()-1)
		binary.BigEndian.PutUint32(in[8:], uint32(u.Block))
		in[13], in[14] = 3, 0xc0
		return Reply{In: in}
	case 0x35: // SYNCHRONIZE CACHE (10)
		return Reply{}
	case 0x28, 0x2a, 0x88, 0x8a, 0x93, 0x42:
		return b.onBlocks(u, c)
	}
	return Check(5, 0x2000)
}

func (u *Unit) blocks() uint64 { return uint64(len(u.Disk) / u.Block) }

func (b *Bus) onBlocks(u *Unit, c Cmd) Reply {
	lba, n, known := c.Blocks()
	if !known {
		b.violate("%v: %d bytes of parameters", c, len(c.Out))
		return Check(5, 0x2400)
	}
	if lba > u.blocks() || n > u.blocks()-lba {
		return Check(5, 0x2100)
	}
	if u.ReadOnly && c.CDB[0] != 0x28 && c.CDB[0] != 0x88 {
		return Check(7, 0x2700)
	}
	b.checkLimits(u, c, n)
	area := u.Disk[lba*uint64(u.Block):][:n*uint64(u.Block)]
	switch c.CDB[0] {
	case 0x28, 0x88:
		if c.Room != len(area) {
			b.violate("%v: room for %d bytes", c, c.Room)
		}
		return Reply{In: area}
	case 0x2a, 0x8a:
		if len(c.Out) != len(area) {
			b.violate("%v: %d bytes of data", c, len(c.Out))
		}
		copy(area, c.Out)
	case 0x93: // WRITE SAME
		if len(c.Out) != u.Block || len(bytes.Trim(c.Out, "\x00")) != 0 {
			b.violate("%v: %d bytes, not a block of zeroes", c, len(c.Out))
		}
		clear(area)
	case 0x42: // UNMAP
		if binary.BigEndian.Uint16(c.CDB[7:]) != 24 || binary.BigEndian.Uint16(c.Out) != 22 || binary.BigEndian.Uint16(c.Out[2:]) != 16 {
			b.violate("%v: parameter list %x", c, c.Out)
		}
		for i := range area {
			area[i] = 0xdd
		}
	}
	return Reply{}
}

// checkLimits notes what breaks page B0h.
func (b *Bus) checkLimits(u *Unit, c Cmd, n uint64) {
	p := u.VPD[0xb0]
	if len(p) < 44 {
		return
	}
	limit := uint64(0)
	switch c.CDB[0] {
	case 0x93:
		limit = binary.BigEndian.Uint64(p[36:])
	case 0x42:
		limit = uint64(binary.BigEndian.Uint32(p[20:]))
	default:
		limit = uint64(binary.BigEndian.Uint32(p[8:]))
	}
	if n == 0 || limit > 0 && n > limit {
		b.violate("%v: %d blocks, the limit is %d", c, n, limit)
	}
}

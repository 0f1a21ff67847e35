package fakenvme

import (
	"encoding/binary"
	"slices"

	"osv/kernel/hw/dma"
)

// Status values, Base 2.0 §3.3.3.2.1: SCT and SC.
const (
	OK             = 0
	InvalidOpcode  = 0x001
	InvalidField   = 0x002
	Internal       = 0x006
	AbortRequested = 0x007
	InvalidPRP     = 0x013
	LBARange       = 0x080
	WriteFault     = 0x280
	Unrecovered    = 0x281
)

func (d *Device) run(c Cmd) {
	status, result := uint16(OK), uint32(0)
	v := Do
	if d.Judge != nil {
		v = d.Judge(c)
	}
	switch {
	case v == Drop:
		d.dropped = append(d.dropped, c)
		return
	case v >= 0:
		status = uint16(v)
	case d.NoLog:
	case c.Queue == 0:
		status, result = d.admin(c)
	default:
		status = d.io(c)
	}
	id := c.Queue
	if s := d.sqs[c.Queue]; s != nil {
		id = s.cq
	}
	d.complete(id, c.Queue, c.CID, status, result)
}

func (d *Device) admin(c Cmd) (status uint16, result uint32) {
	id, size := int(c.DW[10]&0xffff), int(c.DW[10]>>16)+1
	switch c.Opcode {
	case 0x00: // Delete I/O Submission Queue
		if d.sqs[id] == nil || id == 0 {
			d.violate("queue %d deleted and not there", id)
			return 0x101, 0
		}
		delete(d.sqs, id)
	case 0x04: // Delete I/O Completion Queue
		for _, s := range d.sqs {
			if s.cq == id {
				d.violate("completion queue %d deleted before its submission queue", id)
			}
		}
		delete(d.cqs, id)
	case 0x05, 0x01: // Create
		if c.DW[11]&1 == 0 || c.PRP1%d.page() != 0 || id == 0 || uint64(size-1) > d.CAP&0xffff || size < 2 {
			d.violate("%v: bad queue", c)
			return InvalidField, 0
		}
		if c.Opcode == 0x05 {
			d.cqs[id] = &cq{base: dma.Addr(c.PRP1), size: size, phase: 1, vector: int(c.DW[11] >> 16)}
			if int(c.DW[11]>>16) >= max(len(d.Lines), 1) {
				d.violate("%v: no such vector", c)
			}
			return OK, 0
		}
		cqid := int(c.DW[11] >> 16)
		if d.cqs[cqid] == nil {
			d.violate("%v: no completion queue", c)
			return 0x100, 0
		}
		d.sqs[id] = &sq{base: dma.Addr(c.PRP1), size: size, cq: cqid, busy: map[uint16]bool{}}
	case 0x06:
		return d.identify(c), 0
	case 0x08:
		return OK, d.abort(c)
	case 0x09:
		if c.DW[10]&0xff != 7 {
			return InvalidField, 0
		}
		n := uint32(d.Queues - 1)
		return OK, min(c.DW[11]&0xffff, n) | min(c.DW[11]>>16, n)<<16
	default:
		return InvalidOpcode, 0
	}
	return OK, 0
}

func (d *Device) abort(c Cmd) uint32 {
	if d.NoAbort {
		return 1
	}
	cid, id := uint16(c.DW[10]>>16), int(c.DW[10]&0xffff)
	i := slices.IndexFunc(d.dropped, func(x Cmd) bool { return x.Queue == id && x.CID == cid })
	if i < 0 {
		return 1
	}
	d.dropped = slices.Delete(d.dropped, i, i+1)
	d.complete(d.sqs[id].cq, id, cid, AbortRequested, 0)
	return 0
}

func (d *Device) identify(c Cmd) uint16 {
	var page []byte
	switch c.DW[10] & 0xff {
	case 0:
		s := d.Spaces[c.NSID]
		if s == nil {
			page = make([]byte, 4096)
			break
		}
		page = s.Info[:]
	case 1:
		page = d.Ctrl[:]
	case 2:
		page = make([]byte, 4096)
		ids := d.List
		if ids == nil {
			for id := range d.Spaces {
				ids = append(ids, id)
			}
			slices.Sort(ids)
		}
		for i, id := range ids {
			binary.LittleEndian.PutUint32(page[4*i:], id)
		}
	case 6:
		page = d.CSCtrl[:]
	default:
		return InvalidField
	}
	mem, ok := d.prps(c, 4096)
	if !ok {
		return InvalidPRP
	}
	put(mem, page)
	return OK
}

func put(mem [][]byte, data []byte) {
	for _, m := range mem {
		data = data[copy(m, data):]
	}
}

// prps is the memory that a command of n bytes names, Base 2.0 §4.1.1.
func (d *Device) prps(c Cmd, n int) (mem [][]byte, ok bool) {
	page := int(d.page())
	add := func(a uint64, n int) bool {
		b, ok := d.Mem.BytesAt(dma.Addr(a), n)
		mem = append(mem, b)
		if !ok {
			d.violate("%v: PRP %#x+%d is not in memory", c, a, n)
		}
		return ok
	}
	if c.PRP1&3 != 0 {
		d.violate("%v: PRP1 %#x", c, c.PRP1)
		return nil, false
	}
	first := min(n, page-int(c.PRP1)&(page-1))
	if !add(c.PRP1, first) {
		return nil, false
	}
	n -= first
	switch {
	case n == 0:
		return mem, true
	case n <= page:
		if c.PRP2&uint64(page-1) != 0 {
			d.violate("%v: PRP2 %#x has an offset", c, c.PRP2)
			return nil, false
		}
		return mem, add(c.PRP2, n)
	}
	if c.PRP2&7 != 0 {
		d.violate("%v: PRP list at %#x", c, c.PRP2)
		return nil, false
	}
	for at := c.PRP2; n > 0; at += 8 {
		if at != c.PRP2 && at&uint64(page-1) == 0 || n > page && (at+8)&uint64(page-1) == 0 {
			d.violate("%v: PRP list at %#x crosses a page", c, c.PRP2)
			return nil, false
		}
		b, ok := d.Mem.BytesAt(dma.Addr(at), 8)
		if !ok {
			d.violate("%v: PRP list entry %#x is not in memory", c, at)
			return nil, false
		}
		p := binary.LittleEndian.Uint64(b)
		if p&uint64(page-1) != 0 {
			d.violate("%v: PRP list entry %#x has an offset", c, p)
			return nil, false
		}
		k := min(n, page)
		if !add(p, k) {
			return nil, false
		}
		n -= k
	}
	return mem, true
}

func (d *Device) io(c Cmd) uint16 {
	s := d.Spaces[c.NSID]
	if s == nil {
		return 0x00b
	}
	shift := int(binary.LittleEndian.Uint32(s.Info[128:]) >> 16 & 0xff)
	at := (uint64(c.DW[10]) | uint64(c.DW[11])<<32) << shift
	n := (int(c.DW[12]&0xffff) + 1) << shift
	size := uint64(len(s.Disk))
	switch c.Opcode {
	case 0x00:
		return OK
	case 0x01, 0x02:
		if mdts := d.Ctrl[77]; mdts != 0 && n > int(4096<<(d.CAP>>48&15))<<mdts {
			d.violate("%v: %d bytes, more than MDTS", c, n)
			return InvalidField
		}
		if at > size || uint64(n) > size-at {
			return LBARange
		}
		mem, ok := d.prps(c, n)
		if !ok {
			return InvalidPRP
		}
		if c.Opcode == 0x02 {
			put(mem, s.Disk[at:at+uint64(n)])
			return OK
		}
		for _, m := range mem {
			at += uint64(copy(s.Disk[at:], m))
		}
	case 0x08:
		if at > size || uint64(n) > size-at {
			return LBARange
		}
		clear(s.Disk[at : at+uint64(n)])
	case 0x09:
		nr := int(c.DW[10]&0xff) + 1
		mem, ok := d.prps(c, 16*nr)
		if !ok {
			return InvalidPRP
		}
		var all []byte
		for _, m := range mem {
			all = append(all, m...)
		}
		for ; len(all) >= 16; all = all[16:] {
			at := binary.LittleEndian.Uint64(all[8:]) << shift
			n := uint64(binary.LittleEndian.Uint32(all[4:])) << shift
			if at > size || n > size-at {
				return LBARange
			}
			if c.DW[11]&4 != 0 {
				for i := range s.Disk[at : at+n] {
					s.Disk[at+uint64(i)] = 0xdd
				}
			}
		}
	default:
		return InvalidOpcode
	}
	return OK
}

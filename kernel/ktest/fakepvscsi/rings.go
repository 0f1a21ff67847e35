package fakepvscsi

import (
	"encoding/binary"

	"osv/kernel/hw/dma"
	"osv/kernel/ktest/fakescsi"
)

// fetch takes all requests. Caller must hold mu, as for all below.
func (d *Device) fetch(onlyRW bool) {
	if d.state == nil {
		d.Bus.Violate("kick without rings")
		return
	}
	prod := d.load(0)
	if n := prod - d.reqCons; n > uint32(len(d.req)*32) {
		d.Bus.Violate("%d requests in a ring of %d", n, len(d.req)*32)
		return
	}
	le := binary.LittleEndian
	for d.reqCons != prod {
		i := d.reqCons % uint32(len(d.req)*32)
		d.reqCons++
		e := d.req[i/32][i%32*128:][:128]
		r := request{le.Uint64(e), le.Uint64(e[8:]), le.Uint64(e[16:]), le.Uint64(e[24:]), le.Uint32(e[32:]), le.Uint32(e[36:]),
			[16]byte(e[40:56]), e[56], [8]byte(e[57:65]), int(e[67])}
		if r.context == 0 || r.context >= 1<<32 || e[66] != 0 {
			d.Bus.Violate("context %#x, bus %d", r.context, e[66])
		}
		for _, h := range append(d.hand, d.dropped...) {
			if h.context == r.context {
				d.Bus.Violate("context %#x twice", r.context)
			}
		}
		if op := r.cdb[0]; onlyRW && op != 0x28 && op != 0x2a && op != 0x88 && op != 0x8a {
			d.Bus.Violate("command %02xh by the kick for reads and writes", op)
		}
		if d.Manual {
			d.hand = append(d.hand, r)
		} else {
			d.run(r)
		}
	}
	d.store(4, d.reqCons)
}

// Step completes one waiting command and reports whether there was one.
func (d *Device) Step() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.hand) == 0 {
		return false
	}
	i := 0
	if d.Pick != nil {
		i = d.Pick(len(d.hand))
	}
	r := d.hand[i]
	d.hand = append(d.hand[:i], d.hand[i+1:]...)
	d.run(r)
	return true
}

// memory is the data of a request, piece by piece.
func (d *Device) memory(r request) (out [][]byte) {
	out = d.pieces[:0]
	defer func() { d.pieces = out }()
	piece := func(addr uint64, n int) {
		b, ok := d.Mem.BytesAt(dma.Addr(addr), n)
		if !ok {
			d.Bus.Violate("context %#x: %d bytes at %#x are not the driver's", r.context, n, addr)
			b = make([]byte, n)
		}
		out = append(out, b)
	}
	if r.flags&1 == 0 {
		if r.dataLen > 0 {
			piece(r.dataAddr, int(r.dataLen))
		}
		return out
	}
	for left, at := int(r.dataLen), r.dataAddr; left > 0; at += 16 {
		e, ok := d.Mem.BytesAt(dma.Addr(at), 16)
		if !ok || at/4096 != r.dataAddr/4096 {
			d.Bus.Violate("context %#x: list leaves its page at %#x", r.context, at)
			return out
		}
		n := int(binary.LittleEndian.Uint32(e[8:]))
		if n == 0 || n > left || binary.LittleEndian.Uint32(e[12:]) != 0 {
			d.Bus.Violate("context %#x: piece of %d bytes with %d left", r.context, n, left)
			return out
		}
		piece(binary.LittleEndian.Uint64(e), n)
		left -= n
	}
	return out
}

func (d *Device) run(r request) {
	lun := int(r.lun[1])
	switch {
	case r.lun[0]&0xc0 == 0x40:
		lun |= int(r.lun[0]&0x3f) << 8
	case r.lun[0] != 0:
		d.Bus.Violate("LUN %x", r.lun)
	}
	c := fakescsi.Cmd{Target: r.target, LUN: lun, CDB: append(d.cdb[:0], r.cdb[:r.cdbLen]...)}
	mem := d.memory(r)
	switch r.flags &^ 1 {
	case 1 << 2:
		if r.dataLen != 0 {
			d.Bus.Violate("%v: %d bytes of no data", c, r.dataLen)
		}
	case 1 << 3:
		c.Room = int(r.dataLen)
	case 1 << 4:
		for _, b := range mem {
			c.Out = append(c.Out, b...)
		}
	default:
		d.Bus.Violate("%v: flags %#x", c, r.flags)
	}
	reply := d.Bus.Do(c)
	host, moved := uint16(0), uint64(r.dataLen)
	switch {
	case reply.Drop:
		d.dropped = append(d.dropped, r)
		return
	case reply.NoTarget:
		host, moved = 0x11, 0
	case reply.NoUnit:
		host, moved = 0x17, 0
	case reply.Status != 0:
		moved = 0
		if r.dataLen > 0 {
			host = 0x12
		}
	case c.Room > 0:
		in := reply.In
		for _, b := range mem {
			in = in[copy(b, in):]
		}
		if len(reply.In) < c.Room {
			host, moved = 0x12, uint64(len(reply.In))
		}
	}
	if !d.Exact {
		moved = 0
	}
	d.complete(r, host, uint16(reply.Status), moved, reply.Sense)
}

// cancel ends commands with a host status.
func (d *Device) cancel(host uint16, which func(request) bool) {
	for _, list := range []*[]request{&d.hand, &d.dropped} {
		var rest []request
		for _, r := range *list {
			if which(r) {
				d.complete(r, host, 0, 0, nil)
			} else {
				rest = append(rest, r)
			}
		}
		*list = rest
	}
}

func (d *Device) complete(r request, host, status uint16, moved uint64, sense []byte) {
	n := 0
	if len(sense) > 0 {
		b, ok := d.Mem.BytesAt(dma.Addr(r.senseAddr), int(r.senseLen))
		if !ok {
			d.Bus.Violate("sense data at %#x", r.senseAddr)
		}
		n = copy(b, sense)
	}
	if d.HostStatus != 0 {
		host = d.HostStatus
	}
	if d.DataLen != 0 {
		moved = d.DataLen
	}
	d.post(r.context, host, status, moved, uint32(n))
}

// Post writes a completion, true or not.
func (d *Device) Post(context uint64, host, status uint16, moved uint64, sense uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.post(context, host, status, moved, sense)
}

func (d *Device) post(context uint64, host, status uint16, moved uint64, sense uint32) {
	if d.state == nil {
		return
	}
	if !d.lied && d.cmpProd-d.load(16) >= uint32(len(d.cmp)*128) {
		d.Bus.Violate("completion ring is full")
	}
	i := d.cmpProd % uint32(len(d.cmp)*128)
	e := d.cmp[i/128][i%128*32:][:32]
	binary.LittleEndian.PutUint64(e, context)
	binary.LittleEndian.PutUint64(e[8:], moved)
	binary.LittleEndian.PutUint32(e[16:], sense)
	binary.LittleEndian.PutUint16(e[20:], host)
	binary.LittleEndian.PutUint16(e[22:], status)
	d.cmpProd++
	d.store(12, d.cmpProd)
	d.raise(intrDone)
}

// Skip moves an index by n without an entry: that of completions, or of messages.
func (d *Device) Skip(message bool, n uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.state == nil {
		return
	}
	if message {
		d.msgProd += n
		d.store(128, d.msgProd)
		d.raise(intrMessage)
		return
	}
	d.lied = true
	d.cmpProd += n
	d.store(12, d.cmpProd)
	d.raise(intrDone)
}

// Message sends one: 0 for a unit that is new, 1 for one that has gone.
func (d *Device) Message(kind uint32, target int, lun byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e := d.msg[d.msgProd%32*128:][:128]
	binary.LittleEndian.PutUint32(e, kind)
	binary.LittleEndian.PutUint32(e[8:], uint32(target))
	e[13] = lun
	d.msgProd++
	d.store(128, d.msgProd)
	d.raise(intrMessage)
}

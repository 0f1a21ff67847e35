package fakevmxnet3

// complete writes an entry of a completion ring, the word with the generation
// last, and moves on.
func complete(b []byte, e [4]uint32) {
	store64(b, uint64(e[0])|uint64(e[1])<<32)
	store64(b[8:], uint64(e[2])|uint64(e[3])<<32)
}

func advance(i, gen *uint32, n uint32) {
	if *i++; *i == n {
		*i, *gen = 0, *gen^1
	}
}

// accepts applies the receive mode.
func (c *Card) accepts(f []byte) bool {
	mode := le.Uint32(c.shared[120:])
	switch {
	case mode&0x10 != 0:
		return true
	case [6]byte(f) == [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}:
		return mode&4 != 0
	case f[0]&1 != 0:
		if mode&8 != 0 {
			return true
		}
		n := int(le.Uint16(c.shared[124:]))
		t := c.bytes(le.Uint64(c.shared[128:]), n)
		for ; mode&2 != 0 && len(t) >= 6; t = t[6:] {
			if [6]byte(t) == [6]byte(f) {
				return true
			}
		}
		return false
	}
	return mode&1 != 0 && [6]byte(f) == c.Addr
}

// stepRx moves waiting frames of queue q into posted buffers.
func (c *Card) stepRx(q int) (moved int) {
	d := c.queues[(c.ntx+q)*256:]
	for len(c.backlog[q]) > 0 && c.linkUp {
		f := c.backlog[q][0]
		if !c.accepts(f) {
			c.backlog[q] = c.backlog[q][1:]
			c.dropped++
			continue
		}
		if !c.receive(q, d, f) {
			store32(d, 1) // it wants to know of new buffers
			break
		}
		c.backlog[q] = c.backlog[q][1:]
		moved++
	}
	if moved > 0 {
		c.interrupt(int(d[72]))
	}
	return moved
}

// buffer is the next of ring k, nil where none is posted.
func (c *Card) buffer(s *rxState, d []byte, k int) (b []byte, index uint32) {
	at, n := le.Uint64(d[16+8*k:]), le.Uint32(d[56+4*k:])
	e := c.bytes(at+uint64(s.next[k])*16, 16)
	w := load32(e[8:])
	if w>>31 != s.gen[k] {
		return nil, 0
	}
	if int(w>>14&1) != k {
		c.violate("ring %d: descriptor %d is of type %d", k, s.next[k], w>>14&1)
	}
	index = s.next[k]
	advance(&s.next[k], &s.gen[k], n)
	return c.bytes(le.Uint64(e), int(w&0x3FFF)), index
}

// receive writes a frame into a head buffer and as many body buffers as it takes.
// It reports false, and has done nothing, where they are not there.
func (c *Card) receive(q int, d, f []byte) bool {
	s := c.rx[q]
	type part struct {
		ring  int
		index uint32
		n     int
	}
	var parts []part
	if c.SkipBuf {
		if b, _ := c.buffer(&s, d, 0); b != nil {
			c.SkipBuf = false
		}
	}
	for done := 0; done < len(f) || len(parts) == 0; {
		k := min(len(parts), 1)
		b, i := c.buffer(&s, d, k)
		if b == nil {
			return false
		}
		n := copy(b, f[done:])
		done += n
		parts = append(parts, part{k, i, n})
	}
	if limit := int(le.Uint16(c.shared[60:])); len(parts) > limit || len(f) > int(le.Uint32(c.shared[56:]))+18 && le.Uint64(c.shared[24:])&8 == 0 {
		c.oversize++
		return true
	}
	n := le.Uint32(d[64:])
	at := le.Uint64(d[32:])
	for i, p := range parts {
		var e [4]uint32
		e[0] = p.index | uint32(q+p.ring*c.nrx)<<16 | 1<<30
		if i == 0 {
			e[0] |= 1 << 15
		}
		if i == len(parts)-1 {
			e[0] |= 1 << 14
			c.checked(f, &e)
		}
		e[2] = uint32(p.n)
		e[3] |= 1<<23 | 3<<24
		if c.Merged != nil && i == 0 && c.vd[0] == 2 {
			segs, mss := c.Merged(f)
			e[1] = uint32(segs)
			e[3] = e[3]&^(7<<24) | 4<<24 | uint32(mss)
		}
		if c.OnRx != nil {
			c.OnRx(&e)
		}
		e[3] = e[3]&^(1<<31) | s.cgen<<31
		complete(c.bytes(at+uint64(s.comp)*16, 16), e)
		advance(&s.comp, &s.cgen, n)
	}
	c.rx[q] = s
	return true
}

// checked says what the device found of the frame's checksums.
func (c *Card) checked(f []byte, e *[4]uint32) {
	if le.Uint64(c.shared[24:])&1 == 0 || len(f) < 54 {
		return
	}
	g := f
	if f[12] == 0x81 && f[13] == 0 {
		g = f[4:]
	}
	switch {
	case g[12] == 8 && g[13] == 0 && g[23] == 6:
		e[3] |= 1<<18 | 1<<19 | 1<<21
	case g[12] == 0x86 && g[13] == 0xDD && g[20] == 6:
		e[3] |= 1<<18 | 1<<20
	default:
		return
	}
	e[0] &^= 1 << 30
	if c.BadSums == nil || !c.BadSums(f) {
		e[3] |= 1 << 16
	}
}

// stepTx takes what the driver sent on queue q.
func (c *Card) stepTx(q int) (moved int) {
	if c.HoldTx || c.shared == nil || q >= c.ntx {
		return 0
	}
	d := c.queues[q*256:]
	s := &c.tx[q]
	at, n := le.Uint64(d[16:]), le.Uint32(d[56:])
	for {
		var f []byte
		var first uint64
		k := *s
		for count := 0; ; count++ {
			e := c.bytes(at+uint64(k.next)*16, 16)
			w := load64(e[8:])
			if uint32(w>>14&1) != k.gen {
				if count > 0 {
					c.violate("queue %d: a frame without an end", q)
				}
				return moved
			}
			if count == 0 {
				first = w
			}
			size := int(w & 0x3FFF)
			if size == 0 {
				size = 1 << 14
			}
			f = append(f, c.bytes(le.Uint64(e), size)...)
			i := k.next
			advance(&k.next, &k.gen, n)
			if w>>44&1 == 0 {
				continue
			}
			if count >= 16 && first>>42&3 != 3 {
				c.violate("queue %d: %d descriptors for a frame", q, count+1)
			}
			*s = k
			c.send(q, f, first)
			moved++
			if w>>45&1 != 0 && !c.NoReport {
				c.report(q, d, i)
			}
			break
		}
	}
}

// report completes the frame that ends at descriptor i.
func (c *Card) report(q int, d []byte, i uint32) {
	s := &c.tx[q]
	e := [4]uint32{0: i}
	if c.OnTx != nil {
		c.OnTx(&e)
	}
	e[3] = e[3]&^(1<<31) | s.cgen<<31
	complete(c.bytes(le.Uint64(d[32:])+uint64(s.comp)*16, 16), e)
	advance(&s.comp, &s.cgen, le.Uint32(d[64:]))
	c.interrupt(int(d[72]))
}

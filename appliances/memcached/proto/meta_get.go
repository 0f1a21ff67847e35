package proto

import "osv/appliances/memcached/store"

// metaGet answers mg.
func (c *Conn) metaGet(key []byte, o *Out) {
	t := &c.tok
	if t.n > maxMetaTokens {
		o.str(rMgTooLong)
		return
	}
	var f metaFlags
	key, errstr := c.metaParse(&f, key, 2)
	if errstr == "" && len(f.opaque) > maxOpaque {
		errstr = rOpaqueTooLong
	}
	if errstr != "" {
		o.str(errstr)
		return
	}
	g := store.MetaGet{
		NoBump: f.noBump,
		Touch:  f.touch, Deadline: f.touchAt, TouchFirst: f.touchPos < f.recachePos || !f.recache,
		Vivify: f.vivify, VivifyAt: f.vivifyAt,
		Recache: f.recache, RecacheBefore: f.recacheAt,
	}
	if f.touch && f.touchPos > f.vivifyPos {
		g.VivifyAt = f.touchAt
	}
	var r store.MetaResult
	it, st := c.w.GetMeta(key, &g, &r)
	if st != store.OK {
		// A stub that could not be made is a miss too.
		c.metaMiss(&f, key, o)
		return
	}
	b, direct := c.header(o)
	if f.value {
		b = append(b, "VA "...)
		b = appendUint(b, uint64(it.Len()))
	} else {
		b = append(b, "HD"...)
	}
	deadline := r.OldDeadline // as the flags change it, in their order
	for i := 2; i < t.n; i++ {
		switch w := t.get(i); w[0] {
		case 's':
			b = append(b, " s"...)
			b = appendUint(b, uint64(it.Len()))
		case 't':
			b = append(b, " t"...)
			b = appendTTL(b, c.ttlOf(deadline))
		case 'T':
			deadline = f.touchAt
		case 'N':
			if r.Created {
				deadline = f.vivifyAt
			}
		case 'c':
			b = append(b, " c"...)
			b = appendUint(b, it.CAS())
		case 'f':
			b = append(b, " f"...)
			b = appendUint(b, uint64(it.Flags()))
		case 'l':
			b = append(b, " l"...)
			b = appendUint(b, uint64(r.Idle))
		case 'h':
			b = append(b, " h0"...)
			if r.Fetched {
				b[len(b)-1] = '1'
			}
		case 'O':
			b = append(b, ' ')
			b = append(b, w...)
		case 'k':
			b = appendKey(b, it.Key(), it.BinKey())
		}
	}
	if r.Sent {
		b = append(b, " Z"...)
	}
	if r.Stale {
		b = append(b, " X"...)
	}
	if r.Won {
		b = append(b, " W"...)
	}
	b = append(b, '\r', '\n')
	if direct {
		o.B = b
		if f.value {
			c.value(o, it, true)
		}
		return
	}
	c.sendSlow(o, b, it, f.value, true)
}

// ttlOf is the TTL of an item with that deadline.
func (c *Conn) ttlOf(deadline uint32) int64 {
	if deadline == 0 {
		return -1
	}
	return int64(deadline) - int64(c.srv.Store.Now())
}

// metaMiss answers an mg that found nothing.
func (c *Conn) metaMiss(f *metaFlags, key []byte, o *Out) {
	if f.quiet {
		return
	}
	o.str("EN")
	c.returnFlags(f, key, o)
	o.str("\r\n")
}

// returnFlags puts the flags that need no item.
func (c *Conn) returnFlags(f *metaFlags, key []byte, o *Out) {
	for i := 2; i < c.tok.n; i++ {
		switch w := c.tok.get(i); w[0] {
		case 'O':
			o.str(" ")
			o.put(w)
		case 'k':
			var t [2 + 2*maxKey]byte
			o.put(appendKey(t[:0], key, f.binKey))
		}
	}
}

// metaDelete answers md.
func (c *Conn) metaDelete(key []byte, o *Out) {
	if c.tok.n > maxMetaTokens {
		o.str(rFlagsTooLong)
		return
	}
	var f metaFlags
	key, errstr := c.metaParse(&f, key, 2)
	if errstr != "" {
		o.str(rInvalidOrDup)
		return
	}
	if len(f.opaque) > maxOpaque {
		o.str(rOpaqueTooLong)
		return
	}
	cas := f.cas
	if f.hasCAS && cas == 0 {
		cas = 1<<64 - 1 // matches nothing
	}
	var st store.Status
	if f.stale {
		st = c.w.MarkStale(key, cas, f.touch, f.touchAt)
	} else {
		st = c.w.Delete(key, cas)
	}
	switch st {
	case store.OK:
		if f.quiet {
			return
		}
		o.str("HD")
	case store.Exists:
		o.str("EX")
	default:
		o.str("NF")
	}
	c.returnFlags(&f, key, o)
	o.str("\r\n")
}

// metaArith answers ma.
func (c *Conn) metaArith(key []byte, o *Out) {
	t := &c.tok
	if t.n > maxMetaTokens {
		o.str(rFlagsTooLong)
		return
	}
	f := metaFlags{delta: 1}
	key, errstr := c.metaParse(&f, key, 2)
	if errstr != "" {
		o.str(rInvalidOrDup)
		return
	}
	a := store.Arith{Delta: f.delta, CAS: f.cas, Touch: f.touch, Deadline: f.touchAt}
	switch f.mode {
	case 0, 'I', '+':
	case 'D', '-':
		a.Decr = true
	default:
		o.str("CLIENT_ERROR invalid mode for ma M token\r\n")
		return
	}
	if len(f.opaque) > maxOpaque {
		o.str(rOpaqueTooLong)
		return
	}
	var v, cas uint64
	var st store.Status
	created := false
	for {
		var it store.Item
		if it, v, st = c.w.Arith(key, &a); st == store.OK {
			cas = it.CAS()
			c.w.Leave()
		}
		if st != store.NotFound || !f.vivify {
			break
		}
		at := f.vivifyAt
		if f.touch && f.touchPos > f.vivifyPos {
			at = f.touchAt
		}
		var num [maxDigits]byte
		st, cas = c.w.Store(store.Add, key, 0, at, appendUint(num[:0], f.initial), 0)
		if st == store.NotStored {
			continue // someone else made it just now
		}
		if st != store.OK {
			o.str("SERVER_ERROR Out of memory allocating new item\r\n")
			return
		}
		v, created, a.OldDeadline = f.initial, true, 0
		break
	}
	switch st {
	case store.OK:
	case store.NonNumeric:
		o.str(rNotNumber)
		return
	case store.NotFound, store.Exists:
		if st == store.Exists {
			o.str("EX")
		} else {
			o.str("NF")
		}
		c.returnFlags(&f, key, o)
		o.str("\r\n")
		return
	default:
		o.str(rOutOfMemory)
		return
	}
	if f.quiet && !created {
		return
	}
	var num [maxDigits]byte
	digits := appendUint(num[:0], v)
	b, direct := c.header(o)
	if f.value {
		b = append(b, "VA "...)
		b = appendUint(b, uint64(len(digits)))
	} else {
		b = append(b, "HD"...)
	}
	deadline := a.OldDeadline
	for i := 2; i < t.n; i++ {
		switch w := t.get(i); w[0] {
		case 'c':
			b = append(b, " c"...)
			b = appendUint(b, cas)
		case 't':
			b = append(b, " t"...)
			b = appendTTL(b, c.ttlOf(deadline))
		case 'T':
			deadline = f.touchAt
		case 'N':
			if created {
				deadline = f.vivifyAt
			}
		case 'O':
			b = append(b, ' ')
			b = append(b, w...)
		case 'k':
			b = appendKey(b, key, f.binKey)
		}
	}
	b = append(b, '\r', '\n')
	if f.value {
		b = append(b, digits...)
		b = append(b, '\r', '\n')
	}
	if direct {
		o.B = b
		return
	}
	o.put(b)
}

package proto

import "osv/appliances/memcached/store"

// metaReturn is what the reply of ms repeats, kept until the value has come.
type metaReturn struct {
	order   [3]byte // of k, O, c
	n       int
	opaque  [maxOpaque]byte
	nopaque int
	nkey    int // the key is c.key[:nkey]
	binKey  bool
}

// metaSet answers ms.
func (c *Conn) metaSet(key, rest []byte, o *Out) {
	t := &c.tok
	if t.n < 3 {
		o.str(rBadFormat)
		return
	}
	if t.n > maxMetaTokens {
		o.str(rFlagsTooLong)
		return
	}
	v, ok := parseI32(t.get(2))
	if !ok || v < 0 || v > 1<<31-1-2 {
		o.str(rBadFormat)
		return
	}
	n := int(v)
	var f metaFlags
	key, errstr := c.metaParse(&f, key, 3)
	s := &c.set
	if errstr == "" {
		s.mode, errstr = msMode(&f)
	}
	if errstr == "" && len(f.opaque) > maxOpaque {
		errstr = rOpaqueTooLong
	}
	if errstr != "" {
		o.str(errstr)
		c.skip(n + 2)
		return
	}
	c.noreply = f.quiet
	c.keepReturn(&f, key)
	s.cas, s.isMeta = f.cas, true
	if size := n + 2; len(rest) >= size && !f.binKey {
		s.took = size
		if rest[n] == '\r' && rest[n+1] == '\n' {
			st, cas := c.w.Store(s.mode, key, f.clientFlags, f.touchAt, rest[:n], s.cas)
			if st == store.TooLarge || st == store.NoMemory {
				c.metaRefused(st, key, o)
				return
			}
			c.metaStored(st, cas, o)
			return
		}
		if !c.srv.Store.Fits(len(key), n, f.clientFlags) {
			c.metaRefused(store.TooLarge, key, o)
			return
		}
		o.str(rBadChunk)
		return
	}
	if st := c.w.Begin(&s.p, key, f.clientFlags, f.touchAt, n, f.binKey); st != store.OK {
		c.metaRefused(st, key, o)
		c.skip(n + 2)
		return
	}
	c.awaitValue()
}

func msMode(f *metaFlags) (store.Mode, string) {
	m := store.Set
	switch f.mode {
	case 0, 'S':
	case 'E':
		return store.Add, ""
	case 'A':
		return store.Append, ""
	case 'P':
		return store.Prepend, ""
	case 'R':
		m = store.Replace
	default:
		return 0, "CLIENT_ERROR invalid mode for ms M token\r\n"
	}
	if !f.hasCAS {
		return m, ""
	}
	// With a CAS, set and replace are the same.
	if f.stale {
		return store.CASOrStale, ""
	}
	return store.CAS, ""
}

func (c *Conn) keepReturn(f *metaFlags, key []byte) {
	r := &c.set.ret
	r.n, r.nopaque, r.binKey = 0, copy(r.opaque[:], f.opaque), f.binKey
	for i := 3; i < c.tok.n; i++ {
		switch b := c.tok.get(i)[0]; b {
		case 'k':
			r.nkey = copy(c.key[:], key)
			fallthrough
		case 'O', 'c':
			r.order[r.n] = b
			r.n++
		}
	}
}

// metaRefused says that an ms could not be taken; what is there is outdated.
func (c *Conn) metaRefused(st store.Status, key []byte, o *Out) {
	c.w.Forget(key)
	if st == store.TooLarge {
		o.str(rTooLarge)
	} else {
		o.str(rNoMemory)
	}
}

// metaStored answers an ms that has been carried out.
func (c *Conn) metaStored(st store.Status, cas uint64, o *Out) {
	switch st {
	case store.OK:
		if c.noreply {
			return
		}
		o.str("HD")
	case store.Exists:
		o.str("EX")
	case store.NotFound:
		o.str("NF")
	default:
		o.str("NS")
	}
	r := &c.set.ret
	for _, b := range r.order[:r.n] {
		switch b {
		case 'O':
			o.str(" ")
			o.put(r.opaque[:r.nopaque])
		case 'k':
			var t [2 + 2*maxKey]byte
			o.put(appendKey(t[:0], c.key[:r.nkey], r.binKey))
		case 'c':
			o.str(" c")
			o.uint(cas)
		}
	}
	o.str("\r\n")
}

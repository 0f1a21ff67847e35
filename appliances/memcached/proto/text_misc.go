package proto

import "osv/appliances/memcached/store"

func (c *Conn) arith(decr bool, o *Out) {
	if !c.count(o, 3, 4) {
		return
	}
	t := &c.tok
	c.noreplyMaybe()
	key := t.get(1)
	if len(key) > maxKey {
		c.reply(o, rBadFormat)
		return
	}
	delta, ok := parseU64(t.get(2))
	if !ok {
		c.reply(o, "CLIENT_ERROR invalid numeric delta argument\r\n")
		return
	}
	a := store.Arith{Delta: delta, Decr: decr}
	_, v, st := c.w.Arith(key, &a)
	c.w.Leave()
	switch st {
	case store.OK:
		if !c.noreply {
			o.uint(v)
			o.str("\r\n")
		}
	case store.NotFound:
		c.reply(o, rNotFound)
	case store.NonNumeric:
		c.reply(o, rNotNumber)
	default:
		o.str(rOutOfMemory)
	}
}

func (c *Conn) delete(o *Out) {
	if !c.count(o, 2, 4) {
		return
	}
	t := &c.tok
	if t.n > 2 {
		zero := t.is(2, "0")
		c.noreplyMaybe()
		if !(t.n == 3 && (zero || c.noreply) || t.n == 4 && zero && c.noreply) {
			c.reply(o, "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]\r\n")
			return
		}
	}
	key := t.get(1)
	if len(key) > maxKey {
		c.reply(o, rBadFormat)
		return
	}
	if c.srv.Detail.on.Load() {
		c.srv.Detail.delete(key)
	}
	if c.w.Delete(key, 0) == store.OK {
		c.reply(o, "DELETED\r\n")
	} else {
		c.reply(o, rNotFound)
	}
}

func (c *Conn) touch(o *Out) {
	if !c.count(o, 3, 4) {
		return
	}
	t := &c.tok
	c.noreplyMaybe()
	key := t.get(1)
	if len(key) > maxKey {
		c.reply(o, rBadFormat)
		return
	}
	exp, ok := parseI32(t.get(2))
	if !ok {
		c.reply(o, rBadExptime)
		return
	}
	_, ok = c.w.Touch(key, c.srv.Store.Deadline(int64(exp)), false)
	c.w.Leave()
	if ok {
		c.reply(o, "TOUCHED\r\n")
	} else {
		c.reply(o, rNotFound)
	}
}

func (c *Conn) flushAll(o *Out) {
	if !c.count(o, 1, 3) {
		return
	}
	t := &c.tok
	c.noreplyMaybe()
	c.w.Count(countFlush, 1)
	if c.srv.NoFlush {
		c.reply(o, "CLIENT_ERROR flush_all not allowed\r\n")
		return
	}
	var exp int32
	want := 1
	if c.noreply {
		want = 2
	}
	if t.n != want {
		var ok bool
		if exp, ok = parseI32(t.get(1)); !ok {
			c.reply(o, rBadExptime)
			return
		}
	}
	c.srv.Store.Flush(int64(exp))
	c.reply(o, rOK)
}

func (c *Conn) verbosity(o *Out) {
	if !c.count(o, 2, 3) {
		return
	}
	c.noreplyMaybe()
	v, ok := parseU32(c.tok.get(1))
	if !ok {
		c.reply(o, rBadFormat)
		return
	}
	c.srv.Verbosity.Store(int32(min(v, 2)))
	c.reply(o, rOK)
}

func (c *Conn) memlimit(o *Out) {
	if !c.count(o, 2, 3) {
		return
	}
	c.noreplyMaybe()
	mb, ok := parseU32(c.tok.get(1))
	switch {
	case !ok:
		c.reply(o, rError)
	case mb < 8:
		c.reply(o, "MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m\r\n")
	case mb > 1000000000:
		c.reply(o, "MEMLIMIT_ADJUST_FAILED input value is megabytes not bytes\r\n")
	case c.srv.Store.SetLimit(int(mb) << 20):
		c.reply(o, rOK)
	default:
		c.reply(o, "MEMLIMIT_ADJUST_FAILED out of bounds or unable to adjust\r\n")
	}
}

func (c *Conn) shutdown(o *Out) {
	t := &c.tok
	if !c.srv.Shutdownok || c.srv.Shutdown == nil {
		o.str("ERROR: shutdown not enabled\r\n")
		return
	}
	switch {
	case t.n == 1:
		c.state = stateClosed
		c.srv.Shutdown(false)
	case t.n == 2 && t.is(1, "graceful"):
		c.state = stateClosed
		c.srv.Shutdown(true)
	default:
		o.str("CLIENT_ERROR invalid shutdown mode\r\n")
	}
}

// slabs: pages move by themselves (store/page.go), so the commands only keep
// what upstream would.
func (c *Conn) slabs(o *Out) {
	t := &c.tok
	switch {
	case t.n == 4 && t.is(1, "reassign"):
		src, ok1 := parseI32(t.get(2))
		dst, ok2 := parseI32(t.get(3))
		if !ok1 || !ok2 {
			o.str(rBadFormat)
			return
		}
		switch c.srv.Store.Reassign(int(src), int(dst)) {
		case store.OK:
			o.str(rOK)
		case store.Exists:
			o.str("SAME src and dst class are identical\r\n")
		case store.NotFound:
			o.str("BADCLASS invalid src or dst class id\r\n")
		default:
			o.str("NOSPARE source class has no spare pages\r\n")
		}
	case t.n >= 3 && t.is(1, "automove"):
		c.noreplyMaybe()
		if t.is(2, "ratio") {
			if t.n < 4 {
				c.reply(o, rError)
				return
			}
			if f, err := parseFloat(t.get(3)); err != nil || f < 0 {
				c.reply(o, rError)
				return
			}
			c.reply(o, rOK)
			return
		}
		level, ok := parseU32(t.get(2))
		switch {
		case !ok:
			c.reply(o, rBadFormat)
		case level > 2:
			c.reply(o, rError)
		default:
			c.srv.Automove.Store(int32(level))
			c.srv.Store.SetAutomove(level != 0)
			c.reply(o, rOK)
		}
	default:
		o.str(rError)
	}
}

func (c *Conn) lru(o *Out) {
	t := &c.tok
	if t.n < 2 {
		o.str(rError)
		return
	}
	c.noreplyMaybe()
	switch {
	case t.is(1, "tune") && t.n >= 6:
		hot, ok1 := parseU32(t.get(2))
		warm, ok2 := parseU32(t.get(3))
		hf, err1 := parseFloat(t.get(4))
		wf, err2 := parseFloat(t.get(5))
		switch {
		case !ok1 || !ok2 || err1 != nil || err2 != nil:
			c.reply(o, rError)
		case hot+warm > 80:
			c.reply(o, "ERROR hot and warm pcts must not exceed 80\r\n")
		case hf <= 0 || wf <= 0:
			c.reply(o, "ERROR hot/warm age factors must be greater than 0\r\n")
		default:
			c.srv.Store.TuneLRU(int(hot), int(warm), hf, wf)
			c.reply(o, rOK)
		}
	case t.is(1, "mode") && t.n >= 3 && (t.is(2, "flat") || t.is(2, "segmented")):
		c.srv.Store.SetFlat(t.is(2, "flat"))
		c.reply(o, rOK)
	case t.is(1, "temp_ttl") && t.n >= 3:
		ttl, ok := parseI32(t.get(2))
		if !ok {
			c.reply(o, rError)
			return
		}
		c.srv.Store.SetTempTTL(int64(ttl))
		c.reply(o, rOK)
	default:
		c.reply(o, rError)
	}
}

func (c *Conn) lruCrawler(o *Out) {
	t, s := &c.tok, c.srv.Store
	switch {
	case t.n == 3 && (t.is(1, "crawl") || t.is(1, "metadump")):
		if !s.CrawlerOn() {
			o.str("CLIENT_ERROR lru crawler disabled\r\n")
			return
		}
		if t.is(1, "metadump") {
			c.metadump(t.get(2), o)
			return
		}
		if !t.is(2, "all") && !classList(t.get(2)) {
			o.str("BADCLASS invalid class id\r\n")
			return
		}
		s.Crawl()
		o.str(rOK)
	case t.n == 3 && t.is(1, "tocrawl"):
		n, ok := parseU32(t.get(2))
		if !ok {
			o.str(rBadFormat)
			return
		}
		c.srv.Tocrawl.Store(n)
		o.str(rOK)
	case t.n == 3 && t.is(1, "sleep"):
		n, ok := parseU32(t.get(2))
		switch {
		case !ok:
			o.str(rBadFormat)
		case n > 1000000:
			o.str("CLIENT_ERROR sleep must be one second or less\r\n")
		default:
			c.srv.CrawlerSleep.Store(int32(n))
			o.str(rOK)
		}
	case t.n == 2 && (t.is(1, "enable") || t.is(1, "disable")):
		s.SetCrawler(t.is(1, "enable"))
		o.str(rOK)
	default:
		o.str(rError)
	}
}

// classList reports whether b is a list of slab class numbers with commas.
func classList(b []byte) bool {
	for len(b) > 0 {
		i := 0
		for i < len(b) && b[i] != ',' {
			i++
		}
		if n, ok := parseU32(b[:i]); !ok || n < 1 || n > 62 {
			return false
		}
		b = b[min(i+1, len(b)):]
	}
	return true
}

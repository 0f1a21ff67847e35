package proto

import "osv/appliances/memcached/store"

// Storage commands. The value is stored straight from the input where all of it
// is there; else it goes into a pending item as it comes.

const (
	modeSet     = store.Set
	modeAdd     = store.Add
	modeReplace = store.Replace
	modeAppend  = store.Append
	modePrepend = store.Prepend
	modeCAS     = store.CAS
)

// setState is the storage command whose value is awaited.
type setState struct {
	p      store.Pending
	mode   store.Mode
	cas    uint64
	tail   [2]byte // what came where "\r\n" should be
	ntail  int
	took   int // bytes of the value that were taken right after the line
	isMeta bool
	// What the reply of ms repeats: see meta_set.go.
	ret metaReturn
}

// storage runs a storage command of nargs tokens, not counting noreply.
func (c *Conn) storage(mode store.Mode, nargs int, rest []byte, o *Out) {
	if !c.count(o, nargs, nargs+1) {
		return
	}
	t := &c.tok
	c.noreplyMaybe()
	key := t.get(1)
	if len(key) > maxKey {
		c.reply(o, rBadFormat)
		return
	}
	flags, ok1 := parseU32(t.get(2))
	exp, ok2 := parseI32(t.get(3))
	n, ok3 := parseI32(t.get(4))
	var cas uint64
	ok4 := true
	if mode == modeCAS {
		cas, ok4 = parseU64(t.get(5))
	}
	if !ok1 || !ok2 || !ok3 || !ok4 || n < 0 || n > 1<<31-1-2 {
		c.reply(o, rBadFormat)
		return
	}
	if c.srv.Detail.on.Load() {
		c.srv.Detail.set(key)
	}
	c.set.mode, c.set.cas, c.set.isMeta = mode, cas, false
	deadline := c.srv.Store.Deadline(int64(exp))
	if size := int(n) + 2; len(rest) >= size {
		c.set.took = size
		if rest[n] == '\r' && rest[n+1] == '\n' {
			st, _ := c.w.Store(mode, key, flags, deadline, rest[:n], cas)
			c.stored(st, key, o)
			return
		}
		// The line is right but not the data: upstream has taken memory for it.
		if !c.srv.Store.Fits(len(key), int(n), flags) {
			c.stored(store.TooLarge, key, o)
			return
		}
		c.reply(o, rBadChunk)
		return
	}
	st := c.w.Begin(&c.set.p, key, flags, deadline, int(n), false)
	if st != store.OK {
		c.stored(st, key, o)
		c.skip(int(n) + 2)
		return
	}
	c.awaitValue()
}

// skip throws the next n bytes away.
func (c *Conn) skip(n int) {
	if n > 0 {
		c.state, c.swallow = stateSwallow, n
	}
}

func (c *Conn) awaitValue() {
	c.set.ntail = 0
	c.state = stateValue
	if c.set.p.Room() == 0 {
		c.state = stateTail
	}
}

// valueDone goes on when the value is complete.
func (c *Conn) valueDone(o *Out) {
	if c.set.p.Room() > 0 {
		return
	}
	if c.bin.on {
		c.state = stateBinary
		c.binStored(o)
		return
	}
	c.state = stateTail
}

// feedTail takes the "\r\n" after a value and stores it.
func (c *Conn) feedTail(in []byte, o *Out) []byte {
	n := copy(c.set.tail[c.set.ntail:], in)
	if c.set.ntail += n; c.set.ntail < 2 {
		return in[n:]
	}
	c.state = stateLine
	s := &c.set
	if s.tail != [2]byte{'\r', '\n'} {
		c.w.Abort(&s.p)
		if s.isMeta {
			c.noreply = false
		}
		c.reply(o, rBadChunk)
		return in[n:]
	}
	st, cas := c.w.Commit(&s.p, s.mode, s.cas)
	if s.isMeta {
		c.metaStored(st, cas, o)
	} else {
		c.stored(st, nil, o)
	}
	return in[n:]
}

// stored says how a storage command went. key is given where the value may not
// even have been taken: then what is there is outdated.
func (c *Conn) stored(st store.Status, key []byte, o *Out) {
	switch st {
	case store.OK:
		c.reply(o, rStored)
	case store.NotStored:
		c.reply(o, rNotStored)
	case store.Exists:
		c.reply(o, rExists)
	case store.NotFound:
		c.reply(o, rNotFound)
	case store.TooLarge:
		if c.set.mode == modeSet {
			c.w.Forget(key)
		}
		c.reply(o, rTooLarge)
	default:
		if c.set.mode == modeSet {
			c.w.Forget(key)
		}
		c.noreply = false
		c.reply(o, rNoMemory)
	}
}

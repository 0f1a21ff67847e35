package proto

import (
	"bytes"

	"osv/appliances/memcached/store"
)

// get answers `get key…`; keys is what follows the first space.
func (c *Conn) get(keys []byte, o *Out, cas bool) {
	// One key is the common case: no space at either end or between.
	if bytes.IndexByte(keys, ' ') < 0 {
		if len(keys) > maxKey {
			o.str(rBadFormat)
			return
		}
		c.getOne(keys, o, cas, false, 0)
		c.end(o)
		return
	}
	c.getMany(keys, o, cas, false, 0)
}

// getTokens answers the get family from the tokens of the line.
func (c *Conn) getTokens(o *Out) {
	t := &c.tok
	name := t.get(0)
	cas := name[len(name)-1] == 's'
	touch := name[1] == 'a'
	first := 1
	var deadline uint32
	if touch {
		exp, ok := parseI32(t.get(1))
		if !ok {
			o.str(rBadExptime)
			return
		}
		deadline = c.srv.Store.Deadline(int64(exp))
		if first = 2; t.n == 2 {
			// No key at all: a reply without items.
			o.str(rEnd)
			return
		}
	}
	c.getMany(t.line[t.at[first].from:], o, cas, touch, deadline)
}

// nextKey cuts the first key off keys.
func nextKey(keys []byte) (key, rest []byte) {
	for len(keys) > 0 && keys[0] == ' ' {
		keys = keys[1:]
	}
	if i := bytes.IndexByte(keys, ' '); i >= 0 {
		return keys[:i], keys[i+1:]
	}
	return keys, nil
}

func (c *Conn) getMany(keys []byte, o *Out, cas, touch bool, deadline uint32) {
	// A key that is too long spoils the whole reply, also what came before it.
	n := 0
	for rest := keys; ; n++ {
		var k []byte
		if k, rest = nextKey(rest); len(k) == 0 {
			break
		}
		if len(k) > maxKey {
			c.getUntil(keys, n, touch, deadline)
			o.str(rBadFormat)
			return
		}
	}
	if n == 0 {
		o.str(rError)
		return
	}
	c.getRest(keys, o, cas, touch, deadline)
}

// getRest answers the keys that are left of a get, until it must stop.
func (c *Conn) getRest(keys []byte, o *Out, cas, touch bool, deadline uint32) {
	for {
		if c.stopped(o) {
			c.more = moreKeys{append(c.more.keys[:0], keys...), true, cas, touch, deadline}
			return
		}
		var k []byte
		if k, keys = nextKey(keys); len(k) == 0 {
			break
		}
		c.getOne(k, o, cas, touch, deadline)
	}
	o.str(rEnd)
}

// getUntil reads the first n keys for nothing: upstream has read them when it
// comes to the one that is too long, and that leaves its marks.
func (c *Conn) getUntil(keys []byte, n int, touch bool, deadline uint32) {
	for ; n > 0; n-- {
		var k []byte
		k, keys = nextKey(keys)
		if touch {
			c.w.Touch(k, deadline, true)
		} else {
			c.w.Get(k)
		}
	}
}

func (c *Conn) getOne(key []byte, o *Out, cas, touch bool, deadline uint32) {
	var it store.Item
	var ok bool
	if touch {
		it, ok = c.w.Touch(key, deadline, true)
	} else {
		it, ok = c.w.Get(key)
	}
	if c.srv.Detail.on.Load() {
		c.srv.Detail.get(key, ok)
	}
	if ok {
		c.putItem(it, o, cas)
	}
}

// getFound answers a get of one key for which it was found.
func (c *Conn) getFound(it store.Item, o *Out) {
	c.putItem(it, o, false)
	c.end(o)
}

// end puts the end of the reply to a get, now or once the value that is held back
// has been sent.
func (c *Conn) end(o *Out) {
	if c.held.active {
		c.more = moreKeys{keys: c.more.keys[:0], active: true}
		return
	}
	o.str(rEnd)
}

// putItem puts the line and the value that get replies with. The Item may be
// invalid afterwards.
func (c *Conn) putItem(it store.Item, o *Out, cas bool) {
	b, direct := c.header(o)
	b = append(b, "VALUE "...)
	b = append(b, it.Key()...)
	b = append(b, ' ')
	b = appendUint(b, uint64(it.Flags()))
	b = append(b, ' ')
	b = appendUint(b, uint64(it.Len()))
	if cas {
		b = append(b, ' ')
		b = appendUint(b, it.CAS())
	}
	b = append(b, '\r', '\n')
	if direct {
		o.B = b
		c.value(o, it, true)
		return
	}
	c.sendSlow(o, b, it, true, true)
}

// HeaderMax is the longest line in front of a value: a meta reply with all flags
// and a base64 key.
const HeaderMax = 1024

// header returns a buffer for the line in front of a value: o's own if the line
// fits for sure (then direct is true and the result goes to o.B), else scratch
// for sendSlow.
func (c *Conn) header(o *Out) (b []byte, direct bool) {
	if o.room() >= HeaderMax || o.Hold {
		return o.B, true
	}
	if c.scratch == nil {
		c.scratch = make([]byte, 0, HeaderMax)
	}
	return c.scratch[:0], false
}

// sendSlow puts header b and, if asked for, the value of it, without staying in
// the reader section, as the buffer is nearly full and Flush may block.
func (c *Conn) sendSlow(o *Out, b []byte, it store.Item, value, crlf bool) {
	if !value {
		c.w.Leave()
		o.put(b)
		return
	}
	if !it.Pin() {
		o.Err = errTooManyPins
		return
	}
	c.w.Leave()
	o.put(b)
	c.value(o, it, crlf)
	it.Unpin()
}

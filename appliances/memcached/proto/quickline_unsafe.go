package proto

import (
	"unsafe"

	"osv/appliances/memcached/store"
)

// The plainest gets and sets of a stream, as quick_unsafe.go has them for datagrams.

// quickly runs the command at the beginning of in if it is a get of one key, or a
// set with all of its value, and returns how many bytes that took; 0 for all else.
func (c *Conn) quickly(in []byte, o *Out) int {
	const key = len("get ")
	n := len(in)
	if n < 8 || len(c.carry) != 0 {
		return 0
	}
	p := unsafe.Pointer(unsafe.SliceData(in))
	switch *(*uint32)(p) {
	case wordGet:
		end := blankFrom(p, key, n)
		took := end + 1
		if took < n && at(p, end) == '\r' {
			took++
		}
		if end == key || end > key+maxKey || took > n || at(p, took-1) != '\n' {
			return 0
		}
		c.lastCmd = c.srv.Store.Now()
		c.quickGet(unsafe.Slice((*byte)(unsafe.Add(p, key)), end-key), o)
		return took
	case wordSet:
		var s setLine
		took := quickSet(in, &s)
		if took == 0 {
			return 0
		}
		c.lastCmd = c.srv.Store.Now()
		if st := c.quickStore(&s); st != store.OK {
			c.quickRefused(st, &s, o)
		} else {
			o.str(rStored)
		}
		return took
	}
	return 0
}

// quickGet answers a get of key.
func (c *Conn) quickGet(key []byte, o *Out) {
	it, found := c.w.Get(key)
	if c.srv.Detail.on.Load() {
		c.srv.Detail.get(key, found)
	}
	if !found {
		o.str(rEnd)
		return
	}
	v, k := it.Value(), it.Key()
	if v == nil || quickSlack+len(k)+len(v) > o.room() {
		c.getFound(it, o)
		return
	}
	n := len(o.B)
	o.B = o.B[:n+quickItem(unsafe.Add(unsafe.Pointer(unsafe.SliceData(o.B)), n), k, v, it.Flags())]
}

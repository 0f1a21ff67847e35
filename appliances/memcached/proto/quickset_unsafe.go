package proto

import (
	"math/bits"
	"unsafe"

	"osv/appliances/memcached/store"
)

// A datagram that is one set with all of its value is stored straight from where
// it lies; as with quickGet, anything else takes the general way.

const (
	wordSet    = 's' | 'e'<<8 | 't'<<16 | ' '<<24
	wordStored = 'S' | 'T'<<8 | 'O'<<16 | 'R'<<24 | 'E'<<32 | 'D'<<40 | '\r'<<48 | '\n'<<56
)

// setLine is what a quick set says.
type setLine struct {
	key, value []byte
	flags, exp uint32
}

// quickSet reads `set key flags exptime bytes\r\n…\r\n` at the beginning of p and
// returns how long it is. It returns 0 where it is not there, as a whole and in the
// plainest form: single spaces, no sign, at most nine digits, no noreply.
func quickSet(p []byte, s *setLine) int {
	const key = len("set ")
	n := len(p)
	if n < len("set k 0 0 0\r\n\r\n") {
		return 0
	}
	b := unsafe.Pointer(unsafe.SliceData(p))
	if *(*uint32)(b) != wordSet {
		return 0
	}
	i := key
	for {
		if i > n-8 {
			return 0 // more than eight bytes follow a key
		}
		if m := blanks(load64(b, i)); m != 0 {
			i += bits.TrailingZeros64(m) / 8
			break
		}
		i += 8
	}
	if i == key || i > key+maxKey || at(b, i) != ' ' {
		return 0
	}
	s.key = unsafe.Slice((*byte)(unsafe.Add(b, key)), i-key)
	// A number stops so early that there are two bytes behind it to look at.
	var size uint32
	var from int
	if s.flags, from, i = plainNumber(b, i+1, n-2); !plain(from, i) || at(b, i) != ' ' {
		return 0
	}
	if s.exp, from, i = plainNumber(b, i+1, n-2); !plain(from, i) || at(b, i) != ' ' {
		return 0
	}
	if size, from, i = plainNumber(b, i+1, n-2); !plain(from, i) || at(b, i) != '\r' || at(b, i+1) != '\n' {
		return 0
	}
	i += 2
	end := i + int(size)
	if end > n-2 || at(b, end) != '\r' || at(b, end+1) != '\n' {
		return 0
	}
	s.value = unsafe.Slice((*byte)(unsafe.Add(b, i)), size)
	return end + 2
}

// plainNumber reads digits from p+i on, not beyond end, and returns where they
// begin and stop. The number is right if plain says so.
func plainNumber(p unsafe.Pointer, i, end int) (v uint32, from, stop int) {
	from = i
	for i < end {
		c := uint32(at(p, i)) - '0'
		if c > 9 {
			break
		}
		v = v*10 + c
		i++
	}
	return v, from, i
}

func plain(from, stop int) bool { return uint(stop-from-1) < 9 }

// quickStore does what a quick set says and answers it into out, which has room
// for that and may be the memory of in.
func (d *Datagram) quickStore(header uint64, s *setLine, in, out []byte) int {
	c := &d.c
	st := c.quickStore(s)
	if st != store.OK {
		d.start(in, false)
		d.begin(out)
		c.quickRefused(st, s, &d.out)
		return d.finish(out)
	}
	const n = FrameHeader + len(rStored)
	p := unsafe.Pointer(unsafe.SliceData(out))
	put64(p, quickHeader(header))
	put64(unsafe.Add(p, FrameHeader), wordStored)
	c.w.Count(countBytesRead, uint64(len(in)))
	c.w.Count(countBytesWritten, uint64(n))
	return n
}

// quickStore stores what a quick set says.
func (c *Conn) quickStore(s *setLine) store.Status {
	if c.srv.Detail.on.Load() {
		c.srv.Detail.set(s.key)
	}
	var deadline uint32
	if s.exp != 0 {
		deadline = c.srv.Store.Deadline(int64(s.exp))
	}
	st, _ := c.w.Store(modeSet, s.key, s.flags, deadline, s.value, 0)
	return st
}

// quickRefused answers a quick set that was not stored.
func (c *Conn) quickRefused(st store.Status, s *setLine, o *Out) {
	c.noreply = false
	c.set.mode, c.set.cas, c.set.isMeta = modeSet, 0, false
	c.stored(st, s.key, o)
}

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

// quickSet reads `set key flags exptime bytes\r\n…\r\n`. It reports false where
// the request p is not that and nothing else, in the plainest form: single spaces,
// no sign, at most nine digits, no noreply.
func quickSet(p []byte, s *setLine) bool {
	const key = len("set ")
	n := len(p)
	if n < len("set k 0 0 0\r\n\r\n") {
		return false
	}
	b := unsafe.Pointer(unsafe.SliceData(p))
	if *(*uint32)(b) != wordSet {
		return false
	}
	i := key
	for {
		if i > n-8 {
			return false
		}
		if m := blanks(load64(b, i)); m != 0 {
			i += bits.TrailingZeros64(m) / 8
			break
		}
		i += 8
	}
	if i == key || i > key+maxKey || at(b, i) != ' ' {
		return false
	}
	s.key = unsafe.Slice((*byte)(unsafe.Add(b, key)), i-key)
	// A number stops before the last byte at the latest, so that there is one
	// behind it to look at.
	var size uint32
	var from int
	if s.flags, from, i = plainNumber(b, i+1, n-1); !plain(from, i) || at(b, i) != ' ' {
		return false
	}
	if s.exp, from, i = plainNumber(b, i+1, n-1); !plain(from, i) || at(b, i) != ' ' {
		return false
	}
	if size, from, i = plainNumber(b, i+1, n-1); !plain(from, i) || at(b, i) != '\r' || at(b, i+1) != '\n' {
		return false
	}
	i += 2
	if n-i != int(size)+2 || at(b, n-2) != '\r' || at(b, n-1) != '\n' {
		return false
	}
	s.value = unsafe.Slice((*byte)(unsafe.Add(b, i)), size)
	return true
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
	if c.srv.Detail.on.Load() {
		c.srv.Detail.set(s.key)
	}
	var deadline uint32
	if s.exp != 0 {
		deadline = c.srv.Store.Deadline(int64(s.exp))
	}
	st, _ := c.w.Store(modeSet, s.key, s.flags, deadline, s.value, 0)
	if st != store.OK {
		d.start(in, false)
		c.noreply = false
		c.set.mode, c.set.cas, c.set.isMeta = modeSet, 0, false
		d.begin(out)
		c.stored(st, s.key, &d.out)
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

package proto

import (
	"math/bits"
	"unsafe"
)

// The datagram that most clients send most of the time is a get of one key. It is
// answered without the machinery of commands and buffers, and with one check for
// room instead of one for each piece; whatever does not look like that, or may not
// fit, takes the general way, with the same reply. Texts are moved as words of
// eight bytes, little-endian like all machines that this runs on.

func load64(p unsafe.Pointer, off int) uint64 { return *(*uint64)(unsafe.Add(p, off)) }

func put16(p unsafe.Pointer, v uint16) unsafe.Pointer {
	*(*uint16)(p) = v
	return unsafe.Add(p, 2)
}

func at(p unsafe.Pointer, i int) byte { return *(*byte)(unsafe.Add(p, i)) }

func put64(p unsafe.Pointer, v uint64) { *(*uint64)(p) = v }

// Texts as little-endian words.
const (
	wordGet   = 'g' | 'e'<<8 | 't'<<16 | ' '<<24
	wordValue = 'V' | 'A'<<8 | 'L'<<16 | 'U'<<24 | 'E'<<32 | ' '<<40
	wordEnd   = 'E' | 'N'<<8 | 'D'<<16 | '\r'<<24 | '\n'<<32
	wordCRLF  = '\r' | '\n'<<8
)

// quickly answers the plainest gets and sets into out and reports false for all
// else. A get reads its key before it writes, from the item, and a set has stored
// before it answers, so that nothing has to move out of the way where out is the
// memory that in is in.
func (d *Datagram) quickly(in, out []byte) (n int, done bool) {
	const least = FrameHeader + len("get k\n")
	if len(in) < least || len(out) < FrameHeader+64 {
		return 0, false
	}
	p := unsafe.Pointer(unsafe.SliceData(in))
	header := load64(p, 0)
	if uint16(header>>32) != 1<<8 { // of one datagram
		return 0, false
	}
	if key := quickKey(p, len(in)); key != nil {
		return d.quickGet(header, key, in, out), true
	}
	var set setLine
	if quickSet(in[FrameHeader:], &set) == len(in)-FrameHeader {
		return d.quickStore(header, &set, in, out), true
	}
	return 0, false
}

// quickKey returns the key of the datagram of size bytes at p, if it is a get of
// one key and nothing else; else nil. It is no shorter than such a get.
func quickKey(p unsafe.Pointer, size int) []byte {
	const start = FrameHeader + 4
	end := size - 1
	if *(*uint32)(unsafe.Add(p, FrameHeader)) != wordGet || at(p, end) != '\n' {
		return nil
	}
	if at(p, end-1) == '\r' {
		end--
	}
	n := end - start
	if n < 1 || n > maxKey {
		return nil
	}
	// No byte up to ' ', eight at a time. The last eight end with the key, and
	// what they have of the bytes in front of it is made to look harmless.
	for ; n > 8; n -= 8 {
		if blanks(load64(p, end-n)) != 0 {
			return nil
		}
	}
	if blanks(load64(p, end-8)|(1<<(uint(64-8*n)&63)-1)) != 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Add(p, start)), end-start)
}

// blanks has the top bit of the first byte of w set that is ' ' or a control
// character, and perhaps of later ones; it is 0 where there is none. Subtracting
// 0x21 borrows from the top bit of a byte that is less and had it clear.
func blanks(w uint64) uint64 {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	return (w - (' '+1)*ones) &^ w & tops
}

// blankFrom is the index of the first byte from i on, of the n at p, that is ' ' or
// a control character; n where there is none. n is at least 8.
func blankFrom(p unsafe.Pointer, i, n int) int {
	for ; i <= n-8; i += 8 {
		if m := blanks(load64(p, i)); m != 0 {
			return i + bits.TrailingZeros64(m)/8
		}
	}
	// The last bytes, with zeros behind.
	return i + bits.TrailingZeros64(blanks(load64(p, n-8)>>(uint(i-(n-8))*8&63))|1<<(uint(n-i)*8&63))/8
}

// quickSlack is what a reply with an item is longer than its key and its value
// with "\r\n", at most, and how far beyond its end quickItem writes.
const quickSlack = len("VALUE ") + len(" 4294967295 1048576\r\n") + len(rEnd) + 8

// quickGet answers a get of key into out.
func (d *Datagram) quickGet(header uint64, key, in, out []byte) int {
	c := &d.c
	it, found := c.w.Get(key)
	if c.srv.Detail.on.Load() {
		c.srv.Detail.get(key, found)
	}
	p := unsafe.Pointer(unsafe.SliceData(out))
	n := FrameHeader + len(rEnd)
	if found {
		v, k := it.Value(), it.Key()
		if v == nil || FrameHeader+quickSlack+len(k)+len(v) > min(len(out), MaxDatagram) {
			// It may not fit.
			d.start(in, false)
			d.begin(out)
			c.getFound(it, &d.out)
			c.w.Leave()
			return d.finish(out)
		}
		n = FrameHeader + quickItem(unsafe.Add(p, FrameHeader), k, v, it.Flags())
	} else {
		put64(unsafe.Add(p, FrameHeader), wordEnd)
	}
	c.w.Leave()
	put64(p, quickHeader(header))
	c.w.Count(countBytesRead, uint64(len(in)))
	c.w.Count(countBytesWritten, uint64(n))
	return n
}

// quickHeader is the frame header of a reply of one datagram to the request with
// the header given: its id, sequence number 0 of 1.
func quickHeader(request uint64) uint64 { return request&0xffff | 1<<40 }

// quickItem writes the reply to a get that found key k with the value v, which has
// "\r\n" after it, to p, and returns its size. There is room for it and 8 bytes.
func quickItem(p unsafe.Pointer, k, v []byte, flags uint32) int {
	start := p
	put64(p, wordValue)
	p = unsafe.Add(p, len("VALUE "))
	move(p, unsafe.Pointer(unsafe.SliceData(k)), len(k))
	p = putSpaceNumber(unsafe.Add(p, len(k)), flags)
	p = putSpaceNumber(p, uint32(len(v)-2))
	p = put16(p, wordCRLF)
	move(p, unsafe.Pointer(unsafe.SliceData(v)), len(v))
	p = unsafe.Add(p, len(v))
	put64(p, wordEnd)
	return int(uintptr(p)-uintptr(start)) + len(rEnd)
}

// move copies n bytes. Keys and most values are short, so that a call of the general
// copy costs more than the work.
func move(dst, src unsafe.Pointer, n int) {
	if n < 8 || n > 128 {
		copy(unsafe.Slice((*byte)(dst), n), unsafe.Slice((*byte)(src), n))
		return
	}
	// In words, the last of which may overlap the one before.
	last := n - 8
	for i := 0; i < last; i += 8 {
		put64(unsafe.Add(dst, i), load64(src, i))
	}
	put64(unsafe.Add(dst, last), load64(src, last))
}

// putSpaceNumber writes a space and v in decimal to p, and returns where that
// ends. Up to 6 bytes behind are written too.
func putSpaceNumber(p unsafe.Pointer, v uint32) unsafe.Pointer {
	if v < uint32(len(spaceNumbers)) {
		w := spaceNumbers[v]
		put64(p, w)
		return unsafe.Add(p, w>>56)
	}
	return putLongNumber(p, v)
}

//go:noinline
func putLongNumber(p unsafe.Pointer, v uint32) unsafe.Pointer {
	if v < 10000 {
		put64(p, ' '|uint64(twoDigits[v/100])<<8|uint64(twoDigits[v%100])<<24)
		return unsafe.Add(p, len(" 1234"))
	}
	const most = len(" 4294967295")
	b := append(unsafe.Slice((*byte)(p), most)[:0], ' ')
	return unsafe.Add(p, len(appendUint(b, uint64(v))))
}

// spaceNumbers are the numbers to 999 behind a space, little-endian, with their
// length in the last byte.
var spaceNumbers = func() (t [1000]uint64) {
	for i := range t {
		var b [8]byte
		n := len(appendUint(append(b[:0], ' '), uint64(i)))
		b[7] = byte(n)
		t[i] = load64(unsafe.Pointer(&b), 0)
	}
	return t
}()

// twoDigits are the numbers to 99 in two digits, little-endian.
var twoDigits = func() (t [100]uint16) {
	for i := range t {
		t[i] = uint16('0'+i/10) | uint16('0'+i%10)<<8
	}
	return t
}()

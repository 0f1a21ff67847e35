package proto

import (
	"math/bits"
	"unsafe"

	"osv/appliances/memcached/store"
)

// The datagram that most clients send most of the time is a get of one key. It is
// answered without the machinery of commands and buffers, and with one check for
// room instead of one for each piece; whatever does not look like that, or may not
// fit, takes the general way, with the same reply.

func load64(p unsafe.Pointer, off int) uint64 { return *(*uint64)(unsafe.Add(p, off)) }

func put16(p unsafe.Pointer, v uint16) unsafe.Pointer {
	*(*uint16)(p) = v
	return unsafe.Add(p, 2)
}

func put32(p unsafe.Pointer, v uint32) { *(*uint32)(p) = v }
func put64(p unsafe.Pointer, v uint64) { *(*uint64)(p) = v }

// Texts as little-endian words.
const (
	wordGet   = 'g' | 'e'<<8 | 't'<<16 | ' '<<24
	wordValue = 'V' | 'A'<<8 | 'L'<<16 | 'U'<<24 | 'E'<<32 | ' '<<40
	wordEnd   = 'E' | 'N'<<8 | 'D'<<16 | '\r'<<24 | '\n'<<32
	wordCRLF  = '\r' | '\n'<<8
)

// quickKey returns the key of the datagram in, which has a frame header, if it is
// a get of one key and nothing else; else nil.
func quickKey(in []byte) []byte {
	const start = FrameHeader + 4
	if len(in) < start+2 {
		return nil
	}
	p := unsafe.Pointer(unsafe.SliceData(in))
	end := len(in) - 1
	if *(*uint32)(unsafe.Add(p, FrameHeader)) != wordGet || *(*byte)(unsafe.Add(p, end)) != '\n' {
		return nil
	}
	if *(*byte)(unsafe.Add(p, end-1)) == '\r' {
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

// quickSlack is what a reply with an item is longer than its key and its value
// with "\r\n", at most, and how far beyond its end quickItem writes.
const quickSlack = FrameHeader + len("VALUE ") + len(" 4294967295 1048576\r\n") + len(rEnd) + 8

// quickGet answers a get of key into out, which may be the memory that key is in.
// The reply's size is 0 where it may not fit a datagram, or the budget; the item
// found, if any, is then the caller's to send.
func (d *Datagram) quickGet(key, out []byte) (size int, it store.Item, found bool) {
	c := &d.c
	c.lastCmd = c.srv.Store.Now()
	it, found = c.w.Get(key)
	if c.srv.Detail.on.Load() {
		c.srv.Detail.get(key, found)
	}
	room := min(len(out), MaxDatagram, d.budget)
	p := unsafe.Pointer(unsafe.SliceData(out))
	header := d.quickHeader()
	if !found {
		const n = FrameHeader + 8
		if room < n {
			return 0, it, false
		}
		put64(p, header)
		put64(unsafe.Add(p, FrameHeader), wordEnd)
		return FrameHeader + len(rEnd), it, false
	}
	v := it.Value()
	k := it.Key()
	if v == nil || quickSlack+len(k)+len(v) > room {
		return 0, it, true
	}
	put64(p, header)
	return FrameHeader + quickItem(unsafe.Add(p, FrameHeader), k, v, it.Flags()), it, true
}

// quickHeader is the frame header of a reply of one datagram: request id, sequence
// number 0 of 1.
func (d *Datagram) quickHeader() uint64 { return uint64(bits.ReverseBytes16(d.id)) | 1<<40 }

// quickItem writes the reply to a get that found key k with the value v, which has
// "\r\n" after it, to p, and returns its size. There is room for it and 8 bytes.
func quickItem(p unsafe.Pointer, k, v []byte, flags uint32) int {
	start := p
	put64(p, wordValue)
	p = unsafe.Add(p, len("VALUE "))
	src := unsafe.Pointer(unsafe.SliceData(k))
	n := len(k)
	if n < 8 {
		copy(unsafe.Slice((*byte)(p), n), k)
	} else {
		// In words, the last of which may overlap the one before.
		last := n - 8
		for i := 0; i < last; i += 8 {
			put64(unsafe.Add(p, i), load64(src, i))
		}
		put64(unsafe.Add(p, last), load64(src, last))
	}
	p = putSpaceNumber(unsafe.Add(p, n), flags)
	p = putSpaceNumber(p, uint32(len(v)-2))
	p = put16(p, wordCRLF)
	copy(unsafe.Slice((*byte)(p), len(v)), v)
	p = unsafe.Add(p, len(v))
	put64(p, wordEnd)
	return int(uintptr(p)-uintptr(start)) + len(rEnd)
}

// putSpaceNumber writes a space and v in decimal to p, and returns where that
// ends. Up to 3 bytes behind are written too.
func putSpaceNumber(p unsafe.Pointer, v uint32) unsafe.Pointer {
	*(*byte)(p) = ' '
	p = unsafe.Add(p, 1)
	if v >= 10000 {
		const most = len("4294967295")
		b := appendUint(unsafe.Slice((*byte)(p), most)[:0], uint64(v))
		return unsafe.Add(p, len(b))
	}
	w := uint32(twoDigits[v/100]) | uint32(twoDigits[v%100])<<16
	// Zeros in front go, but for the last digit.
	z := bits.TrailingZeros32(w&0x0f0f0f0f|1<<31) &^ 7
	put32(p, w>>z)
	return unsafe.Add(p, 4-z/8)
}

// twoDigits are the numbers to 99 in two digits, little-endian.
var twoDigits = func() (t [100]uint16) {
	for i := range t {
		t[i] = uint16('0'+i/10) | uint16('0'+i%10)<<8
	}
	return t
}()

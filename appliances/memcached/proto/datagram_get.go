package proto

import (
	"encoding/binary"

	"osv/appliances/memcached/store"
)

// The datagram that most clients send most of the time is a get of one key. It is
// answered without the machinery of commands and buffers; whatever does not look
// like that, or does not fit, takes the general way, with the same reply.

var le = binary.LittleEndian

const getPrefix = 'g' | 'e'<<8 | 't'<<16 | ' '<<24 // "get " in little-endian

// quickKey returns the key of the datagram in, if it is a get of one key and
// nothing else; else nil. in has a frame header.
func quickKey(in []byte) []byte {
	const start = FrameHeader + 4
	end := len(in) - 1
	if end < start+1 || le.Uint32(in[FrameHeader:]) != getPrefix || in[end] != '\n' {
		return nil
	}
	if in[end-1] == '\r' {
		end--
	}
	n := end - start
	if n < 1 || n > maxKey {
		return nil
	}
	// No byte up to ' ', eight at a time. The last eight end with the key: what
	// they have of the bytes in front of it is made to look harmless.
	for ; n > 8; n -= 8 {
		if blank(le.Uint64(in[end-n:])) {
			return nil
		}
	}
	if blank(le.Uint64(in[end-8:]) | (1<<(64-8*n) - 1)) {
		return nil
	}
	return in[start:end]
}

// blank reports whether a byte of w is ' ' or a control character: subtracting
// 0x21 from each borrows from the top bit of those that are less and had it clear.
func blank(w uint64) bool {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	return (w-(' '+1)*ones)&^w&tops != 0
}

// quickGet answers a get of key into out, which may be the memory that key is in.
// The reply's size is 0 where it does not fit a datagram, or the budget, for sure;
// the item found, if any, is then the caller's to send.
func (d *Datagram) quickGet(key, out []byte) (size int, it store.Item, found bool) {
	c := &d.c
	c.lastCmd = c.srv.Store.Now()
	it, found = c.w.Get(key)
	if c.srv.Detail.on.Load() {
		c.srv.Detail.get(key, found)
	}
	const head, end = "VALUE ", rEnd
	room := min(len(out), MaxDatagram, d.budget)
	if !found {
		if room < FrameHeader+len(end) {
			return 0, it, false
		}
		d.header(out, 0, 1)
		return FrameHeader + copy(out[FrameHeader:], end), it, false
	}
	v := it.Value()
	k := it.Key()
	const most = FrameHeader + len(head) + len(" 4294967295 1048576\r\n") + len(end)
	if v == nil || most+len(k)+len(v) > room {
		return 0, it, true
	}
	d.header(out, 0, 1)
	n := FrameHeader + copy(out[FrameHeader:], head)
	n += copy(out[n:], k)
	n += putLengths(out[n:], it.Flags(), uint(len(v)-2))
	n += copy(out[n:], v) // with "\r\n"
	return n + copy(out[n:], end), it, true
}

// putLengths writes " flags length\r\n" to the front of b, which has room for the
// longest, and returns how long it is.
func putLengths(b []byte, flags uint32, length uint) int {
	if flags != 0 || length >= 1000 {
		b := append(b[:0], ' ')
		b = appendUint(b, uint64(flags))
		b = append(b, ' ')
		b = appendUint(b, uint64(length))
		return len(append(b, '\r', '\n'))
	}
	// One word, also where it is shorter: more is written behind it.
	const space0 = ' ' | '0'<<8 | ' '<<16
	const crlf = '\r' | '\n'<<8
	var w uint64
	n := 7
	switch {
	case length < 10:
		w = uint64('0'+length)<<24 | crlf<<32
		n = 6
	case length < 100:
		w = uint64('0'+length/10)<<24 | uint64('0'+length%10)<<32 | crlf<<40
	default:
		w = uint64('0'+length/100)<<24 | uint64('0'+length/10%10)<<32 | uint64('0'+length%10)<<40 | crlf<<48
		n = 8
	}
	le.PutUint64(b, w|space0)
	return n
}

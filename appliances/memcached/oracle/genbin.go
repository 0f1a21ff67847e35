package oracle

import (
	"encoding/binary"
	"strings"
)

// Binary is one binary request. last is set where it may end the connection.
func (g *Gen) Binary(last bool) string {
	op := g.IntN(0x25)
	if g.one(50) {
		op = g.IntN(256)
	}
	var ext []byte
	if op == 0x05 || op == 0x06 || op == 0x15 || op == 0x16 {
		if !g.Arith {
			op = 0x0a
		}
	}
	key := g.writeKey()
	switch op {
	case 0x05, 0x06, 0x15, 0x16:
		key = g.numKey()
	case 0x0e, 0x0f, 0x19, 0x1a:
		key = g.key()
	case 0x00, 0x09, 0x0c, 0x0d, 0x1c, 0x1d, 0x1e, 0x23, 0x24:
		key = g.readKey()
	}
	if len(key) > 250 && !last {
		key = key[:250]
	}
	val := ""
	exp := uint32([]uint32{0, 0, 0, 0, 100, 5000, 2592001, 2000000000, 0xfffffffe}[g.IntN(9)])
	cas := uint64(0)
	if g.one(6) {
		cas = g.cas - min(g.cas, uint64(g.IntN(60)))
	}
	u32 := binary.BigEndian.AppendUint32
	u64 := binary.BigEndian.AppendUint64
	switch op {
	case 0x01, 0x02, 0x03, 0x11, 0x12, 0x13: // set, add, replace
		ext = u32(u32(nil, g.Uint32()>>(g.IntN(32))), exp)
		if g.one(2) {
			ext = u32(u32(nil, 0), exp)
		}
		val, _ = g.value()
		g.cas++
	case 0x0e, 0x0f, 0x19, 0x1a: // append, prepend
		val, _ = g.value()
		g.cas++
	case 0x05, 0x06, 0x15, 0x16: // increment, decrement
		if g.one(3) {
			exp = 0xffffffff
		}
		ext = u32(u64(u64(nil, uint64(g.IntN(100))), uint64(g.IntN(1000))), exp)
		g.cas++
	case 0x08, 0x18: // flush
		key = ""
		if !g.one(30) {
			op = 0x0a // no-op
		} else if g.one(2) {
			ext = u32(nil, 0)
		}
	case 0x0a, 0x0b: // no-op, version
		key = ""
	case 0x07, 0x17: // quit
		key = ""
		if !last {
			op = 0x0a
		}
	case 0x10: // stat
		key = g.pick("nosuch", "detail", "detail off", "detail x", "reset")
	case 0x1c, 0x1d, 0x1e, 0x23, 0x24: // touch, get and touch
		ext = u32(nil, exp)
	case 0x20:
		key = ""
	case 0x21, 0x22:
		op = 0x0a
		key = ""
	}
	if op == 0x1b || op == 0x1f || op > 0x24 {
		key = "" // an unknown request with a body; see README
	}
	nkey, next, body := len(key), len(ext), len(ext)+len(key)+len(val)
	bad := last && g.one(2)
	if bad {
		switch g.IntN(3) {
		case 0: // a key that is too long
			nkey = 251 + g.IntN(200)
			body = nkey + next
		case 1: // extras longer than the body
			next, body = 21+g.IntN(200), 20
		case 2: // extras where none belong
			op, nkey, next, body = 0x00, 1, 1+g.IntN(10), 20
		}
	}
	h := make([]byte, 24)
	h[0], h[1] = 0x80, byte(op)
	binary.BigEndian.PutUint16(h[2:], uint16(nkey))
	h[4] = byte(next)
	binary.BigEndian.PutUint32(h[8:], uint32(body))
	binary.BigEndian.PutUint32(h[12:], g.Uint32())
	binary.BigEndian.PutUint64(h[16:], cas)
	if bad {
		// Upstream looks at a header only when extras and key are there; more
		// than those it would leave unread, and a reset would eat its replies.
		return string(h) + strings.Repeat("x", nkey+next)
	}
	return string(h) + string(ext) + key + val
}

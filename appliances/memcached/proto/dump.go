package proto

import (
	"strconv"

	"osv/appliances/memcached/store"
)

// Dumps of the keys: `stats cachedump` and `lru_crawler metadump`.

const hexDigits = "0123456789ABCDEF"

// appendURI appends key with all but letters, digits and "-._~" as %XX.
func appendURI(b, key []byte) []byte {
	for _, c := range key {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9',
			c == '-', c == '.', c == '_', c == '~':
			b = append(b, c)
		default:
			b = append(b, '%', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return b
}

// cachedumpMax bounds the reply in bytes, as upstream.
const cachedumpMax = 2 << 20

func (c *Conn) cachedump(o *Out) {
	t := &c.tok
	if c.srv.NoDump {
		o.str("CLIENT_ERROR stats cachedump not allowed\r\n")
		return
	}
	if t.n < 4 {
		o.str("CLIENT_ERROR bad command line\r\n")
		return
	}
	class, ok1 := parseU32(t.get(2))
	limit, ok2 := parseU32(t.get(3))
	if !ok1 || !ok2 {
		o.str(rBadFormat)
		return
	}
	if class >= 64 {
		o.str("CLIENT_ERROR Illegal slab id\r\n")
		return
	}
	var b []byte
	n := 0
	s := c.srv.Store
	s.Walk(int(class), func(it store.Item) bool {
		if it.Class() != int(class) || it.BinKey() {
			return true
		}
		if limit != 0 && n >= int(limit) || len(b) > cachedumpMax {
			return false
		}
		n++
		b = append(b, "ITEM "...)
		b = append(b, it.Key()...)
		b = append(b, " ["...)
		b = strconv.AppendInt(b, int64(it.Len()), 10)
		b = append(b, " b; "...)
		b = strconv.AppendInt(b, unixOrZero(s, it), 10)
		b = append(b, " s]\r\n"...)
		return true
	})
	o.put(b)
	o.str(rEnd)
}

func unixOrZero(s *store.Store, it store.Item) int64 {
	if ttl := it.TTL(); ttl != -1 {
		return s.Unix() + ttl
	}
	return 0
}

// metadump writes one line per item, as long as the client reads.
func (c *Conn) metadump(which []byte, o *Out) {
	if c.srv.NoDump {
		o.str("ERROR metadump not allowed\r\n")
		return
	}
	if o.Hold {
		// It would have to be kept in memory whole, and would keep the receive
		// loop from all else.
		o.str("ERROR metadump needs -engine=socket\r\n")
		return
	}
	all := string(which) == "all" || string(which) == "hash"
	if !all && !classList(which) {
		o.str("BADCLASS invalid class id\r\n")
		return
	}
	s := c.srv.Store
	var b []byte
	s.WalkSteps(func(it store.Item) {
		if !all && !inClassList(which, it.Class()) {
			return
		}
		b = append(b, "key="...)
		b = appendURI(b, it.Key())
		b = append(b, " exp="...)
		if ttl := it.TTL(); ttl == -1 {
			b = append(b, "-1"...)
		} else {
			b = strconv.AppendInt(b, s.Unix()+ttl, 10)
		}
		b = append(b, " la="...)
		b = strconv.AppendInt(b, s.Unix()-int64(it.Idle()), 10)
		b = append(b, " cas="...)
		b = appendUint(b, it.CAS())
		b = append(b, " fetch="...)
		if it.Fetched() {
			b = append(b, "yes"...)
		} else {
			b = append(b, "no"...)
		}
		b = append(b, " cls="...)
		b = strconv.AppendInt(b, int64(it.Class()), 10)
		b = append(b, " size="...)
		b = strconv.AppendInt(b, int64(it.Size()), 10)
		b = append(b, '\n')
	}, func() bool {
		// Between the steps no lock is held, so the client may be slow.
		o.put(b)
		b = b[:0]
		return o.Err == nil
	})
	o.str(rEnd)
}

// inClassList reports whether class is in a list with commas.
func inClassList(list []byte, class int) bool {
	for len(list) > 0 {
		i := 0
		for i < len(list) && list[i] != ',' {
			i++
		}
		if n, ok := parseU32(list[:i]); ok && int(n) == class {
			return true
		}
		list = list[min(i+1, len(list)):]
	}
	return false
}

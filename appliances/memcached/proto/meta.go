package proto

// Meta commands (protocol.txt, "Meta Commands"): two letters, a key, flags of one
// letter with an optional token each. Flags that return something are answered in
// the order they were given.

const (
	// maxMetaTokens is the number of tokens of a meta command, its name included.
	maxMetaTokens = 19
	maxOpaque     = 32 // with its O

	rFlagsTooLong  = "CLIENT_ERROR options flags too long\r\n"
	rMgTooLong     = "CLIENT_ERROR options flags are too long\r\n"
	rDuplicate     = "CLIENT_ERROR duplicate flag\r\n"
	rInvalidFlag   = "CLIENT_ERROR invalid flag\r\n"
	rInvalidOrDup  = "CLIENT_ERROR invalid or duplicate flag\r\n"
	rBadToken      = "CLIENT_ERROR bad token in command line format\r\n"
	rBadKey        = "CLIENT_ERROR error decoding key\r\n"
	rBadMLength    = "CLIENT_ERROR incorrect length for M token\r\n"
	rBadInitial    = "CLIENT_ERROR invalid numeric initial value\r\n"
	rBadDelta      = "CLIENT_ERROR invalid numeric delta value\r\n"
	rOpaqueTooLong = "CLIENT_ERROR opaque token too long\r\n"
)

// metaFlags are the flags of one command, parsed.
type metaFlags struct {
	binKey, quiet, value, noBump, stale bool
	vivify, touch, recache, hasCAS      bool
	opaque                              []byte // with its O
	mode                                byte
	clientFlags                         uint32
	vivifyAt, touchAt, recacheAt        uint32
	vivifyPos, touchPos, recachePos     int // token numbers, for what depends on the order
	cas, delta, initial                 uint64
}

// meta runs the meta command with the second letter b.
func (c *Conn) meta(b byte, rest []byte, o *Out) {
	t := &c.tok
	switch b {
	case 'n':
		o.str("MN\r\n")
		return
	case 'e':
		c.metaDebug(o)
		return
	case 'g', 's', 'd', 'a':
	default:
		o.str(rError)
		return
	}
	if t.n < 2 {
		o.str(rError)
		return
	}
	key := t.get(1)
	if len(key) > maxKey {
		o.str(rBadFormat)
		return
	}
	switch b {
	case 'g':
		c.metaGet(key, o)
	case 's':
		c.metaSet(key, rest, o)
	case 'd':
		c.metaDelete(key, o)
	case 'a':
		c.metaArith(key, o)
	}
}

// metaParse parses the flags from token first on. The error is an answer. Where
// the key is base64, the result's key is c.key.
func (c *Conn) metaParse(f *metaFlags, key []byte, first int) ([]byte, string) {
	t, s := &c.tok, c.srv.Store
	var seen [128]bool
	errstr := ""
	deadline := func(tok []byte) uint32 {
		v, ok := parseI32(tok)
		if !ok {
			errstr = rBadToken
			return 0
		}
		return s.Deadline(int64(v))
	}
	for i := first; i < t.n; i++ {
		w := t.get(i)
		b, tok := w[0], w[1:]
		if b >= 127 || seen[b] {
			return key, rDuplicate
		}
		seen[b] = true
		var ok bool
		switch b {
		case 'b':
			n := decodeBase64(c.key[:], key)
			if n == 0 {
				errstr = rBadKey
			}
			key = c.key[:n]
			f.binKey = true
		case 'N':
			f.vivify, f.vivifyPos = true, i
			f.vivifyAt = deadline(tok)
		case 'T':
			f.touch, f.touchPos = true, i
			f.touchAt = deadline(tok)
		case 'R':
			f.recache, f.recachePos = true, i
			f.recacheAt = deadline(tok)
		case 'l', 'h', 'k', 's', 't', 'c', 'f', 'P', 'L':
		case 'O':
			f.opaque = w
		case 'v':
			f.value = true
		case 'u':
			f.noBump = true
		case 'q':
			f.quiet = true
		case 'I':
			f.stale = true
		case 'F':
			if f.clientFlags, ok = parseU32(tok); !ok {
				errstr = or(errstr, rBadFormat)
			}
		case 'C':
			if f.cas, f.hasCAS = parseU64(tok); !f.hasCAS {
				errstr = rBadToken
			}
		case 'M':
			if len(tok) != 1 {
				errstr = rBadMLength
				break
			}
			f.mode = tok[0]
		case 'J':
			if f.initial, ok = parseU64(tok); !ok {
				errstr = rBadInitial
			}
		case 'D':
			if f.delta, ok = parseU64(tok); !ok {
				errstr = rBadDelta
			}
		default:
			return key, rInvalidFlag
		}
	}
	return key, errstr
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// appendKey appends the k flag's answer.
func appendKey(b, key []byte, bin bool) []byte {
	b = append(b, ' ', 'k')
	if !bin {
		return append(b, key...)
	}
	return append(appendBase64(b, key), " b"...)
}

func appendTTL(b []byte, ttl int64) []byte {
	if ttl == -1 {
		return append(b, "-1"...)
	}
	// A deadline that has passed since wraps, as upstream's does.
	return appendUint(b, uint64(uint32(ttl)))
}

// metaDebug answers me.
func (c *Conn) metaDebug(o *Out) {
	t := &c.tok
	c.w.Count(countMeta, 1)
	if t.n < 2 || len(t.get(1)) > maxKey {
		o.str(rBadFormat)
		return
	}
	key := t.get(1)
	if t.n >= 3 && t.is(2, "b") {
		n := decodeBase64(c.key[:], key)
		if n == 0 {
			o.str(rBadFormat)
			return
		}
		key = c.key[:n]
	}
	it, ok := c.w.GetQuiet(key)
	if !ok {
		o.str("EN\r\n")
		return
	}
	b, direct := c.header(o)
	b = append(b, "ME "...)
	if it.BinKey() {
		b = appendBase64(b, it.Key())
	} else {
		b = append(b, it.Key()...)
	}
	// The sign is upstream's: now minus deadline.
	b = append(b, " exp="...)
	if ttl := it.TTL(); ttl > 0 {
		b = append(b, '-')
		b = appendUint(b, uint64(ttl))
	} else if ttl == 0 {
		b = append(b, '0')
	} else {
		b = append(b, "-1"...)
	}
	b = append(b, " la="...)
	b = appendUint(b, uint64(it.Idle()))
	b = append(b, " cas="...)
	b = appendUint(b, it.CAS())
	if it.Fetched() {
		b = append(b, " fetch=yes cls="...)
	} else {
		b = append(b, " fetch=no cls="...)
	}
	b = appendUint(b, uint64(it.Class()))
	b = append(b, " size="...)
	b = appendUint(b, uint64(it.Size()))
	b = append(b, '\r', '\n')
	if direct {
		o.B = b
		return
	}
	c.sendSlow(o, b, it, false, false)
}

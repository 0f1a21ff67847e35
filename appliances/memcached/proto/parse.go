package proto

import (
	"bytes"
	"strconv"

	"osv/appliances/memcached/store"
)

// maxTokens is the number of tokens that are told apart in a line; the rest of a
// longer line is not looked at, except by the get family.
const maxTokens = 23

// span is a token's place in the line.
type span struct{ from, to int32 }

// tokens are the words of a line, separated by spaces only.
type tokens struct {
	line []byte
	n    int
	more int // where the rest begins, if there are more than fit; else -1
	at   [maxTokens]span
}

func (t *tokens) get(i int) []byte { s := t.at[i]; return t.line[s.from:s.to] }

func (t *tokens) is(i int, s string) bool { return string(t.get(i)) == s }

// split finds the tokens of line, which ends at a NUL as a C string does.
func (t *tokens) split(line []byte) {
	t.line, t.n, t.more = line, 0, -1
	i, n := 0, len(line)
	for {
		for i < n && line[i] == ' ' {
			i++
		}
		if i == n {
			return
		}
		if t.n == maxTokens {
			t.more = i
			return
		}
		from := i
		if j := bytes.IndexByte(line[i:], ' '); j >= 0 {
			i += j
		} else {
			i = n
		}
		t.at[t.n] = span{int32(from), int32(i)}
		t.n++
	}
}

// cString cuts line at its first NUL.
func cString(line []byte) []byte {
	if i := bytes.IndexByte(line, 0); i >= 0 {
		return line[:i]
	}
	return line
}

// parseU64 is safe_strtoull of upstream.
func parseU64(b []byte) (uint64, bool) { return store.ParseNumber(b) }

// parseU32 is safe_strtoul: what does not fit loses its upper half, a negative
// number is refused.
func parseU32(b []byte) (uint32, bool) {
	v, ok := store.ParseNumber(b)
	return uint32(v), ok
}

// parseI32 is safe_strtol: a signed number of 64 bits that loses its upper half.
func parseI32(b []byte) (int32, bool) {
	// The common case: a few digits.
	if n := len(b); n > 0 && n < 10 {
		v := int32(0)
		for _, c := range b {
			if c < '0' || c > '9' {
				return parseI32Slow(b)
			}
			v = v*10 + int32(c-'0')
		}
		return v, true
	}
	return parseI32Slow(b)
}

func parseI32Slow(b []byte) (int32, bool) {
	i := 0
	for i < len(b) && isSpace(b[i]) {
		i++
	}
	neg := false
	if i < len(b) && (b[i] == '-' || b[i] == '+') {
		neg = b[i] == '-'
		i++
	}
	var v uint64
	from := i
	for ; i < len(b) && '0' <= b[i] && b[i] <= '9'; i++ {
		d := uint64(b[i] - '0')
		if v > (1<<63-d)/10 {
			return 0, false
		}
		v = v*10 + d
	}
	if i == from || i < len(b) && b[i] != 0 && !isSpace(b[i]) {
		return 0, false
	}
	if neg {
		return int32(-v), true
	}
	if v == 1<<63 {
		return 0, false
	}
	return int32(v), true
}

// parseFloat is safe_strtod: a number up to the end or white space.
func parseFloat(b []byte) (float64, error) {
	i := 0
	for i < len(b) && !isSpace(b[i]) {
		i++
	}
	return strconv.ParseFloat(string(b[:i]), 64)
}

func isSpace(c byte) bool { return c == ' ' || '\t' <= c && c <= '\r' }

package trace

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// format is the parsed format of a point: text, verb, text, verb, …, text.
type format struct {
	text  string
	lit   []string // one more than verbs
	verbs []byte   // d u x X(%#x) t a
}

func parseFormat(text string) (format, error) {
	f := format{text: text}
	var lit strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '%' {
			lit.WriteByte(text[i])
			continue
		}
		rest := text[i+1:]
		switch {
		case strings.HasPrefix(rest, "%"):
			lit.WriteByte('%')
			i++
			continue
		case strings.HasPrefix(rest, "#x"):
			f.verbs = append(f.verbs, 'X')
			i += 2
		case rest != "" && strings.IndexByte("duxta", rest[0]) >= 0:
			f.verbs = append(f.verbs, rest[0])
			i++
		default:
			return f, fmt.Errorf("format %q: no such verb at %q (there are %%d %%u %%x %%#x %%t %%a)", text, text[i:])
		}
		f.lit = append(f.lit, lit.String())
		lit.Reset()
	}
	f.lit = append(f.lit, lit.String())
	if len(f.verbs) > MaxArgs {
		return f, fmt.Errorf("format %q: %d arguments, an event carries at most %d", text, len(f.verbs), MaxArgs)
	}
	return f, nil
}

// append appends the arguments as text. One that is missing prints as !, and
// those that no verb is for follow in parentheses.
func (f *format) append(b []byte, args []uint64) []byte {
	for i, verb := range f.verbs {
		b = append(b, f.lit[i]...)
		if i >= len(args) {
			b = append(b, '!')
			continue
		}
		b = appendArg(b, verb, args[i])
	}
	b = append(b, f.lit[len(f.verbs)]...)
	for i := len(f.verbs); i < len(args); i++ {
		b = append(b, " (+"...)
		b = append(strconv.AppendUint(b, args[i], 10), ')')
	}
	return b
}

func appendArg(b []byte, verb byte, v uint64) []byte {
	switch verb {
	case 'd':
		return strconv.AppendInt(b, int64(v), 10)
	case 'x':
		return strconv.AppendUint(b, v, 16)
	case 'X':
		return strconv.AppendUint(append(b, "0x"...), v, 16)
	case 't':
		return append(b, time.Duration(v).String()...)
	case 'a':
		return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)}).AppendTo(b)
	}
	return strconv.AppendUint(b, v, 10)
}

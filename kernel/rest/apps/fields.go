package apps

import (
	"fmt"
	"strings"
	"syscall"
)

// errInvalid makes a mistake in a command line the caller's.
const errInvalid = syscall.EINVAL

// Fields splits a command line into words: spaces separate, single and double quotes
// hold together, a backslash takes the next character as it is (within single quotes
// it is one itself).
func Fields(line string) ([]string, error) {
	var words []string
	var w strings.Builder
	in, quote := false, rune(0)
	escaped := false
	for _, c := range line {
		switch {
		case escaped:
			w.WriteRune(c)
			escaped = false
		case c == '\\' && quote != '\'':
			escaped, in = true, true
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			w.WriteRune(c)
		case c == '"' || c == '\'':
			quote, in = c, true
		case c == ' ' || c == '\t' || c == '\n':
			if in {
				words = append(words, w.String())
				w.Reset()
				in = false
			}
		default:
			w.WriteRune(c)
			in = true
		}
	}
	if quote != 0 || escaped {
		return nil, fmt.Errorf("command %q: a quote or backslash without end: %w", line, errInvalid)
	}
	if in {
		words = append(words, w.String())
	}
	return words, nil
}

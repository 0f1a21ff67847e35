// Package words takes command lines apart as a POSIX shell quotes them: blanks
// separate, single and double quotes hold together, a backslash takes the next
// character as it is (within single quotes it is one itself). There are no variables
// and no patterns.
//
// Who may use it: kernel/rest/shell, kernel/rest/apps. Start reading at Syntax.
package words

import (
	"errors"
	"fmt"
	"strings"
)

// Syntax is what characters mean where they are not quoted.
type Syntax struct {
	Blank   string // separate words
	End     string // end a command
	Refuse  string // are errors
	Comment bool   // # at the start of a word ends the line
}

// ErrOpen is a quote or backslash without its other half.
var ErrOpen = errors.New("a quote or backslash without end")

// Refused is the error for a character of Syntax.Refuse.
type Refused rune

func (r Refused) Error() string { return fmt.Sprintf("%q is not understood here", rune(r)) }

// Split returns the commands of a line, some of which may have no words.
func (s Syntax) Split(line string) ([][]string, error) {
	var out [][]string
	var args []string
	var w strings.Builder
	in, quote, escaped := false, rune(0), false
	end := func() {
		if in {
			args = append(args, w.String())
			w.Reset()
			in = false
		}
	}
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
		case strings.ContainsRune(s.End, c):
			end()
			out, args = append(out, args), nil
		case strings.ContainsRune(s.Blank, c):
			end()
		case s.Comment && c == '#' && !in:
			return append(out, args), nil
		case strings.ContainsRune(s.Refuse, c):
			return nil, Refused(c)
		default:
			w.WriteRune(c)
			in = true
		}
	}
	if quote != 0 || escaped {
		return nil, ErrOpen
	}
	end()
	return append(out, args), nil
}

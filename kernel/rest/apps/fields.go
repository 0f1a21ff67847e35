package apps

import (
	"fmt"
	"syscall"

	"osv/kernel/rest/words"
)

// errInvalid makes a mistake in a command line the caller's.
const errInvalid = syscall.EINVAL

// Fields splits a command line into words, as words.Syntax says.
func Fields(line string) ([]string, error) {
	cmds, err := split(line, "")
	if err != nil {
		return nil, err
	}
	return cmds[0], nil
}

// split takes apart commands that one of the characters of end separates.
func split(line, end string) ([][]string, error) {
	cmds, err := words.Syntax{Blank: " \t\n", End: end}.Split(line)
	if err != nil {
		return nil, fmt.Errorf("command %q: %w: %w", line, err, errInvalid)
	}
	return cmds, nil
}

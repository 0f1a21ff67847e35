package elf

import (
	"bytes"
	"strings"
	"syscall"
)

// scriptLine is how much of a script's first line counts (BINPRM_BUF_SIZE).
const scriptLine = 256

// Script reads the first line of a script: the interpreter and its one argument, if
// any. ok is false for what is none; ENOEXEC where the line names no interpreter or is
// too long for its path.
func Script(r Reader) (interp, arg string, ok bool, err error) {
	b := make([]byte, scriptLine)
	n, err := r.ReadAt(b, 0)
	if err != nil {
		return "", "", false, err
	}
	return parseScript(b[:n])
}

func parseScript(b []byte) (interp, arg string, ok bool, err error) {
	b, ok = bytes.CutPrefix(b, []byte("#!"))
	if !ok {
		return "", "", false, nil
	}
	end := bytes.IndexByte(b, '\n')
	long := end < 0 && len(b) == scriptLine-len("#!")
	if long {
		b = b[:len(b)-1]
	}
	if end >= 0 {
		b = b[:end]
	} else if z := bytes.IndexByte(b, 0); z >= 0 {
		b, long = b[:z], false
	}
	line := strings.TrimLeft(string(b), " \t")
	at := strings.IndexAny(line, " \t\x00")
	if at < 0 && long {
		return "", "", true, syscall.ENOEXEC // the path is cut off
	}
	if at >= 0 {
		arg = strings.Trim(line[at:], " \t\x00")
		line = line[:at]
	}
	if line == "" {
		return "", "", true, syscall.ENOEXEC
	}
	return line, arg, true, nil
}

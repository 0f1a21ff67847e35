package acpi

import (
	"fmt"
	"strings"
)

// Decoders of single AML encodings. Each takes the bytes and a position, which
// may be at or beyond the end, and reports false where they do not hold.

// pkgLength decodes a PkgLength, §20.2.4. The package's content is
// b[start:end], which is inside b.
func pkgLength(b []byte, i int) (start, end int, ok bool) {
	if i >= len(b) {
		return 0, 0, false
	}
	more := int(b[i] >> 6)
	if i+more >= len(b) {
		return 0, 0, false
	}
	n := int(b[i] & 0x3F)
	if more > 0 {
		if b[i]&0x30 != 0 { // reserved where more bytes follow
			return 0, 0, false
		}
		n = int(b[i] & 0x0F)
		for k := 1; k <= more; k++ {
			n |= int(b[i+k]) << (8*k - 4)
		}
	}
	start, end = i+1+more, i+n // the length counts its own bytes
	return start, end, end >= start && end <= len(b)
}

// nameString decodes a NameString, §20.2.2, and resolves it against scope
// without the upward search: a definition names its own scope. Trailing
// underscores of a segment are padding and cut off.
func nameString(b []byte, i int, scope string) (path string, next int, ok bool) {
	if i >= len(b) {
		return "", 0, false
	}
	path = scope
	first := i
	switch b[i] {
	case '\\':
		path = `\`
		i++
	case '^':
		for i < len(b) && b[i] == '^' {
			path, _ = splitPath(path)
			i++
		}
	}
	if i >= len(b) {
		return "", 0, false
	}
	n := 1
	switch b[i] {
	case opZero: // null name: the prefix alone
		return path, i + 1, i > first
	case opDualName:
		n, i = 2, i+1
	case opMultiName:
		if i+1 >= len(b) || b[i+1] == 0 {
			return "", 0, false
		}
		n, i = int(b[i+1]), i+2
	}
	if i+4*n > len(b) {
		return "", 0, false
	}
	for k := range 4 * n {
		c := b[i+k]
		letter := c == '_' || c >= 'A' && c <= 'Z'
		if !letter && (k%4 == 0 || c < '0' || c > '9') {
			return "", 0, false
		}
	}
	var s strings.Builder
	s.WriteString(path)
	for k := range n {
		if s.Len() > 1 {
			s.WriteByte('.')
		}
		seg := strings.TrimRight(string(b[i+4*k:i+4*k+4]), "_")
		if seg == "" {
			seg = "_"
		}
		s.WriteString(seg)
	}
	return s.String(), i + 4*n, true
}

// splitPath cuts the last segment off. The parent of the root is the root.
func splitPath(path string) (parent, last string) {
	if i := strings.LastIndexByte(path, '.'); i >= 0 {
		return path[:i], path[i+1:]
	}
	return `\`, strings.TrimPrefix(path, `\`)
}

// integer decodes an integer constant, §20.2.3.
func integer(b []byte, i int) (v uint64, next int, ok bool) {
	if i >= len(b) {
		return 0, 0, false
	}
	n := 0
	switch b[i] {
	case opZero:
		return 0, i + 1, true
	case opOne:
		return 1, i + 1, true
	case opOnes:
		return ^uint64(0), i + 1, true
	case opByte:
		n = 1
	case opWord:
		n = 2
	case opDWord:
		n = 4
	case opQWord:
		n = 8
	default:
		return 0, 0, false
	}
	i++
	if i+n > len(b) {
		return 0, 0, false
	}
	for k := n - 1; k >= 0; k-- {
		v = v<<8 | uint64(b[i+k])
	}
	return v, i + n, true
}

// maxString bounds a string constant: IDs have 7 or 8 characters.
const maxString = 255

// stringData decodes a string constant.
func stringData(b []byte, i int) (s string, next int, ok bool) {
	if i >= len(b) || b[i] != opString {
		return "", 0, false
	}
	i++
	for k := i; k < len(b) && k-i <= maxString; k++ {
		if b[k] == 0 {
			return string(b[i:k]), k + 1, true
		}
		if b[k] > 0x7F {
			break
		}
	}
	return "", 0, false
}

// bufferData decodes a Buffer whose size is a constant, and returns the bytes
// that it gives.
func bufferData(b []byte, i int) (content []byte, ok bool) {
	if i >= len(b) || b[i] != opBuffer {
		return nil, false
	}
	start, end, ok := pkgLength(b, i+1)
	if !ok {
		return nil, false
	}
	size, at, ok := integer(b[:end], start)
	if !ok {
		return nil, false
	}
	content = b[at:end]
	if size < uint64(len(content)) {
		content = content[:size]
	}
	return content, true
}

// skipData returns where the data object at b[i] ends.
func skipData(b []byte, i int) (next int, ok bool) {
	if i >= len(b) {
		return 0, false
	}
	switch b[i] {
	case opBuffer, opPackage, opVarPkg:
		_, end, ok := pkgLength(b, i+1)
		return end, ok
	case opString:
		_, next, ok = stringData(b, i)
		return next, ok
	}
	_, next, ok = integer(b, i)
	return next, ok
}

// deviceID decodes a _HID or _CID: a string, or a compressed EISA ID (§19.3.4),
// which becomes the string it stands for. Anything else is "".
func deviceID(b []byte, i int) string {
	if s, _, ok := stringData(b, i); ok {
		return s
	}
	v, _, ok := integer(b, i)
	if !ok || v > 0xFFFF_FFFF {
		return ""
	}
	// Big-endian in memory: three letters of five bits, then four hex digits.
	x := uint16(v)<<8 | uint16(v)>>8
	letter := func(shift int) byte { return byte(x>>shift&0x1F) + 'A' - 1 }
	product := uint16(v>>16)<<8 | uint16(v>>24)
	return fmt.Sprintf("%c%c%c%04X", letter(10), letter(5), letter(0), product)
}

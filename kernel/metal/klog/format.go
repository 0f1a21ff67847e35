package klog

import (
	"unsafe"

	"osv/kernel/metal/arch"
)

// Line builds one line of output on the caller's stack. The zero value is empty.
// It truncates at its size; a kernel message is one line.
type Line struct {
	n   int
	buf [240]byte
}

// Str appends s.
func (l *Line) Str(s string) *Line {
	l.n += copy(l.buf[l.n:], s)
	return l
}

// Bytes appends the n bytes at p.
func (l *Line) Bytes(p, n uintptr) *Line {
	for i := uintptr(0); i < n && l.n < len(l.buf); i++ {
		l.buf[l.n] = *arch.Byte(p + i)
		l.n++
	}
	return l
}

// Hex appends v as 0x….
func (l *Line) Hex(v uint64) *Line {
	l.Str("0x")
	started := false
	for sh := 60; sh >= 0; sh -= 4 {
		d := byte(v>>uint(sh)) & 15
		started = started || d != 0 || sh == 0
		if started && l.n < len(l.buf) {
			if d < 10 {
				d += '0'
			} else {
				d += 'a' - 10
			}
			l.buf[l.n] = d
			l.n++
		}
	}
	return l
}

// Dec appends v in decimal.
func (l *Line) Dec(v uint64) *Line {
	var t [20]byte
	i := len(t)
	for {
		i--
		t[i] = byte('0' + v%10)
		v /= 10
		if v == 0 {
			break
		}
	}
	for ; i < len(t) && l.n < len(l.buf); i++ {
		l.buf[l.n] = t[i]
		l.n++
	}
	return l
}

// End prints the line.
func (l *Line) End() {
	if l.n == len(l.buf) {
		l.n--
	}
	l.buf[l.n] = '\n'
	Write(uintptr(unsafe.Pointer(&l.buf)), uintptr(l.n)+1)
	l.n = 0
}

// Print prints one line.
func Print(s string) {
	var l Line
	l.Str(s).End()
}

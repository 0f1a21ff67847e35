package proto

import (
	"fmt"
	"testing"
	"unsafe"
)

// Every number comes out in decimal behind a space, and nothing beyond the bytes that
// may be written is.
func TestPutSpaceNumber(t *testing.T) {
	var b [24]byte
	check := func(v uint32) {
		for i := range b {
			b[i] = '#'
		}
		p := unsafe.Pointer(&b)
		n := int(uintptr(putSpaceNumber(p, v)) - uintptr(p))
		if got := string(b[:n]); got != fmt.Sprintf(" %d", v) {
			t.Fatalf("%d: %q", v, got)
		}
		for i := n + 6; i < len(b); i++ {
			if b[i] != '#' {
				t.Fatalf("%d: byte %d behind its end is written", v, i-n)
			}
		}
	}
	for v := range uint32(20000) {
		check(v)
	}
	for v := uint32(1); v != 0; v *= 10 {
		check(v - 1)
		if v > 1<<32/10-1 {
			break
		}
	}
	check(1<<32 - 1)
}

func TestMove(t *testing.T) {
	for n := range 300 {
		src, dst := make([]byte, n+16), make([]byte, n+16)
		for i := range src {
			src[i], dst[i] = byte(i*7), '#'
		}
		move(unsafe.Pointer(&dst[0]), unsafe.Pointer(&src[0]), n)
		if string(dst[:n]) != string(src[:n]) || dst[n] != '#' {
			t.Fatalf("%d bytes: %q", n, dst[:n+1])
		}
	}
}

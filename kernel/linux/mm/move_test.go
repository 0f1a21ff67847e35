package mm

import (
	"bytes"
	"testing"
)

// move is copy, for all lengths around its pieces and whatever the ends are aligned to.
func TestMove(t *testing.T) {
	src := make([]byte, 3*moveSize+64)
	for i := range src {
		src[i] = byte(i*7 + i>>8)
	}
	dst := make([]byte, len(src))
	want := make([]byte, len(src))
	for _, n := range []int{0, 1, 255, moveSize - 1, moveSize, moveSize + 1, 2 * moveSize, 2*moveSize + 1, 3 * moveSize} {
		for _, off := range [][2]int{{0, 0}, {1, 0}, {0, 3}, {8, 16}} {
			clear(dst)
			clear(want)
			s, d, w := src[off[0]:off[0]+n], dst[off[1]:], want[off[1]:]
			if got := move(d, s); got != n || copy(w, s) != n || !bytes.Equal(dst, want) {
				t.Fatalf("%d bytes at %v: moved %d", n, off, got)
			}
			clear(dst)
			clear(want)
			if got := move(d[:n], src); got != n || copy(w[:n], src) != n || !bytes.Equal(dst, want) {
				t.Fatalf("%d bytes of room at %v: moved %d", n, off, got)
			}
		}
	}
}

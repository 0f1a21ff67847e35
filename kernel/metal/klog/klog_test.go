package klog

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"unsafe"
)

// read returns what was written to the ring from position pos on, in pieces of
// at most n bytes.
func read(pos uint64, n int) (s string, next uint64) {
	b := make([]byte, n)
	for {
		var got uintptr
		got, pos = Read(pos, uintptr(unsafe.Pointer(&b[0])), uintptr(n))
		if got == 0 {
			return s, pos
		}
		s += string(b[:got])
	}
}

func TestLine(t *testing.T) {
	pos := written
	raw := []byte("raw bytes")
	var l Line
	l.Str("a").Hex(0).Str(" ").Hex(0x10).Str(" ").Hex(^uint64(0)).Str(" ").Dec(0).Str(" ").Dec(^uint64(0)).Str(" ").
		Bytes(uintptr(unsafe.Pointer(&raw[0])), 3).End()
	l.Str("again").End() // a line is empty after End
	l.End()
	Print("whole line")
	got, _ := read(pos, 1000)
	if want := "a0x0 0x10 0xffffffffffffffff 0 18446744073709551615 raw\nagain\n\nwhole line\n"; got != want {
		t.Errorf("printed %q, want %q", got, want)
	}
}

func TestNumbersAgreeWithFmt(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 2000 {
		v := rng.Uint64() >> rng.IntN(64)
		pos := written
		var l Line
		l.Hex(v).Str(" ").Dec(v).End()
		if got, _ := read(pos, 100); got != fmt.Sprintf("%#x %d\n", v, v) {
			t.Fatalf("%d prints as %q", v, got)
		}
	}
}

// A line that is too long is cut, wherever its end falls, and ends in a newline.
func TestLineIsCut(t *testing.T) {
	max := len(Line{}.buf)
	long := strings.Repeat("x", max-10)
	for extra := range 40 {
		for name, add := range map[string]func(*Line){
			"Str":   func(l *Line) { l.Str(strings.Repeat("s", extra)) },
			"Hex":   func(l *Line) { l.Str(strings.Repeat("s", extra)).Hex(0x123456789abcdef0) },
			"Dec":   func(l *Line) { l.Str(strings.Repeat("s", extra)).Dec(12345678901234567890) },
			"Bytes": func(l *Line) { b := [50]byte{}; l.Bytes(uintptr(unsafe.Pointer(&b)), uintptr(extra)) },
		} {
			pos := written
			var l Line
			add(l.Str(long))
			n := l.n
			l.End()
			got, _ := read(pos, 1000)
			if n > max || !strings.HasPrefix(got, long) || strings.IndexByte(got, '\n') != len(got)-1 || len(got) != min(n+1, max) {
				t.Errorf("%s, %d more: %d bytes in the line, printed %d: %q", name, extra, n, len(got), got[max-20:])
			}
		}
	}
}

// A reader that fell behind by more than the ring starts at the oldest byte.
func TestRead(t *testing.T) {
	b := make([]byte, ringSize*3/2)
	for i := range b {
		b[i] = byte(i / 7)
	}
	pos := written
	Write(uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	if written != pos+uint64(len(b)) {
		t.Fatalf("%d bytes written, want %d", written-pos, len(b))
	}
	got, next := read(pos, 777)
	if got != string(b[len(b)-ringSize:]) || next != written {
		t.Errorf("read %d bytes up to position %d, want the last %d up to %d", len(got), next, ringSize, written)
	}
	if got, next = read(written-10, 4); got != string(b[len(b)-10:]) || next != written {
		t.Errorf("the last 10 bytes read as %q", got)
	}
	for _, p := range []uint64{written, written + 5} {
		if got, next = read(p, 4); got != "" || next != p {
			t.Errorf("at position %d of %d: %q, next %d", p, written, got, next)
		}
	}
	Write(0, 0)
}

// Lines of several processors come out whole. Outputs other than the ring are
// privileged: without a UART that Init found, nothing touches a port.
func TestWriteConcurrently(t *testing.T) {
	SetTarget(Serial)
	pos := written
	var wg sync.WaitGroup
	for k := range 4 {
		wg.Go(func() {
			for i := range 100 {
				var l Line
				l.Str("cpu ").Dec(uint64(k)).Str(" line ").Dec(uint64(i)).Str(strings.Repeat(".", 40)).End()
			}
		})
	}
	wg.Wait()
	got, _ := read(pos, 4096)
	next := [4]int{}
	for line := range strings.Lines(got) {
		var k, i int
		if n, err := fmt.Sscanf(line, "cpu %d line %d", &k, &i); n != 2 || err != nil || !strings.HasSuffix(line, strings.Repeat(".", 40)+"\n") {
			t.Fatalf("torn line %q", line)
		}
		if i != next[k] {
			t.Fatalf("processor %d: line %d, want %d", k, i, next[k])
		}
		next[k]++
	}
	if next != [4]int{100, 100, 100, 100} {
		t.Errorf("lines of each processor: %v", next)
	}
}

// A processor that died while it printed does not silence the others.
func TestWriteWithADeadHolder(t *testing.T) {
	lockWord = 1
	pos := written
	Print("last words")
	if got, _ := read(pos, 100); got != "last words\n" {
		t.Errorf("printed %q", got)
	}
	if lockWord != 0 {
		t.Error("the lock is still held")
	}
}

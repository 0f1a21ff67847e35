package tcp

import (
	"io"
	"testing"
)

func TestDiscard(t *testing.T) {
	w := newWirePair(t, 65536)
	defer w.close(t)
	buf := make([]byte, 8000)
	if n, err := w.b.Discard(w.now); n != 0 || err != nil {
		t.Errorf("nothing there: %d, %v", n, err)
	}
	run := func() {
		w.a.Send(w.now, buf)
		w.a.Flush(w.now)
		w.settle()
		if n, err := w.b.Discard(w.now); n != len(buf) || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
		w.b.Flush(w.now)
		w.settle()
	}
	run()
	if n := testing.AllocsPerRun(100, run); n != 0 {
		t.Errorf("%v allocations", n)
	}
	w.a.CloseWrite(w.now)
	w.a.Flush(w.now)
	w.settle()
	if n, err := w.b.Discard(w.now); n != 0 || err != io.EOF {
		t.Errorf("at the end: %d, %v", n, err)
	}
}

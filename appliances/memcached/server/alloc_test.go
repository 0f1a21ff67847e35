package server

import (
	"io"
	"strings"
	"testing"
)

// TestNoAllocsPerRequest: a request and its reply, client included, allocate
// nothing on any engine.
func TestNoAllocsPerRequest(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		c := w.connect()
		c.ask("set a 0 0 100\r\n"+bigValue(100)+"\r\n", "STORED\r\n")
		req, reply := []byte("get a\r\n"), make([]byte, len("VALUE a 0 100\r\n")+102+len("END\r\n"))
		tcp := func() {
			if _, err := c.Conn.Write(req); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(c.Conn, reply); err != nil {
				t.Fatal(err)
			}
		}
		for range 100 {
			tcp()
		}
		// The average over many: timers and the runtime allocate now and then.
		if n := testing.AllocsPerRun(2000, tcp); n != 0 {
			t.Errorf("TCP: %v allocations", n)
		}
		if !strings.HasSuffix(string(reply), "END\r\n") {
			t.Errorf("%q", reply)
		}
		uc, dg := w.udp, append([]byte{0, 1, 0, 0, 0, 1, 0, 0}, "get a\r\n"...)
		buf := make([]byte, 2000)
		udp := func() {
			if _, err := uc.Write(dg); err != nil {
				t.Fatal(err)
			}
			if _, err := uc.Read(buf); err != nil {
				t.Fatal(err)
			}
		}
		for range 100 {
			udp()
		}
		if n := testing.AllocsPerRun(2000, udp); n != 0 {
			t.Errorf("UDP: %v allocations", n)
		}
	})
}

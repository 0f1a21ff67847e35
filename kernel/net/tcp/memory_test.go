package tcp

import "testing"

// Many connections that nobody reads hold about as much as they may together.
func TestMemoryBoundsAllConnections(t *testing.T) {
	const limit = 1 << 20
	m := NewMemory(limit)
	var ws []*wirePair
	for range 20 {
		w := newWirePairWith(t, 0, func(c *Config) { c.Memory = m; c.RcvBuf = 1 << 20 })
		ws = append(ws, w)
	}
	out := make([]byte, 8<<10)
	for range 200 {
		for _, w := range ws {
			w.now += 1e8
			w.a.Send(w.now, out)
			w.a.Timer(w.now)
			w.a.Flush(w.now)
			w.settle()
		}
	}
	if u := m.Used(); u < limit/2 || u > limit+20*(memoryFloor+64<<10) {
		t.Errorf("%d bytes held, bound %d", u, limit)
	}
	for i, w := range ws {
		if i == 0 {
			continue // still open
		}
		w.close(t)
	}
	// What the others held is free for the one that is left.
	w := ws[0]
	before := w.b.Readable()
	for range 50 {
		w.now += 20e9 // timeouts, window probes
		w.a.Send(w.now, out)
		w.a.Timer(w.now)
		w.a.Flush(w.now)
		w.settle()
	}
	if after := w.b.Readable(); after <= before {
		t.Errorf("%d octets before and %d after", before, after)
	}
	w.close(t)
	if u := m.Used(); u != 0 {
		t.Errorf("%d bytes accounted for at the end", u)
	}
}

// When the memory for octets to send is short, each connection holds little.
func TestSendMemoryShort(t *testing.T) {
	short := false
	w := newWirePairWith(t, 0, func(c *Config) { c.ChunksShort = func() bool { return short } })
	defer w.close(t)
	out := make([]byte, 256<<10)
	if n, _ := w.a.Send(w.now, out[:100<<10]); n != 100<<10 {
		t.Fatalf("took %d", n)
	}
	short = true
	if n, _ := w.a.Send(w.now, out); n != 0 || w.a.Writable() {
		t.Errorf("took %d on top of 100 KiB, writable %v", n, w.a.Writable())
	}
	w.a.Flush(w.now)
	w.settle()
	for w.b.Readable() > 0 {
		w.b.Recv(w.now, out)
		w.b.Flush(w.now)
		w.settle()
	}
	if n, _ := w.a.Send(w.now, out); n != sendFloor {
		t.Errorf("took %d, want %d", n, sendFloor)
	}
	short = false
	if n, _ := w.a.Send(w.now, out); n < 100<<10 {
		t.Errorf("took %d with memory again", n)
	}
}

// Small requests, of which each takes a buffer and is read at once, do not close
// the window of a host with little memory.
func TestSmallRequestsKeepTheWindowOpen(t *testing.T) {
	m := NewMemory(128 << 10)
	w := newWirePairWith(t, 0, func(c *Config) { c.Memory = m; c.RcvBuf = 64 << 10 })
	defer w.close(t)
	var buf [1448]byte
	w.a.Send(w.now, buf[:]) // b has seen a full segment
	w.a.Flush(w.now)
	w.settle()
	w.b.Recv(w.now, buf[:])
	for i := range 20_000 {
		w.now += 1e5
		for _, ends := range [][2]*Conn{{w.a, w.b}, {w.b, w.a}} {
			from, to := ends[0], ends[1]
			from.Send(w.now, buf[:16])
			from.Flush(w.now)
			w.settle()
			if n, err := to.Recv(w.now, buf[:]); n != 16 || err != nil {
				t.Fatalf("request %d: %d octets, %v; window %d", i, n, err, to.rcvAdv.Sub(to.rcvNxt))
			}
			to.Flush(w.now)
			w.settle()
		}
	}
	if wnd := w.b.rcvAdv.Sub(w.b.rcvNxt); wnd < w.b.rcvMSS {
		t.Errorf("a window of %d octets is left", wnd)
	}
}

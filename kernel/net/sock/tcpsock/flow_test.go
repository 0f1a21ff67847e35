package tcpsock

import (
	"bytes"
	"errors"
	"syscall"
	"testing"
	"time"

	"osv/kernel/ktest/simnet"
	"osv/kernel/net/tcp"
)

// probe is a Handler that does what the test says and writes down what it sees.
type probe struct {
	data  func(f *Flow, p []byte) int
	seen  [][]byte
	ended int
	err   error
	close bool
}

func (h *probe) Data(f *Flow, p []byte) int {
	h.seen = append(h.seen, bytes.Clone(p))
	return h.data(f, p)
}

func (h *probe) End(f *Flow, err error) {
	h.ended++
	h.err = err
	if h.close {
		f.Close()
	}
}

// serve is a flow on host 1 with handler h, and the Conn of host 0 to it.
func (w *world) serve(h *probe) (*Conn, *Flow) {
	w.t.Helper()
	var f *Flow
	if _, err := w.host[1].Serve(addr(1, 7), ListenConfig{}, func(x *Flow) Handler {
		f = x
		return h
	}); err != nil {
		w.t.Fatal(err)
	}
	c := w.openFake(7)
	if f == nil {
		w.t.Fatal("no flow")
	}
	if f.Local() != addr(1, 7) || f.Remote().Addr() != hostAddr[0] {
		w.t.Errorf("flow between %v and %v", f.Local(), f.Remote())
	}
	return c, f
}

// recv reads all that has come to c.
func (w *world) recv(c *Conn) []byte {
	var got []byte
	p := make([]byte, 65536)
	for {
		n, err := c.TryRead(p)
		if got = append(got, p[:n]...); err != nil {
			return got
		}
	}
}

func TestFlowAnswersWithTheAck(t *testing.T) {
	w := newWorld(t, worldConfig{manual: true})
	h := &probe{data: func(f *Flow, p []byte) int { return f.Write(p) }}
	c, f := w.serve(h)
	out := f.Conn().Info().SegsOut
	c.TryWrite([]byte("question"))
	w.poll()
	if got := w.recv(c); string(got) != "question" {
		t.Errorf("got %q", got)
	}
	if n := f.Conn().Info().SegsOut - out; n != 1 {
		t.Errorf("%d segments for one answer", n)
	}
}

// A batch of requests is answered by one segment.
func TestFlowBatches(t *testing.T) {
	w := newWorld(t, worldConfig{manual: true})
	h := &probe{data: func(f *Flow, p []byte) int { return f.Write(p) }}
	c, f := w.serve(h)
	c.SetNoDelay(true)
	out := f.Conn().Info().SegsOut
	for range 10 {
		c.TryWrite([]byte("0123456789"))
	}
	w.poll()
	if got := w.recv(c); len(got) != 100 {
		t.Errorf("got %d octets", len(got))
	}
	if n := f.Conn().Info().SegsOut - out; n != 1 {
		t.Errorf("%d segments for ten answers", n)
	}
}

// A request in two segments is offered again, in one piece.
func TestFlowOffersMore(t *testing.T) {
	w := newWorld(t, worldConfig{manual: true})
	h := &probe{}
	h.data = func(f *Flow, p []byte) int {
		if i := bytes.IndexByte(p, '\n'); i >= 0 {
			return f.Write(p[:i+1])
		}
		return 0
	}
	c, _ := w.serve(h)
	big := append(bytes.Repeat([]byte("x"), 700), '\n')
	c.TryWrite(big[:600])
	w.poll()
	c.TryWrite(append(big[600:], "next"...))
	w.poll()
	if got := w.recv(c); !bytes.Equal(got, big) {
		t.Errorf("got %d octets, want %d", len(got), len(big))
	}
	if n := len(h.seen); n != 3 || len(h.seen[0]) != 600 || len(h.seen[1]) != 705 || string(h.seen[2]) != "next" {
		t.Errorf("offered %d times", n)
	}
}

// With a full send buffer the handler waits, the window closes, and all goes on
// when the peer reads.
func TestFlowBackpressure(t *testing.T) {
	w := newWorld(t, worldConfig{manual: true, host: Config{TCP: tcp.Config{SndBuf: 16 << 10, SndBufMax: 16 << 10, RcvBuf: 16 << 10, RcvBufMax: 16 << 10}}})
	h := &probe{data: func(f *Flow, p []byte) int { return f.Write(p) }}
	c, _ := w.serve(h)
	in := pattern(200<<10, 8)
	sent, blocked := 0, 0
	var got []byte
	for len(got) < len(in) {
		n, err := c.TryWrite(in[sent:])
		if sent += n; err == ErrWouldBlock || sent == len(in) {
			w.advance(100 * time.Millisecond)
			if n, _ := c.TryWrite(in[sent:]); n == 0 || sent == len(in) {
				// Stuck until we read.
				blocked++
				before := len(got)
				got = append(got, w.recv(c)...)
				w.advance(20 * time.Millisecond)
				if len(got) == before && blocked > 1000 {
					t.Fatalf("stuck after %d of %d, %d sent: %+v", len(got), len(in), sent, c.Info())
				}
			} else {
				sent += n
			}
		}
	}
	if !bytes.Equal(got, in) {
		t.Error("wrong octets")
	}
	if blocked < 5 {
		t.Errorf("was blocked %d times only", blocked)
	}
}

func TestFlowEnd(t *testing.T) {
	w := newWorld(t, worldConfig{manual: true})
	h := &probe{close: true, data: func(f *Flow, p []byte) int { return len(p) }}
	c, f := w.serve(h)
	c.TryWrite([]byte("last"))
	c.Close()
	w.advance(time.Second)
	if h.ended != 1 || h.err != nil || string(bytes.Join(h.seen, nil)) != "last" {
		t.Errorf("ended %d times, %v, saw %q", h.ended, h.err, h.seen)
	}
	if s := f.Conn().Info().State; s != tcp.StateClosed {
		t.Errorf("state %v", s)
	}
	if n := w.host[1].Conns(); n != 0 {
		t.Errorf("%d connections left", n)
	}
}

func TestFlowReset(t *testing.T) {
	w := newWorld(t, worldConfig{manual: true})
	h := &probe{data: func(f *Flow, p []byte) int { return 0 }}
	c, _ := w.serve(h)
	c.TryWrite([]byte("unfinished"))
	w.poll()
	c.SetLinger(0)
	c.Close()
	w.advance(10 * time.Millisecond)
	if h.ended != 1 || !errors.Is(h.err, syscall.ECONNRESET) {
		t.Errorf("ended %d times: %v", h.ended, h.err)
	}
}

func TestFlowClosesItself(t *testing.T) {
	w := newWorld(t, worldConfig{manual: true})
	h := &probe{}
	h.data = func(f *Flow, p []byte) int {
		f.Write([]byte("bye"))
		f.Close()
		return len(p)
	}
	c, _ := w.serve(h)
	c.TryWrite([]byte("quit"))
	w.poll()
	if got := w.recv(c); string(got) != "bye" {
		t.Errorf("got %q", got)
	}
	if c.Ready()&HungUp == 0 {
		t.Error("no FIN")
	}
	c.Close()
	w.advance(time.Second)
	if h.ended != 0 {
		t.Error("End was called after Close")
	}
}

// A handler that never takes a request larger than a piece is not waited for.
func TestFlowStuck(t *testing.T) {
	w := newWorld(t, worldConfig{manual: true})
	h := &probe{data: func(f *Flow, p []byte) int { return 0 }}
	c, _ := w.serve(h)
	c.TryWrite(make([]byte, 20000))
	w.advance(100 * time.Millisecond)
	if h.ended != 1 || !errors.Is(h.err, errStuck) {
		t.Errorf("ended %d times: %v", h.ended, h.err)
	}
	if m := len(h.seen[len(h.seen)-1]); m < MaxPiece {
		t.Errorf("offered %d octets in one piece at most", m)
	}
}

func TestFlowPauseAndDo(t *testing.T) {
	w := newWorld(t, worldConfig{manual: true})
	h := &probe{}
	h.data = func(f *Flow, p []byte) int {
		f.Pause()
		return 0
	}
	c, f := w.serve(h)
	c.TryWrite(make([]byte, 20000))
	w.advance(100 * time.Millisecond)
	if len(h.seen) != 1 || h.ended != 0 {
		t.Fatalf("offered %d times while paused, ended %d", len(h.seen), h.ended)
	}
	total := 0
	h.data = func(f *Flow, p []byte) int {
		total += len(p)
		return len(p)
	}
	f.Do(func() { f.Write([]byte("late")) })
	w.advance(100 * time.Millisecond)
	if total != 20000 {
		t.Errorf("%d octets after Do", total)
	}
	if got := w.recv(c); string(got) != "late" {
		t.Errorf("got %q", got)
	}
	f.Do(f.Abort)
	w.advance(10 * time.Millisecond)
	if _, err := c.TryRead(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("after Abort: %v", err)
	}
	f.Do(func() { t.Error("Do on a flow that is over") })
}

// Host.Close ends flows too.
func TestFlowHostCloses(t *testing.T) {
	w := newWorld(t, worldConfig{manual: true})
	h := &probe{data: func(f *Flow, p []byte) int { return 0 }}
	w.serve(h)
	w.host[1].Close()
	if h.ended != 1 || h.err == nil {
		t.Errorf("ended %d times: %v", h.ended, h.err)
	}
}

// Nothing is allocated on the way of a request and its answer, on either side, by
// stack, channel, connection or handler.
func TestPathAllocatesNothing(t *testing.T) {
	for _, caps := range []simnet.Config{{}, {Caps: offloads}} {
		w := newWorld(t, worldConfig{manual: true, net: caps})
		h := &echo{}
		if _, err := w.host[1].Serve(addr(1, 7), ListenConfig{}, func(*Flow) Handler { return h }); err != nil {
			t.Fatal(err)
		}
		c := w.openFake(7)
		req, p := make([]byte, 100), make([]byte, 4096)
		ask := func() {
			c.TryWrite(req)
			w.poll()
			if n, _ := c.TryRead(p); n != len(req) {
				t.Fatalf("answer of %d octets", n)
			}
		}
		for range 100 {
			ask()
		}
		if n := testing.AllocsPerRun(200, ask); n != 0 {
			t.Errorf("flow, %+v: %v allocations", caps.Caps, n)
		}
		a, b := w.pair(80)
		ask = func() {
			a.TryWrite(req)
			w.poll()
			n, _ := b.TryRead(p)
			b.TryWrite(p[:n])
			w.poll()
			if n, _ := a.TryRead(p); n != len(req) {
				t.Fatalf("answer of %d octets", n)
			}
		}
		for range 100 {
			ask()
		}
		if n := testing.AllocsPerRun(200, ask); n != 0 {
			t.Errorf("connections, %+v: %v allocations", caps.Caps, n)
		}
	}
}

type echo struct{}

func (*echo) Data(f *Flow, p []byte) int { return f.Write(p) }
func (*echo) End(f *Flow, err error)     { f.Close() }

func BenchmarkFlowEcho(b *testing.B) {
	w := newWorld(b, worldConfig{manual: true, net: simnet.Config{Caps: offloads}})
	if _, err := w.host[1].Serve(addr(1, 7), ListenConfig{}, func(*Flow) Handler { return &echo{} }); err != nil {
		b.Fatal(err)
	}
	c := w.openFake(7)
	req, p := make([]byte, 100), make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		c.TryWrite(req)
		w.poll()
		c.TryRead(p)
	}
}

func BenchmarkConnEcho(b *testing.B) {
	w := newWorld(b, worldConfig{manual: true, net: simnet.Config{Caps: offloads}})
	x, y := w.pair(80)
	req, p := make([]byte, 100), make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		x.TryWrite(req)
		w.poll()
		n, _ := y.TryRead(p)
		y.TryWrite(p[:n])
		w.poll()
		x.TryRead(p)
	}
}

func BenchmarkStream(b *testing.B) {
	w := newWorld(b, worldConfig{net: simnet.Config{Caps: offloads}})
	x, y := w.pair(80)
	go func() {
		p := make([]byte, 128<<10)
		for {
			if _, err := x.Write(p); err != nil {
				return
			}
		}
	}()
	p := make([]byte, 128<<10)
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	for b.Loop() {
		for n := 0; n < len(p); {
			k, err := y.Read(p[n:])
			if err != nil {
				b.Fatal(err)
			}
			n += k
		}
	}
}

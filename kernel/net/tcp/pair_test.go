package tcp

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"testing"
	"time"
)

var (
	pairSeeds = flag.Int("tcp.seeds", 0, "pair tests: how many seeds (0: 1000, or 100 with -short, or 20 with -short -race)")
	pairSeed  = flag.Uint64("tcp.seed", 0, "pair test: only this seed, with a trace")
)

// app drives one end of a connection: it sends out to its end, reads in, and
// closes.
type app struct {
	h       *simHost
	c       *Conn
	out, in stream
	rng     *rand.Rand
	slow    bool
	nextAt  int64 // a slow reader reads again
	eof     bool
	shut    bool
	t       testing.TB
	buf     [8192]byte
	cmp     [8192]byte
	pend    []byte // filled and not yet taken
}

// run does what can be done now.
func (a *app) run() bool {
	if a.c == nil {
		return true
	}
	now := a.h.w.now
	for !a.shut {
		if len(a.pend) == 0 {
			n := min(a.out.left, 1+a.rng.IntN(len(a.buf)))
			if n == 0 {
				if !a.c.State().synchronized() {
					break // a CLOSE would abandon the connection
				}
				if err := a.c.CloseWrite(now); err != nil {
					a.t.Errorf("%s: close: %v", a.h.name, err)
					return false
				}
				a.shut = true
				break
			}
			a.out.fill(a.buf[:n])
			a.pend = a.buf[:n]
		}
		n, err := a.c.Send(now, a.pend)
		if err != nil {
			a.t.Errorf("%s: send in %v: %v", a.h.name, a.c.State(), err)
			return false
		}
		if a.pend = a.pend[n:]; n == 0 {
			break
		}
	}
	for !a.eof && (!a.slow || now >= a.nextAt) {
		var p [8192]byte
		n, err := a.c.Recv(now, p[:1+a.rng.IntN(len(p))])
		if err == io.EOF {
			a.eof = true
			break
		}
		if err != nil {
			a.t.Errorf("%s: receive in %v: %v", a.h.name, a.c.State(), err)
			return false
		}
		if n == 0 {
			break
		}
		if n > a.in.left {
			a.t.Errorf("%s: %d octets too many", a.h.name, n-a.in.left)
			return false
		}
		off := a.in.left
		a.in.fill(a.cmp[:n])
		if !bytes.Equal(p[:n], a.cmp[:n]) {
			a.t.Errorf("%s: wrong octets with %d to go", a.h.name, off)
			return false
		}
		if a.slow && a.rng.IntN(3) == 0 {
			a.nextAt = now + a.rng.Int64N(50e6)
			break
		}
	}
	a.c.Flush(now)
	return true
}

// params are what a seed decides.
func params(seed uint64) (w *world, desc string) {
	r := rand.New(rand.NewPCG(seed, 1))
	pick := func(v ...int) int { return v[r.IntN(len(v))] }
	cfg := func() Config {
		return Config{
			RcvBuf: pick(4096, 65536, 128<<10), RcvBufMax: pick(65536, 1<<20, 6<<20),
			SndBuf: pick(4096, 65536), SndBufMax: pick(65536, 1<<20),
			NoSACK: r.IntN(4) == 0, NoTimestamps: r.IntN(4) == 0, NoWindowScale: r.IntN(4) == 0,
			NewReno: r.IntN(3) == 0, UserTimeout: 24 * time.Hour, MSL: time.Second,
		}
	}
	ca, cb := cfg(), cfg()
	if r.IntN(3) == 0 {
		ca.Memory, cb.Memory = NewMemory(pick(100e3, 1e6)), NewMemory(pick(100e3, 1e6))
	}
	mtu := pick(576, 1280, 1500, 1500, 1500, 9000)
	v6 := r.IntN(3) == 0
	if v6 {
		mtu = max(mtu, 1280)
	}
	w = newWorld(seed, ca, cb, mtu, v6)
	w.loss = float64(pick(0, 0, 1, 5, 10, 20, 30)) / 100
	w.dup = float64(pick(0, 0, 1, 10)) / 100
	w.corrupt = float64(pick(0, 0, 1, 5)) / 100
	w.reorder = float64(pick(0, 0, 1, 10, 50)) / 100
	w.delay = int64(pick(20e3, 1e6, 10e6, 50e6))
	if r.IntN(3) == 0 {
		w.rate, w.limit = int64(pick(1e6, 10e6)), pick(20, 200)
	}
	for _, h := range []*simHost{w.a, w.b} {
		if r.IntN(2) == 0 {
			h.path.GSOMax, h.path.Pieces = 65536, 33
		}
	}
	desc = fmt.Sprintf("loss %v dup %v corrupt %v reorder %v delay %v rate %d mtu %d v6 %v gso %d/%d a{sack %v ts %v ws %v reno %v} b{%v %v %v %v}",
		w.loss, w.dup, w.corrupt, w.reorder, time.Duration(w.delay), w.rate, mtu, v6, w.a.path.GSOMax, w.b.path.GSOMax,
		!ca.NoSACK, !ca.NoTimestamps, !ca.NoWindowScale, ca.NewReno, !cb.NoSACK, !cb.NoTimestamps, !cb.NoWindowScale, cb.NewReno)
	return w, desc
}

// runPair moves octets both ways over the wire of a seed, to the last ACK.
func runPair(t testing.TB, seed uint64, trace io.Writer) {
	w, desc := params(seed)
	w.trace = trace
	runPairOn(t, seed, w, desc)
}

func runPairOn(t testing.TB, seed uint64, w *world, desc string) {
	r := rand.New(rand.NewPCG(seed, 2))
	newApp := func(h *simHost, out, in uint64, nOut, nIn int) *app {
		a := &app{h: h, out: stream{out, nOut}, in: stream{in, nIn}, rng: r, t: t}
		a.slow = r.IntN(4) == 0
		return a
	}
	na, nb := r.IntN(300e3), r.IntN(300e3)
	if r.IntN(8) == 0 {
		na = 0
	}
	a, b := newApp(w.a, 1+seed, 1000001+seed, na, nb), newApp(w.b, 1000001+seed, 1+seed, nb, na)
	w.b.listener = NewListener(&w.b.cfg, w.b, 10, 10)
	w.b.accepted = func(c *Conn) { b.c = c }
	var opt Options
	opt.NoDelay = r.IntN(2) == 0
	a.c = w.a.connect(4000, 80)
	a.c.SetOptions(w.now, opt)
	// With 30 % loss each way and neither SACK nor timestamps, most of it is spent
	// in timeouts of two minutes.
	end := w.now + int64(48*time.Hour)
	for steps := 0; ; steps++ {
		if !a.run() || !b.run() {
			break
		}
		if a.eof && b.eof && a.c.State() == StateClosed && b.c.State() == StateClosed && w.b.listener.HalfOpen() == 0 {
			break
		}
		// A slow reader wakes up by itself.
		if !w.step() && !a.wake() && !b.wake() || w.now > end || steps > 5e6 {
			t.Errorf("no end: a %v eof %v, b %v eof %v", a.c.State(), a.eof, stateOf(b.c), b.eof)
			break
		}
	}
	if err := errors.Join(a.c.Err(), errOf(b.c)); err != nil {
		t.Error(err)
	}
	if a.in.left != 0 || b.in.left != 0 || a.out.left != 0 || b.out.left != 0 {
		t.Errorf("octets not moved: to a %d, to b %d", a.in.left, b.in.left)
	}
	w.b.listener.Close(w.now)
	w.a.close(t)
	w.b.close(t)
	if t.Failed() {
		t.Logf("seed %d: %s; %d packets, %d lost, %v", seed, desc, w.sent, w.lost, time.Duration(w.now))
	}
}

func (a *app) wake() bool {
	if a.slow && !a.eof && a.c != nil && a.nextAt > a.h.w.now {
		a.h.w.now = a.nextAt
		return true
	}
	return false
}

func stateOf(c *Conn) State {
	if c == nil {
		return StateClosed
	}
	return c.State()
}

func errOf(c *Conn) error {
	if c == nil {
		return errors.New("never accepted")
	}
	return c.Err()
}

func pairSeedCount() int {
	switch {
	case *pairSeeds > 0:
		return *pairSeeds
	case !testing.Short():
		return 1000
	case raceEnabled:
		return 20
	}
	return 100
}

// Two ends over a bad wire: every octet arrives, once and in order, and no
// memory is left behind. A failing seed is run again by -tcp.seed=N.
func TestPair(t *testing.T) {
	if *pairSeed != 0 {
		runPair(t, *pairSeed, os.Stderr)
		return
	}
	n := pairSeedCount()
	for seed := uint64(1); seed <= uint64(n); seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { runPair(t, seed, nil) })
	}
}

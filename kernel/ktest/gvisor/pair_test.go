package gvisor

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	seeds   = flag.Int("seeds", 0, "how many seeds (0: 200, or 40 with -short)")
	oneSeed = flag.Uint64("seed", 0, "only this seed")
)

// TestMain looks for goroutines that outlive all tests.
func TestMain(m *testing.M) {
	flag.Parse()
	before := runtime.NumGoroutine()
	code := m.Run()
	for i := 0; runtime.NumGoroutine() > before; i++ {
		if i == 1000 {
			buf := make([]byte, 1<<20)
			fmt.Printf("FAIL: %d goroutines, %d before\n%s\n", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
			code = max(code, 1)
			break
		}
		time.Sleep(time.Millisecond)
	}
	if n := stuck.Load(); n > 0 {
		fmt.Printf("gVisor's sender stopped for good in %d connections\n", n)
	}
	if code != 0 {
		fmt.Println("a failing seed is run again by -seed=N")
	}
	os.Exit(code)
}

// scene is what the two ends do with a connection.
type scene struct {
	name string
	play func(p *pair)
}

// pair is one open connection and what is to go over it.
type pair struct {
	t            *testing.T
	w            *world
	r            *rand.Rand
	ours, theirs conn
	up, down     []byte // from ours to theirs, and back
	stuck        atomic.Bool
	wg           sync.WaitGroup
}

// errorf fails the test, unless it was ended for gVisor's sake.
func (p *pair) errorf(format string, v ...any) {
	p.t.Helper()
	if !p.stuck.Load() {
		p.t.Errorf(format, v...)
	}
}

// stuck counts seeds that gVisor has not brought to an end.
var stuck atomic.Int32

var scenes = []scene{
	{"bulk both ways", func(p *pair) {
		p.send(p.ours, p.up)
		p.send(p.theirs, p.down)
		p.receive(p.ours, p.down)
		p.receive(p.theirs, p.up)
		p.wg.Wait()
		p.closeBoth()
	}},
	{"we close first", func(p *pair) {
		p.send(p.ours, p.up)
		p.receive(p.theirs, p.up)
		p.wg.Wait() // our half is closed; theirs still sends
		p.send(p.theirs, p.down)
		p.receive(p.ours, p.down)
		p.wg.Wait()
		p.closeBoth()
	}},
	{"they close first", func(p *pair) {
		p.send(p.theirs, p.down)
		p.receive(p.ours, p.down)
		p.wg.Wait()
		p.send(p.ours, p.up)
		p.receive(p.theirs, p.up)
		p.wg.Wait()
		p.closeBoth()
	}},
	{"both close at once", func(p *pair) {
		p.send(p.ours, nil)
		p.send(p.theirs, nil)
		p.receive(p.ours, nil)
		p.receive(p.theirs, nil)
		p.wg.Wait()
		p.closeBoth()
	}},
	{"we reset", func(p *pair) { p.reset(p.ours, p.theirs, p.up) }},
	{"they reset", func(p *pair) { p.reset(p.theirs, p.ours, p.down) }},
}

// send writes data in pieces, and closes its half.
func (p *pair) send(c conn, data []byte) {
	r := rand.New(rand.NewPCG(p.r.Uint64(), 1))
	p.wg.Go(func() {
		for len(data) > 0 {
			n := min(len(data), 1+r.IntN(16384))
			if k, err := c.Write(data[:n]); err != nil {
				p.errorf("%T: wrote %d of %d: %v", c, k, n, err)
				return
			}
			data = data[n:]
		}
		if err := c.CloseWrite(); err != nil {
			p.errorf("%T: close: %v", c, err)
		}
	})
}

// receive reads to the end of the stream, which must be want.
func (p *pair) receive(c conn, want []byte) {
	r := rand.New(rand.NewPCG(p.r.Uint64(), 2))
	slow := p.r.IntN(4) == 0
	p.wg.Go(func() {
		var got bytes.Buffer
		buf := make([]byte, 8192)
		for {
			n, err := c.Read(buf[:1+r.IntN(len(buf))])
			got.Write(buf[:n])
			if err == io.EOF {
				break
			}
			if err != nil {
				p.errorf("%T: read %d of %d: %v", c, got.Len(), len(want), err)
				return
			}
			if slow && r.IntN(8) == 0 {
				time.Sleep(time.Duration(r.IntN(40)) * time.Millisecond / speed)
			}
		}
		if !bytes.Equal(got.Bytes(), want) {
			p.errorf("%T: %d octets came, not the %d that were sent", c, got.Len(), len(want))
		}
	})
}

func (p *pair) closeBoth() {
	a, b := p.ours, p.theirs
	if p.r.IntN(2) == 0 {
		a, b = b, a
	}
	if err := a.Close(); err != nil {
		p.errorf("%v", err)
	}
	if err := b.Close(); err != nil {
		p.errorf("%v", err)
	}
}

// reset sends from c some of data, then a RST: the other end, which writes all
// the time so that a lost RST comes again, gets a prefix and then an error.
func (p *pair) reset(c, peer conn, data []byte) {
	var rdErr, wrErr error
	p.wg.Go(func() { c.Write(data) })
	p.wg.Go(func() {
		var got []byte
		buf := make([]byte, 8192)
		for {
			n, err := peer.Read(buf)
			got = append(got, buf[:n]...)
			if err != nil {
				rdErr = err
				break
			}
		}
		if !bytes.HasPrefix(data, got) {
			p.errorf("%T: %d octets that are not what was sent", peer, len(got))
		}
	})
	p.wg.Go(func() {
		buf := make([]byte, 1024)
		for {
			if _, wrErr = peer.Write(buf); wrErr != nil {
				return
			}
		}
	})
	// What was sent may still be on its way, or not.
	time.Sleep(time.Duration(p.r.IntN(200)) * time.Millisecond / speed)
	stop := make(chan struct{})
	p.wg.Go(func() { // c reads, so that its peer's window does not close for good
		defer close(stop)
		buf := make([]byte, 8192)
		for n := p.r.IntN(20000); n > 0; {
			k, err := c.Read(buf)
			if err != nil {
				return
			}
			n -= k
		}
	})
	<-stop
	c.Reset()
	p.wg.Wait()
	// gVisor tells the reason once, to whoever asks first.
	if s := fmt.Sprint(rdErr, wrErr); !strings.Contains(s, "reset by peer") {
		p.errorf("%T: after a RST: %v, %v", peer, rdErr, wrErr)
	}
	peer.Close()
}

// Our TCP and gVisor's, each in both roles, over the wire of a seed.
func TestPair(t *testing.T) {
	n := *seeds
	if n == 0 {
		n = 200
		if testing.Short() {
			n = 40
		}
	}
	first := uint64(1)
	if *oneSeed != 0 {
		first, n = *oneSeed, 1
	}
	for seed := first; seed < first+uint64(n); seed++ {
		sc := scenes[seed/2%uint64(len(scenes))]
		who := "we dial"
		if seed%2 == 0 {
			who = "they dial"
		}
		t.Run(fmt.Sprintf("%d: %s, %s", seed, sc.name, who), func(t *testing.T) {
			t.Parallel()
			runSeed(t, seed, sc, seed%2 == 1)
		})
	}
}

func runSeed(t *testing.T, seed uint64, sc scene, weDial bool) {
	r := rand.New(rand.NewPCG(seed, 21))
	s := settingsOf(r, seed)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("seed %d: %+v", seed, s)
		}
	})
	w := newWorld(t, s)
	defer func() {
		if t.Failed() {
			t.Logf("the last segments sent:\n%s", &w.trail)
		}
	}()
	p := &pair{t: t, w: w, r: r, up: octets(r, r.IntN(150e3)), down: octets(r, r.IntN(150e3))}
	p.ours, p.theirs = w.connect(weDial)
	dog := time.AfterFunc(30*time.Second, func() {
		if w.theyAreStuck(p.ours) {
			p.stuck.Store(true)
			stuck.Add(1)
			t.Logf("gVisor does not go on:\n%s", &w.trail)
		} else {
			t.Errorf("no end after %v; ours: %+v", time.Since(w.clock.start), p.ours.(ourConn).Info())
		}
		p.ours.Reset()
		p.theirs.Reset()
	})
	sc.play(p)
	dog.Stop()
	// Whatever the order of the closes was, ours ends by itself.
	for i := 0; w.host.Conns() != 0; i++ {
		if i == 10000 {
			t.Errorf("our end stays in %v", p.ours.(ourConn).Info().State)
			break
		}
		time.Sleep(time.Millisecond)
	}
}

func octets(r *rand.Rand, n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return p
}

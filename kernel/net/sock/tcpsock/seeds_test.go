package tcpsock

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"osv/kernel/ktest/simnet"
	"osv/kernel/net/tcp"
)

var (
	seedCount = flag.Int("tcp.seeds", 0, "seeds test: how many seeds (0: 1000, or 100 with -short, or 20 with -short -race)")
	oneSeed   = flag.Uint64("tcp.seed", 0, "seeds test: only this seed")
)

// Two whole stacks, with their goroutines, joined by a wire as bad as the seed
// has it: all octets arrive both ways, once and in order; no buffer, no region
// of memory and no goroutine is left. Time is that of a synctest bubble: it
// moves when everything sleeps.
func TestSeeds(t *testing.T) {
	n := *seedCount
	if n == 0 {
		switch {
		case !testing.Short():
			n = 1000
		case raceEnabled:
			n = 20
		default:
			n = 100
		}
	}
	first := uint64(1)
	if *oneSeed != 0 {
		first, n = *oneSeed, 1
	}
	for seed := first; seed < first+uint64(n); seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { runSeed(t, seed) })
		})
	}
}

// seedWorld is the wire and the two hosts of a seed.
func seedWorld(seed uint64) (worldConfig, *rand.Rand) {
	r := rand.New(rand.NewPCG(seed, 11))
	pick := func(v ...int) int { return v[r.IntN(len(v))] }
	c := worldConfig{bubble: true}
	c.net = simnet.Config{
		Seed: seed, SpareARP: true,
		Loss:    float64(pick(0, 0, 1, 5, 10, 20, 30)) / 100,
		Dup:     float64(pick(0, 0, 1, 10)) / 100,
		Corrupt: float64(pick(0, 0, 1, 5)) / 100,
		Reorder: float64(pick(0, 0, 1, 10, 50)) / 100,
		MTU:     pick(576, 1280, 1500, 1500, 9000),
		Delay:   time.Duration(pick(0, 20e3, 1e6, 10e6, 50e6)),
	}
	if c.net.Delay > 0 {
		c.net.Jitter = c.net.Delay / time.Duration(pick(1, 4))
	}
	if c.net.Corrupt == 0 && r.IntN(2) == 0 {
		c.net.Caps = offloads
	}
	c.host.TCP = tcp.Config{
		RcvBuf: pick(4096, 65536, 128<<10), RcvBufMax: pick(65536, 1<<20, 6<<20),
		SndBuf: pick(4096, 65536), SndBufMax: pick(65536, 1<<20),
		NoSACK: r.IntN(4) == 0, NoTimestamps: r.IntN(4) == 0, NoWindowScale: r.IntN(4) == 0,
		NewReno: r.IntN(3) == 0, UserTimeout: 24 * time.Hour, MSL: time.Second, FinWait2Timeout: time.Hour,
	}
	c.host.RecvMem = pick(200e3, 4e6)
	return c, r
}

func runSeed(t *testing.T, seed uint64) {
	cfg, r := seedWorld(seed)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("seed %d: %+v %+v", seed, cfg.net, cfg.host.TCP)
		}
	})
	w := newWorld(t, cfg)
	l := w.listen(80)
	a, b := openStubborn(t, w, l)
	l.Close()
	if b == nil {
		return
	}
	na, nb := r.IntN(200e3), r.IntN(200e3)
	if r.IntN(8) == 0 {
		na = 0
	}
	var all sync.WaitGroup
	move := func(name string, c *Conn, nOut, nIn int, key, peerKey, rs uint64) {
		all.Go(func() {
			r := rand.New(rand.NewPCG(rs, 1))
			for out := pattern(nOut, key); len(out) > 0; {
				n := min(len(out), 1+r.IntN(16384))
				if k, err := c.Write(out[:n]); err != nil {
					t.Errorf("%s: wrote %d of %d: %v", name, k, n, err)
					return
				}
				out = out[n:]
			}
			if err := c.CloseWrite(); err != nil {
				t.Errorf("%s: close: %v", name, err)
			}
		})
		all.Go(func() {
			r := rand.New(rand.NewPCG(rs, 2))
			slow := r.IntN(4) == 0
			p := make([]byte, 8192)
			var got bytes.Buffer
			for {
				k, err := c.Read(p[:1+r.IntN(len(p))])
				got.Write(p[:k])
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Errorf("%s: read %d of %d: %v", name, got.Len(), nIn, err)
					return
				}
				if slow && r.IntN(4) == 0 {
					time.Sleep(time.Duration(r.IntN(50)) * time.Millisecond)
				}
			}
			if !bytes.Equal(got.Bytes(), pattern(nIn, peerKey)) {
				t.Errorf("%s: %d octets came, not the %d that were sent", name, got.Len(), nIn)
			}
		})
	}
	move("a", a, na, nb, 2*seed, 2*seed+1, seed)
	move("b", b, nb, na, 2*seed+1, 2*seed, seed+1)
	all.Wait()
	a.Close()
	b.Close()
	for range 40 { // both go through their last states by themselves
		if w.host[0].Conns()+w.host[1].Conns() == 0 {
			break
		}
		time.Sleep(time.Minute)
	}
	if n := w.host[0].Conns() + w.host[1].Conns(); n != 0 {
		t.Errorf("%d connections do not end", n)
	}
}

// openStubborn opens a connection, and tries again where the wire has eaten all
// questions for the peer's link address, or so many SYNs, or ACKs of one, that an
// end has given up.
func openStubborn(t *testing.T, w *world, l *Listener) (a, b *Conn) {
	for range 20 {
		ctx, stop := context.WithTimeout(context.Background(), time.Hour)
		a, err := w.host[0].Dial(ctx, netip.AddrPort{}, addr(1, 80))
		stop()
		if err != nil {
			if !errors.Is(err, syscall.EHOSTUNREACH) && !errors.Is(err, syscall.ETIMEDOUT) {
				t.Error(err)
				return nil, nil
			}
			continue
		}
		l.SetDeadline(time.Now().Add(2 * time.Minute)) // a SYN with ACK is sent for one
		if b, err := l.AcceptTCP(); err == nil {
			return a, b
		}
		a.Close()
	}
	t.Error("cannot connect")
	return nil, nil
}
